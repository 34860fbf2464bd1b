"""Lamport's safe and regular, and reads of what was never written: single reads against the writes.

Regular: a read returns the newest committed write or one that overlaps it (or covers these). Safe: a
read that no write overlaps returns the newest committed write. What ends as something starts overlaps.
Lamport, Distributed Computing 1, 1986.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from bench.findings import Anomaly, Rate
from bench.history import Op
from bench.staleness.checks import Tally
from bench.staleness.freshness import Looked
from bench.staleness.intervals import rate
from bench.staleness.keyed import NEVER, Key
from bench.staleness.order import Judged


def stale_reads(looked: Iterable[Looked], *, examples: int) -> tuple[Tally, Tally]:
    """Of the phase measured: safe, regular. Chances are reads after a commit, or that returned
    something; a read that returns what was begun after its end breaks both."""
    safe, regular = (Tally(name, examples=examples) for name in ("safe", "regular"))
    for one in looked:
        overlaps = _Overlaps(one.key)
        for judged in one.strict:
            if judged.read.op.phase != "measure" or judged.read.foreign:
                continue
            _judge(one.key, judged, regular)
            if not overlaps.any(judged.read.op):
                _judge(one.key, judged, safe)
    return safe, regular


def _judge(key: Key, judged: Judged, tally: Tally) -> None:
    read = judged.read
    early = next((place for place in read.seen if key.starts[place] > read.op.end), None)
    if judged.newest < 0 and not read.seen:
        return
    tally.chance(key.name)
    if early is not None:
        tally.broken(_from_the_future(tally.name, key, read.op, key.writes[early]))
    elif judged.behind < 0:
        tally.undecided += 1
    elif judged.behind:
        tally.broken(_stale(tally.name, key, judged))


def aborted_reads(looked: Iterable[Looked], *, examples: int) -> Tally:
    """Reads that returned a write which was reported as not executed, of reads that returned any."""
    tally = Tally("aborted reads", examples=examples)
    for one in looked:
        for read in one.key.reads:
            if read.op.phase != "measure" or not read.seen:
                continue
            tally.chance(one.key.name)
            failed = [p for p in read.seen if one.key.writes[p].outcome == "fail"]
            if failed:
                write = one.key.writes[failed[0]]
                tally.broken(
                    Anomaly(
                        kind=tally.name,
                        op=read.op.n,
                        key=one.key.name,
                        at=read.op.start,
                        severity_ms=max(0, read.op.start - write.end) / 1e6,
                        told=f"it returned write {write.write}, which had been reported as failed",
                        evidence=(write.n, read.op.n),
                    )
                )
    return tally


def unacknowledged_reads(looked: Iterable[Looked]) -> Rate:
    """Reads that returned a write which had ended without an acknowledgement before they began, of reads
    that returned any. Such a write missed its w and lives on, which nothing forbids."""
    count = of = 0
    for one in looked:
        for read in one.key.reads:
            if read.op.phase != "measure" or not read.seen:
                continue
            of += 1
            writes = (one.key.writes[place] for place in read.seen)
            count += any(w.outcome == "unknown" and w.end < read.op.start for w in writes)
    return rate(count, of)


def _stale(kind: str, key: Key, judged: Judged) -> Anomaly:
    """How stale: the time since the first write that was missed had been acknowledged."""
    op, missed = judged.read.op, key.writes[judged.missed]
    returned = [key.writes[place] for place in judged.read.seen]
    what = "nothing" if not returned else ", ".join(f"write {one.write}" for one in returned[:5])
    return Anomaly(
        kind=kind,
        op=op.n,
        key=key.name,
        at=op.start,
        severity_ms=(op.start - missed.end) / 1e6,
        told=f"it returned {what}, {judged.behind} version{'s' * (judged.behind > 1)} behind: "
        f"write {missed.write} had been acknowledged before it began",
        evidence=tuple(
            sorted({missed.n, key.writes[judged.newest].n, *(w.n for w in returned[:5]), op.n})
        ),
    )


def _from_the_future(kind: str, key: Key, op: Op, write: Op) -> Anomaly:
    return Anomaly(
        kind=kind,
        op=op.n,
        key=key.name,
        at=op.start,
        severity_ms=(write.start - op.end) / 1e6,
        told=f"it returned write {write.write}, which was begun after it had ended",
        evidence=(op.n, write.n),
    )


class _Overlaps:
    """Which reads of a key a write overlaps; one of unknown end overlaps all that follow."""

    def __init__(self, key: Key) -> None:
        executed = [p for p, op in enumerate(key.writes) if op.outcome != "fail"]
        self._starts = sorted(key.starts[place] for place in executed)
        self._ends = sorted(end for place in executed if (end := key.ends[place]) < NEVER)

    def any(self, op: Op) -> bool:
        """Whether some write began before or when it ended, and had not ended before it began."""
        return bisect_right(self._starts, op.end) > bisect_left(self._ends, op.start)
