"""Zones of a register's values: whether a key's history is atomic, and how far from it (Delta, Gamma).

The cluster of a value is its write and the reads that returned it; f is the least end in it, s the
greatest start. A history is atomic iff no read ends before its write starts and no two clusters have
f1 < s2 and f2 < s1: that is, no two forward zones (f < s) overlap, no backward zone lies in a forward
one (Gibbons, Korach, SIAM J. Comput. 26, 1997). Delta: Golab, Li, Shah, PODC 2011; Gamma: Golab et al.,
ICDCS 2014. Knows nothing of keys or versions; times in any unit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

#: So few clusters are compared pair by pair: arrays would take longer.
_FEW: Final = 16


class Cluster(NamedTuple):
    """Of one value. `write_start`, `first_end`, `last_start`: of the write and all reads;
    `last_read_start`, `first_read_end`: of the reads, -inf and inf of none. What was there at the
    beginning was written at -inf."""

    write_start: float
    first_end: float
    last_start: float
    last_read_start: float
    first_read_end: float


class Distance(NamedTuple):
    """How far a history is from atomic. `delta`: starts of reads moved earlier by so much make it
    atomic, inf if nothing does; `gamma`: starts earlier and ends later by half of it; `scores`: of
    each value, the Gamma of its worst conflict; `partners`: that conflict, itself for a read that
    ends before its write starts, -1 for none."""

    delta: float
    gamma: float
    scores: list[float]
    partners: list[int]


def cluster(write_start: float, write_end: float, reads: Sequence[tuple[float, float]]) -> Cluster:
    """`reads`: start and end of each read that returned the value."""
    last = max((start for start, _ in reads), default=-math.inf)
    first = min((end for _, end in reads), default=math.inf)
    return Cluster(write_start, min(write_end, first), max(write_start, last), last, first)


def is_atomic(clusters: Sequence[Cluster]) -> bool:
    """Gibbons and Korach's criterion, in O(n log n) however many conflicts there are."""
    if any(one.first_read_end < one.write_start for one in clusters):
        return False
    ordered = sorted(clusters, key=lambda one: one.first_end)
    if len(ordered) <= _FEW:
        return not any(
            one.first_end < other.last_start and other.first_end < one.last_start
            for one, other in itertools.combinations(ordered, 2)
        )
    f = np.array([one.first_end for one in ordered])
    s = np.array([one.last_start for one in ordered])
    # Of a pair the one with the lesser f comes first; its partners are a run after it.
    begin = np.arange(1, len(ordered) + 1)
    end = np.searchsorted(f, s, side="left")
    held = end > begin
    greatest = _range_max(s, begin[held], end[held])
    return not bool(np.any(greatest > f[held]))


def distance(clusters: Sequence[Cluster], *, pairs: int) -> Distance | None:
    """None where more than `pairs` pairs would have to be compared."""
    scores = [max(0.0, one.write_start - one.first_read_end) for one in clusters]
    partners = [place if score > 0 else -1 for place, score in enumerate(scores)]
    delta = math.inf if any(scores) else 0.0
    for a, b in _candidates(clusters):
        pairs -= 1
        if pairs < 0:
            return None
        one, other = clusters[a], clusters[b]
        if one.first_end >= other.last_start or other.first_end >= one.last_start:
            continue
        delta = max(delta, _delta(one, other))
        gamma = min(one.last_start - other.first_end, other.last_start - one.first_end)
        for mine, its in ((a, b), (b, a)):
            if gamma > scores[mine]:
                scores[mine], partners[mine] = gamma, its
    return Distance(delta, max(scores, default=0.0), scores, partners)


def _candidates(clusters: Sequence[Cluster]) -> Iterator[tuple[int, int]]:
    """Pairs of which the second's first end lies between the first one's first end and last start."""
    order = sorted(range(len(clusters)), key=lambda place: clusters[place].first_end)
    for number, a in enumerate(order):
        last = clusters[a].last_start
        for after in range(number + 1, len(order)):
            b = order[after]
            if clusters[b].first_end >= last:
                break
            yield a, b


def _delta(a: Cluster, b: Cluster) -> float:
    """How far reads' starts must be moved until these two conflict no more; a write's cannot be."""
    moves = [
        one.last_read_start - other.first_end
        for one, other in ((a, b), (b, a))
        if one.write_start <= other.first_end
    ]
    return min(moves, default=math.inf)


def _range_max(
    values: np.ndarray[tuple[int], np.dtype[np.float64]],
    begin: np.ndarray[tuple[int], np.dtype[np.int64]],
    end: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The greatest of values[begin:end] for each pair, none of them empty; a sparse table."""
    table = [values]
    while 2 ** len(table) <= len(values):
        half = 2 ** (len(table) - 1)
        table.append(np.maximum(table[-1][:-half], table[-1][half:]))
    level = np.log2(np.maximum(end - begin, 1)).astype(np.int64)
    found = np.full(len(begin), -np.inf)
    for number, row in enumerate(table):
        at = np.flatnonzero(level == number)
        found[at] = np.maximum(row[begin[at]], row[end[at] - 2**number])
    return found
