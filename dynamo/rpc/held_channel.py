"""A channel whose messages are held before they are framed, each for as long as is drawn for it.

Two messages may overtake each other, but for the replies to one request, and a request whose waiter
`follows` (`dynamo.settling`): that goes after all requests that were asked before it. A frame gets its
number and its stamp when it is really sent, so nothing is out of order, or late, on the wire. A request
is never sent after its deadline, and what is left of that is told. So a proof that all of a node's
requests have ended, as reaping needs, holds. Knows nothing of how delays are drawn.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dynamo.ports import Failure, Waiter
from dynamo.rpc.channel import Channel
from dynamo.rpc.codec import Buffer, decode_request, encode, tag_of
from dynamo.rpc.fault_injection import FaultInjection
from dynamo.rpc.fault_rules import Leg
from dynamo.rpc.frame import LAST, MESSAGE_BYTES_MAX, REPLY
from dynamo.rpc.messages import Fetch, Mint, Refused, Reply, Store

#: Requests of a peer that are remembered until their last reply, which goes by what was asked.
ASKED_MAX: Final = 65_536


def _tag(kind: Any) -> int:
    tag: int = kind.__struct_config__.tag
    return tag


#: Of requests, and of the replies to them, by the request's tag; of any other "*".
REQUEST_LEGS: Final[dict[int | None, Leg]] = {_tag(Mint): "W", _tag(Store): "W", _tag(Fetch): "R"}
REPLY_LEGS: Final[dict[int | None, Leg]] = {_tag(Mint): "A", _tag(Store): "A", _tag(Fetch): "S"}

_UNKNOWN: Final[tuple[Leg, float]] = ("*", 0.0)
_TOO_MANY_HELD: Final = Failure("not_sent", "too many messages are held by fault injection")
_NOT_CONNECTED: Final = Failure("not_sent", "not connected")
_UNWRITABLE: Final = Failure("not_sent", "it cannot be sent now")


class HeldChannel(Channel):
    """One connection; other arguments as of `Channel`."""

    __slots__ = ("_asked", "_faults", "_held", "_held_until")

    def __init__(self, *, faults: FaultInjection, **rest: Any) -> None:
        super().__init__(**rest)
        self._faults = faults
        #: Stream of a request of the peer -> the leg of its replies, and when the last of them that was
        #: held is due; 0.0 if none was.
        self._asked: dict[int, tuple[Leg, float]] = {}
        #: Requests that are held, and when the last of them is due.
        self._held = 0
        self._held_until = 0.0

    # Requests -----------------------------------------------------------------------------------

    def request(self, payload: bytes, waiter: Waiter, now: float, expires_at: float) -> None:
        """As `Channel.request`, only later."""
        seconds = self._faults.delay(self.peer, REQUEST_LEGS.get(tag_of(payload), "*"))
        follows = self._held > 0 and getattr(waiter, "follows", False)
        if seconds <= 0.0 and not follows:
            super().request(payload, waiter, now, expires_at)
            return
        if self._closed:
            self._not_sent(waiter, _NOT_CONNECTED)
            return
        if self._paused or len(payload) > MESSAGE_BYTES_MAX:
            self._not_sent(waiter, _UNWRITABLE)
            return
        stream = self.pending.open(waiter, now, expires_at)
        if stream < 0:
            self._not_sent(waiter, _TOO_MANY_HELD)
            return
        due = max(now + seconds, self._held_until) if follows else now + seconds
        due = min(due, expires_at)  # from then on it is not sent: no reason to keep it
        if self._faults.holding.hold(
            due, len(payload), lambda: self._send_request(stream, payload, now, expires_at)
        ):
            self._held += 1
            self._held_until = max(self._held_until, due)
        else:
            self._count["rpc_requests_not_sent"] += 1
            self.pending.fail(stream, _TOO_MANY_HELD)

    def _send_request(self, stream: int, payload: bytes, since: float, expires_at: float) -> None:
        """Its time has come; if it is not over."""
        self._held -= 1
        if self._closed:
            self._count["faults_messages_cut_off"] += 1  # who waits has been told
            return
        now = self._monotonic()
        rest = shortened(payload, now - since)
        if now >= expires_at or rest is None:
            self._count["faults_requests_expired"] += 1  # who waits is told by the clock
        elif self._paused:
            self._count["rpc_requests_not_sent"] += 1
            self.pending.fail(stream, _UNWRITABLE)
        else:
            self._send(stream, 0, rest)

    # Replies ------------------------------------------------------------------------------------

    def _on_request(self, stream: int, payload: Buffer, due: float) -> None:
        asked = self._asked
        if len(asked) >= ASKED_MAX:
            del asked[next(iter(asked))]  # its reply goes by "*", and may overtake one before it
        asked[stream] = (REPLY_LEGS.get(tag_of(payload), "*"), 0.0)
        super()._on_request(stream, payload, due)

    def _reply(self, stream: int, reply: Reply, last: bool) -> None:
        asked = self._asked
        leg, after = asked.pop(stream, _UNKNOWN)
        seconds = self._faults.delay(self.peer, leg)
        now = self._monotonic()
        # Who gets the end of a mint before its beginning takes the mint for lost. A beginning that is
        # due may be held yet, where the alarm is late: its end goes after it all the same.
        due = max(now + seconds, after) if seconds > 0.0 or after else 0.0
        if not last:
            asked[stream] = (leg, due)
        if not due or self._closed:
            super()._reply(stream, reply, last)
            return
        payload = encode(reply)
        if len(payload) > MESSAGE_BYTES_MAX:
            self._count["rpc_replies_too_large"] += 1
            payload = encode(Refused("internal", False, "the reply is too large"))
        flags = REPLY | LAST if last else REPLY
        if not self._faults.holding.hold(
            due, len(payload), lambda: self._send_reply(stream, flags, payload)
        ):
            self._close("too many messages are held by fault injection")

    def _send_reply(self, stream: int, flags: int, payload: bytes) -> None:
        if self._closed:
            self._count["faults_messages_cut_off"] += 1
        elif self._paused:
            self._count["rpc_replies_unwritable"] += 1
        else:
            self._send(stream, flags, payload)


def shortened(payload: bytes, seconds: float) -> bytes | None:
    """An encoded request with so much less time left; None if nothing of it is."""
    request = decode_request(payload)
    left_ms = request.deadline_ms - round(seconds * 1000)
    if left_ms <= 0:
        return None
    return encode(msgspec.structs.replace(request, deadline_ms=left_ms))
