"""The clock of a simulated node: it may be off, run fast or slow, and be set while the node runs.

The port `Clock`. Only the wall clock jumps: no operating system lets the monotonic one go back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from dynamo.sim.loop import SimLoop, SimTimer

#: The wall clock's milliseconds since 1970 when a run begins.
EPOCH_MS: Final = 1_750_000_000_000
#: Rounding must not wake anybody before his time.
_TICK: Final = 1e-9


class SimClock:
    """`rate`: its seconds in one second of the loop. `offset_ms`: what its wall clock is off by."""

    __slots__ = ("_base", "_loop", "_offset_ms", "_own", "rate")

    def __init__(self, loop: SimLoop, *, rate: float = 1.0, offset_ms: int = 0) -> None:
        assert rate > 0
        self._loop = loop
        self.rate = rate
        self._offset_ms = offset_ms
        #: Its own time at the loop's time `_base`.
        self._own = self._base = loop.time()

    def __repr__(self) -> str:
        return f"SimClock({self.monotonic():.6f} s, rate {self.rate}, {self._offset_ms:+} ms)"

    def monotonic(self) -> float:
        return self._own + (self._loop._now - self._base) * self.rate

    def wall_ms(self) -> int:
        return EPOCH_MS + int(self.monotonic() * 1000) + self._offset_ms

    def wall_ns(self) -> int:
        return (EPOCH_MS + self._offset_ms) * 1_000_000 + int(self.monotonic() * 1e9)

    def call_later(self, delay: float, callback: Callable[[], None]) -> SimTimer:
        """Call `callback` once `delay` seconds of this clock have passed, whatever its rate will be."""
        due = self.monotonic() + delay
        timer = self._loop.call_at(self._when(due), callback)
        timer.clock = self
        timer.due = due
        return timer

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds of this clock."""
        passed = asyncio.Event()
        timer = self.call_later(seconds, passed.set)
        try:
            await passed.wait()
        finally:
            timer.cancel()

    def jump(self, ms: int) -> None:
        """Set the wall clock forward, or back."""
        self._offset_ms += ms

    def drift(self, rate: float) -> None:
        """Run at another rate from now on."""
        assert rate > 0
        self._own = self.monotonic()
        self._base = self._loop.time()
        self.rate = rate
        self._loop.retime(self, self._when)

    def _when(self, due: float) -> float:
        """The loop's time at which this clock shows `due`, or a little more."""
        when = self._base + (due - self._own) / self.rate
        if self._own + (when - self._base) * self.rate < due:
            when += _TICK
        return when
