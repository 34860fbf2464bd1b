"""The worst anomalies of all kinds, for people to look at one by one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bench.findings import Anomaly
from bench.staleness.checks import Tally

WORST_MAX: Final = 20


def worst(tallies: Iterable[Tally]) -> tuple[Anomaly, ...]:
    """At most WORST_MAX, the most severe first; of each kind at least its worst. An operation that
    breaks two properties is told once for each."""
    firsts: list[Anomaly] = []
    rest: list[Anomaly] = []
    for tally in tallies:
        anomalies = tally.worst()
        firsts += anomalies[:1]
        rest += anomalies[1:]
    chosen = sorted(firsts, key=_severity)[:WORST_MAX]
    chosen += sorted(rest, key=_severity)[: WORST_MAX - len(chosen)]
    return tuple(sorted(chosen, key=_severity))


def _severity(one: Anomaly) -> tuple[float, int, int, str]:
    return -one.severity_ms, one.at, one.op, one.kind
