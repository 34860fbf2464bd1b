"""Figures of an analysis by name, as scenarios expect them. Pure.

Figures (shares are 0..1, times milliseconds):

    fresh, stale                        of all reads that count, by the client's commit
    fresh below 50 ms, fresh from 50 ms, fresh from 10 to 50 ms
                                        of those that began so long after the commit (whole
                                        milliseconds up to 1000)
    t50, t90, t99, t99.9                the first t with that share fresh, by the client's commit
        each of these also of one cell: "fresh r=1 w=2", "t99 r=1 w=1"; else "fresh" is of all cells
        together, "t99" the worst cell's
    k=1, k max                          share of reads that are not behind; most versions behind, + 1
    NAME                                violations of a check (a number): safe, regular, atomic, read
                                        your writes, monotonic reads, monotonic read pairs, monotonic
                                        writes, writes follow reads, consistent prefix, lost
                                        acknowledged writes, aborted reads
    NAME share                          its violations / opportunities
    unacknowledged reads                reads of writes that had missed their w; a number
    delta ms, gamma ms                  the greatest of any key
    lost elements, stale elements       of sets; a number
    window 50, window 99, window max    inconsistency window from the client's commit
    phi                                 share of probes in which all replicas agree
    converged                           share of keys, the worst heal's
    converged 99, converged max         time since the heal, the worst heal's
    trees equal                         time since the heal until all trees were equal, the worst heal's
    available, available reads, available writes
                                        share of operations that were acknowledged or answered
    agrees with prediction              share of the predictions that the measured curve agrees with
    dropped, lag 99, foreign reads      of the harness, of others' writes
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from bench.findings import Analysis, Check, Curve, Rate, Verdict
from bench.staleness.intervals import rate
from bench.staleness.visibility import FINE_MS_MAX

#: Names of checks that an analysis makes.
CHECKS: Final = (
    *("safe", "regular", "atomic", "read your writes", "monotonic reads", "monotonic read pairs"),
    *("monotonic writes", "writes follow reads", "consistent prefix"),
    *("lost acknowledged writes", "aborted reads"),
)


class UnknownFigure(ValueError):
    """No analysis has a figure of this name; the message says which there are."""


class Figure(NamedTuple):
    """A value, and how it is told; None if the history says nothing of it. `most`: what it may be at
    most, where a part was not decided."""

    value: float | None
    told: str
    most: float | None = None


Reader = Callable[[Analysis, Sequence[Verdict]], Figure]


def reader(figure: str) -> Reader:
    """How this figure is read. Raises UnknownFigure."""
    if figure in _PLAIN:
        return _PLAIN[figure]
    if figure in CHECKS:
        return lambda analysis, agreed: _violations(analysis, figure)
    if figure.removesuffix(" share") in CHECKS:
        return lambda analysis, agreed: _violation_share(analysis, figure.removesuffix(" share"))
    for pattern, make in _PATTERNS:
        match = pattern.fullmatch(figure)
        if match:
            return make(match)
    raise UnknownFigure(
        f'no figure "{figure}": there are {", ".join([*_PLAIN, *CHECKS])}; CHECK share; fresh r=1 w=1, '
        "fresh below 50 ms, fresh from 50 ms, fresh from 10 to 50 ms; t50, t90, t99, t99.9 (r=1 w=1)"
    )


# Of curves ----------------------------------------------------------------------------------------


def _curves(analysis: Analysis, cell: Mapping[str, str | None]) -> list[Curve]:
    r, w = cell.get("r"), cell.get("w")
    return [
        curve
        for curve in analysis.curves
        if curve.origin == "client commit"
        and (r is None or (curve.r, curve.w) == (int(r), int(w or 0)))
    ]


def _fresh(match: re.Match[str]) -> Reader:
    given = match.groupdict()
    begin, last = int(given["begin"] or 0), given["below"] or given["to"]
    end = None if last is None else int(last)
    if begin > FINE_MS_MAX or (end is not None and not begin < end <= FINE_MS_MAX):
        raise UnknownFigure(f'no figure "{match.string}": 0 to {FINE_MS_MAX} ms, and some of it')

    def read(analysis: Analysis, agreed: Sequence[Verdict]) -> Figure:
        fresh = of = 0
        curves = _curves(analysis, given)
        if undecided := _undecided(curves):
            return Figure(None, undecided)
        for curve in curves:
            # Reads beyond the last bin are in none: what has no end is all, less what is before it.
            bins = [one for one in curve.fine if one.from_ms < (begin if end is None else end)]
            before = _sum(one.fresh for one in bins if end is None or one.from_ms < begin)
            until = (curve.fresh.count, curve.fresh.of)
            if end is not None:
                until = _sum(one.fresh for one in bins)
            fresh, of = fresh + until[0] - before[0], of + until[1] - before[1]
        return _share(fresh if given["what"] == "fresh" else of - fresh, of, "reads")

    return read


def _undecided(curves: Iterable[Curve]) -> str:
    """What is told of reads that nobody knows to be fresh or stale, "" of none."""
    reads = sum(one.left_out.get("over budget", 0) for one in curves)
    return f"{reads} reads were not decided: over budget" if reads else ""


def _sum(rates: Iterable[Rate]) -> tuple[int, int]:
    counted = [(one.count, one.of) for one in rates]
    return sum(one[0] for one in counted), sum(one[1] for one in counted)


def _first_time(match: re.Match[str]) -> Reader:
    share = float(match["percent"]) / 100

    def read(analysis: Analysis, agreed: Sequence[Verdict]) -> Figure:
        curves = _curves(analysis, match.groupdict())
        if undecided := _undecided(curves):
            return Figure(None, undecided)
        found = [
            (one.t_ms, curve)
            for curve in curves
            for one in curve.quantiles
            if abs(one.p - share) < 1e-9
        ]
        if not found:
            return Figure(None, "no read counts")
        worst, curve = max(found, key=lambda one: math.inf if one[0] is None else one[0])
        where = f"at r={curve.r} w={curve.w}, of {curve.reads} reads"
        if worst is None:
            return Figure(math.inf, f"not reached {where}")
        return Figure(worst, f"{worst:.3f} ms {where}")

    return read


def _not_behind(analysis: Analysis, agreed: Sequence[Verdict]) -> Figure:
    found = analysis.staleness
    undecided = _undecided(_curves(analysis, {}))
    if found is None or undecided:
        return Figure(None, undecided or "no read counts")
    return _share(found.counts[0] if found.counts else 0, found.reads, "reads")


def _most_behind(analysis: Analysis, agreed: Sequence[Verdict]) -> Figure:
    found = analysis.staleness
    undecided = _undecided(_curves(analysis, {}))
    if found is None or undecided:
        return Figure(None, undecided or "no read counts")
    if found.beyond:
        return Figure(math.inf, f"{found.beyond} of {found.reads} reads beyond what is counted")
    return Figure(len(found.counts), f"k = {len(found.counts)} at most, of {found.reads} reads")


# Of checks ----------------------------------------------------------------------------------------


def _check(analysis: Analysis, name: str) -> Check | None:
    found = next((one for one in analysis.checks if one.name == name), None)
    if found is None or (found.verdict == "unknown" and not found.violations.count):
        return None
    return found


def _violations(analysis: Analysis, name: str) -> Figure:
    found = _check(analysis, name)
    if found is None:
        return Figure(None, "not decided: no opportunity, or over budget")
    count = found.violations.count
    return Figure(count, _told_of(found), count + found.undecided)


def _violation_share(analysis: Analysis, name: str) -> Figure:
    found = _check(analysis, name)
    if found is None:
        return Figure(None, "not decided: no opportunity, or over budget")
    count, of = found.violations.count, found.violations.of
    return Figure(found.violations.share, _told_of(found), (count + found.undecided) / of)


def _told_of(check: Check) -> str:
    undecided = f", {check.undecided} more not decided" if check.undecided else ""
    return _told(check.violations, "opportunities") + undecided


def _told(rate: Rate, of: str) -> str:
    bound = f"{rate.low * 100:.3g} to {rate.high * 100:.3g} %"
    return f"{rate.count} of {rate.of} {of} ({bound} at 95 %)"


def _share(count: int, of: int, what: str) -> Figure:
    if not of:
        return Figure(None, f"no {what}")
    return Figure(count / of, _told(rate(count, of), what))


def _zones(which: str) -> Reader:
    def read(analysis: Analysis, agreed: Sequence[Verdict]) -> Figure:
        zones = analysis.zones
        if zones is None or not zones.keys or zones.over_budget:
            return Figure(None, "not decided: no keys, or over budget")
        if which == "delta" and zones.unbounded:
            return Figure(math.inf, f"none is enough for {zones.unbounded} keys")
        found = (zones.delta_ms if which == "delta" else zones.gamma_ms).get("max", 0.0)
        return Figure(found, f"{found:.3f} ms at most, of {zones.keys} keys")

    return read


# Of the others ------------------------------------------------------------------------------------


def _elements(which: str) -> Reader:
    def read(analysis: Analysis, agreed: Sequence[Verdict]) -> Figure:
        found = analysis.set_full
        if found is None or not found.known:
            return Figure(None, "no sets")
        rate_ = found.lost if which == "lost" else found.stale
        return Figure(rate_.count, _told(rate_, "elements known"))

    return read


def _window(match: re.Match[str]) -> Reader:
    def read(analysis: Analysis, agreed: Sequence[Verdict]) -> Figure:
        found = next((one for one in analysis.windows if one.origin == "client commit"), None)
        if found is None:
            return Figure(None, "no write was polled")
        value = found.ms.get(match["name"])
        beside = f"of {found.writes} writes, {found.censored} censored"
        if value is None:
            return Figure(math.inf, f"longer than was polled, {beside}")
        return Figure(value, f"{value:.3f} ms {beside}")

    return read


def _phi(analysis: Analysis, agreed: Sequence[Verdict]) -> Figure:
    return _share(*_sum(one.agreed for one in analysis.agreements), "probes")


def _no_convergence(analysis: Analysis) -> str:
    """Why nothing is known of it, "" if it is."""
    undecided = sum(one.undecided for one in analysis.convergence)
    if undecided:
        return f"{undecided} keys were not decided: over budget"
    return "" if analysis.convergence else "no heal after which replicas were read"


def _converged(analysis: Analysis, agreed: Sequence[Verdict]) -> Figure:
    if unknown := _no_convergence(analysis):
        return Figure(None, unknown)
    worst = max(analysis.convergence, key=lambda one: one.unconverged / one.keys)
    return _share(worst.keys - worst.unconverged, worst.keys, "keys")


def _converged_ms(match: re.Match[str]) -> Reader:
    def read(analysis: Analysis, agreed: Sequence[Verdict]) -> Figure:
        if unknown := _no_convergence(analysis):
            return Figure(None, unknown)
        worst = max(one.ms.get(match["name"], math.inf) for one in analysis.convergence)
        return Figure(worst, f"{worst:.3f} ms" if worst < math.inf else "not all converged")

    return read


def _trees(analysis: Analysis, agreed: Sequence[Verdict]) -> Figure:
    times = [one.trees_equal_ms for one in analysis.convergence]
    if not times or None in times:
        return Figure(None, "not seen")
    worst = max(time for time in times if time is not None)
    return Figure(worst, f"{worst:.3f} ms after the heal")


def _available(*kinds: str) -> Reader:
    def read(analysis: Analysis, agreed: Sequence[Verdict]) -> Figure:
        found = [one.ok for one in analysis.availability if one.kind in kinds]
        return _share(*_sum(found), "operations")

    return read


def _agrees(analysis: Analysis, agreed: Sequence[Verdict]) -> Figure:
    passed, undecided = agreed.count("pass"), agreed.count("unknown")
    told = f"{passed} of {len(agreed)} predictions agree, {undecided} not decided"
    if not agreed or (undecided and "fail" not in agreed):
        return Figure(None, told if agreed else "no prediction to compare with")
    return Figure(passed / len(agreed), told)


def _unacknowledged(analysis: Analysis, agreed: Sequence[Verdict]) -> Figure:
    found = analysis.unacknowledged_reads
    if found is None or not found.of:
        return Figure(None, "no read returned anything")
    return Figure(found.count, _told(found, "reads"))


_PLAIN: Final[Mapping[str, Reader]] = {
    "k=1": _not_behind,
    "k max": _most_behind,
    "delta ms": _zones("delta"),
    "gamma ms": _zones("gamma"),
    "lost elements": _elements("lost"),
    "stale elements": _elements("stale"),
    "phi": _phi,
    "converged": _converged,
    "trees equal": _trees,
    "available": _available("read", "write"),
    "available reads": _available("read"),
    "available writes": _available("write"),
    "agrees with prediction": _agrees,
    "dropped": lambda analysis, agreed: Figure(
        analysis.health.dropped, f"{analysis.health.dropped} arrivals"
    ),
    "lag 99": lambda analysis, agreed: Figure(
        analysis.health.lag_ms_p99, f"{analysis.health.lag_ms_p99:.3f} ms"
    ),
    "unacknowledged reads": _unacknowledged,
    "foreign reads": lambda analysis, agreed: Figure(
        analysis.foreign_reads, f"{analysis.foreign_reads} reads"
    ),
}
_CELL: Final = r"(?: r=(?P<r>\d{1,4}) w=(?P<w>\d{1,4}))?"
_PATTERNS: Final[Sequence[tuple[re.Pattern[str], Callable[[re.Match[str]], Reader]]]] = (
    (
        re.compile(
            r"(?P<what>fresh|stale)"
            r"(?: below (?P<below>\d{1,4}) ms"
            r"| from (?P<begin>\d{1,4})(?: to (?P<to>\d{1,4}))? ms)?" + _CELL
        ),
        _fresh,
    ),
    (re.compile(r"t(?P<percent>50|90|99|99\.9)" + _CELL), _first_time),
    (re.compile(r"window (?P<name>50|90|99|99\.9|max)"), _window),
    (re.compile(r"converged (?P<name>50|90|99|99\.9|max)"), _converged_ms),
)
