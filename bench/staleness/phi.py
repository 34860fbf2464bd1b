"""phi: the same read at every replica at once, so long after the commit: how often do all agree?

A probe is a group of directed reads, one a replica, at an offset that was designed (`Op.offset`); all
agree if they returned the same versions, old ones too. A probe of which one got no answer says nothing
and is left out (it is in `availability`). Rounds of polling after a heal look the same but for the
offset: they go on until all agree, so they tell of convergence and would say nothing true here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from bench.findings import Agreement
from bench.staleness.freshness import Looked
from bench.staleness.intervals import rate
from bench.staleness.keyed import Key, Read
from bench.staleness.visibility import plot_edges

#: So many designed offsets are told one by one; of more, bins are.
OFFSETS_MAX: Final = 200


def agreements(looked: Iterable[Looked]) -> tuple[Agreement, ...]:
    """By time after the commit, as it was designed."""
    probes = [
        (
            round(group[0].op.offset / 1e6, 3),
            len({frozenset(_versions(read)) for read in group}) == 1,
        )
        for one in looked
        for group in _groups(one.key)
    ]
    if len({after for after, _ in probes}) > OFFSETS_MAX:
        edges = plot_edges(max(after for after, _ in probes))
        probes = [(edges[bisect_right(edges, after) - 1], agreed) for after, agreed in probes]
    found: dict[float, list[bool]] = {}
    for after, agreed in probes:
        found.setdefault(after, []).append(agreed)
    return tuple(
        Agreement(after_ms=after, agreed=rate(sum(all_), len(all_)))
        for after, all_ in sorted(found.items())
    )


def _groups(key: Key) -> Iterable[Sequence[Read]]:
    """Designed ones of the phase measured, of several replicas of which each gave an answer."""
    groups: dict[int, list[Read]] = {}
    for read in key.directed:
        if read.op.group and read.op.offset >= 0 and read.op.phase == "measure":
            groups.setdefault(read.op.group, []).append(read)
    silent = {op.group for op in key.unanswered if op.target}
    for number, group in sorted(groups.items()):
        if number not in silent and len({read.op.target for read in group}) > 1:
            yield group


def _versions(read: Read) -> Sequence[int]:
    return (*read.seen, -1) if read.foreign else read.seen
