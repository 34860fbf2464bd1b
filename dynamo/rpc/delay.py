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

from typing import Final

#: The fastest that two clocks drift apart: one in so many.
DRIFT: Final = 1_000
#: A stamp is milliseconds since the connection was opened, plus 1, modulo 2^32; 0 says nothing.
STAMP_BITS: Final = 32
STAMP_MASK: Final = (1 << STAMP_BITS) - 1
_HALF: Final = 1 << (STAMP_BITS - 1)


class Delay:
    """The frames of one connection, both ways, as one side sees them; made as it is opened.

    The two stamps of a frame are one number: when it was sent, then what it echoes, 32 bits each. All
    times are of one monotonic clock, in seconds.
    """

    __slots__ = ("_base", "_base_at", "heard", "opened")

    def __init__(self, now: float) -> None:
        self.opened = now
        #: The peer's stamp that was read last: to be kept by who reads, 0 while there is none.
        self.heard = 0
        #: The least (read - sent), modulo 2^32, and when it was last let grow; None: nothing was read.
        self._base: int | None = None
        self._base_at = 0

    def __repr__(self) -> str:
        return f"Delay(heard={self.heard} base={self._base})"

    def stamps(self, now: float) -> int:
        """The stamps of a frame that is sent now."""
        return (int((now - self.opened) * 1000) + 1 & STAMP_MASK) << STAMP_BITS | self.heard

    def late(self, stamps: int, now: float) -> float:
        """Seconds that a frame with these stamps, which is read now, is late: 0.0 or more."""
        sent, echo = stamps >> STAMP_BITS, stamps & STAMP_MASK
        if not sent:
            return 0.0
        read = int((now - self.opened) * 1000) + 1
        taken = (read - sent) & STAMP_MASK
        base = self._base
        if base is None:
            self._base, self._base_at = taken, read
            return 0.0
        grown = (read - self._base_at) // DRIFT
        if grown:
            self._base = base = (base + grown) & STAMP_MASK
            self._base_at += grown * DRIFT
        late = ((taken - base + _HALF) & STAMP_MASK) - _HALF
        if late <= 0:
            self._base = taken
            return 0.0
        if echo:
            # It was sent at `echo`, or after: so it has not taken longer than since then.
            slower = ((echo - sent - base + _HALF) & STAMP_MASK) - _HALF
            if 0 < slower <= late:
                self._base = (base + slower) & STAMP_MASK
                late -= slower
        return late / 1000
