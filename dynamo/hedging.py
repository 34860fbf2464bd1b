"""When a read asks a second replica for the record: a hedge against one slow replica.

After the observed p95 of reads, and for at most one read in twenty (Dean & Barroso, "The Tail at
Scale", 2013), never at a node that is doubted. One timer for all reads. Knows nothing of what is read.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from dynamo.metrics import Metrics
from dynamo.ports import Clock, Opinions, Timer, Transport
from dynamo.tail import HedgeBudget, Tail

#: A hedge is never sent sooner after the first request, nor later, than this (seconds).
DELAY_MIN: Final = 0.002
DELAY_MAX: Final = 0.25
#: A node that has left a request without any reply for so long (seconds) is not asked to make up for
#: another one.
SILENT_AFTER: Final = 0.1
#: Of so many reads the time that one takes is looked at.
SAMPLED: Final = 8


class Hedged(Protocol):
    """A read that may ask again, and says False if it is to be asked again whether it would."""

    def hedge(self) -> bool: ...


class Hedger:
    """Of one coordinator."""

    def __init__(
        self, *, clock: Clock, transport: Transport, opinions: Opinions, metrics: Metrics
    ) -> None:
        self._clock = clock
        self._transport = transport
        self._count = metrics.count
        self._doubted = opinions.doubted
        self._down = opinions.down
        self._tail = Tail()
        self._budget = HedgeBudget()
        #: Reads by when they began; those that are over are dropped when their time comes.
        self._watched: deque[tuple[float, Hedged]] = deque()
        self._timer: Timer | None = None
        self._reads = 0

    def __repr__(self) -> str:
        return f"Hedger({self._tail!r} {self._budget!r} watched={len(self._watched)})"

    @property
    def delay(self) -> float:
        """Seconds until what has not come is asked of another."""
        return min(max(self._tail.p95, DELAY_MIN), DELAY_MAX)

    def watch(self, read: Hedged, begun: float) -> bool:
        """Let the read hedge once it has taken longer than usual. True if it is to say, by `took`, how
        long it took. `begun`: monotonic seconds."""
        self._budget.earn()
        self._watched.append((begun, read))
        if self._timer is None:
            self._timer = self._clock.call_later(self.delay, self._due)
        self._reads += 1
        return self._reads % SAMPLED == 0

    def took(self, begun: float) -> None:
        """A read that was watched has its answer."""
        self._tail.add(self._clock.monotonic() - begun)

    def may_ask(self) -> bool:
        """True if one request more may be sent, which is counted."""
        if not self._budget.spend():
            self._count["hedges_denied"] += 1
            return False
        self._count["reads_hedged"] += 1
        return True

    def doubts(self, node: str) -> bool:
        """True for who may be as slow as the node that it would make up for."""
        return (
            node in self._doubted
            or node in self._down
            or self._transport.stalled_for(node) > SILENT_AFTER
        )

    def _due(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        watched = self._watched
        again: list[Hedged] = []
        while watched and watched[0][0] + self.delay <= now:
            _, read = watched.popleft()
            if not read.hedge():
                again.append(read)
        watched.extend((now, read) for read in again)
        if watched:
            wait = max(DELAY_MIN / 2, watched[0][0] + self.delay - now)
            self._timer = self._clock.call_later(wait, self._due)
