"""What nodes have measured of themselves, laid out so that trials can be drawn from it by index. Pure.

Replicas that hold keys together make a set; a cluster of n nodes has one. Coordinators are the nodes
that were asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from bench.pbs.fits import Floats, Indexes
from dynamo.wars_status import WarsLegs, WarsStatus

#: Sets of replicas that are told apart: the rarest are left out.
SETS_MAX: Final = 256

_Pairs = tuple[Sequence[float], Sequence[float]]


class TooFewSamples(Exception):
    """Nothing can be said of so few; the message has the counts."""


class Pool(NamedTuple):
    """Pairs (out, back) of single messages, laid end to end: those of row i and column j are
    `counts[i, j]`, from `begins[i, j]` on."""

    out: Floats
    back: Floats
    begins: Indexes
    counts: Indexes

    def any(self, rows: Indexes, columns: Indexes, generator: np.random.Generator) -> Indexes:
        """The index of one of each (row, column)."""
        counts = self.counts[rows, columns]
        drawn = (generator.random(counts.shape) * counts).astype(np.intp)
        return self.begins[rows, columns] + drawn


class Whole(NamedTuple):
    """Whole operations: out and back to each replica of a set, in its order. Those of set k are
    `counts[k]`, from `begins[k]` on. `body`: the column of who was asked for the record.
    `node`: its coordinator."""

    out: Floats
    back: Floats
    body: Indexes
    node: Indexes
    begins: Indexes
    counts: Indexes

    def any(self, sets: Indexes, generator: np.random.Generator) -> Indexes:
        """The index of one of each set."""
        counts = self.counts[sets]
        drawn = (generator.random(counts.shape) * counts).astype(np.intp)
        return self.begins[sets] + drawn


class Measured(NamedTuple):
    """`names`: of all replicas. `nodes`: the coordinators, as indexes into them; -1 for one that is no
    replica. `sets`: replicas in rows, as indexes; `set_shares`: of writes. `body`: whom a coordinator
    asks for the record, by coordinator and set, as a column. `writes`, `reads`: by coordinator and
    replica. `pooled_writes`, `pooled_reads`: of one row; column 0 of other nodes, 1 of the coordinator's
    own copy. `left_out`: operations that fit in nowhere; `partial`: operations that not every
    replica has answered."""

    coordinators: tuple[str, ...]
    names: tuple[str, ...]
    nodes: Indexes
    sampled: int
    sets: Indexes
    set_shares: Floats
    body: Indexes
    writes: Pool
    reads: Pool
    pooled_writes: Pool
    pooled_reads: Pool
    whole_writes: Whole
    whole_reads: Whole
    left_out: int
    partial: int


def replicas_of(documents: Sequence[WarsStatus]) -> int:
    """n, which all have to agree on. Raises TooFewSamples."""
    ns = {one.n for one in documents}
    if not ns or ns == {0}:
        raise TooFewSamples("no node has measured anything: there is no ring yet")
    if len(ns) > 1:
        told = " and ".join(map(str, sorted(ns)))
        raise TooFewSamples(f"the nodes do not agree on how many replicas a key has: {told}")
    return ns.pop()


def gather(documents: Sequence[WarsStatus]) -> Measured:
    """What all of them have measured; of two documents of one node the later. Raises TooFewSamples."""
    n = replicas_of(documents)
    documents = [one for _, one in sorted({one.node: one for one in documents}.items())]
    ranked = _sets(documents, n)
    sets = [members for members, _ in ranked]
    names = sorted({name for members in sets for name in members})
    index = {name: place for place, name in enumerate(names)}
    rows = [[one.peers.get(name, WarsLegs()) for name in names] for one in documents]
    writes, others = _whole(_writes_of(documents), sets)
    reads, others_too = _whole(_reads_of(documents), sets)
    shares = np.array([count for _, count in ranked], dtype=np.float64)
    return Measured(
        coordinators=tuple(one.node for one in documents),
        names=tuple(names),
        nodes=np.array([index.get(one.node, -1) for one in documents], dtype=np.intp),
        sampled=max(one.sampled for one in documents),
        sets=np.array([[index[name] for name in members] for members in sets], dtype=np.intp),
        set_shares=shares / shares.sum(),
        body=_bodies(documents, sets),
        writes=_pool([[_pairs(legs.w, legs.a) for legs in row] for row in rows]),
        reads=_pool([[_pairs(legs.r, legs.s) for legs in row] for row in rows]),
        pooled_writes=_pool([_own_apart(documents, lambda legs: _pairs(legs.w, legs.a))]),
        pooled_reads=_pool([_own_apart(documents, lambda legs: _pairs(legs.r, legs.s))]),
        whole_writes=writes,
        whole_reads=reads,
        left_out=others + others_too,
        partial=sum(int(np.isinf(one.out).any(axis=1).sum()) for one in (writes, reads)),
    )


def counts_of(documents: Iterable[WarsStatus]) -> str:
    """How many samples there are, for people."""
    return "; ".join(
        f"{one.node}: {len(one.writes)} whole writes, {len(one.reads)} whole reads"
        for one in documents
    )


def _sets(documents: Sequence[WarsStatus], n: int) -> list[tuple[tuple[str, ...], int]]:
    """Sets of replicas, in order, and of how many writes they are; the most frequent first."""
    counted = Counter(
        tuple(sorted(write.legs))
        for one in documents
        for write in one.writes
        if len(write.legs) == n
    )
    if not counted:
        peers = {name for one in documents for name, legs in one.peers.items() if legs.w}
        if len(peers) != n:
            raise TooFewSamples(
                f"no write to all {n} replicas of a key was measured; {counts_of(documents)}"
            )
        counted[tuple(sorted(peers))] = 1
    return sorted(counted.items(), key=lambda one: (-one[1], one[0]))[:SETS_MAX]


def _pairs(out: Sequence[float], back: Sequence[float]) -> _Pairs:
    """As many of each."""
    length = min(len(out), len(back))
    return out[:length], back[:length]


def _own_apart(
    documents: Iterable[WarsStatus], pairs_of: Callable[[WarsLegs], _Pairs]
) -> list[_Pairs]:
    """Pairs of all other nodes, and those of own copies."""
    out: tuple[list[float], list[float]] = ([], [])
    back: tuple[list[float], list[float]] = ([], [])
    for one in documents:
        for name, legs in one.peers.items():
            outs, backs = pairs_of(legs)
            out[name == one.node].extend(outs)
            back[name == one.node].extend(backs)
    return list(zip(out, back, strict=True))


def _pool(rows: Sequence[Sequence[_Pairs]]) -> Pool:
    counts = np.array([[len(out) for out, _ in row] for row in rows], dtype=np.intp)
    begins = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.intp).reshape(counts.shape)
    flat = [pairs for row in rows for pairs in row]
    return Pool(
        np.array([ms for out, _ in flat for ms in out], dtype=np.float64),
        np.array([ms for _, back in flat for ms in back], dtype=np.float64),
        begins,
        counts,
    )


#: Legs, who was asked first, and the index of the coordinator.
_Operation = tuple[Mapping[str, tuple[float, float]], str, int]


def _writes_of(documents: Iterable[WarsStatus]) -> Iterator[_Operation]:
    return (
        (write.legs, write.minter, node)
        for node, one in enumerate(documents)
        for write in one.writes
    )


def _reads_of(documents: Iterable[WarsStatus]) -> Iterator[_Operation]:
    return (
        (read.legs, read.body, node) for node, one in enumerate(documents) for read in one.reads
    )


def _whole(operations: Iterable[_Operation], sets: Sequence[tuple[str, ...]]) -> tuple[Whole, int]:
    """The operations by set, and how many are left out: of no set, or without an answer of who was asked
    first. Others that have not answered take for ever."""
    by_set: list[list[_Operation]] = [[] for _ in sets]
    place = {members: at for at, members in enumerate(sets)}
    others = 0
    for legs, first, node in operations:
        at = place.get(tuple(sorted(legs)))
        if at is None:  # of those with a set that holds all who answered, if there is one
            held = (k for k, members in enumerate(sets) if legs and legs.keys() <= set(members))
            at = next(held, None)
        if at is None or first not in legs:
            others += 1
        else:
            by_set[at].append((legs, first, node))
    counts = np.array([len(one) for one in by_set], dtype=np.intp)
    never = (float("inf"), 0.0)
    legs_of = [
        [legs.get(name, never) for name in members]
        for members, found in zip(sets, by_set, strict=True)
        for legs, _, _ in found
    ]
    pairs = np.array(legs_of, dtype=np.float64).reshape(len(legs_of), len(sets[0]), 2)
    columns = [
        members.index(first)
        for members, found in zip(sets, by_set, strict=True)
        for _, first, _ in found
    ]
    begins = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.intp)
    whole = Whole(
        np.ascontiguousarray(pairs[:, :, 0]),
        np.ascontiguousarray(pairs[:, :, 1]),
        np.array(columns, dtype=np.intp),
        np.array([node for found in by_set for _, _, node in found], dtype=np.intp),
        begins,
        counts,
    )
    return whole, others


def _bodies(documents: Sequence[WarsStatus], sets: Sequence[tuple[str, ...]]) -> Indexes:
    """Itself, for a coordinator that is one of the set; else whom it has asked most often."""
    found = np.zeros((len(documents), len(sets)), dtype=np.intp)
    for row, one in enumerate(documents):
        asked = Counter(read.body for read in one.reads)
        for column, members in enumerate(sets):
            best = max(members, key=lambda name: (name == one.node, asked[name]))
            found[row, column] = members.index(best)
    return found
