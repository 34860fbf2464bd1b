"""Rates, times and the busiest counters of several nodes. Pure: what `/stats` says in, lines out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from dynamo.cli.tables import Column, paragraph, rates, show_rate, table
from dynamo.counters import COUNTERS, describe

COUNTERS_SHOWN: Final = 12
COLUMNS: Final = (
    Column("node"),
    Column("gets/s", right=True),
    Column("p50 ms", drop=2, right=True),
    Column("p99 ms", right=True),
    Column("puts/s", right=True),
    Column("p50 ms", drop=2, right=True),
    Column("p99 ms", right=True),
    Column("deletes/s", drop=3, right=True),
    Column("errors/s", drop=1, right=True),
)
_ERRORS: Final = ("http_error_", "http_refused_", "http_failures")


class Sight(NamedTuple):
    """What one URL said. `stats`: of `/stats`; None where there was no answer, and `error` is why.
    `at`: when (monotonic seconds)."""

    url: str
    stats: Mapping[str, Any] | None
    error: str
    at: float


def render(
    sights: Sequence[Sight], before: Sequence[Sight] = (), *, width: int | None = None
) -> list[str]:
    """A line a node, and the counters that grow fastest over all nodes. Times are of the last
    minute, by each node's own count of it."""
    earlier = {sight.url: sight for sight in before}
    grown = {sight.url: _growth(sight, earlier.get(sight.url)) for sight in sights}
    lines = table(COLUMNS, [_cells(sight, grown[sight.url]) for sight in sights], width=width)
    for sight in sights:
        if sight.stats is None:
            lines += paragraph(f"no answer from {sight.url}: {sight.error}", width=width)
    together: dict[str, float] = {}
    for growth in grown.values():
        for name, rate in (growth or {}).items():
            together[name] = together.get(name, 0.0) + rate
    busiest = sorted((-rate, name) for name, rate in together.items() if rate > 0)[:COUNTERS_SHOWN]
    if busiest:
        columns = (Column("counter"), Column("all, /s", right=True), Column("", drop=1))
        shown = [(name, show_rate(-rate), _help(name)) for rate, name in busiest]
        lines += ["", *table(columns, shown, width=width)]
    return lines


def _growth(sight: Sight, earlier: Sight | None) -> dict[str, float] | None:
    """Counters a second since the earlier look at the same start of the node."""
    if sight.stats is None or earlier is None or earlier.stats is None:
        return None
    if sight.stats.get("start") != earlier.stats.get("start"):
        return None
    return rates(_counters(sight.stats), _counters(earlier.stats), sight.at - earlier.at)


def _counters(stats: Mapping[str, Any]) -> dict[str, int]:
    return {
        name: value
        for name, value in stats.items()
        if describe(name) is not None and isinstance(value, int)
    }


def _cells(sight: Sight, growth: Mapping[str, float] | None) -> list[str]:
    stats = sight.stats or {}

    def rate(name: str) -> str:
        return "-" if growth is None else show_rate(growth.get(name, 0.0))

    def ms(name: str) -> str:
        value = stats.get(name)
        return f"{value / 1000:.2f}" if isinstance(value, (int, float)) else "-"

    errors = (
        "-"
        if growth is None
        else show_rate(sum(value for name, value in growth.items() if name.startswith(_ERRORS)))
    )
    return [
        str(stats.get("node", sight.url)),
        *(rate("gets"), ms("node_get_fsm_time_median"), ms("node_get_fsm_time_99")),
        *(rate("puts"), ms("node_put_fsm_time_median"), ms("node_put_fsm_time_99")),
        *(rate("deletes"), errors),
    ]


def _help(name: str) -> str:
    shown = describe(name)
    return COUNTERS.get(name, "" if shown is None else shown.help)
