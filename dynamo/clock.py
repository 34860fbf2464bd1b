"""The clock of a real node: the operating system's, and the running loop's timers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from dynamo.ports import Timer


class SystemClock:
    """A `Clock`; make it inside the running loop."""

    __slots__ = ("_loop", "monotonic", "wall_ns")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # The function itself, not a method around it: it is called a dozen times a request.
        self.monotonic = time.monotonic
        self.wall_ns = time.time_ns

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        return self._loop.call_later(delay, callback)
