"""How late a frame is read: how much longer it was on its way than the quickest of its connection.

A request's deadline counts from when it was sent. A process that stood still, or a network that did,
reads it long after, when nobody waits for it any more. Each frame says when it was sent, by the
sender's clock, and what it read last of the receiver's stamps (as TCP does, RFC 7323). The clocks of
two machines have nothing in common, so:

- the least (read - sent) so far is taken for a frame that was not late (as LEDBAT does, RFC 6817). It
  is let grow by a thousandth of the time that passes: no two clocks drift apart faster for long;
- whatever sends an echo sent it after that stamp, by this side's own clock. So a clock that stood still
  with its whole machine is found out by the first frame that echoes something newer.

What is late is never overestimated for longer than that takes; what is left out is what all frames of
the connection have in common. Knows nothing of sockets or of messages; the clock is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: The fastest that two clocks drift apart: one in so many.
DRIFT: Final = 1_000
#: Stamps are milliseconds since the connection was opened, modulo 2^32, and never 0, which says nothing.
STAMP_MASK: Final = 0xFFFF_FFFF
_HALF: Final = 1 << 31


class Delay:
    """The frames of one connection, both ways, as one side sees them. Make it as it is opened."""

    __slots__ = ("_base", "_base_at", "_heard", "_monotonic", "_opened")

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._opened = monotonic()
        #: The peer's stamp that was read last.
        self._heard = 0
        #: The least (read - sent), modulo 2^32, and when it was last let grow; None: nothing was read.
        self._base: int | None = None
        self._base_at = 0

    def __repr__(self) -> str:
        return f"Delay(heard={self._heard} base={self._base})"

    def _now(self) -> int:
        return int((self._monotonic() - self._opened) * 1000) + 1

    def stamp(self) -> tuple[int, int]:
        """When a frame that is made now was sent, and the peer's stamp that it echoes, 0 for none."""
        return (self._now() & STAMP_MASK) or 1, self._heard

    def late(self, sent: int, echo: int) -> float:
        """Seconds that a frame with these stamps, which is read now, is late: 0.0 or more."""
        if not sent:
            return 0.0
        self._heard = sent
        now = self._now()
        taken = (now - sent) & STAMP_MASK
        base = self._base
        if base is None:
            self._base, self._base_at = taken, now
            return 0.0
        grown = (now - self._base_at) // DRIFT
        if grown:
            self._base = base = (base + grown) & STAMP_MASK
            self._base_at += grown * DRIFT
        late = _signed(taken - base)
        if late <= 0:
            self._base = taken
            return 0.0
        if echo:
            # It was sent at `echo`, or after: so it has not taken longer than since then.
            slower = _signed(echo - sent - base)
            if 0 < slower <= late:
                self._base = (base + slower) & STAMP_MASK
                late -= slower
        return late / 1000


def _signed(difference: int) -> int:
    return ((difference + _HALF) & STAMP_MASK) - _HALF
