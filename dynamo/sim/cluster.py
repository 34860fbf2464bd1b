"""A cluster of simulated nodes and the verbs of tests: write, read, delete, cut, crash, wipe, settle.

The nodes run the production services over simulated worlds. Everything is in one process and one
thread, on a `SimLoop`. Knows nothing of plans, histories or invariants.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeVar

from dynamo.admission import LAG_MAX
from dynamo.cluster_file import ClusterFile
from dynamo.config import (
    BYTES_MAX,
    COUNT_MAX,
    EXCHANGE_DEADLINE_DEFAULT,
    HINT_BYTES_DEFAULT,
    HINT_WINDOW_DEFAULT,
    REQUEST_BYTES_DEFAULT,
    REQUESTS_DEFAULT,
    NodeConfig,
)
from dynamo.errors import DynamoError, NotReady, StorageCorrupt
from dynamo.keys import partition_prefix, partition_range, routing_key
from dynamo.metrics import Metrics
from dynamo.ports import Handler
from dynamo.properties import DEFAULT_PROPERTIES, BucketProperties
from dynamo.record import EMPTY, VALUE, Content, Record, decode_record
from dynamo.requests import Found, ReadOptions, WriteOptions, Written
from dynamo.services import NodeServices
from dynamo.sim.chance import stream
from dynamo.sim.clock import SimClock
from dynamo.sim.cpu import Costs, Cpu
from dynamo.sim.disk import Disk
from dynamo.sim.door import Visit
from dynamo.sim.hints import hint_key, read_place
from dynamo.sim.loop import SECONDS_MAX, SimLoop, run_virtual
from dynamo.sim.messages import MessageFaults
from dynamo.sim.network import Network
from dynamo.sim.node import SimNode
from dynamo.sim.points import Point, Witness
from dynamo.sim.trace import Trace
from dynamo.sim.upkeep import IDLE, Upkeep
from dynamo.sim.world import SimWorld
from dynamo.stored import decode_stored
from ring.member import Member
from ring.preference import Plan, Planner
from ring.ring import ReplicationClass, Ring

_T = TypeVar("_T")

BUCKET_TYPE: Final = b"default"
BUCKET: Final = b"b"
#: Where the last write wins.
LWW_BUCKET: Final = b"lww"
#: What the keys begin with that are in it.
LWW_PREFIX: Final = b"lww"
PORT: Final = 7400
#: Where requests come from, if nothing else is said.
CLIENT: Final = "client"
#: Seconds that `settle` and the start wait for nodes to be whole.
PATIENCE: Final = 120.0
#: Seconds that a node which is told to stop waits for what it was asked.
DRAIN_SECONDS: Final = 1.0
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
#: Seconds between two looks whether it is so.
LOOK_INTERVAL: Final = 0.1


class NodeGone(DynamoError):
    """The node that was asked has crashed, or is down: nobody knows what became of the request."""

    code = "node_gone"


class _Place(NamedTuple):
    """Where a key lives: in the first datacenter, its primaries in all, and under what."""

    plan: Plan
    owners: tuple[str, ...]
    storage_key: bytes


class Cluster:
    """`async with Cluster(nodes=("a", "b", "c"), seed=1) as cluster:`, on a running `SimLoop`.

    `replicas`: n of every key. `formed`: whether the members are in the cluster file, or found out by
    the first handshakes. `apart`: nodes start within so many seconds, and nobody waits until they are
    ready. `hint_window`: seconds for which nodes take hints for one that is down; `hint_bytes`: what
    hints may take at some nodes. `upkeep`: what nodes do unasked, nothing if nothing is said.
    `datacenters`: of nodes that are not all in one; each has n replicas of every key. `configure`: has
    the last word on what each node is told. Requests go to
    bucket `b` of the default type, and those of keys that begin with `lww` to the bucket `lww`, where
    the last write wins.
    """

    def __init__(
        self,
        *,
        nodes: Sequence[str] = ("a", "b", "c"),
        replicas: int = 3,
        partitions: int = 4,
        seed: int = 0,
        formed: Literal["file", "peers"] = "file",
        apart: float = 0.0,
        trace: Trace | None = None,
        costs: Costs | None = None,
        sheds: bool = True,
        hint_window: int | None = None,
        hint_bytes: Mapping[str, int] | None = None,
        upkeep: Upkeep = IDLE,
        datacenters: Mapping[str, str] | None = None,
        configure: Callable[[NodeConfig], NodeConfig] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop), "a simulated cluster needs a simulated loop: run_virtual"
        self.loop = loop
        self.seed = seed
        self.trace = Trace(now=loop.time) if trace is None else trace
        self.network = Network(loop=loop, seed=seed, trace=self.trace)
        self.replicas = replicas
        self.upkeep = upkeep
        self._apart = apart
        # Where handling takes no time nobody is late, and nobody has to look.
        self._lag_max = LAG_MAX if sheds and costs is not None else math.inf
        places = {} if datacenters is None else datacenters
        members = tuple(
            Member(id=name, address=f"{name}:{PORT}", datacenter=places.get(name, "dc1"))
            for name in nodes
        )
        cluster = ClusterFile(
            id="simulated",
            secret=b"what only simulated nodes know..",
            seed=seed % (1 << 32),
            partitions=partitions,
            classes=((BUCKET_TYPE.decode(), replicas),),
            members=members if formed == "file" else (),
        )
        #: As the nodes will have it.
        self.ring = Ring.build(
            members,
            partitions=partitions,
            seed=cluster.seed,
            classes=(ReplicationClass(name=BUCKET_TYPE.decode(), id=0, replicas=replicas),),
        )
        self._planners = [Planner(self.ring, name) for name in self.ring.datacenters]
        self._places: dict[bytes, _Place] = {}
        self.nodes: dict[str, SimNode] = {
            member.id: SimNode(
                member.id,
                config=(configure or _as_it_is)(
                    _config(
                        member,
                        members,
                        cluster,
                        sheds=sheds,
                        hint_window=HINT_WINDOW_DEFAULT if hint_window is None else hint_window,
                        hint_bytes_max=(hint_bytes or {}).get(member.id, HINT_BYTES_DEFAULT),
                        upkeep=upkeep,
                    )
                ),
                disk=Disk(name=member.id, seed=seed),
                messages=MessageFaults(
                    seed=seed,
                    node=member.id,
                    loop=loop,
                    clock=SimClock(loop),
                    trace=self.trace,
                    in_order=upkeep.reaps,
                ),
                cpu=None if costs is None else Cpu(costs),
            )
            for member in members
        }
        #: Told where in the path of a write each node is; it may crash the node.
        self.on_point: Callable[[str, Point], None] = lambda name, point: None
        #: Told what nodes say to each other. Set it before they start.
        self.witness = Witness()
        for name, node in self.nodes.items():
            node.disk.on_sync = functools.partial(self._at_point, name)
            node.disk.on_hint = functools.partial(self._hint_changed, name)
            node.disk.on_gone = functools.partial(self._record_gone, name)
        #: Told when a node has put, replaced or removed a hint, unsynced: its key, what lay there and
        #: what lies there now.
        self.on_hint: Callable[[str, bytes, bytes | None, bytes | None], None] = _unheard
        #: Told when a node has removed a record, unsynced: what it lay under, and what lay there.
        self.on_gone: Callable[[str, bytes, bytes], None] = _unheard_of
        #: How many requests of each kind that moves records nodes have carried out, for each other and
        #: for themselves.
        self.moved: Counter[str] = Counter()
        #: Told when a node has ended by itself, and why.
        self.on_end: Callable[[str, Exception], None] = lambda name, error: None
        #: Called with each new start of a node, before anything of it runs.
        self.on_start: Callable[[SimNode], None] = lambda node: None
        #: Given a node and its handlers at each start: those that its messages are to come to.
        self.sieve: Callable[[str, Mapping[type, Handler]], Mapping[type, Handler]] = _all_of_them
        self._keys: dict[bytes, None] = {}
        self._requests: dict[str, dict[asyncio.Future[Any], None]] = {name: {} for name in nodes}

    def __repr__(self) -> str:
        nodes = " ".join(f"{node.name}={node.state}" for node in self.nodes.values())
        return f"Cluster({nodes} n={self.replicas} at {self.loop.time():.3f} s)"

    async def __aenter__(self) -> Cluster:
        if self._apart:
            chance = stream(self.seed, "first starts")
            for name in self.nodes:
                self.loop.call_later(chance.uniform(0.0, self._apart), self._first_start, name)
            return self
        for name in self.nodes:
            self.start(name)
        await self.ready()
        return self

    def _first_start(self, name: str) -> None:
        if not self.nodes[name].starts:
            self.start(name)

    async def __aexit__(self, *exc: object) -> None:
        for name, node in self.nodes.items():
            if node.is_up:
                self.crash(name)
        for process in self.loop.processes:
            await process.gone()

    # Clients ------------------------------------------------------------------------------------

    async def write(
        self,
        node: str,
        key: bytes,
        value: bytes,
        context: bytes = b"",
        options: WriteOptions | None = None,
        *,
        client: str = CLIENT,
    ) -> Written:
        """Put at a node, from the address `client`. Raises what a coordinator and the node's admission
        raise, and NodeGone."""
        content = Content(value=value, content_type=b"text/plain")
        given = options or WriteOptions()
        return await self.request(
            node,
            key,
            lambda services: services.put(
                BUCKET_TYPE, bucket_of(key), key, content, context, given
            ),
            client=client,
            size=len(value),
        )

    async def read(
        self,
        node: str,
        key: bytes,
        options: ReadOptions | None = None,
        *,
        client: str = CLIENT,
    ) -> Found:
        """Get at a node. Raises as `write`."""
        given = options or ReadOptions()
        return await self.request(
            node,
            key,
            lambda services: services.get(BUCKET_TYPE, bucket_of(key), key, given),
            client=client,
        )

    async def delete(
        self,
        node: str,
        key: bytes,
        context: bytes = b"",
        options: WriteOptions | None = None,
        *,
        client: str = CLIENT,
    ) -> Found | Written:
        """Delete at a node. Raises as `write`."""
        given = options or WriteOptions()
        return await self.request(
            node,
            key,
            lambda services: services.delete(BUCKET_TYPE, bucket_of(key), key, context, given),
            client=client,
        )

    async def request(
        self,
        node: str,
        key: bytes,
        make: Callable[[NodeServices], Coroutine[Any, Any, _T]],
        *,
        client: str = CLIENT,
        size: int = 0,
    ) -> _T:
        """What the coroutine gives that `make` makes of the node's services, run in its process, as a
        client on the same machine would get it. Who gives up here, gives up there; but where handling
        takes time, what was sent is handled all the same."""
        found = self.node(node)
        self.plan(key)
        self._keys.setdefault(key)
        if found.process is None or found.services is None:
            raise NodeGone(f"node {node} is down")
        if found.state == "starting":
            raise NotReady(f"node {node} is starting")
        assert found.clock is not None
        visit = Visit(found.services, now=found.clock.monotonic, address=client, size=size)
        try:
            work = visit.begin(make, found.cpu)
        except BaseException:
            visit.leave()
            raise
        answer: asyncio.Future[_T] = self.loop.create_future()
        task = found.process.spawn(work)
        task.add_done_callback(functools.partial(self._hand_over, node, answer, visit))
        waiting = self._requests[node]
        waiting[answer] = None
        try:
            return await answer
        finally:
            waiting.pop(answer, None)
            if not task.done() and found.cpu is None:
                task.cancel()

    def _hand_over(
        self, node: str, answer: asyncio.Future[_T], visit: Visit, task: asyncio.Future[_T]
    ) -> None:
        """What became of a request, to whoever waits for it."""
        visit.leave()
        if not task.cancelled() and not answer.done():
            self.on_point(node, "answer")
        if answer.done():
            if not task.cancelled():
                task.exception()  # nobody wants to know any more
        elif task.cancelled():
            answer.set_exception(NodeGone(f"node {node} has crashed"))
        elif (error := task.exception()) is not None:
            answer.set_exception(error)
        else:
            answer.set_result(task.result())

    def _at_point(self, name: str, point: Point) -> None:
        self.on_point(name, point)

    def _hint_changed(
        self, name: str, key: bytes, before: bytes | None, after: bytes | None
    ) -> None:
        self.on_hint(name, key, before, after)
        self.on_point(name, "hint_removed" if after is None else "hinted")

    def _record_gone(self, name: str, key: bytes, before: bytes) -> None:
        self.on_gone(name, key, before)

    # Nodes --------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a node that is down, from what is on its disk."""
        node = self.node(name)
        if node.process is not None:
            raise ValueError(f"node {name} is up")
        self.trace.note("start", name)
        node.starts += 1
        node.counted.update(node.metrics.count)
        node.metrics = Metrics()
        node.process = process = self.loop.new_process(f"{name}#{node.starts}")
        node.clock = clock = SimClock(self.loop, rate=node.rate, offset_ms=node.offset_ms)
        node.messages.restarted(clock)
        world = SimWorld(
            config=node.config,
            clock=clock,
            disk=node.disk,
            network=self.network.join(name, process),
            messages=node.messages,
            on_point=functools.partial(self._at_point, name),
            on_peer=self._at_point,
            witness=self.witness,
            moved=self.moved,
            sieve=functools.partial(self._before, node),
            chance=stream(self.seed, "start", name, node.starts),
            sampling=stream(self.seed, "sampling", name, node.starts),
        )
        node.world = world
        node.services = NodeServices(
            node.config,
            world=world,
            metrics=node.metrics,
            defaults=_properties,
            lag_max=self._lag_max,
            straggler_deadline=self.upkeep.straggler or EXCHANGE_DEADLINE_DEFAULT,
        )
        self.on_start(node)
        process.spawn(self._live(node, node.services), name=f"node {name}")

    def _before(self, node: SimNode, handlers: Mapping[type, Handler]) -> Mapping[type, Handler]:
        """What the messages of a node come to."""
        sieved = self.sieve(node.name, handlers)
        return sieved if node.cpu is None else node.cpu.wrap(sieved)

    #: From what is on its disk. It takes its time: `ready` waits for that.
    restart = start

    async def _live(self, node: SimNode, services: NodeServices) -> None:
        """In the node's process: start, serve, and say so if that ends."""
        try:
            await services.start()
            services.serve()
            await services.wait_closed()
        except (DynamoError, OSError) as error:
            self.loop.call_soon(self._ended, node, services, error, context=self.loop.outside)

    def _ended(self, node: SimNode, services: NodeServices, error: Exception) -> None:
        if node.services is services:
            self.crash(node.name)
            self.on_end(node.name, error)

    def crash(self, name: str, *, kept: int | None = None, silent: bool = False) -> None:
        """End a node in the middle of whatever it does: `kill -9`, or with `silent` a loss of power.

        `kept`: how many of its unsynced writes are on disk all the same; None draws it. Its disk and
        network refuse first, then its tasks die.
        """
        node = self.node(name)
        process, unsynced = node.process, node.disk.unsynced
        if process is None:
            raise ValueError(f"node {name} is down")
        if kept is not None and not 0 <= kept <= unsynced:
            raise ValueError(f"node {name} has {unsynced} unsynced writes, not {kept}")
        self.trace.note("crash", name)
        self.network.crash(name, silent=silent)
        node.disk.crash(kept)
        node.process = node.services = None
        if process.state == "paused":
            node.paused_until = self.loop.time()
        process.kill()
        for answer in list(self._requests[name]):
            if not answer.done():
                answer.set_exception(NodeGone(f"node {name} has crashed"))

    async def stop(self, name: str, *, drain: bool = True) -> None:
        """End a node that is up as SIGTERM does: it takes no more requests, syncs and leaves. `drain`:
        clients get the answers that they wait for first, if those come in time.

        It may crash on its way. Raises what the node raised.
        """
        node = self.nodes[name]
        process, services = node.process, node.services
        assert process is not None, f"{name} is down"
        assert services is not None, f"{name} is down"
        self.trace.note("stop", name)
        services.stop_serving()
        limit = self.loop.time() + DRAIN_SECONDS
        while drain and self.loop.time() < limit:
            if not self.is_asked(name):
                break
            await asyncio.sleep(LOOK_INTERVAL)
        if node.process is not process:
            return
        closing = process.spawn(services.close(), name=f"stop {name}")
        ended = asyncio.Event()
        closing.add_done_callback(lambda task: ended.set())
        await ended.wait()
        if node.process is process:
            self.crash(name)
        if not closing.cancelled():
            closing.result()

    def pause(self, name: str) -> None:
        """Stop a node as SIGSTOP does; what reaches it is kept by its machine."""
        node = self.node(name)
        if node.process is not None and node.process.state == "running":
            self.trace.note("pause", name)
            node.process.pause()
            node.paused_until = math.inf

    def resume(self, name: str) -> None:
        """Let a paused node go on."""
        node = self.node(name)
        if node.process is not None and node.process.state == "paused":
            self.trace.note("resume", name)
            node.process.resume()
            node.paused_until = self.loop.time()

    def wipe(self, name: str) -> None:
        """Empty the disk of a node; one that is up crashes first."""
        if self.node(name).is_up:
            self.crash(name)
        self.trace.note("wipe", name)
        self.nodes[name].disk.wipe()

    def rot(self, name: str, key: bytes) -> None:
        """Flip a bit of the record of the key on a node's disk. Raises ValueError if there is none."""
        if not self.node(name).disk.rot("records", self.storage_key(key)):
            raise ValueError(f"node {name} has no synced record of {key!r}")

    def skew(self, name: str, *, ms: int = 0, rate: float | None = None) -> None:
        """Set a node's wall clock by so much, or let its clock run at another rate."""
        node = self.node(name)
        if rate is not None and not 0.0 < rate < 1e6:
            raise ValueError(f"a clock cannot run at rate {rate}")
        self.trace.note("skew", name, ms, rate or 0.0)
        node.offset_ms += ms
        if rate is not None:
            if rate < 1.0:
                node.slow_until = math.inf
            elif node.rate < 1.0:
                node.slow_until = self.loop.time()
            node.rate = rate
        if node.clock is not None:
            node.clock.jump(ms)
            if rate is not None:
                node.clock.drift(rate)

    def brown_out(self, factor: float, *names: str) -> None:
        """Let the processors of these nodes, or of all, take `factor` times as long; 1 to take it back.
        Raises ValueError where handling takes no time."""
        for name in self._known(names or self.nodes):
            cpu = self.nodes[name].cpu
            if cpu is None or factor <= 0:
                raise ValueError(f"nothing takes {factor:g} times as long at node {name}")
            self.trace.note("brown_out", name, factor)
            cpu.factor = factor

    # Links --------------------------------------------------------------------------------------

    def cut(self, one: Iterable[str], other: Iterable[str], *, both: bool = True) -> None:
        """Nothing gets from the nodes of `one` to those of `other`, nor (`both`) back. Raises ValueError
        for what is no node."""
        others = self._known(other)
        for source in self._known(one):
            for target in others:
                if source != target:
                    self.network.cut(source, target)
                    if both:
                        self.network.cut(target, source)

    def mend(self, one: Iterable[str], other: Iterable[str], *, both: bool = True) -> None:
        """Undo such a cut."""
        others = self._known(other)
        for source in self._known(one):
            for target in others:
                if source != target:
                    self.network.heal(source, target)
                    if both:
                        self.network.heal(target, source)

    def _known(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names, all of nodes. Raises ValueError: a cut of nobody would test nothing."""
        if isinstance(names, str):
            raise ValueError(f"{names!r} is one name, not several: write ({names!r},)")
        known = tuple(names)
        for name in known:
            if name not in self.nodes:
                raise ValueError(f"there is no node {name!r} among {' '.join(self.nodes)}")
        return known

    def heal(self) -> None:
        """Every link is whole, no message is lost any more."""
        self.trace.note("heal")
        self.network.heal_all()
        for node in self.nodes.values():
            node.messages.calm()

    # What is there ------------------------------------------------------------------------------

    def plan(self, key: bytes) -> Plan:
        """Where the key lives, in the first datacenter."""
        return self._place(key).plan

    def owners(self, key: bytes) -> tuple[str, ...]:
        """The primaries of the key, of all datacenters."""
        return self._place(key).owners

    def _place(self, key: bytes) -> _Place:
        place = self._places.get(key)
        if place is None:
            routing = routing_key(BUCKET_TYPE, bucket_of(key), key)
            class_ = self.ring.classes[0]
            plans = [planner.plan(class_, routing) for planner in self._planners]
            prefix = partition_prefix(plans[0].class_id, plans[0].partition)
            owners = tuple(name for plan in plans for name in plan.primaries)
            place = self._places[key] = _Place(plans[0], owners, prefix + routing)
        return place

    def storage_key(self, key: bytes) -> bytes:
        """What the key is stored under, at every owner."""
        return self._place(key).storage_key

    def partition_range(self, key: bytes) -> tuple[bytes, bytes]:
        """Where in storage the records of the key's partition lie: from the one up to the other."""
        plan = self.plan(key)
        return partition_range(plan.class_id, plan.partition)

    def routing_key(self, key: bytes) -> bytes:
        """What nodes call the key."""
        return routing_key(BUCKET_TYPE, bucket_of(key), key)

    def hints(
        self, name: str, key: bytes, *, synced: bool = True
    ) -> list[tuple[str, bytes, bytes]]:
        """What a node holds of the key for its owners, on disk (or not `synced`): target, the key that
        it lies under, and its bytes."""
        disk = self.nodes[name].disk
        if not disk.has_hints:
            return []
        storage_key = self.storage_key(key)
        look = disk.durable if synced else disk.current
        found = []
        for target in self.owners(key):
            hint = hint_key(target, storage_key)
            value = look("hints", hint)
            if value is not None:
                found.append((target, hint, value))
        return found

    def undelivered(self) -> list[str]:
        """What nodes that are up hold for others that are up, a line each."""
        found = []
        for name in self.up:
            counts: Counter[str] = Counter()
            disk = self.nodes[name].disk
            for hint in disk.keys("hints") if disk.has_hints else ():
                target = read_place(hint).target
                if target in self.nodes and self.nodes[target].is_up:
                    counts[target] += 1
            found += [f"{name} holds {count} hints for {one}" for one, count in counts.items()]
        return found

    async def drained(self, *, patience: float = PATIENCE) -> None:
        """Return once no node that is up holds anything for another that is. Raises TimeoutError."""
        await self.until(lambda: not self.undelivered(), "no hints are left", patience=patience)

    def record(self, name: str, key: bytes) -> Record:
        """What a node has of the key, synced or not. Raises StorageCorrupt if that is damaged."""
        storage_key = self.storage_key(key)
        data = self.node(name).disk.current("records", storage_key)
        return EMPTY if data is None else decode_record(decode_stored(storage_key, data).record)

    def node(self, name: str) -> SimNode:
        """The node of that name. Raises ValueError if there is none."""
        return self.nodes[self._known((name,))[0]]

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys that requests were made of."""
        return tuple(self._keys)

    @property
    def up(self) -> list[str]:
        """Names of the nodes that have a process."""
        return [name for name, node in self.nodes.items() if node.is_up]

    def is_asked(self, name: str) -> bool:
        """True while a client waits for the node."""
        return bool(self._requests[name])

    def count(self, name: str) -> int:
        """How often all nodes together have counted this."""
        return sum(node.count(name) for node in self.nodes.values())

    # Waiting ------------------------------------------------------------------------------------

    async def until(
        self,
        true: Callable[[], bool],
        what: str,
        *,
        patience: float = PATIENCE,
        interval: float = LOOK_INTERVAL,
    ) -> None:
        """Return once it is true: there is a look every `interval` seconds. Raises TimeoutError after
        `patience` seconds."""
        limit = self.loop.time() + patience
        while not true():
            if self.loop.time() >= limit:
                raise TimeoutError(f"after {patience:g} s it is not so that {what}; {self!r}")
            await asyncio.sleep(interval)

    async def ready(self, *names: str, patience: float = PATIENCE) -> None:
        """Return once these nodes, or all that are up, are whole. Raises TimeoutError, and ValueError
        for one that is down or paused: that would never be."""
        for name in names or self.up:
            if self.node(name).state in ("down", "paused"):
                raise ValueError(f"node {name} is {self.nodes[name].state}")
        await self.until(
            lambda: all(self.is_whole(name) for name in names or self.up),
            "the nodes are whole",
            patience=patience,
        )

    def is_whole(self, name: str) -> bool:
        """True if the node serves, reaches all who are up, and none of them owes it anything."""
        node = self.nodes[name]
        services = node.services
        if services is None or node.state != "up" or not services.ready().ready:
            return False
        debts, up = services.debts(), self.up
        if set(up) - {name} - set(services.connected()):
            return False
        return not (debts.unserved or debts.damaged or any(peer in up for peer in debts.owed))

    def is_complete(self, name: str, key: bytes) -> bool:
        """True if the node is up, and neither the key nor its partition waits for what others have."""
        services, plan = self.nodes[name].services, self.plan(key)
        if services is None or self.nodes[name].state != "up":
            return False
        return services.is_complete((plan.class_id, plan.partition), self.storage_key(key))

    async def settle(self, *, patience: float = PATIENCE) -> dict[bytes, Found]:
        """Return once the nodes that are up are whole, hold nothing for each other, and agree on every
        key that was asked for: each is read once from all its primaries that are up, and those that were
        behind are repaired.

        What those reads showed. Raises TimeoutError, what the last try of a read raised, and ValueError
        where all primaries of a key are down.
        """
        await self.ready(patience=patience)
        await self.drained(patience=patience)
        found = {}
        for key in self.keys:
            owners = [owner for owner in self.owners(key) if self.nodes[owner].is_up]
            if not owners:
                raise ValueError(f"all primaries of {key!r} are down")
            found[key] = await self._read_until(key, owners, patience=patience)
        # Repairs that those reads have sent.
        await asyncio.sleep(1.0)
        return found

    async def _read_until(self, key: bytes, owners: list[str], *, patience: float) -> Found:
        limit = self.loop.time() + patience
        tries = 0
        while True:
            node = owners[tries % len(owners)]
            tries += 1
            try:
                return await self.read(node, key, ReadOptions(r=len(owners), timeout_ms=2000))
            except DynamoError:
                if self.loop.time() >= limit:
                    raise
            await asyncio.sleep(0.5)

    def siblings(self, name: str, key: bytes) -> tuple[bytes, ...] | None:
        """The values that a node's disk holds of the key, sorted; None if they are damaged."""
        try:
            record = self.record(name, key)
        except StorageCorrupt:
            return None
        return tuple(sorted(s.read().value for s in record.siblings if s.kind == VALUE))


def bucket_of(key: bytes) -> bytes:
    """The bucket that requests for this key go to."""
    return LWW_BUCKET if key.startswith(LWW_PREFIX) else BUCKET


def _properties(bucket_type: bytes, bucket: bytes) -> BucketProperties:
    return _LAST_WRITE_WINS if bucket == LWW_BUCKET else DEFAULT_PROPERTIES


_LAST_WRITE_WINS: Final = BucketProperties(conflict="lww")


def _unheard(name: str, key: bytes, before: bytes | None, after: bytes | None) -> None:
    """Nobody wants to know."""


def _unheard_of(name: str, key: bytes, before: bytes) -> None:
    """Nobody wants to know."""


def _as_it_is(config: NodeConfig) -> NodeConfig:
    return config


def _all_of_them(name: str, handlers: Mapping[type, Handler]) -> Mapping[type, Handler]:
    """Nothing is lost."""
    return handlers


def _config(
    member: Member,
    members: Sequence[Member],
    cluster: ClusterFile,
    *,
    sheds: bool,
    hint_window: int,
    hint_bytes_max: int,
    upkeep: Upkeep,
) -> NodeConfig:
    return NodeConfig(
        node_id=member.id,
        data_dir=member.id,
        http="",
        rpc=member.address,
        address=member.address,
        peers=tuple(other.address for other in members if other is not member),
        datacenter=member.datacenter,
        rack=member.rack,
        host=member.host,
        weight=member.weight,
        cluster=cluster,
        development=False,
        free_space_min=None,
        value_bytes_max=1 << 20,
        log_level="info",
        requests_max=REQUESTS_DEFAULT if sheds else COUNT_MAX,
        request_bytes_max=REQUEST_BYTES_DEFAULT if sheds else BYTES_MAX,
        hint_window=hint_window,
        hint_bytes_max=hint_bytes_max,
        exchange_interval=upkeep.exchange,
        exchange_interval_remote=upkeep.exchange,
        reap_after=upkeep.config_reap_after,
    )


def simulate(
    scene: Callable[[Cluster], Coroutine[Any, Any, _T]],
    *,
    nodes: int = 3,
    replicas: int = 3,
    seed: int = 0,
    seconds_max: float = SECONDS_MAX,
) -> _T:
    """What the coroutine gives that `scene` makes of a cluster of nodes a, b, c, ... that are ready.

    In virtual time, at most `seconds_max` of it, and the same at every call. Raises what it raises,
    Deadlock, Livelock, AssertionError for what a callback of the product raised and nobody awaited, and
    ValueError for more than 26 nodes.
    """
    if not 1 <= nodes <= len(_LETTERS):
        raise ValueError(f"{nodes} nodes: they are called by letters, at most {len(_LETTERS)}")

    async def main() -> _T:
        async with Cluster(nodes=_LETTERS[:nodes], replicas=replicas, seed=seed) as cluster:
            return await scene(cluster)

    return run_virtual(main(), random=stream(seed, "loop"), seconds_max=seconds_max)
