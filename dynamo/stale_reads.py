"""What reads find of replicas that are behind: how many, and for how long they have been.

Counted only where replicas differ: a read that finds all agreed pays nothing. Knows nothing of how a
replica is brought up to date.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dynamo.latency import Histogram
from dynamo.metrics import Metrics
from dynamo.ports import Clock
from dynamo.record import Record
from dynamo.version import Vector

#: Upper ends, in seconds, of the ages that are told apart: a millisecond to a month.
AGES: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0),
    *(3600.0, 10_800.0, 43_200.0, 86_400.0, 604_800.0, 2_592_000.0),
)


class StaleReads:
    """Of one coordinator."""

    __slots__ = ("_clock", "_count", "ages")

    def __init__(self, *, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._count = metrics.count
        #: Of replies that were behind: seconds since the newest write that the replica lacked, by the
        #: clock of who minted it.
        self.ages = Histogram(AGES)

    def found(self, answered: Record | None, merged: Record, behind: Iterable[Vector]) -> None:
        """A read has all the answers that come. `answered`: what its client was shown, None for nothing.
        `merged`: what all of them make; `behind`: vectors of those that lack some of it."""
        vectors = list(behind)
        if not vectors:
            return
        count = self._count
        count["reads_with_stale_replies"] += 1
        count["stale_replies"] += len(vectors)
        if answered is not None and answered != merged:
            count["reads_answered_stale"] += 1
        now_ms = self._clock.wall_ms()
        for vector in vectors:
            written_ms = newest_lacked(merged, vector)
            if written_ms:
                self.ages.note(max(0, now_ms - written_ms) / 1000)


def newest_lacked(record: Record, vector: Vector) -> int:
    """When the newest of the record's siblings was written that `vector` does not cover, milliseconds
    since 1970; 0 if it covers them all."""
    counters = dict(vector)
    return max(
        (
            sibling.written_ms
            for sibling in record.siblings
            if sibling.counter > counters.get(sibling.birth, 0)
        ),
        default=0,
    )
