"""The clock of a load: nanoseconds of CLOCK_MONOTONIC, and sleeping that is precise to some 0.1 ms.

All processes of a host share that clock, so stamps of the harness and of the nodes compare. Knows
nothing of what is done at those times.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol, Self

from dynamo.precise import FileAlarm, LoopAlarm, make_alarm


class LoadClock(Protocol):
    """What a load needs of time; the simulator has one of its own."""

    def now(self) -> int:
        """Nanoseconds."""
        ...

    async def sleep_until(self, at: int) -> None:
        """Until then (ns); returns at once if it is past."""
        ...


class MonotonicClock:
    """`async with` it, on the loop that is to sleep by it. All sleepers share one alarm; where the
    system has no precise one the loop's timers serve, a millisecond less exact (`precise` says so)."""

    name = "CLOCK_MONOTONIC"

    def __init__(self) -> None:
        #: (when, number, who waits); one that was cancelled leaves when its time comes.
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._armed = 0
        #: While it is entered.
        self._alarm: FileAlarm | LoopAlarm | None = None

    @property
    def precise(self) -> bool:
        """Whether the kernel's timer is used."""
        return self._alarm is not None and self._alarm.precise

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._alarm = make_alarm(self._due)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.close()
        for _, _, waiter in self._heap:
            waiter.cancel()
        self._heap.clear()

    def now(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    async def sleep_until(self, at: int) -> None:
        """Until then; returns at once if it is past."""
        while (left := at - time.monotonic_ns()) > 0:
            if self._alarm is None:
                await asyncio.sleep(left / 1e9)
                continue
            waiter: asyncio.Future[None] = self._loop.create_future()
            heapq.heappush(self._heap, (at, next(self._numbers), waiter))
            if not self._armed or at < self._armed:
                self._arm(at)
            await waiter

    def _arm(self, at: int) -> None:
        assert self._alarm is not None
        self._armed = at
        self._alarm.set(at / 1e9)

    def _due(self) -> None:
        self._armed = 0
        heap = self._heap
        now = time.monotonic_ns()
        while heap and heap[0][0] <= now:
            waiter = heapq.heappop(heap)[2]
            if not waiter.done():
                waiter.set_result(None)
        if heap:
            self._arm(heap[0][0])
