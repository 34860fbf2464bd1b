"""Inconsistency window: how long after a write its old value was still read (Wada et al., CIDR 2011).

From a stamp of the write to the last read that did not cover it, of the reads before the next write to
its key began. If no later read has it polling ended too soon: the window is at least so long (right-
censored), and counted as such.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from bench.findings import Origin, Window
from bench.history import Op
from bench.staleness.freshness import Looked
from bench.staleness.keyed import Read
from bench.staleness.order import BudgetSpent, Order
from bench.staleness.quantiles import named

ORIGINS: Final[tuple[Origin, ...]] = ("client commit", "write start")


def windows(looked: Iterable[Looked]) -> tuple[Window, ...]:
    """One an origin, over the acknowledged writes of the phase measured that were read before the next
    write began; directed reads count too. Quantiles that fall among the censored are left out."""
    spans: dict[Origin, list[float]] = {origin: [] for origin in ORIGINS}
    censored: dict[Origin, int] = dict.fromkeys(ORIGINS, 0)
    for one in looked:
        reads = sorted([*one.key.reads, *one.key.directed], key=lambda read: read.op.start)
        for place, op, polls in _polled(one, reads):
            for origin in ORIGINS:
                stamp = op.end if origin == "client commit" else op.start
                span = _window(one.order, place, stamp, polls)
                if span is not None:
                    censored[origin] += math.isinf(span)
                    spans[origin].append(span)
    return tuple(
        Window(
            origin=origin,
            writes=len(spans[origin]),
            censored=censored[origin],
            ms=named(spans[origin]),
        )
        for origin in ORIGINS
        if spans[origin]
    )


def _polled(one: Looked, reads: Sequence[Read]) -> Iterable[tuple[int, Op, Sequence[Read]]]:
    """Each write that counts, with the reads from its start until the next write to its key."""
    begin = 0
    writes = one.key.writes
    for place, op in enumerate(writes):
        until = writes[place + 1].start if place + 1 < len(writes) else math.inf
        while begin < len(reads) and reads[begin].op.start < op.start:
            begin += 1
        end = begin
        while end < len(reads) and reads[end].op.start < until:
            end += 1
        if op.outcome == "ok" and op.phase == "measure" and end > begin:
            yield place, op, reads[begin:end]
        begin = end


def _window(order: Order, place: int, stamp: int, polls: Sequence[Read]) -> float | None:
    """Milliseconds, infinite if censored; None if no read came after the stamp. Polls are by start:
    one that began before the last miss says nothing of what came after it."""
    after = [read for read in polls if read.op.start >= stamp and not read.foreign]
    if not after:
        return None
    try:
        missed = [read for read in after if order.uncovered(read.seen, (place,))]
    except BudgetSpent:
        return None
    if not missed:
        return 0.0
    if missed[-1] is after[-1]:
        return math.inf
    return (missed[-1].op.start - stamp) / 1e6
