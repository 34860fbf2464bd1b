"""Keeps messages back until each one's own time, in order of time and not of coming.

One alarm for all of them: it is set to the first that is due. Bounded in messages and in bytes. Knows
nothing of what a message is, nor of why it waits.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable
from typing import Final, Protocol

from dynamo.metrics import Metrics

HELD_MAX: Final = 100_000
HELD_BYTES_MAX: Final = 256 << 20

log = logging.getLogger("dynamo.rpc")


class Alarm(Protocol):
    """Calls back once, at a time that may be set again and again."""

    #: True if it is late by far less than a millisecond as a rule.
    precise: bool

    def set(self, at: float) -> None:
        """Call at this monotonic second, and at no other; at once if it is over."""
        ...

    def close(self) -> None:
        """Call no more."""
        ...


#: Makes the alarm that calls this.
MakeAlarm = Callable[[Callable[[], None]], Alarm]


class Holding:
    """What is held now. `make_alarm`: called once."""

    def __init__(
        self,
        *,
        make_alarm: MakeAlarm,
        monotonic: Callable[[], float],
        metrics: Metrics,
        held_max: int = HELD_MAX,
        bytes_max: int = HELD_BYTES_MAX,
    ) -> None:
        self._monotonic = monotonic
        self._count = metrics.count
        self.held_max = held_max
        self._bytes_max = bytes_max
        #: When it is due; its number, so that of those due at once the first that came goes first;
        #: its size; what then happens.
        self._heap: list[tuple[float, int, int, Callable[[], None]]] = []
        self._number = 0
        self._bytes = 0
        self._alarm = make_alarm(self._release)
        self._closed = False

    def __repr__(self) -> str:
        return f"Holding(held={len(self._heap)} bytes={self._bytes} precise={self.precise})"

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def precise(self) -> bool:
        """As of its alarm."""
        return self._alarm.precise

    def hold(self, due: float, size: int, release: Callable[[], None]) -> bool:
        """Call `release` at that monotonic second. False if it cannot be held: it will not be called."""
        if self._closed or len(self._heap) >= self.held_max or self._bytes + size > self._bytes_max:
            self._count["faults_messages_unheld"] += 1
            return False
        self._number += 1
        self._bytes += size
        heapq.heappush(self._heap, (due, self._number, size, release))
        self._count["faults_messages_held"] += 1
        if self._heap[0][1] == self._number:
            self._alarm.set(due)
        return True

    def _release(self) -> None:
        heap = self._heap
        while heap and heap[0][0] <= self._monotonic():
            _, _, size, release = heapq.heappop(heap)
            self._bytes -= size
            try:
                release()
            except Exception:
                self._count["faults_messages_failed"] += 1
                log.exception("a message that was held met a bug")
        if heap:
            self._alarm.set(heap[0][0])

    def close(self) -> None:
        """Let go of all: what is held is not sent any more."""
        self._closed = True
        self._alarm.close()
        self._count["faults_messages_abandoned"] += len(self._heap)
        self._heap.clear()
        self._bytes = 0
