"""One timer of the kernel as a file, to be waited for by an event loop: no rounding to milliseconds.

The loops' own timers end at whole milliseconds (epoll's timeout, libuv's clock). A timerfd fires
within some tens of microseconds. Linux only; by `os` from Python 3.13 on, by the C library before.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

_CLOCK_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1  # TFD_TIMER_ABSTIME
_FLAGS: Final = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)  # TFD_NONBLOCK, TFD_CLOEXEC
_SECOND: Final = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_long), ("nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class TimerFile:
    """A timer of CLOCK_MONOTONIC. `number`: of its file, readable once the timer has fired."""

    def __init__(self) -> None:
        """Raises OSError where there is none to be had."""
        if sys.version_info >= (3, 13):
            self.number = os.timerfd_create(_CLOCK_MONOTONIC, flags=_FLAGS)
            return
        if not sys.platform.startswith("linux"):
            raise OSError("no timerfd on this system")
        self._library = ctypes.CDLL(None, use_errno=True)
        self.number = self._library.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self.number < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = _Itimerspec()

    def arm(self, at: int) -> None:
        """Fire at that time (ns of CLOCK_MONOTONIC), at once if it is past; in place of any before."""
        at = max(at, 1)  # 0 would disarm it
        if sys.version_info >= (3, 13):
            os.timerfd_settime_ns(self.number, flags=os.TFD_TIMER_ABSTIME, initial=at)
            return
        self._spec.value.sec, self._spec.value.nsec = divmod(at, _SECOND)
        if self._library.timerfd_settime(self.number, _ABSOLUTE, ctypes.byref(self._spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def clear(self) -> None:
        """Take note that it has fired: it is no longer readable."""
        try:
            os.read(self.number, 8)
        except BlockingIOError:
            return  # armed anew before it was looked at: it has not fired since

    def close(self) -> None:
        """Give the file back."""
        os.close(self.number)
