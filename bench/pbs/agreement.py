"""Whether a measured t-visibility curve agrees with a predicted one. Pure.

Both are held against each other in bins of one millisecond. Even a true prediction misses a bin of n
reads by sqrt(p (1 - p) / n): the root of the mean of these squares is the floor, below which no
difference means anything.
"""

from __future__ import annotations

import math
from statistics import median
from typing import Final

import msgspec
import numpy as np

from bench.findings import Bin, Curve, Verdict
from bench.pbs.prediction import Prediction

#: Root mean square of the differences, in points (hundredths of probability), that passes at least.
POINTS_MIN: Final = 1.0
#: A bin with fewer reads than this share of the median bin is left out: beyond the offsets that were
#: asked for some come late, one in a bin, and one that is stale there would be 100 points.
THIN: Final = 0.1
#: Times the floor, that passes.
FLOORS: Final = 1.5
#: t99 may be off by this share, or by a millisecond: no bin is narrower.
T99_OFF: Final = 0.10
T99_OFF_MS: Final = 1.0
#: With a floor above it (points) nearly anything would pass: nothing is said.
FLOOR_MAX: Final = 5.0


class CurveAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """`rmse_points`: root mean square of measured - predicted over the bins, in points (1 point =
    0.01); one-sided: of shortfalls only. `bins`, `reads`: what is compared; `thin_reads`: left out, in
    bins with too few. `floor_points`: what it would be if the prediction were true. `bound_points`: what
    passes. `worst_points`, `worst_ms`: the largest difference, and where. `t99_*`: None where 99 % was
    not reached. `residuals`: (t, measured - predicted in points)."""

    verdict: Verdict
    told: str
    sampling: str
    one_sided: bool
    bins: int
    reads: int
    thin_reads: int = 0
    rmse_points: float | None = None
    floor_points: float | None = None
    bound_points: float | None = None
    worst_points: float | None = None
    worst_ms: float | None = None
    t99_measured: float | None = None
    t99_predicted: float | None = None
    residuals: tuple[tuple[float, float], ...] = ()


def agree(
    curve: Curve, prediction: Prediction, *, one_sided: bool = False, not_applicable: str = ""
) -> CurveAgreement:
    """`one_sided`: with repair, hints or overlapping writes, which PBS knows nothing of, reads may be
    fresher than predicted, and only a shortfall counts. `not_applicable`: why the model does not apply
    (nodes failed); then nothing is decided. `prediction` needs its curve, and (r, w) of the
    measured one; raises ValueError."""
    if (curve.r, curve.w) != (prediction.r, prediction.w):
        raise ValueError(
            f"measured with r={curve.r} w={curve.w}, predicted for r={prediction.r} w={prediction.w}"
        )
    if not prediction.curve:
        raise ValueError("the prediction has no curve")
    bins, thin_reads = _thick(curve)
    reads = sum(one.fresh.of for one in bins)
    empty = CurveAgreement(
        verdict="unknown",
        told="",
        sampling=prediction.sampling,
        one_sided=one_sided,
        bins=len(bins),
        reads=reads,
        thin_reads=thin_reads,
    )
    if not bins:
        return msgspec.structs.replace(empty, told="no read was measured")
    compared = _compare(empty, bins, curve, prediction)
    if not_applicable:
        told = f"model not applicable: {not_applicable}; {compared.told}"
        return msgspec.structs.replace(compared, verdict="unknown", told=told)
    return compared


def _thick(curve: Curve) -> tuple[list[Bin], int]:
    """The bins that have enough reads, and how many reads the others have."""
    bins = [one for one in curve.fine if one.fresh.of > 0]
    if not bins:
        return [], 0
    least = THIN * median(one.fresh.of for one in bins)
    thick = [one for one in bins if one.fresh.of >= least]
    return thick, sum(one.fresh.of for one in bins) - sum(one.fresh.of for one in thick)


def _compare(
    empty: CurveAgreement, bins: list[Bin], curve: Curve, prediction: Prediction
) -> CurveAgreement:
    times, shares = zip(*prediction.curve, strict=True)
    at = np.array([one.middle_ms for one in bins])
    counts = np.array([one.fresh.of for one in bins], dtype=np.float64)
    measured = np.array([one.fresh.count for one in bins]) / counts
    # Before its first point nothing is fresh yet, by less than the curve can tell.
    predicted = np.interp(at, times, shares, left=0.0)
    residuals = 100 * (measured - predicted)
    judged = np.minimum(residuals, 0.0) if empty.one_sided else residuals
    rmse = math.sqrt(float(np.mean(judged**2)))
    floor = 100 * math.sqrt(float(np.mean(predicted * (1 - predicted) / counts)))
    bound = max(POINTS_MIN, FLOORS * floor)
    worst = int(np.argmax(np.abs(judged)))
    t99, t99_verdict, t99_told = _judge_t99(curve, prediction, one_sided=empty.one_sided)
    verdict: Verdict = "fail" if rmse > bound or t99_verdict == "fail" else t99_verdict
    what = "shortfall" if empty.one_sided else "difference"
    told = (
        f"RMSE of the {what} {rmse:.2f} points, of {bound:.2f} allowed (floor {floor:.2f}), "
        f"over {len(bins)} bins, {empty.reads} reads"
    )
    if empty.thin_reads:
        told += f" ({empty.thin_reads} more in bins with too few)"
    told += f"; {t99_told}"
    if floor > FLOOR_MAX:
        verdict = "unknown"
        told = f"too few reads to tell (floor above {FLOOR_MAX:g} points); {told}"
    return msgspec.structs.replace(
        empty,
        verdict=verdict,
        told=f"{told}; clock from {curve.origin}",
        rmse_points=rmse,
        floor_points=floor,
        bound_points=bound,
        worst_points=float(residuals[worst]),
        worst_ms=float(at[worst]),
        t99_measured=t99,
        t99_predicted=prediction.t_ms["99"],
        residuals=tuple(zip(at.tolist(), residuals.tolist(), strict=True)),
    )


def _judge_t99(
    curve: Curve, prediction: Prediction, *, one_sided: bool
) -> tuple[float | None, Verdict, str]:
    """Measured t99, the verdict, and both for people."""
    found = next((one for one in curve.quantiles if math.isclose(one.p, 0.99)), None)
    measured = found.t_ms if found else None
    predicted = prediction.t_ms["99"]
    told = f"t99 {_ms(measured)} measured, {_ms(predicted)} predicted"
    if measured is None or predicted is None:
        return measured, "unknown", told
    off = max(T99_OFF * predicted, T99_OFF_MS)
    low, high = (-math.inf if one_sided else predicted - off), predicted + off
    if low <= measured <= high:
        return measured, "pass", told
    assert found is not None
    may_be_from = measured if found.low_ms is None else found.low_ms
    may_be_to = math.inf if found.high_ms is None else found.high_ms
    if may_be_from <= high and may_be_to >= low:
        return measured, "unknown", f"{told}: not within {T99_OFF:.0%}, but its interval is"
    return measured, "fail", told


def _ms(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.2f} ms"
