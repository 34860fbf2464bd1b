"""The worst anomalies, for people to look at one by one: operations, each with all that it broke."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from bench.findings import Anomaly
from bench.staleness.checks import Tally

WORST_MAX: Final = 20


def worst(tallies: Iterable[Tally]) -> tuple[Anomaly, ...]:
    """At most WORST_MAX operations, the most severe first; of each kind at least its worst. What one
    broke is told together: a read that is not regular is often not safe either."""
    firsts: set[int] = set()
    by_operation: dict[int, list[Anomaly]] = {}
    for tally in tallies:
        anomalies = tally.worst()
        firsts |= {one.op for one in anomalies[:1]}
        for one in anomalies:
            by_operation.setdefault(one.op, []).append(one)
    merged = sorted((_merged(same) for same in by_operation.values()), key=_severity)
    chosen = [one for one in merged if one.op in firsts][:WORST_MAX]
    chosen += [one for one in merged if one.op not in firsts][: WORST_MAX - len(chosen)]
    return tuple(sorted(chosen, key=_severity))


def _merged(same: Sequence[Anomaly]) -> Anomaly:
    """Of one operation: as severe as the worst of it, which comes first."""
    same = sorted(same, key=_severity)
    return msgspec.structs.replace(
        same[0],
        kind=", ".join(dict.fromkeys(one.kind for one in same)),
        told="; ".join(dict.fromkeys(one.told for one in same)),
        evidence=tuple(dict.fromkeys(n for one in same for n in one.evidence)),
    )


def _severity(one: Anomaly) -> tuple[float, int, int, str]:
    return -one.severity_ms, one.at, one.op, one.kind
