"""Puts together what the services of one node know, for `/stats`, `/metrics` and `/admin/status`.

Reads everything and changes nothing. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from dynamo.cluster.detector import Detector
from dynamo.cluster.gossip import GossipService
from dynamo.cluster.topology import Topology
from dynamo.config import NodeConfig
from dynamo.counters import ALARMS
from dynamo.metrics import Metrics
from dynamo.ports import Clock
from dynamo.readiness import Readiness
from dynamo.refill import Refill
from dynamo.replica import Replica
from dynamo.rpc.peers import PeerTransport
from dynamo.status import MemberStatus, NodeStatus, PeerStatus, RefillStatus, StorageStatus
from dynamo.world import Directory, NodeStorage
from ring.ring import Ring


class Overview:
    """The view of one start of one node; uptime counts from when this is made."""

    def __init__(
        self,
        *,
        config: NodeConfig,
        clock: Clock,
        directory: Directory,
        storage: NodeStorage,
        topology: Topology,
        transport: PeerTransport,
        detector: Detector,
        replica: Replica,
        refill: Refill,
        gossip: GossipService,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._clock = clock
        self._directory = directory
        self._storage = storage
        self._topology = topology
        self._transport = transport
        self._detector = detector
        self._replica = replica
        self._refill = refill
        self._gossip = gossip
        self._metrics = metrics
        self._began = clock.monotonic()
        #: Partitions by member and class, of the ring they were counted in.
        self._counted: tuple[Ring | None, dict[str, dict[str, int]]] = (None, {})

    def stats(self) -> dict[str, Any]:
        """Counters and facts by name. Costs no I/O."""
        config, storage, ring = self._config, self._storage, self._topology.ring
        members = [member.id for member in ring.members] if ring is not None else []
        return {
            "node": config.node_id,
            "nodename": config.node_id,
            "cluster": config.cluster.id,
            "start": self._directory.start,
            "epoch": ring.epoch if ring is not None else 0,
            "ring_num_partitions": config.cluster.partitions,
            "ring_creation_size": config.cluster.partitions,
            "ring_members": members,
            "riak_kv_vnodes_running": sum(self._partitions(config.node_id).values()),
            "connected_nodes": list(self._transport.connected()),
            "write_number": storage.write_number,
            "synced_write_number": storage.synced_number,
            "storage_opened": storage.opening.state,
            "partitions_refilling": len(self._replica.refilling),
            "records_damaged_now": len(self._replica.damaged),
            **self._metrics.snapshot(),
        }

    def status(self, readiness: Readiness) -> NodeStatus:
        """Everything. Asks the system how much of the disk is free, and does no other I/O."""
        config, ring = self._config, self._topology.ring
        members = ring.members if ring is not None else ()
        count = self._metrics.count
        return NodeStatus(
            node=config.node_id,
            cluster=config.cluster.id,
            start=self._directory.start,
            uptime_s=round(self._clock.monotonic() - self._began, 3),
            ready=readiness.ready,
            reasons=tuple(readiness.reasons),
            epoch=ring.epoch if ring is not None else 0,
            partitions=config.cluster.partitions,
            members=tuple(
                MemberStatus(
                    id=member.id,
                    address=member.address,
                    datacenter=member.datacenter,
                    rack=member.rack,
                    host=member.machine,
                    weight=member.weight,
                    partitions=self._partitions(member.id),
                )
                for member in members
            ),
            peers=self._peers(),
            refusals=dict(self._topology.refusals),
            refill=self._debts(),
            storage=self._stored(),
            requests={name: count.get(name, 0) for name in ("gets", "puts", "deletes")},
            alarms={name: count.get(name, 0) for name in ("alarms", *ALARMS)},
        )

    def _peers(self) -> tuple[PeerStatus, ...]:
        """All other members; while there is no ring, those that are connected."""
        ring, refusals, transport = self._topology.ring, self._topology.refusals, self._transport
        addresses = {member.id: member.address for member in ring.members} if ring else {}
        names = dict.fromkeys((*addresses, *transport.connected()))
        names.pop(self._config.node_id, None)
        return tuple(
            self._peer(name, refusals.get(name) or refusals.get(addresses.get(name, "")))
            for name in names
        )

    def _peer(self, name: str, refusal: str | None) -> PeerStatus:
        transport, opinion = self._transport, self._detector.opinion_of(name)
        heard = self._gossip.heard(name)
        return PeerStatus(
            id=name,
            connected=transport.is_connected(name),
            stalled_ms=int(transport.stalled_for(name) * 1000),
            refusal=refusal,
            state=opinion.state,
            state_s=round(opinion.lasted, 3),
            phi=None if opinion.phi is None else round(opinion.phi, 3),
            latency_ms=round(opinion.latency * 1000, 3),
            address=heard.address,
            start=heard.start,
            heartbeat=heard.heartbeat,
            heard_ms=None if heard.age is None else int(heard.age * 1000),
        )

    def _debts(self) -> RefillStatus:
        marks = self._replica.refilling
        return RefillStatus(
            unserved=self._refill.waiting,
            marked=len(marks),
            owed=tuple(sorted({peer for mark in marks.values() for peer in mark.owed})),
            damaged=len(self._replica.damaged),
        )

    def _stored(self) -> StorageStatus:
        storage = self._storage
        return StorageStatus(
            opened=storage.opening.state,
            refusal=storage.refusal(),
            free_bytes=storage.free_bytes(),
            write_number=storage.write_number,
            synced_number=storage.synced_number,
        )

    def _partitions(self, name: str) -> dict[str, int]:
        """How many partitions a member is a primary of, by class; counted once a ring."""
        ring = self._topology.ring
        if ring is None:
            return {}
        if self._counted[0] is not ring:
            self._counted = (ring, _count_partitions(ring))
        return self._counted[1].get(name, {})


def _count_partitions(ring: Ring) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {member.id: {} for member in ring.members}
    for class_ in ring.classes:
        counts = Counter(
            owner
            for partition in range(ring.partitions)
            for owner in ring.all_owners(class_.id, partition)
        )
        for name, by_class in found.items():
            by_class[class_.name] = counts[name]
    return found
