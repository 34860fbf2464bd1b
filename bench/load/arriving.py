"""The two ways in which arrivals come: by a schedule that waits for nobody, or one after the other.

What an arrival does is an argument. An open loop says what it left out; a closed loop measures no
waiting that it caused itself, and is therefore named as such wherever its figures are shown.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from bench.history import Event, Line
from bench.load.clock import LoadClock
from bench.load.schedule import SECOND, Span
from bench.workloads.protocol import Arrival

#: So many arrivals are begun in one go at most, when the schedule is behind, before answers get a turn.
BURST: Final = 32
#: An arrival that is begun later than this (ns) was late by the harness's own fault.
LATE: Final = SECOND // 50

Act = Callable[[Arrival], Coroutine[Any, Any, None]]


class Crew:
    """The tasks of a run, each owned until it is over. The first that fails is kept, and `failed`
    called. `eager`: a task runs until it first waits as it is made, where Python can (3.12)."""

    def __init__(self, *, eager: bool, failed: Callable[[BaseException], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._eager = eager and sys.version_info >= (3, 12)
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()
        #: The most at once.
        self.most = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None], name: str | None = None) -> None:
        """Have it done."""
        task: asyncio.Task[None]
        if sys.version_info >= (3, 12) and self._eager:
            task = asyncio.Task(work, loop=self._loop, name=name, eager_start=True)
            if task.done():
                self._over(task)
                return
        else:
            task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        self.most = max(self.most, len(self._tasks))
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    def cancel(self) -> None:
        """Ask all to end."""
        for task in list(self._tasks):
            task.cancel()

    async def ended(self, clock: LoadClock, until: int) -> bool:
        """Wait for all of them, until then (ns) at most; whether all have ended."""
        while self._tasks and clock.now() < until:
            await clock.sleep_until(min(until, clock.now() + SECOND // 200))
        return not self._tasks


class OpenLoop:
    """Arrivals by a schedule. `dropped`: those left out since too many were in flight. `begun`, `late`:
    those begun, and of them the late ones, in the phase measured."""

    def __init__(
        self, clock: LoadClock, crew: Crew, sink: Callable[[Line], None], *, in_flight_max: int
    ) -> None:
        self._clock = clock
        self._crew = crew
        self._sink = sink
        self._in_flight_max = in_flight_max
        self._dropped_by_second: Counter[int] = Counter()
        self.dropped = self.begun = self.late = 0

    async def run(self, schedule: Iterable[Arrival], act: Act, times: Span) -> None:
        """Begin each arrival when it is due; ends once the last is begun."""
        clock, crew, most = self._clock, self._crew, self._in_flight_max
        now = clock.now()
        burst = 0
        for arrival in schedule:
            if arrival.due > now and arrival.due > (now := clock.now()):
                await clock.sleep_until(arrival.due)
                now = clock.now()
                burst = 0
            elif burst >= BURST:
                await asyncio.sleep(0)
                now = clock.now()
                burst = 0
            burst += 1
            if len(crew) >= most:
                self._drop(arrival, times)
                continue
            if arrival.phase == "measure":
                self.begun += 1
                self.late += now - arrival.due > LATE
            crew.start(act(arrival))
        self._tell_dropped(times)

    def _drop(self, arrival: Arrival, times: Span) -> None:
        """Counted, and noted once a second, so that a time line shows it."""
        self.dropped += 1
        second = (arrival.due - times.begin) // SECOND
        if second not in self._dropped_by_second:
            self._tell_dropped(times)
        self._dropped_by_second[second] += 1

    def _tell_dropped(self, times: Span) -> None:
        for second, count in self._dropped_by_second.items():
            at = times.begin + second * SECOND
            self._sink(Event(kind="dropped", at=at, until=at + SECOND, told=str(count)))
        self._dropped_by_second.clear()


class ClosedLoop:
    """Sessions that ask again once they have their answer; what they intend is when they start."""

    def __init__(self, clock: LoadClock, crew: Crew, *, sessions: int) -> None:
        self._clock = clock
        self._crew = crew
        self._sessions = sessions

    async def run(self, act: Act, times: Span, *, first: int = 0) -> None:
        """From the begin to the end; then each session is in its last arrival."""
        await self._clock.sleep_until(times.begin)
        numbers = itertools.count(first)
        for session in range(self._sessions):
            self._crew.start(self._session(session, act, times, numbers), f"session {session}")
        await self._clock.sleep_until(times.end)

    async def _session(self, session: int, act: Act, times: Span, numbers: Iterable[int]) -> None:
        now = self._clock.now
        each = max(1, BURST // self._sessions)
        for done, number in enumerate(numbers, 1):
            due = now()
            if due >= times.end:
                return
            await act(Arrival(number, due, session, times.phase(due)))
            if done % each == 0:
                await asyncio.sleep(0)  # a target that answers at once would let nobody else run
