"""What a scenario expects, held against an analysis. Pure; the names of figures are in `figures`:

fresh | stale [below 50 ms | from 50 ms | from 10 to 50 ms] [r=1 w=1]
t50 | t90 | t99 | t99.9 [r=1 w=1]
k=1, k max, delta ms, gamma ms, lost elements, stale elements, phi, trees equal
CHECK (violations, a number), CHECK share (of its opportunities): safe, regular, atomic, read your
    writes, monotonic reads, monotonic read pairs, monotonic writes, writes follow reads,
    consistent prefix, lost acknowledged writes, aborted reads
window, converged 50 | 90 | 99 | 99.9 | max; converged
available [reads | writes], agrees with prediction, dropped, lag 99, foreign reads
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from bench.findings import Analysis, Judged, Verdict
from bench.history import BadHistory, Manifest
from bench.scenario import Expect
from bench.staleness.figures import UnknownFigure, reader

__all__ = ["UnknownFigure", "check_figure", "expectations", "judge"]


def check_figure(figure: str) -> None:
    """Raises UnknownFigure."""
    reader(figure)


def expectations(manifest: Manifest) -> tuple[Expect, ...]:
    """Those of the scenario that was run. Raises BadHistory."""
    try:
        return msgspec.convert(manifest.scenario.get("expect", ()), tuple[Expect, ...])
    except msgspec.ValidationError as error:
        raise BadHistory(f"manifest: expectations: {error}") from None


def judge(
    expected: Iterable[Expect], analysis: Analysis, agreed: Sequence[Verdict] = ()
) -> tuple[Judged, ...]:
    """One verdict an expectation; "unknown" where the history says nothing of the figure, or there is
    none of this name. `agreed`: of each prediction, whether what was measured agrees."""
    return tuple(_judge(one, analysis, agreed) for one in expected)


def _judge(one: Expect, analysis: Analysis, agreed: Sequence[Verdict]) -> Judged:
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("at least", one.at_least), ("at most", one.at_most))
        if bound is not None
    ]
    expectation = f"{one.figure} {' and '.join(bounds)}".strip()
    if one.told:
        expectation += f" ({one.told})"
    try:
        found = reader(one.figure)(analysis, agreed)
    except UnknownFigure as error:
        return Judged(expectation=expectation, verdict="unknown", told=str(error))
    if found.value is None or math.isnan(found.value):
        return Judged(expectation=expectation, verdict="unknown", told=found.told)
    verdict = _verdict(one, found.value, found.value if found.most is None else found.most)
    return Judged(expectation=expectation, verdict=verdict, told=found.told)


def _verdict(one: Expect, value: float, most: float) -> Verdict:
    """Of a figure that is from `value` to `most`."""
    low, high = one.at_least, one.at_most
    if (low is not None and most < low) or (high is not None and value > high):
        return "fail"
    sure = (low is None or value >= low) and (high is None or most <= high)
    return "pass" if sure else "unknown"
