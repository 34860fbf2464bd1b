"""What the wall clock of a peer is ahead by, as far as its answers prove it.

A message that leaves at t1 by the own clock, is stamped s by the peer's, and is answered at t2 bounds
how far the peer's clock is ahead: no way takes less than no time, so it is between s - t2 and s - t1
(the bounds of NTP, RFC 5905). Nothing within them is more likely than the rest: a clock that may be
right is left as it is, or a way that takes long in one direction would be halved. Pure.
"""

from __future__ import annotations

from typing import Final

_ANY: Final = float("inf")


class ClockBounds:
    """Of one peer. All in milliseconds. Bounds of the last one to two halves: clocks drift."""

    __slots__ = ("_before", "_high", "_low", "offset")

    def __init__(self) -> None:
        self._low, self._high = -_ANY, _ANY
        self._before = (-_ANY, _ANY)
        #: The least that the peer's clock must be ahead by; below 0 if it is behind.
        self.offset = 0.0

    def __repr__(self) -> str:
        return f"ClockBounds({self.offset:+.3f} ms)"

    def note(self, out: float, back: float) -> bool:
        """One answer: `out` = s - t1, `back` = t2 - s, of two clocks. From now on neither `out` less the
        offset, nor `back` more it, is below 0. False if what was known does not agree with it, and is
        forgotten: one of the clocks was set, or drifts."""
        if out >= self._high and -back <= self._low:
            return True  # as nearly all: nothing new
        self._low = max(self._low, -back)
        self._high = min(self._high, out)
        agrees = max(self._low, self._before[0]) <= min(self._high, self._before[1])
        if not agrees:
            self._before = (-_ANY, _ANY)
            self._low, self._high = -back, out
        self._set_offset()
        return agrees

    def turn(self) -> None:
        """A half of the window has passed."""
        self._before = (self._low, self._high)
        self._low, self._high = -_ANY, _ANY
        self._set_offset()

    def _set_offset(self) -> None:
        low = max(self._low, self._before[0])
        high = min(self._high, self._before[1])
        self.offset = max(low, 0.0) if low > 0.0 else min(high, 0.0)
