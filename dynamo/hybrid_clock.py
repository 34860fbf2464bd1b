"""Stamps that order the writes of an `lww` bucket: a hybrid of the wall clock and of what was seen.

A stamp is an int64: milliseconds since 1970 in the upper bits, a counter in the lower 16. The next one
is the wall clock's, or one more than the highest that is known, where that is not below it; a counter
that is used up runs over into the milliseconds. After Kulkarni, Demirbas et al., "Logical Physical
Clocks" (OPODIS 2014).

No promise rests on the wall clock, nor on what a clock remembers: a stamp is above every stamp of the
record that it is minted into, which is read from disk at the mint. So a process that starts anew, and
has forgotten what it saw of other keys, breaks nothing; what a clock remembers only keeps stamps of
different keys in the order in which a node saw them, and its own writes from losing to what it has
seen. Knows nothing of records or messages; the wall clock's time is an argument.
"""

from __future__ import annotations

from typing import Final

COUNTER_BITS: Final = 16
STAMP_MAX: Final = (1 << 63) - 1
#: So far (milliseconds) a clock may be ahead of another before that one refuses what it stamps, and
#: follows it no more.
AHEAD_MS_MAX: Final = 60_000


def stamp_at(wall_ms: int) -> int:
    """The first stamp of that millisecond, whatever a clock shows: 0 to STAMP_MAX."""
    return min(max(wall_ms, 0) << COUNTER_BITS, STAMP_MAX)


class HybridClock:
    """One node's. `last`: the highest stamp that it has given or adopted."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last = 0

    def __repr__(self) -> str:
        return f"HybridClock({self.last >> COUNTER_BITS} ms + {self.last & 0xFFFF})"

    def next(self, wall_ms: int, above: int) -> int | None:
        """A stamp above `above` and above all that this clock has given or adopted; None where there is
        none left above `above`.

        A clock that was set back by more than AHEAD_MS_MAX forgets what it gave before: else the
        others would refuse its stamps for as long as it had been ahead.
        """
        now = stamp_at(wall_ms)
        known = 0 if _is_ahead(self.last, wall_ms) else self.last
        stamp = max(now, known + 1, above + 1)
        if stamp > STAMP_MAX:
            return None
        self.last = stamp
        return stamp

    def adopt(self, stamp: int, wall_ms: int) -> bool:
        """Give only higher ones from now on. False, and nothing is done, if it is too far ahead: a
        clock that is wrong would set all others, which a record with such a stamp does not."""
        if _is_ahead(stamp, wall_ms):
            return False
        if stamp > self.last:
            self.last = stamp
        return True


def _is_ahead(stamp: int, wall_ms: int) -> bool:
    # By the millisecond: a stamp's counter must not carry a clock over the edge.
    return stamp >> COUNTER_BITS > wall_ms + AHEAD_MS_MAX
