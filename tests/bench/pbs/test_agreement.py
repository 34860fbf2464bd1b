"""Agreement of a measured curve with a predicted one: what passes, what fails, what is not known."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from bench.findings import Bin, Curve, Quantile, Rate
from bench.pbs.agreement import CurveAgreement, agree
from bench.pbs.fits import Model, exponential
from bench.pbs.prediction import Prediction
from bench.pbs.wars import predict, times

BINS = 199


def _predicted(w_rate: float = 0.1) -> Prediction:
    legs = exponential(0.5)
    model = Model("grid", exponential(w_rate), legs, legs, legs)
    return predict(model, n=3, r=1, w=1, at=times("0"), trials=200_000, seed=1)


PREDICTED = _predicted()


def _curve(reads: int, *, off: float = 0.0, t99: float | None = None, spread: float = 0.5) -> Curve:
    """Drawn from the prediction, and `off` beside it."""
    rng = np.random.default_rng(5)
    n = reads // BINS
    at, share = zip(*PREDICTED.curve, strict=True)
    bins = []
    for begin in range(BINS):
        p = min(1.0, max(0.0, float(np.interp(begin + 0.5, at, share)) + off))
        fresh = Rate(count=int(rng.binomial(n, p)), of=n, low=0.0, high=1.0)
        bins.append(
            Bin(from_ms=begin, to_ms=begin + 1, middle_ms=begin + 0.5, fresh=fresh, fitted=p)
        )
    t99 = PREDICTED.t_ms["99"] if t99 is None else t99
    assert t99 is not None
    quantile = Quantile(p=0.99, t_ms=t99, low_ms=t99 - spread, high_ms=t99 + spread)
    return Curve(
        origin="coordinator commit",
        r=1,
        w=1,
        reads=reads,
        writes=reads,
        fresh=Rate(count=0, of=reads, low=0.0, high=1.0),
        plot=(),
        fine=tuple(bins),
        quantiles=(quantile,),
        left_out={},
    )


def _agree(curve: Curve, **how: Any) -> CurveAgreement:
    return agree(curve, PREDICTED, **how)


def test_what_is_drawn_from_the_prediction_agrees_with_it() -> None:
    for reads in (20_000, 200_000):
        found = _agree(_curve(reads))
        assert found.verdict == "pass"
        assert found.rmse_points == pytest.approx(found.floor_points, rel=0.25)


def test_a_stale_read_that_came_late_and_alone_in_its_bin_decides_nothing() -> None:
    curve = _curve(20_000)
    late = Bin(
        from_ms=241.0,
        to_ms=242.0,
        middle_ms=241.6,
        fresh=Rate(count=0, of=1, low=0.0, high=1.0),
        fitted=1.0,
    )
    alone = _agree(msgspec.structs.replace(curve, fine=(*curve.fine, late)))
    without = _agree(curve)
    assert alone.rmse_points == without.rmse_points
    assert (alone.reads, alone.thin_reads, without.thin_reads) == (without.reads, 1, 0)
    assert "(1 more in bins with too few)" in alone.told


def test_the_floor_falls_with_the_root_of_the_reads() -> None:
    floors = [_agree(_curve(BINS * n)).floor_points or 0 for n in (25, 100, 1000)]
    assert floors[0] / floors[1] == pytest.approx(2.0, rel=0.01)
    assert _agree(_curve(BINS * 25)).bound_points == pytest.approx(1.5 * floors[0])
    assert _agree(_curve(BINS * 1000)).bound_points == 1.0


def test_two_points_beside_it_fail_with_reads_enough() -> None:
    found = _agree(_curve(200_000, off=-0.02))
    assert found.verdict == "fail"
    assert found.rmse_points == pytest.approx(2.0, rel=0.1)
    assert len(found.residuals) == BINS


def test_t99_has_to_be_within_a_tenth() -> None:
    t99 = PREDICTED.t_ms["99"]
    assert t99 is not None
    assert _agree(_curve(200_000, t99=1.09 * t99)).verdict == "pass"
    assert _agree(_curve(200_000, t99=1.2 * t99)).verdict == "fail"
    # The bootstrap's interval reaches into what would pass: it is not known.
    assert _agree(_curve(200_000, t99=1.2 * t99, spread=0.15 * t99)).verdict == "unknown"


def test_of_a_short_t99_a_millisecond_off_passes() -> None:
    short = msgspec.structs.replace(PREDICTED, t_ms={**PREDICTED.t_ms, "99": 2.0})
    assert agree(_curve(200_000, t99=2.9), short).verdict == "pass"
    assert agree(_curve(200_000, t99=3.6), short).verdict == "fail"


def test_with_repair_on_only_a_shortfall_counts() -> None:
    fresher, staler = _curve(200_000, off=0.05, t99=1.0), _curve(200_000, off=-0.05)
    assert _agree(fresher).verdict == "fail"
    assert _agree(fresher, one_sided=True).verdict == "pass"
    assert _agree(staler, one_sided=True).verdict == "fail"


def test_where_nodes_failed_nothing_is_decided() -> None:
    found = _agree(_curve(200_000, off=-0.3), not_applicable="n1 was paused")
    assert found.verdict == "unknown"
    assert found.told.startswith("model not applicable: n1 was paused; ")
    assert found.rmse_points is not None


def test_too_few_reads_decide_nothing() -> None:
    assert _agree(_curve(BINS)).verdict == "unknown"
    assert _agree(_curve(0)).told == "no read was measured"


def test_a_prediction_of_another_quorum_is_refused() -> None:
    other = predict(
        Model("x", *(exponential(1.0),) * 4),
        n=3,
        r=2,
        w=1,
        at=times("0"),
        trials=10,
        seed=1,
    )
    with pytest.raises(ValueError, match="r=1 w=1"):
        agree(_curve(1000), other)
