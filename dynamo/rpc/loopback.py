"""Requests of a node to itself: the semantics of a channel, without bytes.

Handlers get the message object itself and replies reach the waiter at once, in the same call.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from dynamo.metrics import Metrics
from dynamo.ports import Clock, Failure, Handler, Prompt, Waiter
from dynamo.rpc.messages import Refused, Reply, Request
from dynamo.rpc.pending import Pending

_TOO_MANY: Final = Failure("not_sent", "too many requests in flight")
_CLOSED: Final = Failure("not_sent", "this node is stopping")

log = logging.getLogger("dynamo.rpc")


class Loopback:
    """The node's line to itself."""

    __slots__ = ("_closed", "_count", "_handlers", "_monotonic", "node", "pending")

    def __init__(
        self, *, node: str, clock: Clock, metrics: Metrics, handlers: Mapping[type, Handler]
    ) -> None:
        self.node = node
        self.pending = Pending(node=node, clock=clock, metrics=metrics)
        self._monotonic = clock.monotonic
        self._count = metrics.count
        self._handlers = handlers
        self._closed = False

    def __repr__(self) -> str:
        return f"Loopback({self.node} in_flight={len(self.pending)})"

    def request(self, message: Request, waiter: Waiter, now: float, expires_at: float) -> None:
        """Carry out `message`; the waiter may have had all its replies when this returns."""
        handler = self._handlers.get(type(message))
        if type(handler) is Prompt and self._answers_at_once(handler, message, waiter):
            return
        stream = -1 if self._closed else self.pending.open(waiter, now, expires_at)
        if stream < 0:
            self._count["rpc_requests_not_sent"] += 1
            waiter.on_failure(self.node, _CLOSED if self._closed else _TOO_MANY)
            return
        call = LocalCall(self, stream, now + message.deadline_ms / 1000)
        if message.deadline_ms <= 0:
            self._count["rpc_requests_past_deadline"] += 1
            self.pending.reply(stream, Refused("deadline_past", True), True)
            return
        if handler is None:
            self._count["rpc_requests_unknown"] += 1
            detail = f"this node does not serve {type(message).__name__}"
            call.reply(Refused("unknown_operation", True, detail))
            return
        try:
            handler(message, call)
        except Exception:
            self._count["rpc_handlers_failed"] += 1
            log.exception("%s of this node met a bug", type(message).__name__)
            if not call.ended:
                call.reply(Refused("internal", False))

    def _answers_at_once(self, handler: Prompt, message: Request, waiter: Waiter) -> bool:
        """True, and the waiter has its reply, if there was no need to wait for it."""
        if self._closed or message.deadline_ms <= 0:
            return False
        try:
            reply = handler.at_once(message)
        except Exception:
            self._count["rpc_handlers_failed"] += 1
            log.exception("%s of this node met a bug", type(message).__name__)
            reply = Refused("internal", False)
        if reply is None:
            return False
        try:
            waiter.on_reply(self.node, reply)
        except Exception:
            self._count["rpc_waiters_failed"] += 1
            log.exception("a reply of %s met a bug", self.node)
        return True

    def close(self, reason: str) -> None:
        """Tell everyone who waits that it is lost; take nothing more."""
        self._closed = True
        self.pending.close(Failure("lost", reason))


class LocalCall:
    """A request of this node, and the way back (the port `Call`)."""

    __slots__ = ("_loopback", "_stream", "deadline", "ended", "peer")

    def __init__(self, loopback: Loopback, stream: int, deadline: float) -> None:
        self._loopback = loopback
        self._stream = stream
        self.peer = loopback.node
        self.deadline = deadline
        #: The last reply was given.
        self.ended = False

    def __repr__(self) -> str:
        return f"LocalCall({self.peer} #{self._stream}{' ended' if self.ended else ''})"

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """Give an answer; one that nobody can wait for any more is dropped and counted."""
        loopback = self._loopback
        if self.ended:
            loopback._count["rpc_replies_after_last"] += 1
            return
        if last:
            self.ended = True
        if loopback._closed:
            loopback._count["rpc_replies_to_the_gone"] += 1
        elif loopback._monotonic() >= self.deadline:
            loopback._count["rpc_replies_past_deadline"] += 1
        else:
            loopback.pending.reply(self._stream, reply, last)
