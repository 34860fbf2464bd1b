"""Real coordinators and replicas in one process, over a transport whose links a test can cut.

Only the transport is of the test's making: messages are handed over as objects, a turn of the loop
later. Storage is the in-memory one, or what the test gives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dynamo.commit import GroupCommit

from dynamo.clock import SystemClock
from dynamo.context import ContextSealer
from dynamo.coordinator import Coordinator
from dynamo.errors import StorageError
from dynamo.metrics import Metrics
from dynamo.ports import Call, Failure, Storage, Waiter
from dynamo.record import EMPTY, Content, Record, decode_record
from dynamo.refill import Refill
from dynamo.replica import Replica
from dynamo.requests import Found, ReadOptions, WriteOptions, Written
from dynamo.rpc.messages import Fetch, Mint, Reply, Request, Scan, Store
from dynamo.store.memory import MemoryStorage
from dynamo.stored import decode_stored
from dynamo.version import incarnation_bytes
from ring.member import Member
from ring.ring import ReplicationClass, Ring

Handlers = Mapping[type[Any], Callable[[Any, Call], None]]


class LittleCall:
    """A `Call` that answers a waiter, unless the link was cut meanwhile."""

    def __init__(
        self, links: Links, source: str, target: str, waiter: Waiter, deadline: float
    ) -> None:
        self.peer = source
        self.deadline = deadline
        self._links = links
        self._target = target
        self._waiter = waiter
        self.open = True

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        self._links.later(self.peer, self._target, self._arrive, reply, last)

    def _arrive(self, reply: Reply, last: bool) -> None:
        links, target = self._links, self._target
        if not self.open:
            return
        if target in links.mute or (type(reply).__name__, target) in links.drop_replies:
            return
        if last:
            self.open = False
        self._waiter.on_reply(target, reply)

    def fail(self, failure: Failure) -> None:
        if self.open:
            self.open = False
            self._waiter.on_failure(self._target, failure)


class Links:
    """Who can reach whom."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handlers] = {}
        #: Nodes that nobody is connected to.
        self.down: set[str] = set()
        #: Nodes that execute what they get and whose answers never arrive.
        self.mute: set[str] = set()
        #: Nodes that do nothing with what they get until they are thawed.
        self.frozen: set[str] = set()
        #: (name of a reply's class, answering node) that gets lost.
        self.drop_replies: set[tuple[str, str]] = set()
        self.calls: list[LittleCall] = []
        self.sent: list[tuple[str, str, Request]] = []

    def later(self, source: str, target: str, call: Callable[..., None], *args: Any) -> None:
        if source == target:
            call(*args)
        else:
            asyncio.get_running_loop().call_soon(call, *args)

    def kill(self, node: str) -> None:
        """Break the node's connections: what was asked of it is lost."""
        self.down.add(node)
        for call in self.calls:
            if call._target == node:
                call.fail(Failure("lost", "the connection broke"))


class LittleTransport:
    """A `Transport` over links."""

    def __init__(self, node_id: str, links: Links) -> None:
        self._node_id = node_id
        self._links = links

    def request(
        self, targets: Sequence[str], message: Request, waiter: Waiter, timeout: float
    ) -> None:
        loop = asyncio.get_running_loop()
        links = self._links
        for target in targets:
            if target in links.down:
                waiter.on_failure(target, Failure("not_sent", "not connected"))
                continue
            links.sent.append((self._node_id, target, message))
            call = LittleCall(links, self._node_id, target, waiter, loop.time() + timeout)
            links.calls.append(call)
            loop.call_later(timeout, call.fail, Failure("timed_out", "no answer in time"))
            if target not in links.frozen:
                handler = links.handlers[target][type(message)]
                links.later(self._node_id, target, handler, message, call)

    def is_connected(self, node: str) -> bool:
        return node not in self._links.down

    def stalled_for(self, node: str) -> float:
        return 1.0 if node in self._links.frozen else 0.0


class LittleNode:
    """One node's services."""

    def __init__(self, node_id: str, ring: Ring, links: Links, storage: Storage) -> None:
        self.id = node_id
        self.links = links
        self.ring = ring
        self.storage = storage
        self.metrics = Metrics()
        self.clock = SystemClock()
        self.commit = GroupCommit(storage=storage, metrics=self.metrics)
        self.transport = LittleTransport(node_id, links)
        self.start_services(incarnation_bytes(1, node_id.encode().rjust(8, b"\0")))

    def start_services(self, incarnation: bytes) -> None:
        self.replica = Replica(
            node_id=self.id,
            storage=self.storage,
            commit=self.commit,
            clock=self.clock,
            metrics=self.metrics,
            incarnation=incarnation,
        )
        self.coordinator = Coordinator(
            node_id=self.id,
            datacenter="dc1",
            transport=self.transport,
            clock=self.clock,
            sealer=ContextSealer(cluster_id="little", secret=b"little secret"),
            metrics=self.metrics,
        )
        self.refill = Refill(
            node_id=self.id,
            replica=self.replica,
            transport=self.transport,
            clock=self.clock,
            metrics=self.metrics,
        )
        for service in (self.replica, self.coordinator, self.refill):
            service.adopt(self.ring)
        self.links.handlers[self.id] = {
            Mint: self.replica.on_mint,
            Store: self.replica.on_store,
            Fetch: self.replica.on_fetch,
            Scan: self.replica.on_scan,
        }

    def record(self, storage_key: bytes) -> Record:
        data = self.storage.get("records", storage_key)
        return EMPTY if data is None else decode_record(decode_stored(storage_key, data).record)


class LittleCluster:
    """`async with LittleCluster(3) as cluster:`; nodes are a, b, c, ..."""

    def __init__(
        self,
        nodes: int,
        *,
        replicas: int = 3,
        partitions: int = 8,
        storage: Callable[[str], Storage] | None = None,
    ) -> None:
        names = [chr(ord("a") + index) for index in range(nodes)]
        self.ring = Ring.build(
            tuple(Member(id=name, address=f"{name}:1") for name in names),
            partitions=partitions,
            seed=1,
            classes=(ReplicationClass(name="default", id=0, replicas=replicas),),
        )
        self.links = Links()
        make = storage or (lambda name: MemoryStorage())
        self._storages = {name: make(name) for name in names}
        self.nodes: dict[str, LittleNode] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> LittleCluster:
        for name, storage in self._storages.items():
            node = LittleNode(name, self.ring, self.links, storage)
            self.nodes[name] = node
            self._tasks.append(asyncio.create_task(node.commit.run()))
            self._tasks.append(asyncio.create_task(node.refill.run()))
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def put(
        self,
        node: str,
        key: bytes,
        value: bytes,
        context: bytes = b"",
        options: WriteOptions | None = None,
    ) -> Written:
        content = Content(value=value, content_type=b"text/plain")
        coordinator = self.nodes[node].coordinator
        return await coordinator.put(
            b"default", b"b", key, content, context, options or WriteOptions()
        )

    async def get(self, node: str, key: bytes, options: ReadOptions | None = None) -> Found:
        return await self.nodes[node].coordinator.get(
            b"default", b"b", key, options or ReadOptions()
        )

    async def delete(
        self, node: str, key: bytes, context: bytes = b"", options: WriteOptions | None = None
    ) -> Found | Written:
        return await self.nodes[node].coordinator.delete(
            b"default", b"b", key, context, options or WriteOptions()
        )

    def records(self, key: bytes) -> dict[str, Record]:
        """What each owner of the key has stored."""
        found = {}
        for name, node in self.nodes.items():
            routing, plan = node.coordinator._plan(b"default", b"b", key)
            prefix = node.replica._prefixes.get((plan.class_id, plan.partition))
            if prefix is not None:
                found[name] = node.record(prefix + routing)
        return found

    async def settle(self) -> None:
        """Let everything that is on its way arrive."""
        for _ in range(50):
            await asyncio.sleep(0)
        await asyncio.sleep(0.005)


def values(found: Found) -> set[bytes]:
    """The live values of an answer."""
    return {sibling.read().value for sibling in found.siblings}


class GatedStorage(MemoryStorage):
    """Memory whose flush a test can hold back or let fail, and that can refuse writes."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False
        self.refuses: str | None = None

    def refusal(self) -> str | None:
        return self.refuses

    async def flush(self) -> int:
        number = self.write_number
        await self.gate.wait()
        if self.broken:
            self.refuses = "sync_failed"
            raise StorageError("the sync failed")
        self._synced = max(self._synced, number)
        return self._synced
