"""Latency by percentile, on the axis of HdrHistogram's plots: service against response, and lag."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from bench.findings import Latency
from bench.report.numbers import milliseconds
from bench.report.paint import BLUE, MUTED, VERMILION, chart, legend_above, log_milliseconds

_LOOKS: Final[dict[str, tuple[str, str, str]]] = {
    "response": (VERMILION, "-", "response: from when it was due"),
    "service": (BLUE, "--", "service: from when it was sent"),
    "lag": (MUTED, ":", "lag: due, not yet sent"),
}
#: Below this (ms) a time is drawn as this: a logarithmic axis has no 0.
_LEAST: Final = 0.001


def spectrum(latencies: Sequence[Latency]) -> Markup | None:
    """The chart, a panel a kind of operation; None where nothing was timed."""
    drawn = [one for one in latencies if one.count and _has_shape(one)]
    kinds = list(dict.fromkeys(one.kind for one in drawn))
    if not kinds:
        return None

    def draw(figure: Figure, small: bool) -> None:
        shape = (len(kinds), 1) if small else (1, len(kinds))
        panels = figure.subplots(*shape, sharey=True, squeeze=False).ravel()
        for panel, kind in zip(panels, kinds, strict=True):
            _panel(panel, kind, [one for one in drawn if one.kind == kind])
        low, high = _extent(drawn)
        for panel in panels:
            log_milliseconds(panel, "y", low, high)
        for panel in panels[-1:] if small else panels:
            panel.set_xlabel("percentile of operations")
        legend_above(figure, panels[0], columns=1 if small else 3)

    label = "Latency by percentile. " + "; ".join(
        f"{one.kind} {one.measure}: "
        + ", ".join(f"{name} {milliseconds(value)}" for name, value in one.ms.items())
        for one in drawn
    )
    return chart("spectrum", label, draw, wide=380, compact=70 + 225 * len(kinds))


def _has_shape(latency: Latency) -> bool:
    """Not of no time at all, as lag is in virtual time."""
    points = _points(latency)
    return len(points) > 1 and points[-1][1] > _LEAST


def _points(latency: Latency) -> list[tuple[float, float]]:
    """(x, ms): x grows by one with each nine. The last operation of all stands at infinity, and is left
    out; the table has it."""
    return [
        (-math.log10(1 - percentile / 100), max(ms, _LEAST))
        for percentile, ms in latency.spectrum
        if percentile < 100
    ]


def _extent(latencies: Sequence[Latency]) -> tuple[float, float]:
    values = [ms for one in latencies for _, ms in _points(one)]
    low, high = min(values) / 1.3, max(values) * 1.3
    return low, max(high, low * 10)


def _panel(axes: Axes, kind: str, latencies: Sequence[Latency]) -> None:
    last = 1.0
    for one in sorted(latencies, key=lambda one: list(_LOOKS).index(one.measure)):
        color, line, label = _LOOKS[one.measure]
        points = _points(one)
        last = max(last, points[-1][0])
        axes.plot(*zip(*points, strict=True), color=color, linestyle=line, label=label)
    axes.set_title(f"{kind}s")
    axes.set_xlim(0, last * 1.03)
    axes.xaxis.set_major_locator(FixedLocator(range(int(last) + 1)))
    axes.xaxis.set_major_formatter(FuncFormatter(_percentile))


def _percentile(x: float, _: object = None) -> str:
    nines = round(x)
    return "0" if nines == 0 else f"{100 - 100 / 10**nines:.{max(0, nines - 2)}f}"
