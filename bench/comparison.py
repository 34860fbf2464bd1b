"""Two runs side by side: which figures differ by more than chance, and what else differs.

Pure. Shares are told apart by Newcombe's interval of their difference; other figures by their
intervals, which do not meet. A figure without an interval is shown and not judged: percentiles of
two runs are never averaged, and each comes from its own run's whole distribution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec

from bench.figures import SHARE, Figure, figures
from bench.findings import Analysis
from bench.history import Manifest

#: "unlike": more than chance, at 95 %. "alike": not told apart. "open": no interval to judge by.
#: "only A", "only B": the other has no such figure.
Told = Literal["unlike", "alike", "open", "only A", "only B"]
#: Settings of a scenario that are prose.
_PROSE: Final = frozenset(("told",))


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of two runs. `difference`: B - A, with its interval of 95 % where that is known;
    of shares also `p`, of the two-proportion test."""

    name: str
    origin: str
    unit: str
    a: Figure | None
    b: Figure | None
    told: Told
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    fine: bool = False


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """`warnings`: why the two are not to be compared, or only with care. `notes`: what else differs."""

    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    pairs: tuple[Pair, ...]

    @property
    def judged(self) -> int:
        """Figures that could be told apart; of 20 that are alike, about one is not, by chance."""
        return sum(one.told in ("alike", "unlike") for one in self.pairs)


def compare(a: tuple[Manifest, Analysis], b: tuple[Manifest, Analysis]) -> Comparison:
    """All figures of both, in the order of the first."""
    return Comparison(
        warnings=tuple(_warnings(a, b)),
        notes=tuple(_notes(a[0], b[0])),
        pairs=tuple(_pairs(a[1], b[1])),
    )


def _pairs(a: Analysis, b: Analysis) -> Iterator[Pair]:
    ours = {(one.name, one.origin): one for one in figures(a)}
    theirs = {(one.name, one.origin): one for one in figures(b)}
    for key in dict.fromkeys((*ours, *theirs)):
        yield pair(ours.get(key), theirs.get(key))


def pair(a: Figure | None, b: Figure | None) -> Pair:
    """One figure of both; one of them is there."""
    one = a if a is not None else b
    assert one is not None
    found = Pair(
        name=one.name, origin=one.origin, unit=one.unit, a=a, b=b, told="open", fine=one.fine
    )
    if a is None or b is None:
        return msgspec.structs.replace(found, told="only B" if a is None else "only A")
    if a.value is None or b.value is None:
        return msgspec.structs.replace(found, told=_apart(a, b))
    found = msgspec.structs.replace(found, difference=b.value - a.value)
    if a.unit == SHARE and a.low is not None and b.low is not None:
        low, high = newcombe(a, b)
        told: Told = "unlike" if low > 0 or high < 0 else "alike"
        return msgspec.structs.replace(
            found, told=told, low=low, high=high, p=two_proportions(a, b)
        )
    return msgspec.structs.replace(found, told=_apart(a, b))


def _apart(a: Figure, b: Figure) -> Told:
    """By intervals that do not meet; of one with an open end the other end may still say it."""
    if (a.low is None and a.high is None) or (b.low is None and b.high is None):
        return "open"
    above = a.low is not None and b.high is not None and b.high < a.low
    below = a.high is not None and b.low is not None and b.low > a.high
    if above or below:
        return "unlike"
    return "open" if None in (a.low, a.high, b.low, b.high) else "alike"


def newcombe(a: Figure, b: Figure) -> tuple[float, float]:
    """The interval of 95 % of b - a, from the Wilson intervals of both. (R. G. Newcombe, Statistics
    in Medicine 17, 1998, method 10.)"""
    assert a.value is not None
    assert b.value is not None
    assert a.low is not None
    assert a.high is not None
    assert b.low is not None
    assert b.high is not None
    difference = b.value - a.value
    down = math.hypot(b.value - b.low, a.high - a.value)
    up = math.hypot(b.high - b.value, a.value - a.low)
    return difference - down, difference + up


def two_proportions(a: Figure, b: Figure) -> float | None:
    """Two-sided p of the pooled z test; None where that says nothing (both none, or both all)."""
    if a.count is None or b.count is None or not a.n or not b.n:
        return None
    pooled = (a.count + b.count) / (a.n + b.n)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / a.n + 1 / b.n))
    if not spread:
        return None
    z = (b.count / b.n - a.count / a.n) / spread
    return math.erfc(abs(z) / math.sqrt(2))


def _warnings(a: tuple[Manifest, Analysis], b: tuple[Manifest, Analysis]) -> Iterator[str]:
    for name, (manifest, analysis) in (("A", a), ("B", b)):
        void = analysis.health.void or manifest.void
        if void:
            yield f"{name} is void: {void}"
    ours, theirs = a[0], b[0]
    if ours.scenario_name != theirs.scenario_name:
        yield f"scenarios differ: {ours.scenario_name}, {theirs.scenario_name}"
    changed = [
        name for name in _differing(ours.scenario, theirs.scenario) if name not in ("name", "seed")
    ]
    if changed:
        yield f"settings of the scenarios differ: {', '.join(changed)}"
    if ours.target != theirs.target:
        yield f"targets differ: {ours.target}, {theirs.target}"
    machines = (ours.machine, theirs.machine)
    for field in ("system", "cores", "python"):
        one, other = (getattr(machine, field) for machine in machines)
        if one != other:
            yield f"machines differ: {field} {one}, {other}"
    if ours.clock != theirs.clock:
        yield f"clocks differ: {ours.clock}, {theirs.clock}"
    if ours.seed != theirs.seed:
        yield f"seeds differ: {ours.seed}, {theirs.seed}"
    yield from _origins(a[1], b[1])


def _origins(a: Analysis, b: Analysis) -> Iterator[str]:
    ours = {one.origin for one in a.curves} | {one.origin for one in a.windows}
    theirs = {one.origin for one in b.curves} | {one.origin for one in b.windows}
    if ours != theirs and (ours or theirs):
        lists = [", ".join(sorted(one)) or "none" for one in (ours, theirs)]
        yield f"origins of t differ: {lists[0]}; {lists[1]}. Only what counts from the same is compared"


def _notes(a: Manifest, b: Manifest) -> Iterator[str]:
    if a.commit != b.commit:
        yield f"commits: {a.commit[:12] or 'not known'}, {b.commit[:12] or 'not known'}"
    for name in sorted({*a.versions, *b.versions}):
        ours, theirs = a.versions.get(name, "none"), b.versions.get(name, "none")
        if ours != theirs:
            yield f"versions of {name}: {ours}, {theirs}"
    lasted = [(one.measured[1] - one.measured[0]) / 1e9 for one in (a, b)]
    if abs(lasted[0] - lasted[1]) > 0.05 * max(lasted):
        yield f"measured for {lasted[0]:.1f} s, {lasted[1]:.1f} s"
    if abs(a.machine.load_before - b.machine.load_before) > 1:
        yield f"load before: {a.machine.load_before:.2f}, {b.machine.load_before:.2f}"


def _differing(a: Any, b: Any, path: str = "") -> Iterator[str]:
    """Names of the settings that are not the same."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in dict.fromkeys((*a, *b)):
            if name not in _PROSE:
                yield from _differing(a.get(name), b.get(name), f"{path}.{name}" if path else name)
    elif a != b:
        yield path
