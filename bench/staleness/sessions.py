"""Session guarantees of one key: read your writes, monotonic reads (Terry et al., PDIS 1994).

A session's operations are in order where one has ended when the next starts; those that overlap are
in none. Only reads of the phase measured are judged; what a session saw or wrote before counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bench.findings import Anomaly
from bench.history import Op
from bench.staleness.checks import Tally
from bench.staleness.freshness import Looked
from bench.staleness.keyed import Key, Read
from bench.staleness.order import BudgetSpent, Order


class _Known(NamedTuple):
    """What later reads have to cover, and which operation says so."""

    place: int
    op: Op


class SessionTallies(NamedTuple):
    """`reads`: against all that the session had seen. `pairs`: each read against the one before it."""

    writes: Tally
    reads: Tally
    pairs: Tally


def session_guarantees(looked: Iterable[Looked], *, examples: int) -> SessionTallies:
    """Of all keys and sessions."""
    tallies = SessionTallies(
        Tally("read your writes", examples=examples),
        Tally("monotonic reads", examples=examples),
        Tally("monotonic read pairs", examples=examples),
    )
    for one in looked:
        reads: dict[int, list[Read]] = {}
        for read in one.key.reads:
            reads.setdefault(read.op.session, []).append(read)
        written: dict[int, list[int]] = {}
        for place in one.key.committed():
            written.setdefault(one.key.writes[place].session, []).append(place)
        for session, of_session in reads.items():
            scene = _Scene(one.key, one.order, of_session)
            scene.read_your_writes(written.get(session, []), tallies.writes)
            scene.monotonic_reads(tallies.reads)
            scene.monotonic_pairs(tallies.pairs)
    return tallies


class _Scene:
    """One session's reads of one key, by start."""

    def __init__(self, key: Key, order: Order, reads: Sequence[Read]) -> None:
        self._key = key
        self._order = order
        self._reads = reads
        self._by_end = sorted(reads, key=lambda read: (read.op.end, read.op.start, read.op.n))

    def read_your_writes(self, written: Sequence[int], tally: Tally) -> None:
        """`written`: the session's own acknowledged writes, by end."""
        needed: list[_Known] = []
        done = 0
        for read in self._reads:
            while done < len(written) and _before(op := self._key.writes[written[done]], read.op):
                needed = self._joined(needed, [_Known(written[done], op)])
                done += 1
            self._judge(read, needed, tally, "its session had written")

    def monotonic_reads(self, tally: Tally) -> None:
        """A read covers all that earlier ones had seen."""
        needed: list[_Known] = []
        done = 0
        for read in self._reads:
            while done < len(self._by_end) and _before(self._by_end[done].op, read.op):
                earlier = self._by_end[done]
                needed = self._joined(needed, [_Known(place, earlier.op) for place in earlier.seen])
                done += 1
            self._judge(read, needed, tally, "its session had already read")

    def monotonic_pairs(self, tally: Tally) -> None:
        """A read covers what the one before it had seen."""
        for earlier, read in zip(self._reads, self._reads[1:], strict=False):
            if _before(earlier.op, read.op):
                needed = [_Known(place, earlier.op) for place in earlier.seen]
                self._judge(read, needed, tally, "the read before it had returned")

    def _joined(self, needed: list[_Known], more: list[_Known]) -> list[_Known]:
        """What covers both; where that takes too long to find, all of them."""
        known = {one.place: one for one in [*needed, *more]}
        try:
            kept = self._order.joined([one.place for one in needed], [one.place for one in more])
        except BudgetSpent:
            return list(known.values())
        return [known[place] for place in kept]

    def _judge(self, read: Read, needed: Sequence[_Known], tally: Tally, what: str) -> None:
        if not needed or read.op.phase != "measure" or read.foreign:
            return
        tally.chance(self._key.name)
        try:
            missed = set(self._order.uncovered(read.seen, [known.place for known in needed]))
        except BudgetSpent:
            tally.undecided += 1
            return
        if missed:
            known = next(known for known in needed if known.place in missed)
            tally.broken(_anomaly(tally.name, self._key, read, known, what))


def _before(earlier: Op, later: Op) -> bool:
    """One session's operations follow each other also within one instant: then their numbers tell."""
    return (earlier.end, earlier.n) < (later.start, later.n) and earlier.n != later.n


def _anomaly(kind: str, key: Key, read: Read, known: _Known, what: str) -> Anomaly:
    write = key.writes[known.place]
    return Anomaly(
        kind=kind,
        op=read.op.n,
        key=key.name,
        at=read.op.start,
        severity_ms=(read.op.start - known.op.end) / 1e6,
        told=f"it misses write {write.write}, which {what}",
        evidence=tuple(sorted({write.n, known.op.n, read.op.n})),
    )
