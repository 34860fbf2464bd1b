"""Puts together what the services of one node know, for `/stats`, `/metrics` and `/admin/status`, and
says whether they are ready.

Reads everything and changes nothing. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NamedTuple

from dynamo.cluster.detector import Detector
from dynamo.cluster.gossip import GossipService
from dynamo.cluster.topology import Topology
from dynamo.config import NodeConfig
from dynamo.counters import ALARMS
from dynamo.metrics import Metrics
from dynamo.ports import Clock
from dynamo.property_learning import PropertyLearner
from dynamo.readiness import Readiness
from dynamo.refill import Refill
from dynamo.refill_marks import Partition
from dynamo.replica import Replica
from dynamo.rpc.peers import PeerTransport
from dynamo.status import MemberStatus, NodeStatus, PeerStatus, RefillStatus, StorageStatus
from dynamo.world import Directory, NodeStorage
from ring.ring import Ring

LACKS_PROPERTIES: Final = (
    "no peer has told the bucket properties yet, which this node may have lost or missed"
)


class Debts(NamedTuple):
    """What a node has not got back of what it may have lost. `unserved`: partitions that count toward
    no read. `owed`: peers that partitions wait for. `damaged`: records that wait for a good copy."""

    unserved: int
    owed: tuple[str, ...]
    damaged: int


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
        properties: PropertyLearner,
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
        self._properties = properties
        self._metrics = metrics
        self._began = clock.monotonic()
        #: Partitions by member and class, of the ring they were counted in.
        self._counted: tuple[Ring | None, dict[str, dict[str, int]]] = (None, {})

    def ready(self) -> Readiness:
        """Whether a load balancer should send requests here, and if not, why."""
        reasons = []
        if self._topology.ring is None:
            missing = ", ".join(self._topology.missing()) or "none"
            reasons.append(f"the ring is not formed; waiting for {missing}")
            reasons.extend(sorted(self._topology.refusals.values()))
        elif not self._transport.attempted:
            reasons.append("not every peer has been tried yet")
        elif self._topology.refusals and not self._transport.connected():
            reasons.append("no peer is connected")
            reasons.extend(sorted(self._topology.refusals.values()))
        if self._properties.withholds:
            reasons.append(LACKS_PROPERTIES)
        if self._refill.waiting:
            back = self._refill.back
            went_back = f", {back} of a disk that went back in time" if back else ""
            reasons.append(f"{self._refill.waiting} partitions are being refilled{went_back}")
        refusal = self._storage.refusal()
        if refusal is not None:
            reasons.append(f"this node takes no writes: {refusal}")
        return Readiness(not reasons, (*reasons, *self._owed_while_serving()))

    def debts(self) -> Debts:
        """What is still owed to this node."""
        marks = self._replica.refilling.values()
        owed = sorted({peer for mark in marks for peer in mark.owed})
        return Debts(self._refill.waiting, tuple(owed), len(self._replica.damaged))

    def is_complete(self, place: Partition, storage_key: bytes) -> bool:
        """False while a partition, or a record in it, waits for what other nodes have."""
        replica = self._replica
        return place not in replica.refilling and storage_key not in replica.damaged

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

    def status(self) -> NodeStatus:
        """Everything. Asks the system how much of the disk is free, and does no other I/O."""
        config, ring, readiness = self._config, self._topology.ring, self.ready()
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
            refill=self._refilled(),
            storage=self._stored(),
            requests={name: count.get(name, 0) for name in ("gets", "puts", "deletes")},
            alarms={name: count.get(name, 0) for name in ("alarms", *ALARMS)},
            faults=None if self._transport.faults is None else self._transport.faults.status(),
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

    def _owed_while_serving(self) -> list[str]:
        owing = []
        # A partition that has no other replica is marked for a moment, and nobody owes it anything.
        marks = [mark for mark in self._replica.refilling.values() if mark.serving and mark.owed]
        owed = sorted({peer for mark in marks for peer in mark.owed})
        if marks:
            owing.append(f"{len(marks)} partitions were refilled without {', '.join(owed)} so far")
        if self._replica.damaged:
            owing.append(f"{len(self._replica.damaged)} damaged records wait for a good copy")
        return owing

    def _refilled(self) -> RefillStatus:
        debts = self.debts()
        return RefillStatus(
            unserved=debts.unserved,
            marked=len(self._replica.refilling),
            owed=debts.owed,
            damaged=debts.damaged,
            back=self._refill.back,
            aside=self._replica.set_back.aside,
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
