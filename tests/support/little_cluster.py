"""Real coordinators and replicas in one process, over links that a test can cut, slow down or break.

Only transport and clock are of the test's making: messages are handed over as objects, a turn of the
loop later or after a delay. Storage is the in-memory one, or what the test gives. A node can crash
and start anew: what it had sent may still arrive, what it was asked is lost.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from dynamo.commit import GroupCommit
from dynamo.context import ContextSealer
from dynamo.coordinator import Coordinator
from dynamo.cursor import CursorSealer
from dynamo.errors import StorageError, StorageRefusesWrites
from dynamo.keys import partition_prefix
from dynamo.leaf import LeafHasher
from dynamo.listing import Listing
from dynamo.metrics import Metrics
from dynamo.ports import Call, Failure, Family, Storage, Timer, Waiter, Write
from dynamo.properties import PropertiesOf, default_properties
from dynamo.record import EMPTY, Content, Record, decode_record
from dynamo.refill import Refill
from dynamo.replica import Replica
from dynamo.replica_deliver import ReplicaDeliver
from dynamo.replica_listing import ReplicaListing
from dynamo.replica_reads import ReplicaReads
from dynamo.requests import Found, ReadOptions, WriteOptions, Written
from dynamo.rpc.messages import (
    Deliver,
    Fetch,
    ListBuckets,
    ListKeys,
    Mint,
    Owe,
    Refused,
    Reply,
    Request,
    Scan,
    Store,
)
from dynamo.store.memory import MemoryStorage
from dynamo.stored import decode_stored
from dynamo.version import incarnation_bytes
from ring.member import Member
from ring.preference import Plan
from ring.ring import ReplicationClass, Ring

Handlers = Mapping[type[Any], Callable[[Any, Call], None]]

#: Two replies of one request never swap places.
_ORDERED_SECONDS = 1e-6
_WALL_MS = 1_700_000_000_000


def _refuse_unknown(message: Request, call: Call) -> None:
    call.reply(Refused("unknown_operation", True))


class LoopClock:
    """A `Clock` that goes by the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.monotonic = self._loop.time
        #: What the wall clock is off by.
        self.offset_ms = 0

    def wall_ms(self) -> int:
        return _WALL_MS + int(self._loop.time() * 1000) + self.offset_ms

    def wall_ns(self) -> int:
        return (_WALL_MS + self.offset_ms) * 1_000_000 + int(self._loop.time() * 1e9)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        return self._loop.call_later(delay, callback)


class LittleCall:
    """A `Call` that answers a waiter, unless the link was cut meanwhile."""

    def __init__(
        self, links: Links, source: str, target: str, waiter: Waiter, timeout: float
    ) -> None:
        loop = asyncio.get_running_loop()
        self.peer = source
        self.deadline = loop.time() + timeout
        self.open = True
        self._links = links
        self._target = target
        self._waiter = waiter
        self._lives = (links.lives[source], links.lives[target])
        self._arrives = 0.0
        timed_out = Failure("timed_out", "no answer in time")
        self._timer = loop.call_later(timeout, self.fail, timed_out)

    def execute(self, message: Request) -> None:
        """The message has arrived."""
        links, target = self._links, self._target
        if links.lives[target] != self._lives[1]:
            return
        if target in links.frozen:
            links.held[target].append((message, self))
        else:
            links.handlers[target].get(type(message), _refuse_unknown)(message, self)

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        links, target = self._links, self._target
        if links.lives[target] != self._lives[1]:
            return
        links.on_reply(target, reply)
        if self.peer == target or links.delay is None:
            links.later(target, self.peer, self._arrive, reply, last)
            return
        loop = asyncio.get_running_loop()
        self._arrives = max(self._arrives + _ORDERED_SECONDS, loop.time() + links.delay())
        loop.call_at(self._arrives, self._arrive, reply, last)

    def _arrive(self, reply: Reply, last: bool) -> None:
        links, target = self._links, self._target
        if not self.open:
            return
        if target in links.mute or (type(reply).__name__, target) in links.drop_replies:
            return
        if self.peer != target and links.loses(target, self.peer, reply):
            return
        if last:
            self._end()
        self._waiter.on_reply(target, reply)

    def fail(self, failure: Failure) -> None:
        if self.open:
            self._end()
            self._waiter.on_failure(self._target, failure)

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        if self.open:
            self._end()

    def _end(self) -> None:
        self.open = False
        self._timer.cancel()
        self._links.calls.pop(self, None)

    def is_between(self, one: str, other: str) -> bool:
        return {self.peer, self._target} == {one, other}

    @property
    def target(self) -> str:
        return self._target


class NobodyCalls:
    """A `Call` whose answer goes nowhere: of a message that was delivered once more."""

    peer = "nobody"
    deadline = float("inf")

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """Nobody waits."""


class Links:
    """Who can reach whom, and how."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handlers] = {}
        #: Nodes that nobody is connected to.
        self.down: set[str] = set()
        #: Pairs of nodes that are not connected, in either order.
        self.cut: set[frozenset[str]] = set()
        #: Nodes that execute what they get and whose answers never arrive.
        self.mute: set[str] = set()
        #: Nodes that do nothing with what they get until they are thawed.
        self.frozen: set[str] = set()
        self.held: defaultdict[str, list[tuple[Request, LittleCall]]] = defaultdict(list)
        #: (name of a reply's class, answering node) that gets lost.
        self.drop_replies: set[tuple[str, str]] = set()
        #: Seconds that a message takes; None for a turn of the loop.
        self.delay: Callable[[], float] | None = None
        #: Whether a message from one node to another gets lost.
        self.loses: Callable[[str, str, object], bool] = lambda source, target, message: False
        #: When a request is delivered once more, in seconds from now.
        self.repeats: Callable[[Request], Sequence[float]] = lambda message: ()
        #: Called with each reply as it leaves.
        self.on_reply: Callable[[str, Reply], None] = lambda node, reply: None
        #: How often each node has crashed.
        self.lives: defaultdict[str, int] = defaultdict(int)
        self.calls: dict[LittleCall, None] = {}
        self.sent: list[tuple[str, str, Request]] = []

    def later(self, source: str, target: str, call: Callable[..., None], *args: Any) -> None:
        if source == target:
            call(*args)
        elif self.delay is None:
            asyncio.get_running_loop().call_soon(call, *args)
        else:
            asyncio.get_running_loop().call_later(self.delay(), call, *args)

    def reaches(self, source: str, target: str) -> bool:
        if source == target:
            return True
        if source in self.down or target in self.down:
            return False
        return not self.cut or frozenset((source, target)) not in self.cut

    def kill(self, node: str) -> None:
        """Break the node's connections: what was asked of it is lost."""
        self.down.add(node)
        self._lose(lambda call: call.target == node)

    def sever(self, one: str, other: str) -> None:
        """Break the connection of two nodes and keep it broken."""
        self.cut.add(frozenset((one, other)))
        self._lose(lambda call: call.is_between(one, other))

    def forget(self, node: str) -> None:
        """The node has crashed: what was asked of it is lost, soon; what it asked, nobody awaits."""
        self.lives[node] += 1
        self.down.add(node)
        self.held.pop(node, None)
        for call in list(self.calls):
            if call.peer == node:
                call.abandon()
            elif call.target == node:
                self.later(node, call.peer, call.fail, Failure("lost", "the connection broke"))

    def thaw(self, node: str) -> None:
        """A frozen node carries out what has come meanwhile."""
        self.frozen.discard(node)
        for message, call in self.held.pop(node, ()):
            call.execute(message)

    def _lose(self, concerned: Callable[[LittleCall], bool]) -> None:
        for call in [call for call in self.calls if concerned(call)]:
            call.fail(Failure("lost", "the connection broke"))


class LittleTransport:
    """A `Transport` over links."""

    def __init__(self, node_id: str, links: Links) -> None:
        self._node_id = node_id
        self._links = links
        self._life = links.lives[node_id]

    def request(
        self, targets: Sequence[str], message: Request, waiter: Waiter, timeout: float
    ) -> None:
        links, source = self._links, self._node_id
        if links.lives[source] != self._life:
            return
        for target in targets:
            if not links.reaches(source, target) or target in links.down:
                waiter.on_failure(target, Failure("not_sent", "not connected"))
                continue
            links.sent.append((source, target, message))
            call = LittleCall(links, source, target, waiter, timeout)
            links.calls[call] = None
            if source == target:
                call.execute(message)
                continue
            if not links.loses(source, target, message):
                links.later(source, target, call.execute, message)
            for delay in links.repeats(message):
                asyncio.get_running_loop().call_later(delay, self._repeat, target, message)

    def _repeat(self, target: str, message: Request) -> None:
        links = self._links
        if target not in links.down and target not in links.frozen:
            links.handlers[target][type(message)](message, NobodyCalls())

    def is_connected(self, node: str) -> bool:
        return node not in self._links.down and self._links.reaches(self._node_id, node)

    def stalled_for(self, node: str) -> float:
        return 10.0 if node in self._links.frozen else 0.0


class Believed:
    """The opinions of one node, as a test fills them."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        self.doubted: set[str] = set()


class LittleNode:
    """One node's services."""

    def __init__(
        self,
        node_id: str,
        ring: Ring,
        links: Links,
        storage: Storage,
        *,
        incarnation: bytes | None = None,
        properties: PropertiesOf = default_properties,
    ) -> None:
        self.id = node_id
        self.properties = properties
        self.links = links
        self.ring = ring
        self.storage = storage
        self.metrics = Metrics()
        self.clock = LoopClock()
        self.commit = GroupCommit(storage=storage, metrics=self.metrics)
        self.transport = LittleTransport(node_id, links)
        self.opinions = Believed()
        self.tasks: list[asyncio.Task[None]] = []
        self.start_services(
            incarnation or incarnation_bytes(1, node_id.encode().rjust(8, b"\0")),
        )

    def start_services(self, incarnation: bytes) -> None:
        self.replica = Replica(
            node_id=self.id,
            storage=self.storage,
            commit=self.commit,
            clock=self.clock,
            metrics=self.metrics,
            incarnation=incarnation,
            hasher=LeafHasher(b"little secret"),
            down=self.opinions.down,
        )
        self.coordinator = Coordinator(
            node_id=self.id,
            datacenter="dc1",
            transport=self.transport,
            clock=self.clock,
            sealer=ContextSealer(cluster_id="little", secret=b"little secret"),
            metrics=self.metrics,
            properties=self.properties,
            opinions=self.opinions,
            chance=random.Random(self.id),
        )
        self.listing = Listing(
            node_id=self.id,
            datacenter="dc1",
            transport=self.transport,
            clock=self.clock,
            sealer=CursorSealer(cluster_id="little", secret=b"little secret"),
            metrics=self.metrics,
            read=self.coordinator.get,
            properties=self.properties,
        )
        self.refill = Refill(
            node_id=self.id,
            replica=self.replica,
            transport=self.transport,
            clock=self.clock,
            metrics=self.metrics,
        )
        for service in (self.replica, self.coordinator, self.listing, self.refill):
            service.adopt(self.ring)
        self.reads = ReplicaReads(
            replica=self.replica, storage=self.storage, commit=self.commit, metrics=self.metrics
        )
        self.deliver = ReplicaDeliver(
            replica=self.replica,
            storage=self.storage,
            commit=self.commit,
            clock=self.clock,
            metrics=self.metrics,
        )
        lists = ReplicaListing(
            replica=self.replica,
            reads=self.reads,
            storage=self.storage,
            clock=self.clock,
            metrics=self.metrics,
        )
        self.links.handlers[self.id] = {
            Mint: self.replica.on_mint,
            Store: self.replica.on_store,
            Owe: self.replica.on_owe,
            Deliver: self.deliver.on_deliver,
            Fetch: self.reads.on_fetch,
            Scan: self.reads.on_scan,
            ListKeys: lists.on_list_keys,
            ListBuckets: lists.on_list_buckets,
        }

    def run(self) -> None:
        """Start what runs in the background."""
        hints = self.replica.hints.run(asyncio.sleep)
        for work in (self.commit.run(), self.refill.run(), hints):
            self.tasks.append(asyncio.get_running_loop().create_task(work))

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
        ring: Ring | None = None,
        properties: PropertiesOf = default_properties,
    ) -> None:
        self.properties = properties
        names = [chr(ord("a") + index) for index in range(nodes)]
        self.ring = ring or Ring.build(
            tuple(Member(id=name, address=f"{name}:1") for name in names),
            partitions=partitions,
            seed=1,
            classes=(ReplicationClass(name="default", id=0, replicas=replicas),),
        )
        self.links = Links()
        make = storage or (lambda name: MemoryStorage())
        self._storages = {name: make(name) for name in names}
        self.nodes: dict[str, LittleNode] = {}
        self._old_tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for name, storage in self._storages.items():
            self.nodes[name] = LittleNode(
                name, self.ring, self.links, storage, properties=self.properties
            )
            self.nodes[name].run()
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = [*self._old_tasks, *(task for node in self.nodes.values() for task in node.tasks)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def lose(self, *names: str) -> None:
        """Nobody is connected to these any more, and all know that."""
        for name in names:
            self.links.kill(name)
            for node in self.nodes.values():
                if node.id != name:
                    node.opinions.down.add(name)

    def regain(self, *names: str) -> None:
        """These are connected again, as they were, and all know that."""
        for name in names:
            self.links.down.discard(name)
            for node in self.nodes.values():
                node.opinions.down.discard(name)

    def crash(self, name: str) -> None:
        """The node ends in the middle of whatever it does. First its network and disk are gone,
        then its tasks: a crash runs no `finally`. The caller takes care of its storage."""
        self.links.forget(name)
        node = self.nodes[name]
        for task in node.tasks:
            task.cancel()
        self._old_tasks += node.tasks
        node.tasks = []

    def restart(self, name: str, storage: Storage, incarnation: bytes) -> LittleNode:
        """Start a crashed node anew, connected to nobody yet: take it out of `links.down`."""
        node = LittleNode(
            name,
            self.ring,
            self.links,
            storage,
            incarnation=incarnation,
            properties=self.properties,
        )
        self.nodes[name] = node
        node.run()
        return node

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

    def plan(self, key: bytes) -> Plan:
        """Where the key lives."""
        return next(iter(self.nodes.values())).coordinator._plan(b"default", b"b", key)[1]

    def storage_key(self, key: bytes) -> bytes:
        """What the key is stored under, at every owner."""
        routing, plan = next(iter(self.nodes.values())).coordinator._plan(b"default", b"b", key)
        return partition_prefix(plan.class_id, plan.partition) + routing

    def owners(self, key: bytes) -> tuple[str, ...]:
        """The primaries of the key."""
        _, plan = next(iter(self.nodes.values())).coordinator._plan(b"default", b"b", key)
        return tuple(plan.primaries)

    def hints(self, node: str, key: bytes) -> dict[str, bool]:
        """For whom the node has a hint of the key, and whether that is a bare marker."""
        replica = self.nodes[node].replica
        storage_key = self.storage_key(key)
        found = {}
        for target in sorted(self.nodes):
            for hint in replica.hints.page(target, b"", count_max=1000, bytes_max=1 << 20)[0]:
                if partition_prefix(hint.cls, hint.partition) + hint.key == storage_key:
                    found[target] = hint.is_marker
        return found

    def records(self, key: bytes) -> dict[str, Record]:
        """What each owner of the key has stored."""
        storage_key = self.storage_key(key)
        return {name: self.nodes[name].record(storage_key) for name in sorted(self.owners(key))}

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
        #: The next flush says that what was written before may be gone, as once reopened.
        self.fails_once = False
        self.refuses: str | None = None
        #: Nothing may use the space that is kept free.
        self.stuck = False
        #: Every write meets the end of the disk.
        self.full = False
        #: So many more writes find the engine too far behind to take them.
        self.busy = 0

    def refusal(self, *, reserve: bool = False) -> str | None:
        return None if reserve and self.refuses == "disk_full" and not self.stuck else self.refuses

    def put(self, family: Family, key: bytes, value: bytes, *, reserve: bool = False) -> int:
        self._check_room()
        return super().put(family, key, value)

    def write(self, writes: Sequence[Write], *, reserve: bool = False) -> int:
        self._check_room()
        return super().write(writes)

    def _check_room(self) -> None:
        if self.full:
            raise StorageRefusesWrites("the disk is full", reason="disk_full")
        if self.busy:
            self.busy -= 1
            raise StorageRefusesWrites("the engine is behind", reason="storage_busy")

    async def flush(self) -> int:
        number = self.write_number
        await self.gate.wait()
        if self.fails_once:
            self.fails_once = False
            raise StorageError("what was written before may be gone")
        if self.broken:
            self.refuses = "sync_failed"
            raise StorageError("the sync failed")
        self._synced = max(self._synced, number)
        return self._synced
