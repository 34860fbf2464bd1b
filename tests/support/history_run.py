"""One seed: clients and faults on a little cluster under virtual time, then healing, then judgement.

A safety phase with everything going wrong; then all is healed, every key is read at r = n, and the
replicas must agree, at rest. The faults are a list made from the seed before anything runs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from causal_history import (
    NOTHING,
    TOMBSTONE_TAG,
    History,
    Loss,
    Operation,
    OperationKind,
    writes_in,
)
from disk_storage import DiskStorage
from little_cluster import LittleCluster, LittleNode
from virtual_loop import run_virtual

from dynamo.errors import DynamoError, StorageCorrupt
from dynamo.read_operation import REPAIR_TIMEOUT
from dynamo.record import Record, decode_record, encode_record
from dynamo.requests import Found, ReadOptions, WriteOptions, Written
from dynamo.rpc.messages import Condition, Minted, Reply, Request, Store
from dynamo.version import incarnation_bytes
from ring.member import Member
from ring.preference import Plan
from ring.ring import ReplicationClass, Ring

Kind = Literal[
    "crash",
    "crash_all",
    "crash_at_reply",
    "wipe",
    "damage",
    "sever",
    "isolate",
    "mute",
    "freeze",
    "lose",
    "slow",
    "slow_sync",
    "fail_sync",
    "disk_full",
    "disk_reopened",
]
KINDS: Final[tuple[Kind, ...]] = (
    "crash",
    "crash",
    "crash",
    "crash_all",
    "crash_at_reply",
    "crash_at_reply",
    "wipe",
    "damage",
    "sever",
    "sever",
    "isolate",
    "mute",
    "freeze",
    "lose",
    "slow",
    "slow_sync",
    "fail_sync",
    "disk_full",
    "disk_reopened",
)
_KINDS_OF_OPERATION: Final[tuple[OperationKind, ...]] = ("put", "get", "delete")
#: (nodes, replicas of a key)
SHAPES: Final = ((3, 3), (3, 3), (4, 3), (5, 5))
FAULTY_SECONDS: Final = 1.2
CLIENTS: Final = 4
OPERATIONS_A_CLIENT: Final = 14
PATIENCE: Final = 100.0


@dataclass(frozen=True, slots=True)
class Fault:
    """`number`: what else it needs by chance: another node, how many writes survive, ..."""

    at: float
    kind: Kind
    node: str
    seconds: float
    number: int


@cache
def _ring(nodes: int, replicas: int) -> Ring:
    return Ring.build(
        tuple(Member(id=chr(ord("a") + index), address=f"{index}:1") for index in range(nodes)),
        partitions=2,
        seed=1,
        classes=(ReplicationClass(name="default", id=0, replicas=replicas),),
    )


def incarnation_of(node: str, start: int) -> bytes:
    """That of the node's start with this number."""
    return incarnation_bytes(start, node.encode().rjust(8, b"\0"))


#: Told what the read within a delete without context has shown.
_read_inside: ContextVar[Callable[[Record], None]] = ContextVar("_read_inside")


class Run:
    """One seed, from its plan to its problems."""

    #: (nodes, replicas of a key), how often puts, gets and deletes are made, requests of a client.
    shapes: tuple[tuple[int, int], ...] = SHAPES
    weights: tuple[float, float, float] = (0.5, 0.38, 0.12)
    operations = OPERATIONS_A_CLIENT

    def __init__(self, seed: int, *, incarnation: Callable[[str, int], bytes]) -> None:
        rng = random.Random(seed)
        self.rng = random.Random(rng.random())
        self.wire = random.Random(rng.random())
        nodes, replicas = rng.choice(self.shapes)
        self.n = replicas
        self.keys = [b"k%d" % number for number in range(rng.choice((1, 2, 2, 3)))]
        self.names = [chr(ord("a") + index) for index in range(nodes)]
        self.faults = _plan(rng, self.names)
        self.quorum_only = rng.random() < 0.5
        self.loss_chance = 0.0
        self.delay_seconds = rng.choice((0.0005, 0.002, 0.01))
        self.repeat_chance = rng.choice((0.0, 0.0, 0.1))
        self.usual_sync = rng.choice((0.001, 0.001, 0.02))
        self.sync_seconds = dict.fromkeys(self.names, self.usual_sync)
        self.history = History(n=replicas)
        self.cluster = LittleCluster(
            nodes,
            ring=_ring(nodes, replicas),
            storage=self._disk,
        )
        self.starts = dict.fromkeys(self.names, 1)
        self.incarnation = incarnation
        self.wounded: dict[str, bytes | None] = {}
        self.wiped: set[str] = set()
        #: Write numbers of refill marks: a node that crashes before they are synced is wiped still.
        self.marks: dict[str, int] = {}
        self.crashed: dict[str, asyncio.Event] = {name: asyncio.Event() for name in self.names}
        self.crash_at: dict[str, int] = {}
        self.healed = False

    def _disk(self, name: str) -> DiskStorage:
        return DiskStorage(
            sync_seconds=lambda: self.wire.uniform(0.2, 2.0) * self.sync_seconds[name]
        )

    # The run ------------------------------------------------------------------------------------

    async def main(self) -> History:
        async with self.cluster as cluster:
            links = cluster.links
            links.delay = self._delay
            links.loses = lambda *_: self.wire.random() < self.loss_chance
            links.repeats = self._repeats
            links.on_reply = self._on_reply
            for node in cluster.nodes.values():
                _spy(node)
            await asyncio.gather(
                *(self._client(number) for number in range(CLIENTS)),
                *(self._inject(fault) for fault in self.faults),
            )
            await self._heal()
            final = await self._converge()
            if final is not None:
                self.history.check(final)
            self._check_tasks()
        return self.history

    def _delay(self) -> float:
        slow = self.wire.random()
        return self.wire.random() * self.delay_seconds * (30.0 if slow < 0.03 else 1.0)

    def _repeats(self, message: Request) -> tuple[float, ...]:
        if type(message) is Store and self.wire.random() < self.repeat_chance and not self.healed:
            return (self.wire.random() * self.wire.choice((0.01, 0.5)),)
        return ()

    def _on_reply(self, node: str, reply: Reply) -> None:
        if type(reply) is Minted:
            self.history.note_dots(decode_record(reply.record))
        left = self.crash_at.get(node)
        if left is not None:
            self.crash_at[node] = left - 1
            if left == 0:
                del self.crash_at[node]
                asyncio.get_running_loop().call_soon(
                    self._crash, node, self.wire.randrange(1 << 16)
                )

    # Clients ------------------------------------------------------------------------------------

    async def _client(self, number: int) -> None:
        rng = random.Random(self.rng.random())
        contexts: dict[bytes, list[tuple[frozenset[int], bytes]]] = {key: [] for key in self.keys}
        loop = asyncio.get_running_loop()
        until = FAULTY_SECONDS
        unsure: tuple[bytes, frozenset[int], bytes] | None = None
        for _ in range(self.operations):
            await asyncio.sleep(rng.random() * 2 * until / self.operations * 0.9)
            key = rng.choice(self.keys)
            alive = [name for name in self.names if not self.crashed[name].is_set()]
            if not alive or loop.time() > until:
                continue
            node = rng.choice(alive)
            kept = contexts[key]
            past, context = NOTHING, b""
            if kept and rng.random() < 0.7:
                past, context = kept[-1] if rng.random() < 0.8 else rng.choice(kept)
            kind: OperationKind = rng.choices(_KINDS_OF_OPERATION, self.weights)[0]
            if unsure is not None and rng.random() < 0.7:
                # A client that does not know whether something was deleted deletes it once more.
                kind, (key, past, context) = "delete", unsure
            operation = self._begin(rng, kind, key, node, past)
            answer = await self._request(operation, context, self._options(rng, operation))
            unsure = None
            if kind == "delete" and operation.outcome == "unknown":
                unsure = key, past, context
            if answer is not None and answer.context:
                covered = self.history.past_of(writes_in(answer.record))
                kept.append((covered, answer.context))

    def _begin(
        self,
        rng: random.Random,
        kind: OperationKind,
        key: bytes,
        node: str,
        past: frozenset[int],
    ) -> Operation:
        n = self.n
        majority = n // 2 + 1
        count = majority if self.quorum_only or rng.random() < 0.6 else rng.randint(1, n)
        operation = Operation(
            self.history.next_id(),
            kind,
            key,
            node,
            start=asyncio.get_running_loop().time(),
            timeout=rng.choice((0.08, 0.3, 1.0)),
        )
        if kind == "get":
            operation.r = count
            operation.blocking = rng.random() < 0.5
        else:
            operation.w = count
            operation.past = past
        return self.history.begin(operation)

    def _options(self, rng: random.Random, operation: Operation) -> ReadOptions | WriteOptions:
        timeout_ms = int(operation.timeout * 1000)
        if operation.kind == "get":
            return ReadOptions(
                r=operation.r,
                pr=operation.r if rng.random() < 0.5 else 0,
                timeout_ms=timeout_ms,
                read_repair="blocking" if operation.blocking else "async",
            )
        condition = None
        if operation.kind == "put" and rng.random() < 0.1:
            condition = Condition(if_none_match=("*",))
        fields = {rng.choice(("w", "dw", "pw", "node_confirms")): operation.w}
        return WriteOptions(
            **{"w": 1, **fields},
            timeout_ms=timeout_ms,
            expires_ms=TOMBSTONE_TAG + operation.id if operation.kind == "delete" else 0,
            condition=condition,
            returnbody=rng.random() < 0.7,
        )

    async def _request(
        self, operation: Operation, context: bytes, options: ReadOptions | WriteOptions
    ) -> Found | Written | None:
        """The answer, if there was one; the operation knows its end."""
        loop = asyncio.get_running_loop()
        asking = loop.create_task(self._ask(operation, context, options))
        crash = loop.create_task(self.crashed[operation.node].wait())
        limit = operation.timeout + 1.0
        await asyncio.wait((asking, crash), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        crashed = crash.done()
        crash.cancel()
        if not asking.done():
            asking.cancel()
            if not crashed:
                self.history.problems.append(f"{operation} has no answer after {limit} s")
            await asyncio.wait((asking,))
            return None
        operation.end = loop.time()
        try:
            answer = asking.result()
        except DynamoError as error:
            operation.outcome = error.outcome
            operation.error = f"{error.code}: {error.message} {error.details}"
            return None
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            self.history.problems.append(f"{operation} raised {error!r}")
            return None
        operation.seen = writes_in(answer.record)
        self.history.note_dots(answer.record)
        if operation.kind == "delete" and isinstance(answer, Found):
            operation.outcome = "none"
            operation.needless = True
            return answer
        operation.outcome = "ok"
        if isinstance(answer, Written) and operation.id not in operation.seen:
            self.history.problems.append(f"{operation} is not in its own answer")
        return answer

    async def _ask(
        self, operation: Operation, context: bytes, options: ReadOptions | WriteOptions
    ) -> Found | Written:
        cluster, node, key = self.cluster, operation.node, operation.key
        if isinstance(options, ReadOptions):
            return await cluster.get(node, key, options)
        if operation.kind == "put":
            return await cluster.put(node, key, b"%d" % operation.id, context, options)
        if not context:

            def note(record: Record) -> None:
                operation.past = self.history.past_of(writes_in(record))

            _read_inside.set(note)
        return await cluster.delete(node, key, context, options)

    # Faults -------------------------------------------------------------------------------------

    async def _inject(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at)
        node, links = fault.node, self.cluster.links
        seconds = fault.seconds
        other = self.names[fault.number % len(self.names)]
        storage = self._storage(node)
        match fault.kind:
            case "crash":
                self._crash(node, fault.number)
                await asyncio.sleep(seconds)
                self._restart(node)
            case "crash_all":
                for index, name in enumerate(self.names):
                    self._crash(name, fault.number >> index)
                await asyncio.sleep(seconds / 4)
                for name in self.names:
                    self._restart(name)
            case "crash_at_reply":
                self.crash_at[node] = fault.number % 6
                await asyncio.sleep(seconds)
                self.crash_at.pop(node, None)
                self._restart(node)
            case "wipe":
                if self._may_lose(node):
                    self._crash(node, fault.number)
                    self.history.losses.append(Loss(self._now(), node, None))
                    self.wounded[node] = None
                    self.cluster.nodes[node].storage = self._disk(node)
                    self.wiped.add(node)
                    await asyncio.sleep(seconds)
                    self._restart(node)
            case "damage":
                self._damage(node, self.keys[fault.number % len(self.keys)])
            case "sever":
                if node != other:
                    links.sever(node, other)
                    await asyncio.sleep(seconds)
                    links.cut.discard(frozenset((node, other)))
                    self._meet()
            case "isolate":
                for name in self.names:
                    if name != node:
                        links.sever(node, name)
                await asyncio.sleep(seconds)
                for name in self.names:
                    links.cut.discard(frozenset((node, name)))
                self._meet()
            case "mute":
                links.mute.add(node)
                await asyncio.sleep(seconds)
                links.mute.discard(node)
            case "freeze":
                links.frozen.add(node)
                await asyncio.sleep(seconds)
                links.thaw(node)
            case "lose":
                self.loss_chance = 0.15
                await asyncio.sleep(seconds)
                self.loss_chance = 0.0
            case "slow":
                usual, self.delay_seconds = self.delay_seconds, 0.1
                await asyncio.sleep(seconds)
                self.delay_seconds = usual
            case "slow_sync":
                self.sync_seconds[node] = 0.1
                await asyncio.sleep(seconds)
                self.sync_seconds[node] = self.usual_sync
            case "fail_sync":
                storage.breaks = True
                await asyncio.sleep(seconds)
                if self._storage(node) is storage:
                    self._crash(node, fault.number)
                    self._restart(node)
            case "disk_reopened":
                storage.fill_up()
                await asyncio.sleep(seconds)
                if self._storage(node) is storage and not self.crashed[node].is_set():
                    storage.reopen(kept=fault.number % (storage.unsynced + 1))
                    # As the node does: dots of writes that are gone may have left.
                    self.starts[node] += 1
                    incarnation = self.incarnation(node, self.starts[node])
                    self.cluster.nodes[node].replica.renew_incarnation(incarnation)
            case "disk_full":
                storage.refuses = storage.refuses or "disk_full"
                await asyncio.sleep(seconds)
                if storage.refuses == "disk_full" and not storage.stuck:
                    storage.refuses = None

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _storage(self, node: str) -> DiskStorage:
        storage = self.cluster.nodes[node].storage
        assert isinstance(storage, DiskStorage)
        return storage

    def _crash(self, node: str, number: int) -> None:
        if self.crashed[node].is_set() or self.healed:
            return
        self.crashed[node].set()
        self.cluster.crash(node)
        self.cluster.links.frozen.discard(node)
        storage = self._storage(node)
        after = storage.crash(kept=number % (storage.unsynced + 1))
        self.cluster.nodes[node].storage = after
        if self.marks.pop(node, 0) > after.write_number:
            self.wiped.add(node)

    def _restart(self, node: str) -> None:
        if not self.crashed[node].is_set():
            return
        self._storage(node).recover()
        self.starts[node] += 1
        incarnation = self.incarnation(node, self.starts[node])
        started = self.cluster.restart(node, self._storage(node), incarnation)
        if node in self.wiped:
            self.wiped.discard(node)
            self.marks[node] = started.refill.mark_all()
        _spy(started)
        self.cluster.links.down.discard(node)
        self.crashed[node] = asyncio.Event()
        self._meet()

    def _meet(self) -> None:
        """Nodes are connected again."""
        for node in self.cluster.nodes.values():
            node.refill.wake()

    def _may_lose(self, node: str) -> bool:
        """One disk at a time, and the next only when the last has been refilled."""
        for name, key in list(self.wounded.items()):
            if self._is_whole(name, key):
                del self.wounded[name]
        return not (self.wounded.keys() - {node}) and not self.crashed[node].is_set()

    def _is_whole(self, name: str, key: bytes | None) -> bool:
        node = self.cluster.nodes[name]
        if self.crashed[name].is_set() or node.replica.refilling:
            return False
        if key is None:
            return True
        try:
            return bool(node.record(self.cluster.storage_key(key))) and not node.replica.damaged
        except StorageCorrupt:
            return False

    def _damage(self, node: str, key: bytes) -> None:
        """Flip a bit in the node's record of the key, if another owner has a good one."""
        if not self._may_lose(node) or node in self.wounded:
            return
        storage_key = self.cluster.storage_key(key)
        try:
            having = [name for name, record in self.cluster.records(key).items() if record]
        except StorageCorrupt:
            return
        if node in having and len(having) > 1:
            self._storage(node).damage("records", storage_key)
            self.history.losses.append(Loss(self._now(), node, key))
            self.wounded[node] = key

    # Healing ------------------------------------------------------------------------------------

    async def _heal(self) -> None:
        links = self.cluster.links
        self.healed = True
        self.loss_chance = 0.0
        self.delay_seconds = 0.0005
        self.crash_at.clear()
        links.mute.clear()
        links.cut.clear()
        for name in self.names:
            links.thaw(name)
            self._restart(name)
        # What is still on its way, answers that are still waited for.
        await asyncio.sleep(4.0)
        async with asyncio.timeout(PATIENCE):
            while any(node.replica.refilling for node in self.cluster.nodes.values()):
                await asyncio.sleep(0.2)

    async def _converge(self) -> dict[bytes, frozenset[int]] | None:
        """What is there of each key once every key was read at r = n."""
        problems, cluster = self.history.problems, self.cluster
        everyone = ReadOptions(r="all", timeout_ms=2000)
        for key in self.keys:
            for attempt in range(100):
                try:
                    await cluster.get(self.names[attempt % len(self.names)], key, everyone)
                    break
                except DynamoError as error:
                    failure = f"{error.code}: {error.message} {error.details}"
                    await asyncio.sleep(0.5)
            else:
                problems.append(f"{key!r} cannot be read at r = n after healing: {failure}")
                return None
        await asyncio.sleep(1.0)
        for key in self.keys:
            if len({repr(record) for record in cluster.records(key).values()}) != 1:
                problems.append(f"the replicas of {key!r} differ at rest: {cluster.records(key)}")
            if len({bytes(data) for data in self._encoded(key)}) != 1:
                problems.append(f"the replicas of {key!r} are not the same bytes")
        final: dict[bytes, frozenset[int]] = {}
        sent = len(cluster.links.sent)
        for key in self.keys:
            shown = set()
            for name in self.names:
                found = await cluster.get(name, key, everyone)
                self.history.note_dots(found.record)
                final[key] = writes_in(found.record)
                shown.add(final[key])
            if len(shown) != 1:
                problems.append(f"nodes read {key!r} differently at rest: {shown}")
        await asyncio.sleep(REPAIR_TIMEOUT)
        stores = [m for _, _, m in cluster.links.sent[sent:] if type(m) is Store]
        if stores:
            problems.append(f"{len(stores)} repairs were sent at rest")
        return final

    def _encoded(self, key: bytes) -> list[bytes]:
        return [encode_record(record) for record in self.cluster.records(key).values()]

    def _check_tasks(self) -> None:
        for name, node in self.cluster.nodes.items():
            for task in node.tasks:
                if task.done():
                    self.history.problems.append(
                        f"a task of {name} has ended: {task.exception()!r}"
                    )
        if self.cluster.links.calls:
            self.history.problems.append(
                f"{len(self.cluster.links.calls)} requests are never ended"
            )


def _spy(node: LittleNode) -> None:
    """Note what the read within a delete shows."""
    coordinator = node.coordinator
    read = coordinator._read_held

    async def spied(routing: bytes, plan: Plan, options: ReadOptions) -> tuple[Record, int]:
        record, holders = await read(routing, plan, options)
        inside = _read_inside.get(None)
        if inside is not None:
            inside(record)
        return record, holders

    coordinator._read_held = spied  # type: ignore[method-assign]


def _plan(rng: random.Random, names: list[str]) -> list[Fault]:
    faults = [_fault(rng, rng.choice(KINDS), rng.choice(names)) for _ in range(rng.randint(0, 6))]
    scene = rng.choice((None, None, _missed_then_lost, _power_cut, _full_disk))
    if scene is not None:
        faults += scene(rng, names)
    return sorted(faults, key=lambda fault: fault.at)


def _fault(
    rng: random.Random,
    kind: Kind,
    node: str,
    *,
    at: float | None = None,
    seconds: float | None = None,
) -> Fault:
    return Fault(
        at=rng.random() * FAULTY_SECONDS if at is None else at,
        kind=kind,
        node=node,
        seconds=rng.choice((0.02, 0.1, 0.3, 0.6)) if seconds is None else seconds,
        number=rng.choice((0, rng.randrange(1 << 16))),
    )


def _missed_then_lost(rng: random.Random, names: list[str]) -> list[Fault]:
    """One node misses writes, another loses its copy, a third that has them goes away."""
    missing, losing, leaving = rng.sample(names, 3)
    at = rng.random() * FAULTY_SECONDS / 2
    lost: Kind = rng.choice(("wipe", "damage"))
    return [
        _fault(rng, "isolate", missing, at=at, seconds=0.15),
        _fault(rng, lost, losing, at=at + 0.151, seconds=0.01),
        _fault(rng, "isolate", leaving, at=at + rng.choice((0.14, 0.17, 0.2)), seconds=0.4),
    ]


def _power_cut(rng: random.Random, names: list[str]) -> list[Fault]:
    """Everything stops at once while syncs are slow."""
    at = rng.random() * FAULTY_SECONDS / 2
    slow = [_fault(rng, "slow_sync", name, at=at, seconds=0.3) for name in names]
    return [*slow, _fault(rng, "crash_all", names[0], at=at + rng.random() * 0.3)]


def _full_disk(rng: random.Random, names: list[str]) -> list[Fault]:
    """A node meets the end of its disk while syncs are slow, and goes on without a restart."""
    node, at = rng.choice(names), rng.random() * FAULTY_SECONDS / 2
    full_at = at + rng.uniform(0.03, 0.3)
    return [
        _fault(rng, "slow_sync", node, at=at, seconds=0.3),
        _fault(rng, "disk_reopened", node, at=full_at, seconds=0.01),
    ]


def run_seed(seed: int, *, incarnation: Callable[[str, int], bytes] = incarnation_of) -> list[str]:
    """What was found wrong in the run of this seed."""
    try:
        return run_virtual(Run(seed, incarnation=incarnation).main()).problems
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return [f"the run raised {error!r}"]
