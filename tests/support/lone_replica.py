"""One node's replica over a storage, asked directly, in a ring of members that are not there.

The ring has five members in one datacenter and one in another; three own each partition. The replica
is that of `who`: an owner of the partition that the tests speak of, or a fallback for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from dynamo.commit import GroupCommit
from dynamo.keys import hint_prefix, partition_prefix, routing_key
from dynamo.leaf import LeafHasher
from dynamo.metrics import Metrics
from dynamo.ports import Storage, Timer
from dynamo.record import (
    EMPTY,
    TOMBSTONE,
    VALUE,
    Content,
    Record,
    decode_record,
    encode_content,
    encode_record,
    mint,
)
from dynamo.replica import Replica
from dynamo.replica_deliver import ReplicaDeliver
from dynamo.replica_reads import ReplicaReads
from dynamo.rpc.messages import (
    NO_HINT,
    Body,
    Deliver,
    Delivery,
    Fetch,
    Mint,
    Minted,
    Owe,
    Refused,
    Reply,
    Store,
)
from dynamo.version import Vector, birth_bytes, incarnation_bytes
from ring.member import Member
from ring.ring import ReplicationClass, Ring

RING = Ring.build(
    (
        *(Member(id=name, address=f"{name}:1") for name in "abcde"),
        *(Member(id=name, address=f"{name}:1", datacenter="dc2") for name in "xyz"),
    ),
    partitions=8,
    seed=1,
    classes=(ReplicationClass(name="default", id=0, replicas=3),),
)
PLACE = (0, 0)
OWNERS = RING.owners(*PLACE, "dc1")
FALLBACK, OTHER_FALLBACK = (name for name in "abcde" if name not in OWNERS)
ELSEWHERE = incarnation_bytes(9, b"elsewher")
KEY = routing_key(b"default", b"b", b"k")


def key(number: int) -> bytes:
    """A routing key; in order of their numbers."""
    return routing_key(b"default", b"b", b"%06d" % number)


def index(name: str) -> int:
    """How messages name the member."""
    found = RING.index(name)
    assert found is not None
    return found


def storage_key(routing: bytes = KEY) -> bytes:
    return partition_prefix(*PLACE) + routing


def hint_key(target: str, routing: bytes = KEY) -> bytes:
    return hint_prefix(target) + storage_key(routing)


def foreign(value: bytes, *, sequence: int = 1, kind: int = VALUE, context: Vector = ()) -> Record:
    """A record with one write, minted elsewhere."""
    content = b"" if kind == TOMBSTONE else encode_content(Content(value))
    return mint(
        EMPTY,
        context,
        birth=birth_bytes(ELSEWHERE, sequence),
        counter=1,
        kind=kind,
        content=content,
        written_ms=1,
    )


def record_of(reply: Reply) -> Record:
    assert isinstance(reply, Minted | Body), reply
    return decode_record(reply.record) if reply.record else EMPTY


def code_of(reply: Reply) -> str:
    assert isinstance(reply, Refused), reply
    return reply.code


def mint_message(
    value: bytes = b"v",
    context: Vector = (),
    *,
    hint_for: str = "",
    routing: bytes = KEY,
    kind: int = VALUE,
    owes: Sequence[int] = (),
    epoch: int = 1,
    target: int | None = None,
) -> Mint:
    """`hint_for`: a member; `target`: its index, be it none."""
    if target is None:
        target = index(hint_for) if hint_for else NO_HINT
    content = b"" if kind == TOMBSTONE else encode_content(Content(value))
    return Mint(
        routing, *PLACE, epoch, 1000, context, kind, content, hint_for=target, owes=tuple(owes)
    )


class HandClock:
    """A `Clock` that a test moves on by `now_ms`, its wall time, and sets by `jump`; the rest is the
    loop's."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._loop = asyncio.get_running_loop()
        self._wall_ms = now_ms
        self._passed_ms = 0

    @property
    def now_ms(self) -> int:
        return self._wall_ms

    @now_ms.setter
    def now_ms(self, now_ms: int) -> None:
        assert now_ms >= self._wall_ms
        self._passed_ms += now_ms - self._wall_ms
        self._wall_ms = now_ms

    def jump(self, ms: int) -> None:
        """Somebody sets the wall clock."""
        self._wall_ms += ms

    def monotonic(self) -> float:
        return self._loop.time() + self._passed_ms / 1000

    def wall_ms(self) -> int:
        return self._wall_ms

    def wall_ns(self) -> int:
        return self._wall_ms * 1_000_000

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        return self._loop.call_later(delay, callback)


class Asked:
    """A `Call` that keeps what it was answered."""

    peer = "test"

    def __init__(self, deadline: float = float("inf")) -> None:
        self.deadline = deadline
        self.replies: list[Reply] = []
        self.done = asyncio.Event()

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        assert not self.done.is_set()
        self.replies.append(reply)
        if last:
            self.done.set()


class LoneReplica:
    """The replica of `who`. Make one with `lone_replica`, or `start` and `stop` it."""

    def __init__(
        self,
        who: str,
        storage: Storage,
        *,
        incarnation: bytes = b"",
        clock: HandClock | None = None,
        **limits: Any,
    ) -> None:
        self.who = who
        self.storage = storage
        self.clock = clock or HandClock()
        self.metrics = Metrics()
        self.commit = GroupCommit(storage=storage, metrics=self.metrics)
        #: Members that are down in its opinion.
        self.down: set[str] = set()
        self.replica = Replica(
            node_id=who,
            storage=storage,
            commit=self.commit,
            clock=self.clock,
            metrics=self.metrics,
            incarnation=incarnation or incarnation_bytes(1, who.encode().rjust(8, b"\0")),
            hasher=LeafHasher(b"s" * 32),
            down=self.down,
            **limits,
        )
        self.hints = self.replica.hints
        self.replica.adopt(RING)
        self.reads = ReplicaReads(
            replica=self.replica, storage=storage, commit=self.commit, metrics=self.metrics
        )
        self.deliver = ReplicaDeliver(
            replica=self.replica,
            storage=storage,
            commit=self.commit,
            clock=self.clock,
            metrics=self.metrics,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, *, count: bool = True) -> None:
        """Sync from now on, and (`count`) count the hints that there are."""
        work = [self.commit.run()]
        if count:
            work.append(self.hints.run(asyncio.sleep))
        self._tasks += [asyncio.get_running_loop().create_task(one) for one in work]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What it is asked ---------------------------------------------------------------------------

    async def asked(self, handler: Callable[[Any, Any], None], message: object) -> list[Reply]:
        call = Asked()
        handler(message, call)
        await call.done.wait()
        return call.replies

    async def mint(self, value: bytes = b"v", context: Vector = (), **named: Any) -> list[Reply]:
        """As `mint_message`."""
        return await self.asked(self.replica.on_mint, mint_message(value, context, **named))

    async def store(
        self, record: Record, *, hint_for: str = "", routing: bytes = KEY, epoch: int = 1
    ) -> Reply:
        target = index(hint_for) if hint_for else NO_HINT
        message = Store(routing, *PLACE, epoch, 1000, encode_record(record), hint_for=target)
        return (await self.asked(self.replica.on_store, message))[-1]

    async def owe(self, *targets: str, routing: bytes = KEY) -> Reply:
        message = Owe(routing, *PLACE, 1, 1000, tuple(index(target) for target in targets))
        return (await self.asked(self.replica.on_owe, message))[-1]

    async def fetch(
        self, *, hinted: bool = False, body: bool = True, routing: bytes = KEY, epoch: int = 1
    ) -> Reply:
        message = Fetch(routing, *PLACE, epoch, 1000, body, hinted)
        return (await self.asked(self.reads.on_fetch, message))[-1]

    async def take(self, *entries: tuple[bytes, Record | bytes], epoch: int = 1) -> Reply:
        """Be delivered these records, by routing key."""
        message = Deliver(
            1000,
            epoch,
            tuple(
                Delivery(routing, *PLACE, one if isinstance(one, bytes) else encode_record(one))
                for routing, one in entries
            ),
        )
        return (await self.asked(self.deliver.on_deliver, message))[-1]


@asynccontextmanager
async def lone_replica(
    who: str,
    storage: Storage,
    *,
    count: bool = True,
    incarnation: bytes = b"",
    clock: HandClock | None = None,
    **limits: Any,
) -> AsyncIterator[LoneReplica]:
    """The replica of `who`, started and stopped; the storage is the caller's."""
    replica = LoneReplica(who, storage, incarnation=incarnation, clock=clock, **limits)
    replica.start(count=count)
    try:
        yield replica
    finally:
        await replica.stop()
