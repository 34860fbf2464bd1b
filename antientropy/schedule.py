"""Whose turn it is to be compared with: each peer in turn, never one at random, which has no bound.

Time and jitter are arguments, as is whether a peer can be asked now. Knows nothing of what an exchange
does, nor of how a peer is found to be down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, Literal

#: Times are moved by so much of themselves, so that nodes started together do not stay in step.
JITTER: Final = 0.1
#: A peer that fails is passed over for so many intervals at most, after the first of them for one.
BACK_OFF_MAX: Final = 4

_DAY_MINUTES: Final = 24 * 60
_MINUTE_MS: Final = 60_000
_HOURS: Final = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")


class Usable(Enum):
    """A peer can be asked; it still is, for the turn before; it is down, or is left alone."""

    YES = "yes"
    BUSY = "busy"
    NO = "no"


class Rotation:
    """Peers that are visited in turn, one each `interval` seconds.

    One that cannot be visited costs no turn: the next has it. One that was busy at its turn is owed a
    visit, and gets it as soon as it is free.
    """

    __slots__ = ("_at", "_owed", "_peers", "due", "interval")

    def __init__(self, interval: float, now: float, jitter: float) -> None:
        """`interval`: seconds, above 0. `jitter`: from -1.0 to 1.0, of the first turn."""
        self.interval = interval
        #: When the next turn is.
        self.due = now + self._step(jitter)
        self._peers: tuple[str, ...] = ()
        #: The next turn is of the peer with this number.
        self._at = 0
        self._owed: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"Rotation({' '.join(self._peers)} at {self._at}, due {self.due:.3f})"

    @property
    def peers(self) -> tuple[str, ...]:
        """In the order of their turns."""
        return self._peers

    def adopt(self, peers: Sequence[str]) -> None:
        """These are visited from now on; the turns go on where they were."""
        following = self._peers[self._at :] + self._peers[: self._at]
        self._peers = tuple(peers)
        left = [peer for peer in following if peer in self._peers]
        self._at = self._peers.index(left[0]) if left else 0
        self._owed = {peer: None for peer in self._owed if peer in self._peers}

    def turn(self, now: float, jitter: float, usable: Callable[[str], Usable]) -> str | None:
        """The peer to visit now; None if it is nobody's turn, or nobody can be visited. Ask again until
        it is None. `jitter`: from -1.0 to 1.0, of the turn after."""
        for peer in self._owed:
            if usable(peer) is Usable.YES:
                del self._owed[peer]
                return peer
        if now < self.due:
            return None
        self.due += self._step(jitter)
        if self.due <= now:  # turns that were missed, such as while the node stood still
            self.due = now + self._step(jitter)
        for step in range(len(self._peers)):
            at = (self._at + step) % len(self._peers)
            peer = self._peers[at]
            how = usable(peer)
            if how is Usable.YES:
                self._at = (at + 1) % len(self._peers)
                self._owed.pop(peer, None)
                return peer
            if how is Usable.BUSY:
                self._owed[peer] = None
        return None

    def visited(self, peer: str) -> None:
        """It was visited out of turn: it is owed nothing."""
        self._owed.pop(peer, None)

    def _step(self, jitter: float) -> float:
        return self.interval * (1 + JITTER * jitter)


class BackOff:
    """How long each peer that fails is left alone."""

    __slots__ = ("_interval", "_peers")

    def __init__(self, interval: float) -> None:
        """`interval`: seconds that one is left alone after its first failure."""
        self._interval = interval
        #: Failures in a row, and until when it is left alone.
        self._peers: dict[str, tuple[int, float]] = {}

    def failed(self, peer: str, now: float) -> None:
        """Leave it alone for a while, longer each time."""
        failures = self._peers.get(peer, (0, 0.0))[0] + 1
        factor = min(2 ** min(failures - 1, 16), BACK_OFF_MAX)
        self._peers[peer] = (failures, now + self._interval * factor)

    def clear(self, peer: str) -> None:
        """It is well, or back."""
        self._peers.pop(peer, None)

    def left(self, peer: str, now: float) -> float:
        """Seconds for which it is still to be left alone; 0.0 if it is not."""
        return max(self._peers.get(peer, (0, 0.0))[1] - now, 0.0)


class Window:
    """Hours of the day (UTC)."""

    __slots__ = ("_begin", "_end", "text")

    def __init__(self, text: str) -> None:
        """`text`: as "22:00-06:00"; "" for all hours. Raises ValueError for anything else."""
        self.text = text
        self._begin = self._end = 0
        if not text:
            return
        found = _HOURS.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not HH:MM-HH:MM")
        begin_h, begin_m, end_h, end_m = (int(part) for part in found.groups())
        self._begin, self._end = begin_h * 60 + begin_m, end_h * 60 + end_m
        if max(self._begin, self._end) > _DAY_MINUTES or max(begin_m, end_m) > 59:
            raise ValueError(f"{text!r} are no hours of the day")

    def __repr__(self) -> str:
        return f"Window({self.text or 'always'})"

    def is_open(self, wall_ms: int) -> bool:
        """`wall_ms`: milliseconds since 1970."""
        if not self.text:
            return True
        minute = wall_ms // _MINUTE_MS % _DAY_MINUTES
        if self._begin <= self._end:
            return self._begin <= minute < self._end
        return minute >= self._begin or minute < self._end


class Timetable:
    """When each peer is compared with: those nearby and those far away in turn, each kind at its own
    interval; those that came up out of turn; none while it is paused or outside of its hours."""

    __slots__ = ("_back_off", "_far", "_jitter", "_near", "_soon", "paused", "window")

    def __init__(
        self,
        interval: float,
        interval_far: float,
        *,
        window: Window,
        now: float,
        jitter: Callable[[], float],
    ) -> None:
        """Intervals in seconds, 0 for none of that kind. `jitter`: draws from -1.0 to 1.0."""
        self.window = window
        #: Why none begins, "" if they do.
        self.paused = ""
        self._jitter = jitter
        self._near = Rotation(interval, now, jitter()) if interval else None
        self._far = Rotation(interval_far, now, jitter()) if interval_far else None
        self._back_off = BackOff(interval or interval_far or 1.0)
        self._soon: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"Timetable({self._near} {self._far} {self.window} {self.paused})"

    def adopt(self, near: Sequence[str], far: Sequence[str]) -> None:
        """These are compared with from now on."""
        for rotation, peers in ((self._near, near), (self._far, far)):
            if rotation is not None:
                rotation.adopt(peers)
        self._soon = {peer: at for peer, at in self._soon.items() if self._of(peer) is not None}

    def came_up(self, peer: str, now: float, after: float) -> None:
        """It is to be compared with in so many seconds, or an interval if that is less."""
        self._back_off.clear(peer)
        rotation = self._of(peer)
        if rotation is not None:
            self._soon[peer] = now + min(after, rotation.interval)

    def why_not(
        self, wall_ms: int
    ) -> tuple[Literal["running", "paused", "outside_window", "off"], str]:
        """Why nobody has a turn now; ("running", "") if they do. `wall_ms`: since 1970."""
        if self._near is None and self._far is None:
            return "off", "the interval between exchanges is 0"
        if self.paused:
            return "paused", self.paused
        if not self.window.is_open(wall_ms):
            return "outside_window", f"exchanges run in {self.window.text} (UTC) only"
        return "running", ""

    def next(self, now: float, usable: Callable[[str], Usable]) -> str | None:
        """The peer to begin with now; ask again until it is None."""
        for peer, at in list(self._soon.items()):
            if at > now:
                continue
            how = usable(peer)
            if how is not Usable.BUSY:
                del self._soon[peer]  # if it is down, it comes up anew, or its turn comes
            if how is Usable.YES:
                self._visited(peer)
                return peer
        for rotation in (self._near, self._far):
            if rotation is not None:
                found = rotation.turn(now, self._jitter(), usable)
                if found is not None:
                    self._soon.pop(found, None)
                    return found
        return None

    def due(self, now: float) -> float | None:
        """When there may be somebody again that `next` has not given; None if never by itself."""
        times = [rotation.due for rotation in (self._near, self._far) if rotation is not None]
        times += [at for at in self._soon.values() if at > now]
        return min(times, default=None)

    def failed(self, peer: str, now: float) -> None:
        """It did not answer: it is left alone for a while."""
        self._back_off.failed(peer, now)

    def is_well(self, peer: str) -> None:
        """It answers."""
        self._back_off.clear(peer)

    def left_alone(self, peer: str, now: float) -> float:
        """Seconds for which it is left alone still."""
        return self._back_off.left(peer, now)

    def _visited(self, peer: str) -> None:
        rotation = self._of(peer)
        if rotation is not None:
            rotation.visited(peer)

    def _of(self, peer: str) -> Rotation | None:
        for rotation in (self._near, self._far):
            if rotation is not None and peer in rotation.peers:
                return rotation
        return None
