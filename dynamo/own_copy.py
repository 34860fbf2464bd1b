"""A read of what this node itself holds of a key: for who asks each replica apart.

Nobody else is asked, so nobody is found behind and repaired: what is looked at stays as it is. As every
read of a replica it goes through the transport, and waits until what it met is on disk. Knows nothing
of what a record shows.
"""

from __future__ import annotations

from dynamo.ask import ask
from dynamo.errors import Malformed, NotAnOwner, Unavailable
from dynamo.metrics import Metrics
from dynamo.ports import Clock, Failure, Transport
from dynamo.quorum import counts_of
from dynamo.record import EMPTY, Record, read_record
from dynamo.requests import ReadOptions, timeout_ms
from dynamo.rpc.messages import Body, Fetch, Refused
from ring.preference import Plan


class OwnCopy:
    """Of one coordinator."""

    def __init__(
        self, *, node_id: str, transport: Transport, clock: Clock, metrics: Metrics
    ) -> None:
        self._node_id = node_id
        self._transport = transport
        self._clock = clock
        self._count = metrics.count

    async def read(
        self, bucket_type: bytes, routing: bytes, plan: Plan, options: ReadOptions
    ) -> Record:
        """This node's record, EMPTY if it has none. Raises NotAnOwner if it is no primary of the key;
        Unavailable if its copy cannot be read now, or may lack writes; InvalidArgument."""
        own = self._node_id
        if own not in plan.primaries:
            owners = {bucket_type.decode("utf-8", "replace"): list(plan.primaries)}
            raise NotAnOwner(
                f"this node keeps no copy of the key: ask {', '.join(plan.primaries)}",
                owners=owners,
            )
        timeout = timeout_ms(options.timeout_ms)
        fetch = Fetch(routing, plan.class_id, plan.partition, plan.epoch, timeout, True)
        self._count["gets_local"] += 1
        reply = await ask(self._transport, own, fetch, timeout / 1000)
        if type(reply) is Body:
            if options.stamps is not None:
                options.stamps.committed = self._clock.monotonic()
            try:
                return read_record(reply.record) if reply.record else EMPTY
            except Malformed as error:
                why = error.message
        elif type(reply) is Refused:
            why = reply.detail or reply.code
        else:
            why = reply.reason if isinstance(reply, Failure) else "unexpected reply"
        raise Unavailable(
            f"this node's own copy cannot be read: {why}",
            **counts_of(1, 0, 0, 0),
            alive=1,
            reasons={own: why},
        )
