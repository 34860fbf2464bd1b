"""Requests to one node that wait for their replies.

Every request ends once: by its last reply, by `timed_out`, or by `lost`. Only a Minted may come
before the last reply, once: whatever else a peer says of itself is not its last is, and a Minted that
is the last is none. Replies that nobody waits for are dropped and counted. How long first replies take
is sampled. Knows nothing of bytes; the clock is an argument.
"""

from __future__ import annotations

import logging
from typing import Final

from dynamo.metrics import Metrics
from dynamo.ports import NO_ANSWER, Clock, Failure, Timer, Waiter
from dynamo.rpc.messages import Minted, Reply

IN_FLIGHT_MAX: Final = 20_000
SWEEP_SECONDS: Final = 0.05
#: At most one reply in so many seconds makes a sample of the latency: all where there are few, and
#: where there are many they cost next to nothing.
SAMPLE_SECONDS: Final = 0.01
#: How far one sample pulls the latency up, and how far down; and a sample that is above so many times
#: the latency and so many seconds counts as that. So one pause is no slowness, and a few slow replies
#: in a row are.
_RISE: Final = 1 / 8
_FALL: Final = 1 / 4
_JUMP: Final = 8
_JUMP_SECONDS: Final = 0.02

_STREAM_MASK: Final = 0xFFFF_FFFF
_NEVER: Final = float("inf")
_TIMED_OUT: Final = Failure("timed_out", NO_ANSWER)
_UNFINISHED: Final = Failure("lost", "the answer to a mint ended before it was on disk")

log = logging.getLogger("dynamo.rpc")

#: Waiter, when it was sent, when it expires. A plain tuple: one is made a request.
_Entry = tuple[Waiter, float, float]


class Pending:
    """Stream id -> who waits. At most IN_FLIGHT_MAX; expiry is noticed within SWEEP_SECONDS."""

    __slots__ = (
        "_answered",
        "_clock",
        "_count",
        "_next",
        "_next_expiry",
        "_sample_at",
        "_silent_since",
        "_timer",
        "_unanswered",
        "latency",
        "node",
    )

    def __init__(self, *, node: str, clock: Clock, metrics: Metrics) -> None:
        self.node = node
        self._clock = clock
        self._count = metrics.count
        self._next = 0
        # Both in order of sending. `_answered`: there was a reply, but not the last one.
        self._unanswered: dict[int, _Entry] = {}
        self._answered: dict[int, _Entry] = {}
        self._next_expiry = _NEVER
        # When the oldest expired request was sent, if the node has said nothing at all since.
        self._silent_since: float | None = None
        self._timer: Timer | None = None
        #: Seconds that the first reply to a request takes lately, smoothed; 0.0 until there was one.
        self.latency = 0.0
        self._sample_at = 0.0

    def __repr__(self) -> str:
        return f"Pending({self.node} unanswered={len(self._unanswered)} part={len(self._answered)})"

    def __len__(self) -> int:
        return len(self._unanswered) + len(self._answered)

    def open(self, waiter: Waiter, sent_at: float, expires_at: float) -> int:
        """A stream id for a new request, or -1 if too many are in flight."""
        unanswered = self._unanswered
        answered = self._answered
        if len(unanswered) + len(answered) >= IN_FLIGHT_MAX:
            return -1
        stream = self._next
        while stream in unanswered or stream in answered:
            stream = (stream + 1) & _STREAM_MASK
        self._next = (stream + 1) & _STREAM_MASK
        unanswered[stream] = (waiter, sent_at, expires_at)
        if expires_at < self._next_expiry:
            self._next_expiry = expires_at
        if self._timer is None:
            self._timer = self._clock.call_later(SWEEP_SECONDS, self._sweep)
        return stream

    def waiters(self) -> list[Waiter]:
        """Who waits now: one that has sent several requests comes as often."""
        return [entry[0] for entry in (*self._unanswered.values(), *self._answered.values())]

    def reply(self, stream: int, reply: Reply, last: bool | int, now: float = -_NEVER) -> None:
        """Hand a reply to who waits for it. `now`: when it came, if latency is to be sampled."""
        self._silent_since = None
        entry = self._unanswered.pop(stream, None)
        if entry is None:
            entry = self._answered.get(stream)
            if entry is None:
                self._drop(stream)
                return
            if not last:
                self._count["rpc_replies_excessive"] += 1
                return
            del self._answered[stream]
        else:
            if now >= self._sample_at:  # not a call of its own: each reply comes by here
                self._sample_at = now + SAMPLE_SECONDS
                latency = self.latency
                above = min(now - entry[1], latency * _JUMP + _JUMP_SECONDS) - latency
                pull = (_RISE if above > 0 else _FALL) if latency else 1.0
                self.latency = latency + above * pull
            if not last:
                if reply.__class__ is Minted:
                    self._answered[stream] = entry
                else:
                    self._count["rpc_replies_excessive"] += 1
            elif reply.__class__ is Minted:
                # Who waits for the end of a mint would wait for ever.
                self._count["rpc_replies_unfinished"] += 1
                self._fail(entry, _UNFINISHED)
                return
        try:
            entry[0].on_reply(self.node, reply)
        except Exception:
            self._count["rpc_waiters_failed"] += 1
            log.exception("a reply of %s met a bug", self.node)

    def fail(self, stream: int, failure: Failure) -> None:
        """End a request without a final reply."""
        self._silent_since = None
        entry = self._unanswered.pop(stream, None) or self._answered.pop(stream, None)
        if entry is None:
            self._drop(stream)
        else:
            self._fail(entry, failure)

    def close(self, failure: Failure) -> None:
        """End all requests; stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entries = [*self._unanswered.values(), *self._answered.values()]
        self._unanswered.clear()
        self._answered.clear()
        self._next_expiry = _NEVER
        self._silent_since = None
        self._count["rpc_requests_lost"] += len(entries)
        for entry in entries:
            self._fail(entry, failure)

    def stalled_for(self) -> float:
        """Seconds since the oldest request without any reply was sent; 0.0 if there is none.

        A request that timed out counts on until the node says something.
        """
        since = self._silent_since
        if since is None:
            if not self._unanswered:
                return 0.0
            since = next(iter(self._unanswered.values()))[1]
        return max(0.0, self._clock.monotonic() - since)

    def _drop(self, stream: int) -> None:
        issued = (self._next - 1 - stream) & _STREAM_MASK < _STREAM_MASK >> 1
        self._count["rpc_replies_late" if issued else "rpc_replies_to_nothing"] += 1

    def _fail(self, entry: _Entry, failure: Failure) -> None:
        try:
            entry[0].on_failure(self.node, failure)
        except Exception:
            self._count["rpc_waiters_failed"] += 1
            log.exception("a request to %s that failed met a bug", self.node)

    def _sweep(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        expired: list[_Entry] = []
        if now >= self._next_expiry:
            expired = self._take_expired(now)
        # Armed before anyone is told: who is told may ask again.
        if self._unanswered or self._answered:
            self._timer = self._clock.call_later(SWEEP_SECONDS, self._sweep)
        self._count["rpc_requests_timed_out"] += len(expired)
        for entry in expired:
            self._fail(entry, _TIMED_OUT)

    def _take_expired(self, now: float) -> list[_Entry]:
        """Remove what has expired; note when the next one will."""
        expired: list[_Entry] = []
        next_expiry = _NEVER
        for table in (self._unanswered, self._answered):
            streams = [stream for stream, entry in table.items() if entry[2] <= now]
            for stream in streams:
                entry = table.pop(stream)
                expired.append(entry)
                if table is self._unanswered and self._silent_since is None:
                    self._silent_since = entry[1]
            for entry in table.values():
                next_expiry = min(next_expiry, entry[2])
        self._next_expiry = next_expiry
        return expired
