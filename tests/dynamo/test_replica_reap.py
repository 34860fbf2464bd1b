"""What a replica drops on a proof, and what it keeps all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from little_cluster import GatedStorage
from lone_replica import (
    FALLBACK,
    KEY,
    OWNERS,
    PLACE,
    Asked,
    LoneReplica,
    code_of,
    foreign,
    key,
    lone_replica,
    record_of,
    storage_key,
)

from dynamo.hybrid_clock import stamp_at
from dynamo.record import (
    EMPTY,
    TOMBSTONE,
    Record,
    encode_record,
    merge,
    mint,
    record_digest,
)
from dynamo.refill_marks import RefillMark
from dynamo.replica_deliver import SLICE_ENTRIES
from dynamo.replica_reap import ReplicaReap
from dynamo.rpc.messages import Deliver, Delivery, Reply, Store
from dynamo.rpc.reap_messages import Doomed, Drop, Dropped, Held, Holds
from dynamo.version import birth_bytes, incarnation_bytes

VALUE = foreign(b"v")
DEAD = foreign(b"", sequence=2, kind=TOMBSTONE, context=VALUE.vector)
OTHER = foreign(b"", sequence=3, kind=TOMBSTONE)
#: Number of the start of the node.
START = 7


class Reaped:
    """A replica, and what is asked of it about tombstones."""

    def __init__(self, node: LoneReplica) -> None:
        self.node = node
        self.reap = ReplicaReap(
            replica=node.replica,
            deliver=node.deliver,
            storage=node.storage,
            commit=node.commit,
            clock=node.clock,
            metrics=node.metrics,
            start=lambda: START,
        )

    @property
    def gate(self) -> GatedStorage:
        assert isinstance(self.node.storage, GatedStorage)
        return self.node.storage

    async def holds(self, *doomed: Doomed, epoch: int = 1) -> Reply:
        return (await self.node.asked(self.reap.on_holds, Holds(1000, epoch, doomed)))[-1]

    async def held(self, doomed: Doomed) -> bool:
        """Whether it holds it; and if not, says why."""
        reply = await self.holds(doomed)
        assert isinstance(reply, Held)
        assert [at for at, why in reply.refused if why] == ([] if reply.positions else [0])
        return reply.positions == (0,)

    async def drop(self, *doomed: Doomed, epoch: int = 1) -> Reply:
        return (await self.node.asked(self.reap.on_drop, Drop(1000, epoch, doomed)))[-1]

    async def left(self, routing: bytes = KEY) -> Record:
        return record_of(await self.node.fetch(routing=routing))


@pytest.fixture
async def owner() -> AsyncIterator[Reaped]:
    async with lone_replica(OWNERS[0], GatedStorage()) as node:
        yield Reaped(node)


def doomed(record: Record = DEAD, routing: bytes = KEY, **named: Any) -> Doomed:
    return Doomed(routing, *PLACE, record_digest(record), **named)


async def test_a_tombstone_that_is_here_is_held_and_dropped(owner: Reaped) -> None:
    await owner.node.store(DEAD)
    assert await owner.holds(doomed(OTHER), doomed()) == Held(
        (1,), START, ((0, "it is another record"),)
    )
    assert await owner.drop(doomed()) == Dropped(())
    assert not await owner.left()
    assert owner.node.replica.unsynced == {}
    assert await owner.drop(doomed()) == Dropped(((0, "it is not here"),))


async def test_a_drop_is_answered_once_it_is_on_disk(owner: Reaped) -> None:
    await owner.node.store(DEAD)
    owner.gate.gate.clear()
    dropping = asyncio.create_task(owner.drop(doomed()))
    reading = asyncio.create_task(owner.left())
    await asyncio.sleep(0.01)
    # Nor does a read show what a loss of power can take back.
    assert not dropping.done()
    assert not reading.done()
    owner.gate.gate.set()
    assert await dropping == Dropped(())
    assert not await reading


@pytest.mark.parametrize(
    ("there", "why"),
    [
        (None, "it is not here"),
        (OTHER, "it is another record"),
        (merge(DEAD, OTHER), "it is another record"),
        (merge(DEAD, foreign(b"v", sequence=4)), "it is another record"),
    ],
)
async def test_what_is_not_the_very_record_stays(
    owner: Reaped, there: Record | None, why: str
) -> None:
    if there is not None:
        await owner.node.store(there)
    assert await owner.holds(doomed()) == Held((), START, ((0, why),))
    assert await owner.drop(doomed()) == Dropped(((0, why),))
    assert await owner.left() == (there if there is not None else await owner.left(key(9)))


async def test_what_can_be_shown_stays_though_it_is_the_very_record(owner: Reaped) -> None:
    await owner.node.store(VALUE)
    assert not (await owner.held(doomed(VALUE)))
    assert await owner.drop(doomed(VALUE)) == Dropped(((0, "a body of it is still here"),))
    assert await owner.left() == VALUE


async def test_a_stamp_that_is_ahead_of_the_clock_is_waited_for(owner: Reaped) -> None:
    """Where the last write wins: or what is minted without it here would lose to a copy elsewhere."""
    now_ms = owner.node.clock.now_ms
    stamp = stamp_at(now_ms + 30_000)
    dead = mint(
        EMPTY, (), birth=GONE[0], counter=1, kind=TOMBSTONE, content=b"", written_ms=1, stamp=stamp
    )
    await owner.node.store(dead)
    assert not (await owner.held(doomed(dead)))
    refused = Dropped(((0, "its stamp is ahead of this node's clock"),))
    assert await owner.drop(doomed(dead)) == refused
    owner.node.clock.now_ms = now_ms + 30_000
    assert await owner.held(doomed(dead))
    assert await owner.drop(doomed(dead)) == Dropped(())


async def test_what_is_not_on_disk_is_not_held(owner: Reaped) -> None:
    owner.gate.gate.clear()
    storing = asyncio.create_task(owner.node.store(DEAD))
    await asyncio.sleep(0.01)
    assert not (await owner.held(doomed()))
    owner.gate.gate.set()
    await storing
    assert await owner.held(doomed())


async def test_nothing_goes_while_the_partition_is_not_whole(owner: Reaped) -> None:
    await owner.node.store(DEAD)
    owner.node.replica.refilling[PLACE] = RefillMark(("x",), serving=True)
    assert not (await owner.held(doomed()))
    assert await owner.drop(doomed()) == Dropped(((0, "its partition is being refilled"),))
    owner.node.replica.refilling.clear()
    owner.node.replica.must_refill = True
    assert not (await owner.held(doomed()))


async def test_a_damaged_record_is_not_held(owner: Reaped) -> None:
    await owner.node.store(DEAD)
    data = owner.node.storage.get("records", storage_key())
    assert data is not None
    owner.node.storage.put("records", storage_key(), data[:-1] + bytes((data[-1] ^ 1,)))
    assert not (await owner.held(doomed()))
    await owner.node.store(DEAD)  # beside the mark: what was lost may have been more
    assert await owner.drop(doomed()) == Dropped(((0, "it was damaged, and is being mended"),))


async def test_nothing_goes_while_a_write_of_the_key_waits_for_the_storage(owner: Reaped) -> None:
    """It is of the past, and came first: the tombstone has to be there when its turn comes."""
    backlog = owner.node.replica.backlog
    owner.gate.busy = 1
    call = Asked(asyncio.get_running_loop().time() + 5)
    owner.node.replica.on_store(Store(KEY, *PLACE, 1, 5000, encode_record(VALUE)), call)
    assert len(backlog) == 1
    assert backlog._timer is not None
    backlog._timer.cancel()
    await owner.node.store(DEAD)
    await owner.node.store(OTHER, routing=key(1))
    refused = ((0, "a message about it waits for its turn"),)
    assert await owner.drop(doomed(), doomed(OTHER, key(1))) == Dropped(refused)
    backlog._retry()
    await call.done.wait()
    assert await owner.left() == DEAD  # it covered what came
    assert not await owner.left(key(1))
    assert await owner.drop(doomed()) == Dropped(())


async def test_nothing_goes_while_a_delivery_of_the_key_is_merged(owner: Reaped) -> None:
    await owner.node.store(DEAD)
    call = Asked()
    entries = [Delivery(key(at), *PLACE, encode_record(VALUE)) for at in range(SLICE_ENTRIES)]
    entries.append(Delivery(KEY, *PLACE, encode_record(VALUE)))
    owner.node.deliver.on_deliver(Deliver(1000, 1, tuple(entries)), call)
    dropping = Asked()
    owner.reap.on_drop(Drop(1000, 1, (doomed(),)), dropping)
    await dropping.done.wait()
    assert dropping.replies == [Dropped(((0, "a message about it waits for its turn"),))]
    await call.done.wait()
    assert await owner.left() == DEAD
    assert await owner.drop(doomed()) == Dropped(())


async def test_one_that_is_named_twice_goes_once(owner: Reaped) -> None:
    await owner.node.store(DEAD)
    assert await owner.drop(doomed(), doomed()) == Dropped(((1, "named twice"),))
    assert owner.node.metrics.count["tombstones_dropped"] == 1


@pytest.mark.parametrize("epoch", [0, 2])
async def test_another_ring_proves_nothing(owner: Reaped, epoch: int) -> None:
    await owner.node.store(DEAD)
    told: list[tuple[str, int]] = []
    owner.node.replica.on_later_epoch = lambda peer, epoch: told.append((peer, epoch))
    assert code_of(await owner.holds(doomed(), epoch=epoch)) == "stale_epoch"
    assert code_of(await owner.drop(doomed(), epoch=epoch)) == "stale_epoch"
    assert told == ([("test", 2)] * 2 if epoch else [])
    assert await owner.left() == DEAD


async def test_who_does_not_own_the_key_holds_nothing_of_it() -> None:
    async with lone_replica(FALLBACK, GatedStorage()) as node:
        reaped = Reaped(node)
        assert not (await reaped.held(doomed()))
        assert await reaped.drop(doomed()) == Dropped(((0, "this node does not own it"),))


async def test_a_full_disk_lets_go_and_a_failed_one_says_so(owner: Reaped) -> None:
    await owner.node.store(DEAD)
    owner.gate.refuses = "disk_full"
    assert await owner.drop(doomed()) == Dropped(())
    owner.gate.refuses = None
    await owner.node.store(DEAD)
    owner.gate.broken = True
    assert code_of(await owner.drop(doomed())) == "sync_failed"
    assert code_of(await owner.drop(doomed())) == "sync_failed"


# Births -------------------------------------------------------------------------------------------

GONE = tuple(birth_bytes(incarnation_bytes(9, b"elsewher"), sequence) for sequence in range(1, 11))


def grown() -> Record:
    """A value that has replaced ten others, each of a birth of its own."""
    past = tuple((birth, 1) for birth in GONE)
    return foreign(b"now", sequence=11, context=past)


async def test_births_leave_a_vector_and_the_value_stays(owner: Reaped) -> None:
    await owner.node.store(grown())
    wanted = doomed(grown(), births=GONE)
    assert await owner.held(wanted)
    assert await owner.drop(wanted) == Dropped(())
    left = await owner.left()
    assert left.siblings == grown().siblings
    assert [birth for birth, _ in left.vector] == [grown().siblings[0].birth]
    queue = owner.node.replica.queue
    assert queue.page(b"", count_max=10) == []
    # It is another record now, to all who compare.
    assert not (await owner.held(wanted))


async def test_a_birth_that_a_value_needs_stays(owner: Reaped) -> None:
    await owner.node.store(grown())
    wanted = doomed(grown(), births=(*GONE, grown().siblings[0].birth))
    assert await owner.drop(wanted) == Dropped(((0, "a value of such a birth is there"),))
    assert await owner.left() == grown()


async def test_the_birth_that_this_replica_mints_under_goes_on_unless_it_is_among_them(
    owner: Reaped,
) -> None:
    minted = record_of((await owner.node.mint(b"mine", context=grown().vector))[0])
    own = minted.siblings[0].birth
    assert await owner.drop(doomed(minted, births=GONE)) == Dropped(())
    again = record_of((await owner.node.mint(b"again", context=minted.vector))[0])
    assert dict(again.vector)[own] == 2
    covered = record_of((await owner.node.mint(b"theirs"))[0])
    await owner.node.store(foreign(b"over", sequence=12, context=covered.vector))
    left = await owner.left()
    assert await owner.drop(doomed(left, births=(own,))) == Dropped(())
    last = record_of((await owner.node.mint(b"last"))[0])
    assert own not in dict(last.vector)
    assert owner.node.metrics.count["foreign_dots"] == 0


async def test_a_place_in_the_queue_that_stands_for_nothing_goes(owner: Reaped) -> None:
    await owner.node.store(DEAD)
    found = owner.reap.candidate(storage_key())
    assert found is not None
    assert (found.is_dead, found.digest) == (True, record_digest(DEAD))
    owner.node.storage.put("facts", b"reap/" + storage_key(key(1)), bytes(11))
    assert owner.reap.candidate(storage_key(key(1))) is None
    assert [one.storage_key for one in owner.node.replica.queue.page(b"", count_max=9)] == [
        storage_key()
    ]
