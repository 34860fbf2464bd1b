"""The curve of freshness over time: measured with its intervals, predicted, and what is between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.findings import Bin, Curve, Origin
from bench.pbs.prediction import Prediction
from bench.report.material import Predicted
from bench.report.numbers import milliseconds, percent, short
from bench.report.paint import (
    BLUE,
    DASHES,
    INK,
    LINES,
    MUTED,
    chart,
    legend_above,
    log_milliseconds,
    percent_axis,
)

#: What the horizontal axis counts from.
AXES: Final[dict[Origin, str]] = {
    "client commit": "t from the client's commit (acknowledgement in hand) to the read's start",
    "coordinator commit": "t from the coordinator's commit (w-th acknowledgement) to the read's start",
    "write start": "t from the write's start to the read's start",
}
SHORT_AXES: Final[dict[Origin, str]] = {
    "client commit": "t since client commit",
    "coordinator commit": "t since coordinator commit",
    "write start": "t since the write's start",
}
#: t_p that are marked.
MARKED: Final = (0.5, 0.99, 0.999)
#: Reads of a bin below which its own share says little.
FEW: Final = 20
#: Predictions drawn in one chart.
PREDICTIONS_MAX: Final = 5
#: Marks closer than this part of the axis would cover each other's names.
_APART: Final = 0.035


def freshness(curve: Curve, predictions: Sequence[Predicted], *, name: str) -> Markup | None:
    """The chart; None for a curve without reads."""
    bins = [one for one in curve.plot if one.fresh.of]
    if not bins:
        return None
    shown = [one.prediction for one in predictions[:PREDICTIONS_MAX]]

    def draw(figure: Figure, small: bool) -> None:
        if shown:
            top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        else:
            top, below = figure.subplots(1, 1), None
        left, right = _range(bins)
        _measured(top, bins, right)
        for number, prediction in enumerate(shown):
            _predicted(top, prediction, number, left, right, several=_several_models(shown))
        log_milliseconds(top, "x", left, right)
        percent_axis(top, _floor(bins, shown, left))
        top.set_ylabel("fresh reads")
        _marks(top, curve, left, right, small=small)
        if below is not None:
            _residuals(below, bins, shown)
        last = top if below is None else below
        last.set_xlabel((SHORT_AXES if small else AXES)[curve.origin])
        legend_above(figure, top, columns=1 if small else 3)

    label = (
        f"Share of fresh reads over t, R={curve.r} W={curve.w}, origin {curve.origin}: "
        f"{percent(bins[0].fresh.share)} near {milliseconds(bins[0].middle_ms)}, "
        f"{percent(bins[-1].fresh.share)} near {milliseconds(bins[-1].middle_ms)}"
    )
    tall = 170 if shown else 0
    legend = 18 * (2 + len(shown))
    return chart(name, label, draw, wide=380 + tall, compact=270 + 0.7 * tall + legend)


def _range(bins: Sequence[Bin]) -> tuple[float, float]:
    middles = [one.middle_ms for one in bins if one.middle_ms > 0] or [1.0]
    left, right = min(middles) / 1.4, max(middles) * 1.4
    return left, max(right, left * 10)


def _floor(bins: Sequence[Bin], predictions: Sequence[Prediction], left: float) -> float:
    lows = [one.fresh.low for one in bins if one.fresh.of >= FEW] or [one.fresh.low for one in bins]
    lows += [one.fresh.count / one.fresh.of for one in bins]
    lows += [float(np.interp(left, *_columns(one))) for one in predictions if one.curve]
    lowest = min(lows)
    return lowest if lowest > 0.9 else 0.1 * int(lowest * 10)


def _at(one: Bin, left: float) -> float:
    """Where it is drawn: what began at once stands at the left edge."""
    return max(one.middle_ms, left)


def _measured(axes: Axes, bins: Sequence[Bin], right: float) -> None:
    """Bins of few reads are drawn too, faintly: their intervals say nearly nothing."""
    left, _ = _range(bins)
    many = [one for one in bins if one.fresh.of >= FEW]
    few = [one for one in bins if one.fresh.of < FEW]
    _points(axes, many, left, color=BLUE, label="measured, Wilson 95 %", zorder=4, elinewidth=1.1)
    _points(
        axes, few, left, color=MUTED, label=f"measured, fewer than {FEW} reads", zorder=3,
        elinewidth=0.8, alpha=0.45,
    )  # fmt: skip
    edges = [max(bins[0].from_ms, left), *(max(one.from_ms, left) for one in bins[1:])]
    fitted = [one.fitted for one in bins]
    axes.step(
        [*edges, min(max(bins[-1].to_ms, edges[-1]), right)], [*fitted, fitted[-1]], where="post",
        color=BLUE, linewidth=1.4, label="made monotone (PAVA)", zorder=3,
    )  # fmt: skip


def _points(axes: Axes, bins: Sequence[Bin], left: float, **looks: Any) -> None:
    if not bins:
        return
    shares = [one.fresh.count / one.fresh.of for one in bins]
    errors = [
        [max(0.0, share - one.fresh.low) for share, one in zip(shares, bins, strict=True)],
        [max(0.0, one.fresh.high - share) for share, one in zip(shares, bins, strict=True)],
    ]
    at = [_at(one, left) for one in bins]
    axes.errorbar(at, shares, yerr=errors, fmt="o", markersize=4.5, capsize=2.5, **looks)


def _several_models(predictions: Sequence[Prediction]) -> bool:
    return len({one.model for one in predictions}) > 1


def _columns(prediction: Prediction) -> tuple[list[float], list[float]]:
    return [t for t, _ in prediction.curve], [p for _, p in prediction.curve]


def _predicted(
    axes: Axes, prediction: Prediction, number: int, left: float, right: float, *, several: bool
) -> None:
    if not prediction.curve:
        return
    times, shares = _columns(prediction)
    at = [left, *(t for t in times if left < t < right), right]
    model = f"{prediction.model}, " if several else ""
    axes.plot(
        at, np.interp(at, times, shares), color=LINES[number], linestyle=DASHES[number],
        label=short(f"predicted, {model}{prediction.sampling}", 44), zorder=5,
    )  # fmt: skip


def _residuals(axes: Axes, bins: Sequence[Bin], predictions: Sequence[Prediction]) -> None:
    """Measured less predicted, of bins with enough reads; the grey bars are the intervals of what was
    measured."""
    left, _ = _range(bins)
    bins = [one for one in bins if one.fresh.of >= FEW] or bins
    at = np.array([_at(one, left) for one in bins])
    share = np.array([one.fresh.count / one.fresh.of for one in bins])
    low = np.array([one.fresh.low for one in bins])
    high = np.array([one.fresh.high for one in bins])
    axes.vlines(at, (low - share) * 100, (high - share) * 100, color=MUTED, linewidth=5, alpha=0.25)
    axes.axhline(0, color=INK, linewidth=0.9)
    for number, prediction in enumerate(predictions):
        if prediction.curve:
            rest = (share - np.interp(at, *_columns(prediction))) * 100
            marker = ("o", "s", "^", "D", "v")[number]
            axes.plot(
                at, rest, color=LINES[number], marker=marker, markersize=4, linewidth=1,
                linestyle=DASHES[number],
            )  # fmt: skip
    axes.set_ylabel("measured \N{MINUS SIGN}\npredicted, points")
    axes.margins(y=0.15)


def _marks(axes: Axes, curve: Curve, left: float, right: float, *, small: bool) -> None:
    """t_50, t_99, t_99.9: a line with its name, and its interval as a bar at the foot."""
    last = -1.0
    found = [one for one in curve.quantiles if one.p in MARKED and one.t_ms is not None]
    for number, quantile in enumerate(found):
        t = quantile.t_ms or 0.0
        if not left <= t <= right:
            continue
        if quantile.low_ms is not None:
            ends = (max(quantile.low_ms, left), min(quantile.high_ms or right, right))
            height = 0.015 + 0.02 * number
            axes.plot(
                ends, (height, height), color=MUTED, linewidth=3, alpha=0.7, solid_capstyle="butt",
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
        axes.axvline(t, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        place = float(np.log(t / left) / np.log(right / left))
        if place - last < (_APART * 2.4 if small else _APART):
            continue
        last = place
        axes.annotate(
            f"t{quantile.p * 100:g} = {milliseconds(t)}",
            (t, 0.08),
            xycoords=("data", "axes fraction"),
            xytext=(3, 2),
            textcoords="offset points",
            rotation=90,
            va="bottom",
            ha="left",
            color=INK,
            fontsize="small",
        )
