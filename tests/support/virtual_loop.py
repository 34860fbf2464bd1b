"""An event loop whose time jumps to the next timer: ordinary asyncio code, thousands of times faster.

`time()` starts at 0 and moves only when nothing is ready. Ready without an end is a bug as well as
nothing left to wait for: both are raised. Knows nothing of sockets, threads or real time.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is armed, and yet somebody waits."""


class Livelock(RuntimeError):
    """More callbacks than any honest run needs."""


class VirtualLoop(asyncio.BaseEventLoop):
    """`problems` collects what callbacks raised and nobody awaited."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, *, steps_max: int = 3_000_000) -> None:
        super().__init__()
        self._now = 0.0
        self._steps_left = steps_max
        self.problems: list[str] = []
        self.set_exception_handler(_note_problem)

    def time(self) -> float:
        return self._now

    def armed(self) -> list[float]:
        """When timers are due that nobody has cancelled."""
        return sorted(timer.when() for timer in self._scheduled if not timer.cancelled())

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while scheduled and scheduled[0].cancelled():
            heapq.heappop(scheduled)
        if not ready:
            if not scheduled:
                raise Deadlock("nothing is ready, no timer is armed")
            self._now = max(self._now, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self._now:
            ready.append(heapq.heappop(scheduled))
        count = len(ready)
        self._steps_left -= count
        if self._steps_left < 0:
            raise Livelock(f"too many callbacks, at {self._now:.3f} s")
        for _ in range(count):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no files to watch."""

    def _write_to_self(self) -> None:
        """There is nobody to wake it: one thread."""


def _note_problem(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, VirtualLoop)
    loop.problems.append(f"{context.get('message')}: {context.get('exception')!r}")


def run_virtual(main: Coroutine[Any, Any, _T]) -> _T:
    """What `main` returns, after as much virtual time as it takes.

    Raises what it raises, Deadlock, Livelock, or AssertionError for what a callback raised.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        result = runner.run(main)
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        assert not loop.problems, loop.problems
    return result
