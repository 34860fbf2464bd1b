"""Rounds of measurements: medians, spread, and the table of floor and store.

Pure; knows nothing of how anything was measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple


class Measured(NamedTuple):
    """One load at one cluster: requests a second, CPU time of its nodes a request (microseconds),
    latency (milliseconds), what went wrong and how often."""

    rate: float
    cpu_micros: float
    p50: float
    p99: float
    errors: Mapping[str, int]


class Spread(NamedTuple):
    """A median, and the least and the most that it is the median of."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(median(values), min(values), max(values))


def ratios(floors: Sequence[Measured], stores: Sequence[Measured]) -> Spread:
    """Rate of the store over that of the floor, each of its own round."""
    return Spread.of([mine.rate / yours.rate for yours, mine in zip(floors, stores, strict=True)])


def cpu_ratios(floors: Sequence[Measured], stores: Sequence[Measured]) -> Spread:
    """CPU time of the floor over that of the store: what the ratio would be if nothing else used
    the cores."""
    pairs = zip(floors, stores, strict=True)
    return Spread.of([yours.cpu_micros / (mine.cpu_micros or 1.0) for yours, mine in pairs])


def total(measured: Iterable[Measured]) -> Counter[str]:
    """What went wrong in all of them together."""
    errors: Counter[str] = Counter()
    for one in measured:
        errors.update(one.errors)
    return errors


_WIDTHS = (5, 8, 5, 17, 22, 22, 16, 11, 20, 6)
_NAMES = (
    *("nodes", "writes", "load", "RATIO store/floor", "floor req/s", "store req/s"),
    *("CPU floor/store", "us/request", "p50/p99 ms", "errors"),
)


def header() -> str:
    """Two lines: the names of the columns, and what is in pairs."""
    spread = "median min..max"
    under = ("", "", "", spread, spread, spread, spread, "floor store", "floor store", "both")
    return f"{_line(_NAMES)}\n{_line(under)}"


def row(
    nodes: int, writes: str, load: str, floors: Sequence[Measured], stores: Sequence[Measured]
) -> str:
    """One line of the table."""
    both = (floors, stores)
    cpu = " ".join(f"{median(one.cpu_micros for one in some):.0f}" for some in both)
    latency = " ".join(
        f"{median(one.p50 for one in some):.1f}/{median(one.p99 for one in some):.1f}"
        for some in both
    )
    errors = total((*floors, *stores)).total()
    return _line(
        (
            *(str(nodes), writes, load, _ratio(ratios(floors, stores))),
            *(_rate(Spread.of([one.rate for one in some])) for some in both),
            *(_ratio(cpu_ratios(floors, stores)), cpu, latency, str(errors)),
        )
    )


def _ratio(spread: Spread) -> str:
    return f"{spread.median:.2f} {spread.least:.2f}..{spread.most:.2f}"


def _rate(spread: Spread) -> str:
    return f"{spread.median:,.0f} {spread.least:,.0f}..{spread.most:,.0f}"


def _line(cells: Sequence[str]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()
