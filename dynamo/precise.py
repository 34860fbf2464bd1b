"""An alarm that is on time to a fraction of a millisecond: the loop's own timers round up to whole ones.

A timerfd of Linux, by the absolute monotonic clock, that the loop watches as it watches sockets. The C
library is asked for it, since Python has it from 3.13 on only. Elsewhere the loop's timers have to do,
and the alarm says that it is not precise. Knows nothing of what is due.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Final

_NANOSECONDS: Final = 1_000_000_000
#: Of Linux, as in <sys/timerfd.h>.
_CLOCK_MONOTONIC: Final = 1
_TFD_NONBLOCK: Final = 0o4000
_TFD_CLOEXEC: Final = 0o2000000
_TFD_TIMER_ABSTIME: Final = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


def make_alarm(ring: Callable[[], None]) -> FileAlarm | LoopAlarm:
    """The best there is here, on the running loop; `ring` is called when it is due."""
    try:
        return FileAlarm(ring)
    except (OSError, AttributeError):
        return LoopAlarm(ring)


class FileAlarm:
    """By a timerfd. Raises OSError or AttributeError where there is none."""

    precise = True

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._descriptor = -1
        if sys.platform != "linux":
            raise OSError("there is no timerfd here")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._set_time = self._libc.timerfd_settime
        self._descriptor = self._create()
        self._loop.add_reader(self._descriptor, self._due)

    def __repr__(self) -> str:
        return f"FileAlarm(fd={self._descriptor})"

    def _create(self) -> int:
        descriptor: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        return descriptor

    def set(self, at: float) -> None:
        """Ring at this monotonic second. Raises OSError."""
        if self._descriptor < 0:
            return
        # 0 would be never; what is over is due at once.
        moment = max(1, int(at * _NANOSECONDS))
        spec = _TimerSpec()
        spec.value.seconds, spec.value.nanoseconds = divmod(moment, _NANOSECONDS)
        failed = self._set_time(self._descriptor, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)
        if failed:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def _due(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return  # it was set anew meanwhile
        self._ring()

    def close(self) -> None:
        """Ring no more. May be called twice."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


class LoopAlarm:
    """By the loop's timers, which may be late by a millisecond or two."""

    precise = False

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"LoopAlarm({'set' if self._timer is not None else 'not set'})"

    def set(self, at: float) -> None:
        """Ring at this monotonic second."""
        self.close()
        self._timer = self._loop.call_later(max(0.0, at - time.monotonic()), self._due)

    def _due(self) -> None:
        self._timer = None
        self._ring()

    def close(self) -> None:
        """Ring no more. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
