"""The time by which what cannot be undone is done: it does not follow a clock that jumps ahead at once.

A wall clock that is set a year ahead for a minute must not cost a year of values. So a jump ahead is
believed only once it has lasted; until then time goes on from before at its own pace. A clock that goes
back is followed at once: nothing is lost by waiting. Knows no clock: readings are handed in.
"""

from __future__ import annotations

from typing import Final

#: A clock that is ahead of what was expected by more (milliseconds) has jumped.
JUMP_MS: Final = 60_000
#: Seconds that a jump has to last before it is believed.
BELIEVED_AFTER: Final = 3600.0


class BelievedTime:
    """What time it is, to go by two clocks. Ask it more often than the wall clock drifts by JUMP_MS."""

    __slots__ = ("_at", "_jumped_at", "_wall_ms")

    def __init__(self, wall_ms: int, now: float) -> None:
        """`wall_ms`: wall clock, milliseconds since 1970. `now`: monotonic seconds."""
        self._wall_ms = wall_ms
        self._at = now
        self._jumped_at: float | None = None

    def __repr__(self) -> str:
        doubt = "" if self._jumped_at is None else f" jumped at {self._jumped_at}"
        return f"BelievedTime({self._wall_ms} at {self._at}{doubt})"

    @property
    def doubts(self) -> bool:
        """True while the clock is ahead of what is believed."""
        return self._jumped_at is not None

    def now_ms(self, wall_ms: int, now: float) -> int:
        """Milliseconds since 1970, given what the two clocks say."""
        expected_ms = self._wall_ms + int((now - self._at) * 1000)
        if wall_ms > expected_ms + JUMP_MS:
            if self._jumped_at is None:
                self._jumped_at = now
            if now - self._jumped_at < BELIEVED_AFTER:
                return expected_ms
        self._jumped_at = None
        self._wall_ms = wall_ms
        self._at = now
        return wall_ms
