"""A node's place in its cluster: its ring, who lives, in which start and at which address.

Puts its parts together and has them tell each other what they learn. Knows nothing of keys, replicas or
clients.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from dynamo.cluster.addresses import AddressBook
from dynamo.cluster.detector import Detector
from dynamo.cluster.gossip import GossipService
from dynamo.cluster.later_ring import LaterRing
from dynamo.cluster.topology import Known, Topology
from dynamo.config import NodeConfig
from dynamo.metrics import Metrics
from dynamo.ports import Call, Clock, Handler
from dynamo.rpc.messages import AskRing, Ping, Request, RingIs
from dynamo.rpc.peers import PeerTransport
from dynamo.world import Directory, NodeStorage
from ring.member import Member
from ring.ring import Ring


class Membership:
    """Of one start of one node."""

    def __init__(
        self,
        *,
        config: NodeConfig,
        directory: Directory,
        storage: NodeStorage,
        detector: Detector,
        clock: Clock,
        random: random.Random,
        metrics: Metrics,
        properties: Callable[[], bytes],
    ) -> None:
        """`properties`: the digest of the bucket properties, now. Raises as `Topology`."""
        self._node_id = config.node_id
        self._detector = detector
        self._clock = clock
        self._metrics = metrics
        self._later: LaterRing | None = None
        book = AddressBook(blobs=directory, metrics=metrics)
        self.topology = Topology(
            own=_member(config),
            cluster=config.cluster,
            peers=config.peers,
            blobs=directory,
            standing=lambda: Known(directory.start, storage.synced_number, directory.random),
            metrics=metrics,
            address=config.address,
            learnt=book.addresses,
            begun=Known(directory.start, storage.opening.recovered, directory.random),
        )
        self.gossip = GossipService(
            node_id=config.node_id,
            address=config.address,
            seeds=config.peers,
            start=lambda: directory.start,
            book=book,
            clock=clock,
            random=random,
            metrics=metrics,
            properties=properties,
        )

    def handlers(self) -> dict[type, Handler]:
        """For what peers ask about the cluster."""
        return {
            AskRing: self._on_ask_ring,
            Ping: self.topology.on_ping,
            **self.gossip.handlers(),
        }

    def attach(self, transport: PeerTransport) -> Callable[[str, int], None]:
        """Reach peers by it from now on. What is returned is to be told of a peer with a later epoch."""
        topology, gossip, detector = self.topology, self.gossip, self._detector
        detector.attach(transport)
        topology.attach(transport)
        gossip.attach(transport)
        gossip.on_restarted = detector.restarted
        gossip.on_stranger = topology.refuse_stranger
        topology.on_greeted = gossip.on_greeted
        topology.on_disconnected = detector.disconnected
        topology.on_stranger = transport.disconnect
        topology.on_heartbeat = detector.heartbeat
        later = self._later = LaterRing(
            node_id=self._node_id,
            ring=lambda: topology.ring,
            transport=transport,
            clock=self._clock,
            metrics=self._metrics,
        )
        gossip.on_later_epoch = later.note
        return later.note

    def later_epoch(self) -> int:
        """As `LaterRing.epoch`."""
        return 0 if self._later is None else self._later.epoch

    def adopt(self, ring: Ring) -> None:
        """Its members are those to watch and to talk to."""
        self._detector.adopt(ring)
        self.gossip.adopt(ring)

    def tasks(
        self, sleep: Callable[[float], Awaitable[None]]
    ) -> dict[str, Coroutine[Any, Any, None]]:
        """What has to run as long as the node does, by name."""
        return {
            "heartbeat": self.topology.run_heartbeat(sleep),
            "detector": self._detector.run(sleep),
            "gossip": self.gossip.run(sleep),
        }

    def _on_ask_ring(self, request: Request, call: Call) -> None:
        ring = self.topology.ring
        call.reply(RingIs(ring.to_bytes() if ring is not None else b""))


def _member(config: NodeConfig) -> Member:
    return Member(
        id=config.node_id,
        address=config.ring_address or config.address,
        datacenter=config.datacenter,
        rack=config.rack,
        host=config.host,
        weight=config.weight,
    )
