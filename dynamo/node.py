"""A whole node: data directory, storage, replica, coordinator, connections and HTTP, put together.

The one place where production's clock, disk, network and randomness are chosen. Starting is: lock
the directory and take a new start number; open the storage; mark what it may have lost; listen and
dial; serve. If a task that the node lives by fails, the node stops and says why.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

from dynamo.clock import SystemClock
from dynamo.cluster.topology import Known, Topology
from dynamo.commit import GroupCommit
from dynamo.config import NodeConfig
from dynamo.context import ContextSealer
from dynamo.coordinator import Coordinator
from dynamo.datadir import DataDirectory
from dynamo.errors import DataDirectoryError, DynamoError, NotReady, StorageError
from dynamo.http.backend import Readiness
from dynamo.http.ids import Ids
from dynamo.http.limits import CONNECTIONS_DEFAULT, Limits
from dynamo.http.server import HttpServer
from dynamo.metrics import Metrics
from dynamo.ports import PASSING_REFUSALS, Call, Handler
from dynamo.record import Content
from dynamo.refill import Refill
from dynamo.replica import Replica
from dynamo.requests import Found, ReadOptions, WriteOptions, Written
from dynamo.rpc.messages import AskRing, Fetch, Mint, Ping, Refused, Request, RingIs, Scan, Store
from dynamo.rpc.peers import PeerTransport
from dynamo.rpc.tcp import TcpNetwork
from dynamo.store.rocks import RocksStorage
from dynamo.version import RANDOM_BYTES, incarnation_bytes
from ring.member import Member
from ring.ring import Ring

log = logging.getLogger(__name__)

DATABASE: Final = "db"
STORAGE_WATCH_INTERVAL: Final = 0.5
STORAGE_RETRY_MAX: Final = 30.0


class Node:
    """One node of a cluster; also the backend of its own HTTP server."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.metrics = Metrics()
        self._tasks: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[None] | None = None
        self._directory: DataDirectory | None = None
        self._storage: RocksStorage | None = None
        self._transport: PeerTransport | None = None
        self._http: HttpServer | None = None
        self._started = False
        self._must_refill = ""
        self.http_address = ""
        self.rpc_address = ""

    # Life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Serve. Raises DynamoError or OSError where that cannot be; call `close` all the same."""
        config = self.config
        loop = asyncio.get_running_loop()
        self._failed = loop.create_future()
        self._clock = clock = SystemClock()
        self._directory = directory = DataDirectory.open(
            Path(config.data_dir),
            cluster_id=config.cluster.id,
            node_id=config.node_id,
            entropy=os.urandom,
        )
        path = Path(config.data_dir) / DATABASE
        self._storage = storage = await RocksStorage.open(
            path,
            clock=clock,
            metrics=self.metrics,
            existed=directory.has_database,
            free_space_min=config.free_space_min,
        )
        is_new = not directory.has_database
        directory.note_database()
        self._commit = commit = GroupCommit(storage=storage, metrics=self.metrics)
        self._own("group commit", commit.run())
        self._replica = replica = Replica(
            node_id=config.node_id,
            storage=storage,
            commit=commit,
            clock=clock,
            metrics=self.metrics,
            incarnation=incarnation_bytes(directory.start, directory.random),
        )
        replica.on_foreign_dot = self._renew_incarnation
        self._topology = topology = Topology(
            own=_member(config),
            cluster=config.cluster,
            peers=config.peers,
            blobs=directory,
            standing=lambda: Known(directory.start, storage.synced_number, directory.random),
            metrics=self.metrics,
        )
        # An empty disk may be one that was emptied. The peers tell at the handshake; until each has been
        # tried, that nothing is here does not mean that nothing is there.
        self._handlers: dict[type, Handler] = {
            Mint: replica.on_mint,
            Store: replica.on_store,
            Fetch: _refuse_new if is_new else replica.on_fetch,
            Scan: replica.on_scan,
            AskRing: self._on_ask_ring,
            Ping: topology.on_ping,
        }
        self._transport = transport = PeerTransport(
            node_id=config.node_id,
            secret=config.cluster.secret,
            gate=topology,
            network=TcpNetwork(),
            clock=clock,
            # Nonces of handshakes come from it.
            random=random.SystemRandom(),
            metrics=self.metrics,
            handlers=self._handlers,
        )
        self._refill = refill = Refill(
            node_id=config.node_id,
            replica=replica,
            transport=transport,
            clock=clock,
            metrics=self.metrics,
        )
        self._coordinator = Coordinator(
            node_id=config.node_id,
            datacenter=config.datacenter,
            transport=transport,
            clock=clock,
            sealer=ContextSealer(cluster_id=config.cluster.id, secret=config.cluster.secret),
            metrics=self.metrics,
            value_bytes_max=config.value_bytes_max,
            heard=topology.acknowledged,
        )
        topology.attach(transport)
        topology.on_ring = self._on_ring
        topology.on_behind = self._on_behind
        topology.on_stranger = transport.disconnect
        topology.on_connected = lambda node_id: refill.wake()
        if storage.opening.state != "clean":
            self._must_refill = storage.opening.why or storage.opening.state
        elif replica.must_refill:
            self._must_refill = "an earlier start was to refill, and what it has read is not known"
        if topology.ring is not None:
            self._on_ring(topology.ring)
        self._own("storage watch", self._watch_storage())
        self._own("heartbeat", topology.run_heartbeat(asyncio.sleep))
        self.rpc_address = await transport.start(config.rpc)
        transport.dial(topology.addresses)
        self._own("refill", self._run_refill())
        self._http = HttpServer(
            backend=self,
            clock=clock,
            ids=Ids(random=random.Random(os.urandom(16))),
            limits=Limits(
                value_bytes_max=config.value_bytes_max, connections_max=_connections_max()
            ),
            metrics=self.metrics,
        )
        self.http_address = await self._http.start(config.http)
        self._started = True

    async def wait_closed(self) -> None:
        """Until a task that the node lives by fails; raises what it raised."""
        assert self._failed is not None
        await asyncio.shield(self._failed)

    async def close(self) -> None:
        """Stop taking requests, finish what runs, sync, release everything. Safe at any point."""
        self._started = False
        if self._http is not None:
            await self._http.close()
        if self._transport is not None:
            self._replica.close()
            await self._transport.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failed is not None and self._failed.done():
            self._failed.exception()
        if self._storage is not None:
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

    # Ring, incarnation, refill ------------------------------------------------------------------

    def _on_ring(self, ring: Ring) -> None:
        assert self._transport is not None
        self._replica.adopt(ring)
        self._refill.adopt(ring)
        self._coordinator.adopt(ring)
        if self._started or self.rpc_address:
            self._transport.dial(self._topology.addresses)
        if self._must_refill:
            self._mark_all()

    def _mark_all(self) -> bool:
        """Everything this node has may be incomplete: mark it, before any of it is served.

        False if the marks could not be written: they hold in memory, and the watch tries again.
        """
        log.error("ALARM all partitions must be refilled: %s", self._must_refill)
        self.metrics.count["alarms"] += 1
        try:
            self._refill.mark_all()
            if self._replica.must_refill:
                self._replica.note_must_refill(False)
        except StorageError as error:
            log.error("the refill could not be marked: %s", error.message)
            return False
        self._must_refill = ""
        return True

    def _renew_incarnation(self) -> None:
        """Mint under an incarnation that nobody has used, from now on."""
        assert self._directory is not None
        directory = self._directory
        try:
            directory.raise_start(directory.start)
            bits = directory.random
        except DataDirectoryError as error:
            # New random bits alone keep its dots apart, and the next start draws its own.
            log.error("a new start number could not be written down: %s", error.message)
            bits = os.urandom(RANDOM_BYTES)
        self._replica.renew_incarnation(incarnation_bytes(directory.start, bits))

    def _on_behind(self, known: Known) -> None:
        """A peer has seen more of this node than there is: an older or empty disk was put in.

        Start above what is known, so that no dot is minted twice, and refill.
        """
        assert self._directory is not None
        assert self._storage is not None
        directory, storage = self._directory, self._storage
        if directory.start > known.start and storage.write_number > known.write_number:
            return  # another peer has said so already, and this one is dialled again
        self._must_refill = "a peer has seen later writes of this node than it has itself"
        try:
            directory.raise_start(known.start)
            self._replica.renew_incarnation(incarnation_bytes(directory.start, directory.random))
            # The marks go first: a crash keeps a prefix, and peers let in whoever has the number.
            if self._topology.ring is None:
                self._replica.note_must_refill(True)
            elif not self._mark_all():
                return  # said again by the next refusal
            storage.raise_write_number(known.write_number + 1)
            # Synced at once: peers let this node in again when it shows the new number.
            self._commit.when_synced(storage.write_number, _log_failure)
        except DynamoError as error:
            log.error("the refill could not be marked: %s", error.message)

    async def _run_refill(self) -> None:
        assert self._transport is not None
        await self._transport.first_attempts_done()
        self._handlers[Fetch] = self._replica.on_fetch
        await self._refill.run()

    async def _watch_storage(self) -> None:
        """Reopen an engine that met the end of the disk once there is room, rebuild a damaged database;
        settle its alarms."""
        assert self._storage is not None
        storage = self._storage
        patience = retry_at = 0.0
        while True:
            if storage.refusal() in PASSING_REFUSALS and self._clock.monotonic() >= retry_at:
                try:
                    if await storage.recover():
                        # Writes whose dots have left may be gone, so their births must not go on.
                        self._renew_incarnation()
                        if storage.opening.state != "clean":
                            self._must_refill = storage.opening.why or storage.opening.state
                            if self._topology.ring is not None:
                                self._mark_all()  # in memory at least, before anything is read
                    patience = 0.0
                except StorageError as error:
                    log.error("the storage could not be reopened: %s", error.message)
                    # An attempt may read and write all there is.
                    patience = min(2 * patience + STORAGE_WATCH_INTERVAL, STORAGE_RETRY_MAX)
                    retry_at = self._clock.monotonic() + patience
            takes_marks = self._topology.ring is not None and storage.refusal() is None
            if self._must_refill and takes_marks:
                self._mark_all()
            if not storage.settled and not self._must_refill:
                self._commit.when_synced(storage.write_number, self._settle)
            await asyncio.sleep(STORAGE_WATCH_INTERVAL)

    def _settle(self, error: DynamoError | None) -> None:
        """The marks are on disk: the storage need not remember what it lost."""
        assert self._storage is not None
        if error is not None:
            return  # the watch tries again
        try:
            self._storage.settle()
        except StorageError as problem:
            log.error("%s", problem.message)

    def _on_ask_ring(self, request: Request, call: Call) -> None:
        ring = self._topology.ring
        call.reply(RingIs(ring.to_bytes() if ring is not None else b""))

    # Backend ------------------------------------------------------------------------------------

    async def get(
        self, bucket_type: bytes, bucket: bytes, key: bytes, options: ReadOptions
    ) -> Found:
        """As `Coordinator.get`."""
        self._check_started()
        return await self._coordinator.get(bucket_type, bucket, key, options)

    async def put(
        self,
        bucket_type: bytes,
        bucket: bytes,
        key: bytes,
        content: Content,
        context: bytes,
        options: WriteOptions,
    ) -> Written:
        """As `Coordinator.put`."""
        self._check_started()
        return await self._coordinator.put(bucket_type, bucket, key, content, context, options)

    def check_put(
        self, bucket_type: bytes, bucket: bytes, key: bytes, context: bytes, options: WriteOptions
    ) -> None:
        """As `Coordinator.check_put`."""
        self._check_started()
        self._coordinator.check_put(bucket_type, bucket, key, context, options)

    async def delete(
        self, bucket_type: bytes, bucket: bytes, key: bytes, context: bytes, options: WriteOptions
    ) -> Found | Written:
        """As `Coordinator.delete`."""
        self._check_started()
        return await self._coordinator.delete(bucket_type, bucket, key, context, options)

    def _check_started(self) -> None:
        if not self._started:
            raise NotReady("this node is starting or stopping")

    def ready(self) -> Readiness:
        """Whether a load balancer should send requests here, and if not, why."""
        assert self._storage is not None
        assert self._transport is not None
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
        if self._refill.waiting:
            reasons.append(f"{self._refill.waiting} partitions are being refilled")
        refusal = self._storage.refusal()
        if refusal is not None:
            reasons.append(f"this node takes no writes: {refusal}")
        return Readiness(not reasons, (*reasons, *self._debts()))

    def _debts(self) -> list[str]:
        """What is still owed to this node, though it serves."""
        debts = []
        # A partition that has no other replica is marked for a moment, and nobody owes it anything.
        marks = [mark for mark in self._replica.refilling.values() if mark.serving and mark.owed]
        owed = sorted({peer for mark in marks for peer in mark.owed})
        if marks:
            debts.append(f"{len(marks)} partitions were refilled without {', '.join(owed)} so far")
        if self._replica.damaged:
            debts.append(f"{len(self._replica.damaged)} damaged records wait for a good copy")
        return debts

    def stats(self) -> dict[str, Any]:
        """Counters and facts of this node."""
        assert self._storage is not None
        assert self._transport is not None
        assert self._directory is not None
        ring = self._topology.ring
        return {
            "node": self.config.node_id,
            "cluster": self.config.cluster.id,
            "start": self._directory.start,
            "epoch": ring.epoch if ring is not None else 0,
            "ring_num_partitions": self.config.cluster.partitions,
            "ring_members": [member.id for member in ring.members] if ring is not None else [],
            "connected_nodes": sorted(self._transport.connected()),
            "write_number": self._storage.write_number,
            "synced_write_number": self._storage.synced_number,
            "storage_opened": self._storage.opening.state,
            "partitions_refilling": len(self._replica.refilling),
            "records_damaged_now": len(self._replica.damaged),
            **self.metrics.snapshot(),
        }


def _refuse_new(request: Request, call: Call) -> None:
    call.reply(Refused("not_ready", True, "this node is new and has not tried its peers yet"))


def _connections_max() -> int:
    """How many clients may be connected: half of the files that may be open, the rest is for
    storage and peers. An engine that cannot open its next log takes no more writes."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return CONNECTIONS_DEFAULT
    return max(1, min(CONNECTIONS_DEFAULT, files // 2))


def _log_failure(error: DynamoError | None) -> None:
    if error is not None:
        log.error("the refill marks are not on disk: %s", error.message)


def _member(config: NodeConfig) -> Member:
    return Member(
        id=config.node_id,
        address=config.address,
        datacenter=config.datacenter,
        rack=config.rack,
        host=config.host,
        weight=config.weight,
    )
