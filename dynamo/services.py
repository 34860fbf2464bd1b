"""A node's services, put together over the world they are given.

Starting is: lock the directory and take a new start number; open the storage; mark what it may have
lost; listen and dial; serve. If a task that the node lives by fails, the node stops and says why.
Knows nothing of HTTP, nor of which world it is in: the operating system or a simulation.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, Final

from dynamo.admission import LAG_MAX, Admission
from dynamo.agreement import AntiEntropyStatus, RepairStatus, TreeRoots
from dynamo.bucket_properties import PropertyStore
from dynamo.cluster.detector import Detector
from dynamo.cluster.membership import Membership
from dynamo.cluster.topology import Known
from dynamo.commit import GroupCommit
from dynamo.config import NodeConfig
from dynamo.context import ContextSealer
from dynamo.coordinator import Coordinator
from dynamo.cursor import CursorSealer
from dynamo.errors import FaultInjectionOff, NotReady, StorageError
from dynamo.exchanges import Exchanges
from dynamo.expiry import Expiry
from dynamo.flights import Flights
from dynamo.handoff import Handoff
from dynamo.keys import partition_prefix
from dynamo.latency import Histogram
from dynamo.leaf import LeafHasher
from dynamo.listing import Listing
from dynamo.metrics import Metrics
from dynamo.overview import LACKS_PROPERTIES, Debts, Overview
from dynamo.ports import Call, Handler, Prompt
from dynamo.properties import PropertiesOf, with_defaults
from dynamo.readiness import Readiness
from dynamo.reaper import Reaper
from dynamo.record import Content
from dynamo.recovery import Recovery
from dynamo.refill import Refill
from dynamo.refill_marks import Partition
from dynamo.repairs import Repairs
from dynamo.replica import Replica
from dynamo.replica_deliver import ReplicaDeliver
from dynamo.replica_listing import ReplicaListing
from dynamo.replica_looks import ReplicaLooks
from dynamo.replica_reads import ReplicaReads
from dynamo.replica_reap import ReplicaReap
from dynamo.replica_trees import ReplicaTrees
from dynamo.requests import (
    LIST_TIMEOUT_MS_DEFAULT,
    TIMEOUT_MS_MAX,
    Found,
    Listed,
    ListOptions,
    Owner,
    ReadOptions,
    RepairAsked,
    WriteOptions,
    Written,
)
from dynamo.rpc.fault_injection import FaultInjection
from dynamo.rpc.messages import (
    Deliver,
    Fetch,
    ListBuckets,
    ListKeys,
    Mint,
    Owe,
    Refused,
    Request,
    Scan,
    Store,
)
from dynamo.rpc.peers import PeerTransport
from dynamo.rpc.reap_messages import Drop, Holds, LookHints, SettleUp
from dynamo.settling import Settling, Standing
from dynamo.status import HintsStatus, NodeStatus, TombstonesStatus
from dynamo.trees import Trees
from dynamo.version import incarnation_bytes
from dynamo.wars_status import WarsStatus
from dynamo.world import Directory, NodeStorage, World
from ring.ring import Ring

log = logging.getLogger(__name__)

#: Seconds between two looks whether the node has settled.
SETTLE_INTERVAL: Final = 0.02


class NodeServices:
    """One start of one node: its replica, its coordinator and what keeps them going."""

    def __init__(
        self,
        config: NodeConfig,
        *,
        world: World,
        metrics: Metrics,
        defaults: PropertiesOf | None = None,
        lag_max: float = LAG_MAX,
        straggler_deadline: float | None = None,
    ) -> None:
        """`defaults`: the properties of buckets that were given none, if not those of all. `lag_max`:
        as of `Admission`. `straggler_deadline`: seconds, if not what `config` says."""
        if straggler_deadline is None:
            straggler_deadline = config.exchange_deadline
        self._straggler_deadline = straggler_deadline
        self._defaults = defaults
        self.config = config
        self.metrics = metrics
        self._world = world
        self._tasks: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[None] | None = None
        self._directory: Directory | None = None
        self._storage: NodeStorage | None = None
        self._transport: PeerTransport | None = None
        #: The hash trees, kept true.
        self.trees: Trees | None = None
        self._serves = False
        self.rpc_address = ""
        #: Whoever hands on clients' requests asks it first.
        self.admission = Admission(
            clock=world.clock,
            entropy=world.entropy,
            metrics=metrics,
            requests_max=config.requests_max,
            bytes_max=config.request_bytes_max,
            lag_max=lag_max,
        )

    # Life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take requests of peers; clients' from `serve` on. Raises DynamoError or OSError where that
        cannot be; call `close` all the same."""
        config, world, metrics = self.config, self._world, self.metrics
        self._failed = asyncio.get_running_loop().create_future()
        clock = world.clock
        self._flights = flights = Flights()
        self._directory = directory = world.open_directory()
        is_new = not directory.has_database
        self._storage = storage = await world.open_storage(existed=not is_new, metrics=metrics)
        directory.note_database()
        self._commit = commit = GroupCommit(storage=storage, metrics=metrics)
        self._own("group commit", commit.run())
        self._detector = detector = Detector(node_id=config.node_id, clock=clock, metrics=metrics)
        self._replica = replica = Replica(
            node_id=config.node_id,
            storage=storage,
            commit=commit,
            clock=clock,
            metrics=metrics,
            incarnation=incarnation_bytes(directory.start, directory.random),
            hasher=LeafHasher(config.cluster.secret),
            hint_window=config.hint_window if config.hints else 0,
            hint_bytes_max=config.hint_bytes_max,
            down=detector.down,
        )
        self.trees = Trees(
            replica=replica, storage=storage, commit=commit, clock=clock, metrics=metrics
        )
        self._deliver = deliver = ReplicaDeliver(
            replica=replica, storage=storage, commit=commit, clock=clock, metrics=metrics
        )
        reads = ReplicaReads(replica=replica, storage=storage, commit=commit, metrics=metrics)
        listing = ReplicaListing(
            replica=replica, reads=reads, storage=storage, clock=clock, metrics=metrics
        )
        self._replica_trees = replica_trees = ReplicaTrees(
            node_id=config.node_id, replica=replica, reads=reads, storage=storage, metrics=metrics
        )
        looks = ReplicaLooks(replica=replica, commit=commit, metrics=metrics)
        reap = ReplicaReap(
            replica=replica,
            deliver=deliver,
            storage=storage,
            commit=commit,
            clock=clock,
            metrics=metrics,
            start=lambda: directory.start,
        )
        self._reads: dict[type, Handler] = {
            Fetch: Prompt(reads.fetch_at_once, reads.on_fetch),
            ListKeys: listing.on_list_keys,
            ListBuckets: listing.on_list_buckets,
        }
        self._properties = properties = PropertyStore(
            node_id=config.node_id,
            blobs=directory,
            clock=clock,
            metrics=metrics,
            down=detector.down,
        )
        self._membership = membership = Membership(
            config=config,
            directory=directory,
            storage=storage,
            detector=detector,
            clock=clock,
            random=world.chance,
            metrics=metrics,
            properties=properties.digest,
        )
        self._topology = topology = membership.topology
        properties_of = with_defaults(properties.of, self._defaults)
        # An empty disk may be one that was emptied. The peers tell at the handshake; until each has been
        # tried, that nothing is here does not mean that nothing is there.
        self._handlers: dict[type, Handler] = {
            Mint: replica.on_mint,
            Store: replica.on_store,
            Owe: replica.on_owe,
            Deliver: deliver.on_deliver,
            **(dict.fromkeys(self._reads, _refuse_new) if is_new else self._reads),
            Scan: reads.on_scan,
            **replica_trees.handlers(),
            **looks.handlers(),
            Holds: reap.on_holds,
            Drop: reap.on_drop,
            **properties.handlers(),
            **membership.handlers(),
        }
        self._transport = transport = world.transport(
            gate=topology, metrics=metrics, handlers=self._handlers
        )
        self._refill = refill = Refill(
            node_id=config.node_id,
            replica=replica,
            transport=transport,
            clock=clock,
            metrics=metrics,
            flights=flights,
        )
        self._settling = settling = Settling(
            node_id=config.node_id,
            replica=replica,
            storage=storage,
            commit=commit,
            transport=transport,
            flights=flights,
            standing=lambda: Standing(directory.start, replica.incarnation),
            keep_shown=topology.keep_shown,
            clock=clock,
            sleep=world.sleep,
            metrics=metrics,
            later_epoch=membership.later_epoch,
        )
        self._handlers |= {LookHints: settling.on_look_hints, SettleUp: settling.on_settle_up}
        self._reaper = Reaper(
            node_id=config.node_id,
            own=reap,
            queue=replica.queue,
            transport=transport,
            down=detector.down,
            clock=clock,
            chance=world.chance,
            metrics=metrics,
            after_s=config.reap_after,
            later_epoch=membership.later_epoch,
        )
        self._handoff = Handoff(
            node_id=config.node_id,
            hints=replica.hints,
            transport=transport,
            down=detector.down,
            rate=config.handoff_rate,
            delivers=config.hints,
            clock=clock,
            metrics=metrics,
        )
        self._exchanges = Exchanges(
            node_id=config.node_id,
            replica=replica,
            trees=replica_trees,
            transport=transport,
            in_delivery=self._in_delivery,
            down=detector.down,
            interval=config.exchange_interval,
            interval_remote=config.exchange_interval_remote,
            keys=config.exchange_keys,
            rate=config.exchange_rate,
            window=config.exchange_window,
            clock=clock,
            sleep=world.sleep,
            chance=world.chance,
            metrics=metrics,
            deadline=self._straggler_deadline,
            holds=flights.hold,
        )
        self._repairs = Repairs(
            node_id=config.node_id, exchanges=self._exchanges, trees=self.trees, metrics=metrics
        )
        self._coordinator = Coordinator(
            node_id=config.node_id,
            datacenter=config.datacenter,
            transport=transport,
            clock=clock,
            sealer=ContextSealer(cluster_id=config.cluster.id, secret=config.cluster.secret),
            metrics=metrics,
            value_bytes_max=config.value_bytes_max,
            heard=topology.acknowledged,
            properties=properties_of,
            opinions=detector,
            flights=flights,
            chance=world.sampling,
            read_repair=config.read_repair,
            hints=config.hints,
            sampled=config.measure_one_in,
        )
        self._listing = Listing(
            node_id=config.node_id,
            datacenter=config.datacenter,
            transport=transport,
            clock=clock,
            sealer=CursorSealer(cluster_id=config.cluster.id, secret=config.cluster.secret),
            metrics=metrics,
            read=self._coordinator.get,
            properties=properties_of,
        )
        self._recovery = recovery = Recovery(
            directory=directory,
            storage=storage,
            commit=commit,
            replica=replica,
            topology=topology,
            refill=refill,
            clock=clock,
            metrics=metrics,
            entropy=world.entropy,
            is_new=is_new,
        )
        self._overview = Overview(
            config=config,
            clock=clock,
            directory=directory,
            storage=storage,
            topology=topology,
            transport=transport,
            detector=detector,
            replica=replica,
            refill=refill,
            gossip=membership.gossip,
            properties=properties.learner,
            metrics=metrics,
        )
        self._expiry = Expiry(
            replica=replica,
            storage=storage,
            commit=commit,
            clock=clock,
            chance=world.chance,
            metrics=metrics,
        )
        replica.on_foreign_dot = recovery.renew_incarnation
        replica.on_later_epoch = membership.attach(transport)
        properties.attach(transport)
        gossip = membership.gossip
        gossip.on_properties = properties.learner.on_digest
        gossip.on_away = properties.learner.note_away
        gossip.on_addresses = self._dial
        gossip.on_behind = lambda start: self._on_behind(Known(start, 0))
        topology.on_ring = self._on_ring
        topology.on_behind = self._on_behind
        topology.on_connected = self._on_connected
        if topology.ring is not None:
            self._adopt(topology.ring)
        self._own("storage watch", recovery.watch(world.sleep))
        self._own("hints", replica.hints.run(world.sleep))
        self._own("tombstones", replica.queue.run(world.sleep))
        for name, work in membership.tasks(world.sleep).items():
            self._own(name, work)
        for name, run in properties.tasks().items():
            self._own(name, run())
        self.rpc_address = await transport.start(config.rpc)
        self._dial()
        self._own("refill", self._run_refill())
        self._own("handoff", self._handoff.run())
        self._own("hash trees", self.trees.run(world.sleep))
        self._own("exchanges", self._exchanges.run())
        self._own("expiry", self._expiry.run(world.sleep))
        self._own("settling", settling.run())
        self._own("looks at hints", settling.run_looks())
        self._own("reaper", self._reaper.run())

    async def settled(self, patience: float) -> None:
        """Return once every peer that is there is connected, or this node would hold it for down, and
        peers have told what it may have missed of bucket properties, or nobody is there to tell; after
        `patience` seconds at the latest."""
        assert self._transport is not None
        limit = self._world.clock.monotonic() + patience
        while self._transport.reaching or self._properties.learner.withholds:
            if self._world.clock.monotonic() >= limit:
                return
            await self._world.sleep(SETTLE_INTERVAL)

    def serve(self) -> None:
        """Take clients' requests from now on."""
        self._serves = True

    def stop_serving(self) -> None:
        """Refuse clients' requests from now on."""
        self._serves = False
        if self._transport is not None:
            self._handoff.stop_waiting()

    async def wait_closed(self) -> None:
        """Until a task that the node lives by fails; raises what it raised."""
        assert self._failed is not None
        await asyncio.shield(self._failed)

    async def close(self) -> None:
        """Stop taking requests, finish what runs, sync, release everything. Safe at any point."""
        self._serves = False
        self.admission.close()
        if self._transport is not None:
            self._replica.close()
            self._deliver.close()
            self._settling.close()
            await self._transport.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failed is not None and self._failed.done():
            self._failed.exception()
        if self._storage is not None:
            failed = self._failed is not None and self._failed.done()
            if self.trees is not None and not failed:
                self.trees.keep()  # nothing is written after it
            try:
                await self._storage.close()
            except StorageError as error:
                log.error("the storage did not close cleanly: %s", error.message)
        if self._directory is not None:
            self._directory.close()

    def _own(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._failed is None or self._failed.done():
            return
        error = task.exception() or RuntimeError("it ended")
        log.critical("%s failed, the node stops: %s", task.get_name(), error)
        self._failed.set_exception(error)

    # Ring and refill ----------------------------------------------------------------------------

    def _adopt(self, ring: Ring) -> None:
        self._membership.adopt(ring)
        self._replica.adopt(ring)
        if self.trees is not None:
            self.trees.adopt()
        self._refill.adopt(ring)
        self._handoff.adopt(ring)
        self._replica_trees.adopt(ring)
        self._exchanges.adopt(ring)
        self._repairs.adopt(ring)
        self._settling.adopt(ring)
        self._reaper.adopt(ring)
        self._coordinator.adopt(ring)
        self._listing.adopt(ring)
        self._properties.adopt(ring)
        self._recovery.on_ring()

    def _on_ring(self, ring: Ring) -> None:
        """A ring was formed or learnt after the start."""
        self._adopt(ring)
        self._dial()

    def _dial(self) -> None:
        assert self._transport is not None
        self._transport.dial(self._topology.addresses)

    def _on_behind(self, known: Known) -> None:
        self._properties.learner.note_loss()
        self._recovery.on_behind(known)

    def _on_connected(self, node_id: str) -> None:
        ring = self._topology.ring
        if ring is not None and self._replica.arrivals.is_open:
            others = [member.id for member in ring.members if member.id != self.config.node_id]
            self._replica.arrivals.met(node_id, others)
        self._detector.connected(node_id)
        self._refill.wake()
        self._handoff.on_connected(node_id)
        self._exchanges.on_connected(node_id)
        self._reaper.wake()
        self._properties.on_connected(node_id)

    def _in_delivery(self, peer: str, place: Partition) -> bool:
        """True while hints that this node has for the peer, in that partition, are on their way."""
        if not self._handoff.is_delivering(peer):
            return False
        return self._replica.hints.has_for(peer, partition_prefix(*place))

    async def _run_refill(self) -> None:
        assert self._transport is not None
        await self._transport.first_attempts_done()
        self._handlers |= self._reads
        await self._refill.run()

    # Clients' requests --------------------------------------------------------------------------

    # These hand on the coordinator's coroutine: one of their own would be run through as well.

    def get(
        self, bucket_type: bytes, bucket: bytes, key: bytes, options: ReadOptions
    ) -> Coroutine[Any, Any, Found]:
        """As `Coordinator.get`."""
        self._check_serves()
        return self._coordinator.get(bucket_type, bucket, key, options)

    def put(
        self,
        bucket_type: bytes,
        bucket: bytes,
        key: bytes,
        content: Content,
        context: bytes,
        options: WriteOptions,
    ) -> Coroutine[Any, Any, Written]:
        """As `Coordinator.put`."""
        self._check_serves()
        return self._coordinator.put(bucket_type, bucket, key, content, context, options)

    def check_put(
        self, bucket_type: bytes, bucket: bytes, key: bytes, context: bytes, options: WriteOptions
    ) -> None:
        """As `Coordinator.check_put`."""
        self._check_serves()
        self._coordinator.check_put(bucket_type, bucket, key, context, options)

    def delete(
        self, bucket_type: bytes, bucket: bytes, key: bytes, context: bytes, options: WriteOptions
    ) -> Coroutine[Any, Any, Found | Written]:
        """As `Coordinator.delete`."""
        self._check_serves()
        return self._coordinator.delete(bucket_type, bucket, key, context, options)

    async def list_keys(
        self, bucket_type: bytes, bucket: bytes, options: ListOptions
    ) -> AsyncGenerator[Listed, None]:
        """As `Listing.list_keys`."""
        self._check_serves()
        async with aclosing(self._listing.list_keys(bucket_type, bucket, options)) as parts:
            async for part in parts:
                yield part

    async def list_buckets(
        self, bucket_type: bytes, options: ListOptions
    ) -> AsyncGenerator[Listed, None]:
        """As `Listing.list_buckets`."""
        self._check_serves()
        async with aclosing(self._listing.list_buckets(bucket_type, options)) as parts:
            async for part in parts:
                yield part

    def preflist(self, bucket_type: bytes, bucket: bytes, key: bytes) -> tuple[Owner, ...]:
        """As `Coordinator.preflist`."""
        self._check_serves()
        return self._coordinator.preflist(bucket_type, bucket, key)

    def properties(self, bucket_type: bytes, bucket: bytes) -> dict[str, object]:
        """As `PropertyStore.show`."""
        self._check_serves()
        return self._properties.show(bucket_type, bucket)

    async def set_properties(
        self, bucket_type: bytes, bucket: bytes, given: Mapping[str, object], timeout_ms: int
    ) -> None:
        """As `PropertyStore.set`."""
        self._check_serves()
        await self._properties.set(bucket_type, bucket, given, timeout_ms)

    async def reset_properties(self, bucket_type: bytes, bucket: bytes, timeout_ms: int) -> None:
        """As `PropertyStore.reset`."""
        self._check_serves()
        await self._properties.reset(bucket_type, bucket, timeout_ms)

    async def sync_hints(self, timeout_ms: int) -> dict[str, int]:
        """As `Handoff.sync`, in milliseconds; 0 for the default."""
        timeout_ms = min(timeout_ms or LIST_TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX)
        return await self._handoff.sync(timeout_ms / 1000)

    def _check_serves(self) -> None:
        if not self._serves:
            raise NotReady("this node is starting or stopping")
        # What goes by properties of before may break what the others keep.
        learner = self._properties.learner
        if learner.lacks and learner.withholds:
            raise NotReady(LACKS_PROPERTIES)

    def takes_requests(self) -> bool:
        """True if clients' requests are not refused for the state this node is in."""
        return self._serves and not self._properties.learner.withholds

    # For people ---------------------------------------------------------------------------------

    def ready(self) -> Readiness:
        """As `Overview.ready`."""
        return self._overview.ready()

    def debts(self) -> Debts:
        """As `Overview.debts`."""
        return self._overview.debts()

    @property
    def is_discarding_hints(self) -> bool:
        """True while the hints of a disk that was put back are discarded."""
        return self._replica.hints.is_discarding

    def is_complete(self, place: Partition, storage_key: bytes) -> bool:
        """As `Overview.is_complete`."""
        return self._overview.is_complete(place, storage_key)

    def connected(self) -> tuple[str, ...]:
        """Peers that requests reach now, in order."""
        return self._transport.connected() if self._transport is not None else ()

    def refusal(self) -> str | None:
        """Why this node takes no writes now, or None."""
        return None if self._storage is None else self._storage.refusal()

    def waiting(self) -> dict[str, int]:
        """How many wait for what, in this node: nothing, once nobody asks it anything any more."""
        return {
            "syncs": self._commit.waiting,
            "writes that the storage cannot take yet": len(self._replica.backlog),
            "bytes of such writes": self._replica.backlog.bytes,
            "deliveries that are being merged": len(self._deliver),
            "batches of hints under way": self._handoff.in_flight,
            "records under way in exchanges": self._exchanges.in_flight,
            "waits for sync points": self._handoff.waiting,
            "waits until all has ended": self._settling.waiting,
            "tombstones that are being reaped": self._reaper.trying,
            "answers about damaged records": self._refill.unsettled,
            "changes of properties that are not on disk yet": self._properties.unwritten,
        }

    def stats(self) -> dict[str, Any]:
        """Counters and facts of this node."""
        return {**self._overview.stats(), **self._repairs.stats()}

    def status(self) -> NodeStatus:
        """All that this node knows of itself and its peers."""
        return self._overview.status()

    def wars(self, *, wholes: bool = True) -> WarsStatus:
        """What this node measures of its own requests, as `Wars.status`."""
        return self._coordinator.wars.status(self._world.clock.monotonic(), wholes=wholes)

    def repair_ages(self) -> Histogram:
        """As `Coordinator.repair_ages`."""
        return self._coordinator.repair_ages

    def tombstones(self) -> TombstonesStatus:
        """As `Reaper.status`."""
        return self._reaper.status()

    def hints(self) -> HintsStatus:
        """What this node keeps for others, and how its delivery goes."""
        config = self.config
        window_s = config.hint_window if config.hints else 0
        return self._handoff.status(window_s=window_s, bytes_max=config.hint_bytes_max)

    def antientropy(self, partition: int | None, limit: int) -> AntiEntropyStatus:
        """As `Repairs.antientropy`."""
        return self._repairs.antientropy(partition, limit)

    def roots(self) -> TreeRoots:
        """As `Repairs.roots`."""
        return self._repairs.roots()

    def pause_antientropy(self, reason: str) -> None:
        """As `Exchanges.pause`."""
        self._exchanges.pause(reason)

    def resume_antientropy(self) -> None:
        """As `Exchanges.resume`."""
        self._exchanges.resume()

    def faults(self) -> dict[str, Any]:
        """As `FaultInjection.show`. Raises FaultInjectionOff."""
        return self._injection().show()

    def set_faults(self, rules: object) -> dict[str, Any]:
        """As `FaultInjection.set`, and then `show`. Raises FaultInjectionOff, InvalidArgument."""
        injection = self._injection()
        ring = self._topology.ring
        members = () if ring is None else tuple(member.id for member in ring.members)
        injection.set(rules, (name for name in members if name != self.config.node_id))
        return injection.show()

    def _injection(self) -> FaultInjection:
        faults = None if self._transport is None else self._transport.faults
        if faults is None:
            raise FaultInjectionOff("this node was not started with --fault-injection")
        return faults

    def repair(self) -> RepairStatus:
        """As `Repairs.status`."""
        return self._repairs.status()

    def start_repair(self, asked: RepairAsked) -> RepairStatus:
        """As `Repairs.start`."""
        self._check_serves()
        return self._repairs.start(asked)

    async def stop_repair(self) -> RepairStatus:
        """As `Repairs.stop`."""
        return await self._repairs.stop()


def _refuse_new(request: Request, call: Call) -> None:
    call.reply(Refused("not_ready", True, "this node is new and has not tried its peers yet"))
