"""Order across keys, as a reader of several keys sees it: monotonic writes, writes follow reads, prefix.

A reader that has seen the later write must not then miss what came before it. Readers are groups of
reads (`Op.group`): one after the other (pairs), or all at once (a multi-key read). Terry et al., PDIS
1994; consistent prefix as in Terry, CACM 2013.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bench.findings import Anomaly
from bench.history import Op
from bench.staleness.checks import Tally
from bench.staleness.freshness import Looked
from bench.staleness.keyed import Read
from bench.staleness.order import BudgetSpent


class _Seen(NamedTuple):
    """What a session knew of a key once this operation had ended."""

    op: Op
    places: tuple[int, ...]


class _Timeline(NamedTuple):
    """Of one session and key, by end."""

    ends: list[tuple[int, int]]
    seen: list[_Seen]

    def last_before(self, later: Op) -> _Seen | None:
        done = bisect_right(self.ends, (later.start, later.n))
        return self.seen[done - 1] if done else None


_Timelines = Mapping[tuple[int, str], _Timeline]


class PairTallies(NamedTuple):
    """What pairs of reads have shown."""

    writes: Tally
    reads: Tally


def pair_guarantees(looked: Sequence[Looked], *, examples: int) -> PairTallies:
    """Monotonic writes (the writer's last acknowledged write before), writes follow reads (what the
    writer had read last), for every pair of reads of two keys that follow each other in one group."""
    tallies = PairTallies(
        Tally("monotonic writes", examples=examples),
        Tally("writes follow reads", examples=examples),
    )
    groups = _groups(looked)
    if not groups:
        return tallies
    keys = {one.key.name: one for one in looked}
    written, read = _timelines(looked)
    for group in groups.values():
        for first, then in _in_turn(group):
            second = keys[then.op.key]
            for place in first.seen:
                later = keys[first.op.key].key.writes[place]
                for known, tally in ((written, tallies.writes), (read, tallies.reads)):
                    line = known.get((later.session, then.op.key))
                    before = line.last_before(later) if line else None
                    if before is not None and before.places:
                        _judge(second, first, then, later, before, tally)
    return tallies


def _judge(one: Looked, first: Read, then: Read, later: Op, before: _Seen, tally: Tally) -> None:
    tally.chance(one.key.name)
    try:
        missed = one.order.uncovered(then.seen, before.places)
    except BudgetSpent:
        tally.undecided += 1
        return
    if missed:
        write = one.key.writes[missed[0]]
        tally.broken(
            Anomaly(
                kind=tally.name,
                op=then.op.n,
                key=one.key.name,
                at=then.op.start,
                severity_ms=(then.op.start - before.op.end) / 1e6,
                told=f"it misses write {write.write}, though the read before it had returned write "
                f"{later.write} of {later.key}, which came after",
                evidence=tuple(sorted({write.n, before.op.n, later.n, first.op.n, then.op.n})),
            )
        )


def consistent_prefix(looked: Sequence[Looked], *, examples: int) -> tuple[Tally, str]:
    """Multi-key reads of keys that one session wrote in turn: one that holds write j holds all its
    acknowledged writes i < j. Where the keys were read one after the other, a key is held only against
    what those read before it, or beside it, have shown: what they show later may be new. Also how many
    of the violations being quicker would not have spared: write i was acknowledged before the read."""
    tally = Tally("consistent prefix", examples=examples)
    keys = {one.key.name: one for one in looked}
    groups = {
        number: group for number, group in _groups(looked).items() if _one_writer(keys, group)
    }
    if not groups:
        return tally, ""
    written, _ = _timelines(looked)
    acknowledged = 0
    for group in groups.values():
        if not any(read.seen for read in group):
            continue
        tally.chance(*(read.op.key for read in group))
        try:
            anomaly = _hole(keys, group, written)
        except BudgetSpent:
            tally.undecided += 1
            continue
        if anomaly is not None:
            acknowledged += anomaly.severity_ms > 0
            tally.broken(anomaly)
    return tally, f"{acknowledged} of them missed what had been acknowledged before" * bool(
        tally.violations
    )


def _one_writer(keys: Mapping[str, Looked], group: Sequence[Read]) -> bool:
    """Whether it reads several keys, and one session wrote all of them (what was loaded apart)."""
    names = {read.op.key for read in group}
    writers = {op.session for name in names for op in keys[name].key.writes if op.phase != "load"}
    return len(names) > 1 and len(writers) == 1


def _hole(keys: Mapping[str, Looked], group: Sequence[Read], written: _Timelines) -> Anomaly | None:
    """The first read that misses a write which came before one that the others hold."""
    for read in group:
        one = keys[read.op.key]
        held = [
            keys[other.op.key].key.writes[place]
            for other in group
            if not _follow(read, other)
            for place in other.seen
        ]
        latest = max(held, key=lambda op: (op.start, op.n), default=None)
        line = written.get((latest.session, read.op.key)) if latest else None
        before = line.last_before(latest) if line and latest else None
        if latest is None or before is None or not one.order.uncovered(read.seen, before.places):
            continue
        return Anomaly(
            kind="consistent prefix",
            op=read.op.n,
            key=one.key.name,
            at=read.op.start,
            severity_ms=max(0, read.op.start - before.op.end) / 1e6,
            told=f"the multi-key read holds write {latest.write} of {latest.key}, and not write "
            f"{before.op.write}, which came before it",
            evidence=tuple(sorted({before.op.n, latest.n, *(other.op.n for other in group)})),
        )
    return None


def _groups(looked: Iterable[Looked]) -> dict[int, list[Read]]:
    """Group number -> its reads of the phase measured, by start; only groups of several."""
    groups: dict[int, list[Read]] = {}
    for one in looked:
        for read in one.key.reads:
            if read.op.group and read.op.phase == "measure" and not read.foreign:
                groups.setdefault(read.op.group, []).append(read)
    for reads in groups.values():
        reads.sort(key=lambda read: (read.op.start, read.op.end, read.op.n))
    return {number: reads for number, reads in sorted(groups.items()) if len(reads) > 1}


def _in_turn(group: Sequence[Read]) -> Iterator[tuple[Read, Read]]:
    """Neighbours that follow each other, of two keys."""
    for first, then in itertools.pairwise(group):
        if _follow(first, then) and first.op.key != then.op.key:
            yield first, then


def _follow(first: Read, then: Read) -> bool:
    """Whether the first had ended when the other began."""
    return (first.op.end, first.op.n) < (then.op.start, then.op.n) and first is not then


def _timelines(looked: Iterable[Looked]) -> tuple[_Timelines, _Timelines]:
    """Acknowledged writes, and reads, of each session and key."""
    written: dict[tuple[int, str], list[_Seen]] = {}
    read: dict[tuple[int, str], list[_Seen]] = {}
    for one in looked:
        name = one.key.name
        for place in one.key.committed():
            op = one.key.writes[place]
            written.setdefault((op.session, name), []).append(_Seen(op, (place,)))
        for answer in one.key.reads:
            read.setdefault((answer.op.session, name), []).append(_Seen(answer.op, answer.seen))
    return _sorted(written), _sorted(read)


def _sorted(found: Mapping[tuple[int, str], list[_Seen]]) -> _Timelines:
    lines: dict[tuple[int, str], _Timeline] = {}
    for key, seen in found.items():
        seen.sort(key=lambda one: (one.op.end, one.op.n))
        lines[key] = _Timeline([(one.op.end, one.op.n) for one in seen], seen)
    return lines
