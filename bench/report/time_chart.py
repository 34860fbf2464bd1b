"""What happened when: throughput, errors, staleness and latency a second, under what was done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.faults import VERBS
from bench.findings import Score, Second
from bench.history import Event
from bench.report.numbers import listed, plural, short
from bench.report.paint import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    SHADE,
    VERMILION,
    chart,
    legend_above,
    log_milliseconds,
    percent_axis,
    seconds_axis,
)

#: Rows of the strip of faults.
ROWS_MAX: Final = 6
#: Instants that are lines through all panels.
_LINES: Final[dict[str, tuple[str, Any, str]]] = {
    "heal": (GREEN, "--", "heal: all faults are over"),
    "trees_equal": (PURPLE, "-.", "all hash trees equal"),
    "writers_stopped": (MUTED, ":", "the load ends"),
}


def time_line(seconds: Sequence[Second], events: Sequence[Event], begin: int) -> Markup | None:
    """The chart; None where no second was counted. `begin`: of the phase measured (ns)."""
    if not seconds:
        return None
    rows = _rows(events)
    has_stale = any(one.reads for one in seconds)

    def draw(figure: Figure, small: bool) -> None:
        heights = [0.34 * len(rows)] if rows else []
        heights += [1.25, 0.9, *([0.9] if has_stale else []), 1.25]
        panels = list(
            figure.subplots(
                len(heights), 1, sharex=True, squeeze=False, height_ratios=heights
            ).ravel()
        )
        left, right = seconds[0].second, seconds[-1].second + 1
        strip = panels.pop(0) if rows else None
        for axes in panels:
            shade(axes, events, begin, left, right)
        _throughput(panels[0], seconds)
        _errors(panels[1], seconds)
        if has_stale:
            _stale(panels[2], seconds)
        _latency(panels[-1], seconds)
        panels[0].set_xlim(left, right)
        if strip is not None:
            _strip(strip, rows, begin, left, right, small=small)
        for axes in [*panels, *([strip] if strip is not None else [])]:
            _instants(axes, events, begin, labelled=axes is panels[0])
        panels[-1].set_xlabel("time since the phase measured began")
        seconds_axis(panels[-1], 6 if small else 12)
        _legend(figure, panels, small=small)

    label = (
        f"Time line of {plural(len(seconds), 'second')}: operations a second, errors, stale reads, "
    )
    label += "latency. " + "; ".join(f"{name}" for name, _ in rows)
    extra = 24 * len(rows)
    return chart("time-line", label, draw, wide=500 + extra, compact=520 + extra)


def _rows(events: Sequence[Event]) -> list[tuple[str, list[Event]]]:
    """Faults by kind and by whom they hit; what is too many is one row a kind."""
    faults = [one for one in events if one.kind in VERBS]
    rows: dict[str, list[Event]] = {}
    for one in faults:
        name = f"{one.kind} {listed(one.nodes, at_most=2)}".strip()
        rows.setdefault(name, []).append(one)
    if len(rows) > ROWS_MAX:
        rows = {}
        for one in faults:
            rows.setdefault(one.kind, []).append(one)
    return list(rows.items())


def _span(one: Event, begin: int, right: float) -> tuple[float, float]:
    """From and to, in seconds; what has no end was an instant, or lasts: it is drawn as a moment."""
    at = (one.at - begin) / 1e9
    until = (one.until - begin) / 1e9 if one.until else at
    return at, min(until, right)


def shade(axes: Axes, events: Sequence[Event], begin: int, left: float, right: float) -> None:
    """The times at which a fault was on."""
    for one in events:
        if one.kind in VERBS:
            at, until = _span(one, begin, right)
            if until > at and until > left and at < right:
                axes.axvspan(max(at, left), until, color=SHADE, lw=0, zorder=0)
            elif left <= at <= right:
                axes.axvline(at, color=VERMILION, linewidth=1, linestyle=(0, (1, 2)), zorder=1)


def _strip(
    axes: Axes,
    rows: list[tuple[str, list[Event]]],
    begin: int,
    left: float,
    right: float,
    *,
    small: bool,
) -> None:
    for number, (_, events) in enumerate(rows):
        for one in events:
            at, until = _span(one, begin, right)
            if until > at:
                axes.barh(number, until - at, left=at, height=0.62, color=VERMILION, alpha=0.85)
            else:
                axes.plot([at], [number], marker=">", color=VERMILION, markersize=7)
    axes.set_yticks(range(len(rows)), [short(name, 14 if small else 32) for name, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(length=0)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _instants(axes: Axes, events: Sequence[Event], begin: int, *, labelled: bool) -> None:
    named: set[str] = set()
    for one in events:
        if one.kind in _LINES:
            color, line, label = _LINES[one.kind]
            first = labelled and one.kind not in named
            named.add(one.kind)
            axes.axvline(
                (one.at - begin) / 1e9, color=color, linestyle=line, linewidth=1.5,
                label=label if first else None, zorder=6,
            )  # fmt: skip


def _steps(axes: Axes, seconds: Sequence[Second], values: Sequence[float], **looks: Any) -> None:
    edges = [*(one.second for one in seconds), seconds[-1].second + 1]
    axes.step(edges, [*values, values[-1]], where="post", **looks)


def _throughput(axes: Axes, seconds: Sequence[Second]) -> None:
    done = [one.ok for one in seconds]
    _steps(axes, seconds, done, color=BLUE, label="operations acknowledged")
    axes.set_ylim(0, max(1, max(done) * 1.12))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_ylabel("ops/s")


def _errors(axes: Axes, seconds: Sequence[Second]) -> None:
    fail = [one.fail for one in seconds]
    unknown = [one.unknown for one in seconds]
    _steps(axes, seconds, fail, color=VERMILION, label="failed")
    _steps(axes, seconds, unknown, color=PURPLE, linestyle="--", label="unknown")
    axes.set_ylim(0, max(4, max(fail) * 1.15, max(unknown) * 1.15))
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.set_ylabel("errors/s")


def _stale(axes: Axes, seconds: Sequence[Second]) -> None:
    """A second without a read has no share."""
    share = [one.stale / one.reads if one.reads else float("nan") for one in seconds]
    _steps(axes, seconds, share, color=INK)
    highest = max((one.stale / one.reads for one in seconds if one.reads), default=0.0)
    percent_axis(axes, 0.0, max(0.01, min(1.0, highest * 1.1)))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.set_ylabel("stale reads")


def _latency(axes: Axes, seconds: Sequence[Second]) -> None:
    """A second in which nothing was answered has none."""
    nan = float("nan")
    p99 = [one.p99_ms if one.p99_ms > 0 else nan for one in seconds]
    p50 = [one.p50_ms if one.p50_ms > 0 else nan for one in seconds]
    _steps(axes, seconds, p99, color=VERMILION, label="p99")
    _steps(axes, seconds, p50, color=BLUE, linestyle="--", label="p50")
    values = [v for v in (*p99, *p50) if v == v]  # not NaN
    low, high = (min(values) / 1.5, max(values) * 1.5) if values else (0.1, 10.0)
    log_milliseconds(axes, "y", low, max(high, low * 10))
    axes.set_ylabel("response")


def _legend(figure: Figure, panels: Sequence[Axes], *, small: bool) -> None:
    """Of the instants over the chart; of lines in a panel in that panel, at its side."""
    legend_above(figure, panels[0], columns=1 if small else 4)
    for axes in (panels[1], panels[-1]):
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 0.98), ncols=2, borderaxespad=0, fontsize="small",
            handlelength=2, borderpad=0.1,
        )  # fmt: skip


def gamma(scores: Sequence[Score], events: Sequence[Event], begin: int) -> Markup | None:
    """How far single values were from atomic, over time; None where none was."""
    drawn = [one for one in scores if one.gamma_ms > 0]
    if not drawn:
        return None

    def draw(figure: Figure, small: bool) -> None:
        axes = figure.subplots(1, 1)
        at = [(one.at - begin) / 1e9 for one in drawn]
        values = [one.gamma_ms for one in drawn]
        low, high = min(values) / 2, max(values) * 1.5
        left, right = min(0.0, *at), max(at) * 1.03 + 0.1
        shade(axes, events, begin, left, right)
        axes.vlines(at, low, values, color=BLUE, linewidth=1.2)
        axes.plot(at, values, "o", color=BLUE, markersize=3)
        _instants(axes, events, begin, labelled=True)
        axes.set_xlim(left, right)
        log_milliseconds(axes, "y", low, max(high, low * 10))
        axes.set_ylabel("Gamma of a value")
        axes.set_xlabel("time since the phase measured began")
        seconds_axis(axes, 6 if small else 12)
        legend_above(figure, axes, columns=1 if small else 3)

    label = f"Gamma of {plural(len(drawn), 'value')} over time"
    return chart("gamma", label, draw, wide=270, compact=250)
