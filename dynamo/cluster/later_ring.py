"""What this node does when a request of a peer names a later epoch than that of its ring.

The request is served, if the ring here says so, and the peer is asked for its ring: once a peer and
epoch, and each peer only now and then. A ring that is not of this cluster is refused. One that is could
be taken, once members agree on changes of the ring; until they do nobody can have agreed on a later
one, so it is left alone, and said and counted. Knows nothing of sockets or of what was asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from dynamo.metrics import Metrics
from dynamo.ports import Clock, Failure, Transport
from dynamo.rpc.messages import AskRing, Reply, RingIs
from ring.ring import Ring

log = logging.getLogger(__name__)

ASK_TIMEOUT: Final = 5.0
#: Between two asks of one peer, whatever it names.
ASK_SECONDS: Final = 5.0


class LaterRing:
    """The rings of other epochs that one node hears of. `ring`: its own, now, or None."""

    def __init__(
        self,
        *,
        node_id: str,
        ring: Callable[[], Ring | None],
        transport: Transport,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._node_id = node_id
        self._ring = ring
        self._transport = transport
        self._clock = clock
        self._count = metrics.count
        #: Peer -> the latest epoch that it was asked about, 0 if it did not answer, and when. No more
        #: than members.
        self._asked: dict[str, tuple[int, float]] = {}

    def __repr__(self) -> str:
        asked = " ".join(f"{peer}@{epoch}" for peer, (epoch, _) in self._asked.items())
        return f"LaterRing({self._node_id} asked=[{asked}])"

    @property
    def epoch(self) -> int:
        """The latest that any peer has named, if it is later than the ring's; else 0."""
        ring = self._ring()
        named = max((epoch for epoch, _ in self._asked.values()), default=0)
        return named if ring is not None and named > ring.epoch else 0

    def note(self, peer: str, epoch: int) -> None:
        """A request of the peer names this epoch."""
        ring = self._ring()
        if ring is None or epoch <= ring.epoch:
            return  # the ring is being formed or learnt: that is asked for elsewhere
        asked, at = self._asked.get(peer, (0, -ASK_SECONDS))
        now = self._clock.monotonic()
        if epoch <= asked or now - at < ASK_SECONDS:
            return
        self._asked[peer] = (epoch, now)
        self._count["later_rings_asked"] += 1
        self._transport.request((peer,), AskRing(int(ASK_TIMEOUT * 1000)), self, ASK_TIMEOUT)

    def on_reply(self, node: str, reply: Reply) -> None:
        """Judge what the peer sent."""
        if not isinstance(reply, RingIs):
            self._forget(node)
            return
        ring = self._ring()
        assert ring is not None, "nobody was asked without one"
        why = _why_not(reply.ring, ring, self._node_id)
        if why:
            self._count["later_rings_refused"] += 1
            log.error("refusing the ring that %s sent: %s", node, why)
        else:
            self._count["later_rings_not_taken"] += 1
            log.warning(
                "%s has a later ring than that of epoch %s, which this node goes on with:"
                " no change of the ring has been agreed on here",
                node,
                ring.epoch,
            )

    def on_failure(self, node: str, failure: Failure) -> None:
        """It is asked again by a later request."""
        self._forget(node)

    def _forget(self, node: str) -> None:
        self._count["later_rings_not_sent"] += 1
        self._asked[node] = (0, self._asked[node][1])


def _why_not(data: bytes, mine: Ring, node_id: str) -> str:
    """Why these bytes are no ring that could follow this node's; "" if they are."""
    try:
        ring = Ring.from_bytes(data)
    except ValueError as error:
        return f"it is no ring: {error}"
    if ring.epoch <= mine.epoch:
        return f"it is of epoch {ring.epoch}, and this node's of epoch {mine.epoch}"
    if (ring.seed, ring.partitions) != (mine.seed, mine.partitions):
        return "it is of another cluster: its seed or its number of partitions is another"
    if ring.member(node_id) is None:
        return f"{node_id} is not a member of it"
    for class_ in mine.classes:
        other = ring.class_with(class_.id)
        if other is None or other.name != class_.name:
            return f"it has no class {class_.name} of id {class_.id}"
    return ""
