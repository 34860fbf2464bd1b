"""Predictions of a run: which model, of which cells, and when it does not apply."""

from __future__ import annotations

import msgspec
import numpy as np
from made_run import made_manifest, rate

from bench.findings import Bin, Curve, Origin, Quantile
from bench.pbs.fan_out import FanOut
from bench.pbs.wars import predict
from bench.predicting import Compared, injected_model, own_sync_ms, predict_run
from bench.scenario import Scenario
from bench.scene_files import find
from dynamo.wars_status import WarsLegs, WarsStatus

GRID = find("pbs-grid")
READS = 100_000


def true_curve(r: int, w: int, origin: Origin = "coordinator commit", shift: float = 0.0) -> Curve:
    """What would be measured, `shift` lower, if the prediction were true; without any noise."""
    prediction = predict(
        injected_model(GRID),
        n=3,
        r=r,
        w=w,
        at={str(t): t + 0.5 for t in range(150)},
        trials=400_000,
        seed=9,
        fan_out=FanOut("store", "replica", "independent", True),
    )
    each = READS // 150
    bins = tuple(
        Bin(
            from_ms=t,
            to_ms=t + 1,
            middle_ms=t + 0.5,
            fresh=rate(_whole(each * (prediction.p_fresh[str(t)] - shift), each), each),
            fitted=prediction.p_fresh[str(t)],
        )
        for t in range(150)
    )
    t99 = prediction.t_ms["99"]
    return Curve(
        origin=origin,
        r=r,
        w=w,
        reads=READS,
        writes=READS,
        fresh=rate(sum(one.fresh.count for one in bins), each * 150),
        plot=bins,
        fine=bins,
        quantiles=(Quantile(p=0.99, t_ms=t99, low_ms=t99, high_ms=t99),),
        left_out={},
    )


def _whole(count: float, most: int) -> int:
    return min(most, max(0, round(count)))


def predicted(scenario: Scenario, *curves: Curve) -> tuple[list[Compared], list[str]]:
    return predict_run(made_manifest(), scenario, curves, (), 1)


def test_what_was_injected_predicts_each_cell_that_was_measured() -> None:
    found, missing = predicted(GRID, true_curve(1, 1), true_curve(2, 1))
    cells = {(one.prediction.r, one.prediction.w): one.agreement for one in found}
    assert cells.keys() == {(r, w) for r in (1, 2, 3) for w in (1, 2, 3)}
    assert {cell for cell, agreement in cells.items() if agreement} == {(1, 1), (2, 1)}
    assert {one.agreement.verdict for one in found if one.agreement} == {"pass"}
    assert len(missing) == 1
    assert missing[0].startswith("measured: ")


def test_a_store_that_is_staler_than_its_delays_does_not_agree() -> None:
    found, _ = predicted(GRID, true_curve(1, 1, shift=0.05))
    assert [one.agreement.verdict for one in found if one.agreement] == ["fail"]


def test_the_clock_is_the_coordinators_where_there_is_one() -> None:
    wrong = true_curve(1, 1, "client commit", shift=0.2)
    found, _ = predicted(GRID, wrong, true_curve(1, 1))
    assert [one.agreement.verdict for one in found if one.agreement] == ["pass"]
    found, _ = predicted(GRID, wrong)
    assert [one.agreement.verdict for one in found if one.agreement] == ["fail"]


def test_a_fresher_store_is_no_contradiction_where_repair_is_on() -> None:
    cluster = msgspec.structs.replace(GRID.cluster, repair=True)
    found, _ = predicted(
        msgspec.structs.replace(GRID, cluster=cluster), true_curve(1, 1, shift=-0.05)
    )
    assert [one.agreement.verdict for one in found if one.agreement] == ["pass"]
    found, _ = predicted(GRID, true_curve(1, 1, shift=-0.05))
    assert [one.agreement.verdict for one in found if one.agreement] == ["fail"]


def test_where_nodes_fail_the_model_does_not_apply() -> None:
    faults = find("pauses").faults
    found, _ = predicted(msgspec.structs.replace(GRID, faults=faults), true_curve(1, 1))
    (agreement,) = (one.agreement for one in found if one.agreement is not None)
    assert agreement.verdict == "unknown"
    assert "not applicable" in agreement.told


def test_nothing_is_predicted_unasked() -> None:
    assert predicted(msgspec.structs.replace(GRID, predict=()), true_curve(1, 1)) == ([], [])
    assert predicted(GRID) == ([], [])


def test_injected_delays_stand_for_every_leg_or_for_none() -> None:
    cluster = msgspec.structs.replace(GRID.cluster, slow={"*": [[1.0, "constant", 3.0]]})
    model = injected_model(msgspec.structs.replace(GRID, cluster=cluster))
    assert model.w == model.a == model.r == model.s
    none = injected_model(find("healthy"))
    assert none.w.components[0].first == 0.0


def test_acknowledgements_wait_for_the_sync_that_nodes_measured() -> None:
    wars = [
        WarsStatus(
            node=one,
            n=3,
            sampled=1,
            seconds=9.0,
            peers={one: WarsLegs(a=(2.0, 3.0, 50.0)), "x": WarsLegs()},
        )
        for one in ("n1", "n2")
    ]
    assert own_sync_ms(wars) == 3.0
    assert own_sync_ms(()) == 0.0
    chance = np.random.default_rng(1)
    model = injected_model(GRID, 3.0)
    assert model.own.draw(chance, (2,)).tolist() == [3.0, 3.0]
    assert 12.0 < model.a.draw(chance, (20_000,)).mean() < 14.0
    assert model.a.draw(chance, (20_000,)).min() >= 3.0
    assert 9.0 < model.r.draw(chance, (20_000,)).mean() < 11.0
