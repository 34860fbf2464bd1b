"""Answers with the time at which a replica carried out what was asked: of requests that are measured.

Knows nothing of clocks, nor of what is made of the stamps.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dynamo.ports import Call
from dynamo.rpc.messages import Body, Digest, Minted, Reply, Synced

_STAMPED: Final = (Minted, Synced, Body, Digest)


def stamped(reply: Reply, wall_ns: int) -> Reply:
    """The same with a stamp, if it is of a kind that has one."""
    if isinstance(reply, _STAMPED):
        return msgspec.structs.replace(reply, stamp=max(wall_ns, 0))
    return reply


class StampedCall:
    """A `Call` whose answers say when it was carried out."""

    __slots__ = ("_call", "_wall_ns", "deadline", "peer")

    def __init__(self, call: Call, wall_ns: int) -> None:
        """`wall_ns`: nanoseconds since 1970."""
        self._call = call
        self._wall_ns = wall_ns
        self.peer = call.peer
        self.deadline = call.deadline

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """As of `Call`."""
        self._call.reply(stamped(reply, self._wall_ns), last=last)
