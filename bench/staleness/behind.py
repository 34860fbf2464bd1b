"""k-staleness: how many versions behind the newest committed one a read was.

k = 1 + committed writes, ended when the read began, that are newer than what it returned; a value whose
write overlaps the read is k = 1. Bailis et al., VLDB 2012.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bench.findings import Staleness
from bench.staleness.order import Judged

#: Counts are kept for k up to this.
K_MAX: Final = 20


def staleness(judged: Iterable[Judged]) -> Staleness | None:
    """Of the reads given that could be stale; None of none."""
    counts, beyond, reads = [0] * K_MAX, 0, 0
    for one in judged:
        if one.newest < 0 or one.behind < 0 or one.read.foreign:
            continue
        reads += 1
        if one.behind < K_MAX:
            counts[one.behind] += 1
        else:
            beyond += 1
    if not reads:
        return None
    while counts and not counts[-1]:
        counts.pop()
    return Staleness(reads=reads, counts=tuple(counts), beyond=beyond)
