"""Lost acknowledged writes: the last reads (phase "after") show neither them nor anything newer.

A write counts if a last read of its key began after its acknowledgement, and is lost if none of these
covers it; of a set, if its element is in none. Where a last read also returned what no write of this
history has written it is not decided. Writes of unknown outcome are never counted.
"""

from __future__ import annotations

from collections.abc import Iterable

from bench.findings import Anomaly
from bench.history import Op
from bench.staleness.checks import Tally
from bench.staleness.freshness import Looked
from bench.staleness.order import BudgetSpent


def lost_writes(looked: Iterable[Looked], sets: frozenset[str], *, examples: int) -> Tally:
    """`sets`: names of keys that are sets."""
    tally = Tally("lost acknowledged writes", examples=examples)
    for one in looked:
        key = one.key
        finals = [read for read in [*key.reads, *key.directed] if read.op.phase == "after"]
        if not finals:
            continue
        last = max((read.op for read in finals), key=lambda op: (op.start, op.n))
        judged = [place for place in key.committed() if key.ends[place] <= last.start]
        if key.name in sets:
            shown = {element for read in finals for element in read.op.elements}
            lost = {place for place in judged if key.writes[place].write not in shown}
        else:
            try:
                seen = {place for read in finals for place in read.seen}
                lost = set(one.order.uncovered(seen, judged))
            except BudgetSpent:
                tally.undecided += len(judged)
                continue
        # What is not known to this history may be newer, or what holds the element.
        foreign = any(read.foreign for read in finals)
        for place in judged:
            tally.chance(key.name)
            if place in lost and foreign:
                tally.undecided += 1
            elif place in lost:
                tally.broken(_anomaly(tally.name, key.writes[place], last))
    return tally


def _anomaly(kind: str, write: Op, last: Op) -> Anomaly:
    return Anomaly(
        kind=kind,
        op=write.n,
        key=write.key,
        at=write.end,
        severity_ms=(last.start - write.end) / 1e6,
        told=f"write {write.write} was acknowledged; no last read of its key shows it or what is newer",
        evidence=(write.n, last.n),
    )
