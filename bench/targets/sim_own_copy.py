"""What one simulated node has of a key itself: a Fetch, as of a peer, straight to its handler.

It waits for what is not on disk yet, as any Fetch does, and repairs nothing. Knows nothing of values.
"""

from __future__ import annotations

import asyncio

from dynamo.errors import NotReady, Unavailable
from dynamo.record import EMPTY, Record, decode_record
from dynamo.rpc.messages import Body, Fetch, Refused, Reply
from dynamo.services import NodeServices
from ring.preference import Plan


async def read_own(
    services: NodeServices, routing: bytes, plan: Plan, *, timeout_ms: int, deadline: float
) -> Record:
    """What the node has, EMPTY for nothing. `deadline`: by its own clock. Raises NotReady, and
    Unavailable where it has no copy or does not show it."""
    handler = services._handlers.get(Fetch)
    if handler is None or not services.takes_requests():
        raise NotReady("this node is starting or stopping")
    answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    fetch = Fetch(routing, plan.class_id, plan.partition, plan.epoch, timeout_ms, True)
    handler(fetch, _OwnCall(services.config.node_id, deadline, answer))
    reply = await answer
    if isinstance(reply, Refused):
        raise Unavailable(f"{reply.code}: {reply.detail}")
    assert isinstance(reply, Body)
    return decode_record(reply.record) if reply.record else EMPTY


class _OwnCall:
    """Gives the answer to who waits in the same process."""

    def __init__(self, peer: str, deadline: float, answer: asyncio.Future[Reply]) -> None:
        self.peer = peer
        self.deadline = deadline
        self._answer = answer

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """The answer is there."""
        if not self._answer.done():
            self._answer.set_result(reply)
