"""Clients of a simulated cluster: bursts of requests, harsh ones, each noted in the history.

They read, write and delete a few keys, hand back contexts new and old, their own and of another key,
make conditional requests, have hardly any time, and give up in the middle. Every value is the number
of its operation. Knows nothing of what goes wrong meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final, Literal, NamedTuple

from dynamo.errors import DynamoError
from dynamo.record import EXPIRED_BODY_KEPT_MS, VALUE, Record
from dynamo.requests import Count, Found, ReadOptions, WriteOptions, Written
from dynamo.resolve import etag, view
from dynamo.rpc.messages import Condition
from dynamo.services import NodeServices
from dynamo.sim.chance import stream
from dynamo.sim.clock import EPOCH_MS
from dynamo.sim.cluster import BUCKET_TYPE, Cluster, NodeGone, bucket_of
from dynamo.sim.history import (
    FOREVER,
    NOTHING,
    TOMBSTONE_TAG,
    History,
    Operation,
    OperationKind,
    expiry_of,
    value_of,
    values_in,
)
from dynamo.sim.names import ballast_names, key_names
from dynamo.sim.node import SimNode
from dynamo.sim.plan import Burst, Plan
from dynamo.sim.testimony import Looks
from ring.preference import Plan as KeyPlan

KINDS: Final[tuple[OperationKind, ...]] = ("put", "get", "delete")
#: How often puts, gets and deletes are made in a burst.
WEIGHTS: Final = ((0.5, 0.38, 0.12), (0.45, 0.35, 0.2), (0.3, 0.6, 0.1))
#: Contexts that a client keeps of a key.
KEPT_MAX: Final = 6
#: Three of them are more than a page of a refill.
BALLAST_BYTES: Final = 30_000
#: An answer may come so much later (seconds) than the operation's time: the store says so itself.
LATE_MAX: Final = 1.0

#: How likely a burst is to end with a delete of what is there.
TIDY: Final = 0.6
#: Long ago: of a put this is made the id of the write, which is long ago too.
EARLY_MS: Final = 1

#: Told what the read within a delete without context has shown.
_read_inside: ContextVar[Callable[[Record], None]] = ContextVar("_read_inside")


class Kept(NamedTuple):
    """A context, what it covers, and the entity tag it was given with."""

    past: frozenset[int]
    context: bytes
    tag: str


class Client:
    """One client: the contexts that it remembers. `history` gets what it does and sees."""

    def __init__(
        self,
        cluster: Cluster,
        history: History,
        problems: list[str],
        *,
        looks: Looks,
        value_bytes: int = 0,
        expired: int = 0,
    ) -> None:
        """`looks`: at the disks, and at who answers. `expired`: as of a plan."""
        self._expired = expired
        self._cluster = cluster
        self._looks = looks
        self._value_bytes = value_bytes
        self._history = history
        self._problems = problems
        self._kept: dict[bytes, list[Kept]] = {}

    async def run(self, rng: random.Random, keys: list[bytes], count: int, seconds: float) -> None:
        """Make so many requests within about so many seconds, one after the other."""
        weights = rng.choice(WEIGHTS)
        quorum_only = rng.random() < 0.4
        unsure: tuple[bytes, frozenset[int], bytes] | None = None
        for _ in range(count):
            await asyncio.sleep(rng.random() * 2 * seconds / count)
            key = rng.choice(keys)
            up = self._cluster.up
            if not up:
                continue
            node = rng.choice(up)
            kind = rng.choices(KINDS, weights)[0]
            past, context, foreign = self._context(rng, key)
            if unsure is not None and rng.random() < 0.7:
                # A client that does not know whether something was deleted deletes it once more.
                kind, (key, past, context), foreign = "delete", unsure, False
            operation = self._begin(rng, kind, key, node, past, quorum_only=quorum_only)
            operation.foreign_context = foreign and kind != "get"
            gives_up_after = None
            if rng.random() < 0.05:
                gives_up_after = rng.random() * rng.choice((0.002, 0.02, 0.2))
            options: ReadOptions | WriteOptions
            if operation.kind == "get":
                options = self._read_options(rng, operation)
            else:
                options = self._write_options(rng, operation, context)
            await self._make(operation, context, options, gives_up_after)
            unsure = None
            if kind == "delete" and operation.outcome == "unknown" and not foreign:
                unsure = key, past, context

    async def simple(self, kind: OperationKind, key: bytes, node: str, timeout: float) -> None:
        """One request with nothing special, at the usual quorum."""
        n = self._cluster.replicas
        operation = Operation(
            self._history.next_id(), kind, key, node, self._cluster.loop.time(), timeout
        )
        options: ReadOptions | WriteOptions
        if kind == "get":
            operation.r = n // 2 + 1
            options = ReadOptions(timeout_ms=int(timeout * 1000))
        else:
            operation.w = n // 2 + 1
            options = WriteOptions(timeout_ms=int(timeout * 1000))
        await self._make(self._history.begin(operation), b"", options)

    async def ask(
        self,
        kind: OperationKind,
        key: bytes,
        timeout: float,
        *,
        node: str,
        kept: Kept | None = None,
        condition: Condition | None = None,
        count: Count = "default",
        blocking: bool = False,
        expires_ms: int = 0,
    ) -> Operation:
        """One request with this context and condition; `count`, a word, of the replicas are
        read and written. `blocking`: of a get. `expires_ms`: of a put."""
        n = self._cluster.replicas
        number = n if count == "all" else n // 2 + 1
        past, context = (kept.past, kept.context) if kept is not None else (NOTHING, b"")
        operation = Operation(
            self._history.next_id(), kind, key, node, self._cluster.loop.time(), timeout
        )
        operation.foreign_context = kept is not None and kept not in self._kept.get(key, ())
        options: ReadOptions | WriteOptions
        timeout_ms = int(timeout * 1000)
        if kind == "get":
            operation.r = number
            operation.blocking = blocking
            read_repair: Literal["blocking", "async"] = "blocking" if blocking else "async"
            options = ReadOptions(r=count, timeout_ms=timeout_ms, read_repair=read_repair)
        else:
            operation.w = number
            operation.expires = expires_ms > 0
            operation.past = NOTHING if operation.foreign_context else past
            operation.fades = expires_ms == EARLY_MS
            expires_ms = operation.id if operation.fades else expires_ms
            options = WriteOptions(
                w=count,
                r=count,
                timeout_ms=timeout_ms,
                condition=condition,
                expires_ms=TOMBSTONE_TAG + operation.id if kind == "delete" else expires_ms,
            )
        await self._make(self._history.begin(operation), context, options)
        return operation

    def last(self, key: bytes) -> Kept | None:
        """The last context that it was given of the key."""
        kept = self._kept.get(key)
        return kept[-1] if kept else None

    def any_node(self, rng: random.Random) -> str:
        """One that is up."""
        return rng.choice(self._cluster.up)

    def _context(self, rng: random.Random, key: bytes) -> tuple[frozenset[int], bytes, bool]:
        """What to hand back with the next request, what that covers, and whether it is foreign."""
        others = [kept for other, kept in self._kept.items() if other != key and kept]
        if others and rng.random() < 0.04:
            return NOTHING, rng.choice(others)[-1].context, True
        kept = self._kept.get(key)
        if not kept or rng.random() < 0.3:
            return NOTHING, b"", False
        chosen = kept[-1] if rng.random() < 0.8 else rng.choice(kept)
        return chosen.past, chosen.context, False

    def _begin(
        self,
        rng: random.Random,
        kind: OperationKind,
        key: bytes,
        node: str,
        past: frozenset[int],
        *,
        quorum_only: bool,
    ) -> Operation:
        n = self._cluster.replicas
        count = n // 2 + 1 if quorum_only or rng.random() < 0.6 else rng.randint(1, n)
        timeout = rng.choice((0.08, 0.3, 1.0, 3.0))
        if rng.random() < 0.1:
            timeout = rng.choice((0.005, 0.02))
        operation = Operation(
            self._history.next_id(), kind, key, node, self._cluster.loop.time(), timeout
        )
        if kind == "get":
            operation.r = count
            operation.pr = count if rng.random() < 0.5 else 0
            operation.blocking = rng.random() < 0.5
        else:
            operation.w = count
            operation.past = past
        return self._history.begin(operation)

    async def _make(
        self,
        operation: Operation,
        context: bytes,
        options: ReadOptions | WriteOptions,
        gives_up_after: float | None = None,
    ) -> None:
        """Make the request, and note what became of it."""
        cluster = self._cluster
        patience = operation.timeout + 5.0 if gives_up_after is None else gives_up_after
        starts = cluster.nodes[operation.node].starts
        self._looks.before(operation)
        cluster.trace.note("ask", operation.id, operation.kind, operation.node)
        try:
            async with asyncio.timeout(patience):
                answer = await self._ask(operation, context, options)
        except TimeoutError:
            operation.cut_off = gives_up_after is not None or self._stood_still(operation, starts)
            if not operation.cut_off:
                self._problems.append(f"{operation} has no answer after {patience} s")
            operation.code = "gave_up"
        except NodeGone as error:
            operation.cut_off = True
            operation.code = error.code
        except DynamoError as error:
            operation.end = cluster.loop.time()
            operation.outcome = error.outcome
            operation.code = error.code
        else:
            operation.end = cluster.loop.time()
            self._note_answer(operation, context, options, answer)
        late = operation.end < FOREVER and (
            operation.end > operation.start + operation.timeout + LATE_MAX
        )
        if late:
            operation.cut_off = self._stood_still(operation, starts)
        cluster.trace.note("end", operation.id, operation.outcome, operation.code)

    def _stood_still(self, operation: Operation, starts: int) -> bool:
        """True if the node was paused, is another process by now, or goes by a slow clock: then it
        owed no answer in that time."""
        node = self._cluster.nodes[operation.node]
        is_other = node.starts != starts or not node.is_up
        return is_other or node.lagged_since(operation.start)

    async def _ask(
        self, operation: Operation, context: bytes, options: ReadOptions | WriteOptions
    ) -> Found | Written:
        cluster, node, key = self._cluster, operation.node, operation.key
        if isinstance(options, ReadOptions):
            return await cluster.read(node, key, options)
        if operation.kind == "put":
            value = value_of(operation.id, self._value_bytes)
            return await cluster.write(node, key, value, context, options)
        if context:
            return await cluster.delete(node, key, context, options)

        def note(record: Record) -> None:
            operation.past = self._history.past_of(self._history.note_dots(record))

        async def noted(services: NodeServices) -> Found | Written:
            _read_inside.set(note)
            return await services.delete(BUCKET_TYPE, bucket_of(key), key, b"", options)

        return await cluster.request(node, key, noted)

    # Options ------------------------------------------------------------------------------------

    def _read_options(self, rng: random.Random, operation: Operation) -> ReadOptions:
        lenient = rng.random() < 0.85
        more = stream(self._cluster.seed, "counts", operation.id)
        if more.random() < 0.15:
            # All, of which some may be others than owners.
            operation.r = self._cluster.replicas
            operation.pr = more.randrange(operation.r)
        return ReadOptions(
            r=operation.r,
            pr=operation.pr,
            timeout_ms=int(operation.timeout * 1000),
            read_repair="blocking" if operation.blocking else "async",
            notfound_ok=lenient,
            basic_quorum=not lenient and rng.random() < 0.5,
        )

    def _write_options(
        self, rng: random.Random, operation: Operation, context: bytes
    ) -> WriteOptions:
        expires_ms = 0
        if operation.kind == "delete":
            expires_ms = TOMBSTONE_TAG + operation.id
        elif rng.random() < 0.08:
            clock = self._cluster.nodes[operation.node].clock
            assert clock is not None
            expires_ms = clock.wall_ms() + rng.choice((-5, 50, 500, 5000))
            operation.expires = True
        else:
            expires_ms = self._expired_ms(operation)
            operation.expires = operation.fades = expires_ms > 0
        condition = None
        if rng.random() < 0.15:
            condition = self._condition(rng, operation, context)
        counts: dict[str, Any] = {rng.choice(("w", "dw", "pw", "node_confirms")): operation.w}
        if counts.get("pw"):
            operation.pw = operation.w
        more = stream(self._cluster.seed, "counts", operation.id)
        if "w" in counts and more.random() < 0.3:
            # Some owners, and others beside them; all at times.
            if more.random() < 0.3:
                counts["w"] = operation.w = self._cluster.replicas
            counts["pw"] = operation.pw = more.randint(1, operation.w)
        if rng.random() < 0.2:
            counts["r"] = rng.randint(1, self._cluster.replicas)
        return WriteOptions(
            **{"w": 1, **counts},
            timeout_ms=int(operation.timeout * 1000),
            expires_ms=expires_ms,
            condition=condition,
            returnbody=rng.random() < 0.7,
        )

    def _expired_ms(self, operation: Operation) -> int:
        """Of some puts an expiry of so long ago that their body may go now, or soon; else 0."""
        chance = stream(self._cluster.seed, "expired", operation.id)
        if chance.random() * 100 >= self._expired:
            return 0
        ago = EXPIRED_BODY_KEPT_MS - chance.choice((-5000, 0, 1000, 2000, 5000))
        return expiry_of(operation.id, EPOCH_MS + int(self._cluster.loop.time() * 1000) - ago)

    def _tag(self, operation: Operation, context: bytes) -> str:
        kept = self._kept.get(operation.key, ())
        return next((one.tag for one in kept if one.context == context), "")

    def _condition(self, rng: random.Random, operation: Operation, context: bytes) -> Condition:
        tag = self._tag(operation, context) or "*"
        match rng.randrange(5):
            case 0:
                return Condition(if_none_match=("*",))
            case 1 | 2:
                return Condition(if_match=(tag,))
            case 3:
                return Condition(if_none_match=(tag,))
            case _:
                clock = self._cluster.nodes[operation.node].clock
                assert clock is not None
                return Condition(unmodified_since_ms=clock.wall_ms() - rng.choice((0, 1000)))

    # Answers ------------------------------------------------------------------------------------

    def _note_answer(
        self,
        operation: Operation,
        context: bytes,
        options: ReadOptions | WriteOptions,
        answer: Found | Written,
    ) -> None:
        cluster, history, record = self._cluster, self._history, answer.record
        history.note_answer(operation, record, answer.siblings)
        operation.outcome = "ok"
        n = cluster.replicas
        if operation.kind == "delete" and isinstance(answer, Found):
            operation.outcome = "none"
            operation.needless = True
            # It has read first, at the usual quorum if nothing else was asked.
            asked = options.r if isinstance(options.r, int) else 0
            operation.r = asked or (n if options.r == "all" else n // 2 + 1)
        if isinstance(options, ReadOptions) and options.notfound_ok is False and not record:
            operation.weaken_not_found(cluster.replicas, basic_quorum=options.basic_quorum is True)
        self._looks.after(operation)
        if isinstance(answer, Written):
            operation.primary_acks = answer.primary_acks
            operation.fallback_acks = answer.fallback_acks
        if isinstance(answer, Written) and isinstance(options, WriteOptions):
            if operation.id not in operation.seen:
                self._problems.append(f"[{operation}] is not in its own answer")
            self._check_condition(operation, context, options.condition, record)
        if answer.context:
            covered = history.past_of(operation.seen)
            clock = cluster.nodes[operation.node].clock
            lww = operation.key in history.lww
            siblings = view(record, clock.wall_ms(), lww).siblings if clock is not None else ()
            tag = etag(record, siblings) if siblings else ""
            kept = self._kept.setdefault(operation.key, [])
            kept.append(Kept(covered, answer.context, tag))
            del kept[:-KEPT_MAX]

    def _check_condition(
        self, operation: Operation, context: bytes, condition: Condition | None, record: Record
    ) -> None:
        """What the minter holds is what the condition allows, and the write itself."""
        if condition is None or operation.kind != "put":
            return
        tag = self._tag(operation, context)
        named = bool(tag) and "*" not in condition.if_match and tag in condition.if_match
        if not (named or condition.if_none_match == ("*",)):
            return
        # An expired value does not count, and whose clock says so nobody knows: leave those out.
        live = {
            id
            for sibling in record.siblings
            if sibling.kind == VALUE and not sibling.expires_ms
            for id in values_in((sibling,))
        }
        if live - {operation.id}:
            self._problems.append(f"[{operation}] met {condition} beside {sorted(live)}")


class Workload:
    """All clients of a run, and what they found wrong themselves (`problems`)."""

    def __init__(self, plan: Plan, cluster: Cluster, history: History, *, looks: Looks) -> None:
        self.problems: list[str] = []
        self.looks = looks
        self._plan = plan
        self._cluster = cluster
        most = max((burst.clients for burst in plan.bursts), default=0)
        self.ballast = ballast_names(plan)
        self.keys = key_names(plan)
        self._history = history
        self._clients = [self.client(expired=plan.expired) for _ in range(most)]
        self._loader = self.client(value_bytes=BALLAST_BYTES)
        cluster.on_start = spy

    def client(self, *, value_bytes: int = 0, expired: int = 0) -> Client:
        """Another one, who knows nothing yet."""
        return Client(
            self._cluster,
            self._history,
            self.problems,
            looks=self.looks,
            value_bytes=value_bytes,
            expired=expired,
        )

    async def run(self, start: float) -> None:
        """Return once every burst is over. `start`: when the plan's time begins."""
        bursts = (self._burst(burst, start) for burst in self._plan.bursts)
        await asyncio.gather(self._load(), *bursts)

    async def _load(self) -> None:
        """Write the large keys once each, as fast as it goes."""
        rng = stream(self._plan.seed, "ballast")
        for key in self.ballast:
            up = self._cluster.up
            if up:
                await self._loader.simple("put", key, rng.choice(up), 1.0)

    async def _burst(self, burst: Burst, start: float) -> None:
        await asyncio.sleep(start + burst.at - self._cluster.loop.time())
        keys = [self.keys[number] for number in burst.keys]
        each, more = divmod(burst.operations, burst.clients)
        runs: list[Coroutine[Any, Any, None]] = []
        for number in range(burst.clients):
            rng = stream(self._plan.seed, "burst", burst.number, number)
            count = each + (number < more)
            runs.append(self._clients[number].run(rng, keys, count, burst.seconds))
        await asyncio.gather(*runs)
        if self._plan.upkeep.reaps:
            await self._tidy(burst, keys)

    async def _tidy(self, burst: Burst, keys: list[bytes]) -> None:
        """Some bursts leave nothing but tombstones, which can be reaped."""
        rng = stream(self._plan.seed, "tidy", burst.number)
        for key in keys:
            up = self._cluster.up
            if up and rng.random() < TIDY:
                await self.client().ask("delete", key, rng.choice((0.3, 1.0)), node=rng.choice(up))


def spy(node: SimNode) -> None:
    """Note what the read within a delete without context shows: its client is not told."""
    services = node.services
    assert services is not None
    start = services.start

    async def started() -> None:
        await start()
        coordinator = services._coordinator
        read = coordinator._read_held

        async def spied(routing: bytes, plan: KeyPlan, options: ReadOptions) -> tuple[Record, int]:
            record, holders = await read(routing, plan, options)
            inside = _read_inside.get(None)
            if inside is not None:
                inside(record)
            return record, holders

        coordinator._read_held = spied  # type: ignore[method-assign]

    services.start = started  # type: ignore[method-assign]
