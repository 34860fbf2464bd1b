"""The queue of what waits to be reaped: beside the records, in the same batch, counted page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from lone_replica import KEY, OWNERS, LoneReplica, foreign, key, lone_replica, storage_key

from dynamo.ports import Write
from dynamo.reap_queue import LONG, PAGE_ENTRIES, REAP_PREFIX, Queued
from dynamo.record import TOMBSTONE, Record, encode_record, merge
from dynamo.store.memory import MemoryStorage
from dynamo.stored import DEAD, LIVE


class Batches(MemoryStorage):
    """Memory that remembers in which batches it was written to."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[tuple[str, bytes]]] = []

    def write(self, writes: Sequence[Write], *, reserve: bool = False) -> int:
        self.batches.append([(one.family, one.key) for one in writes])
        return super().write(writes)


def tombstone(sequence: int = 1) -> Record:
    return foreign(b"", sequence=sequence, kind=TOMBSTONE)


def long(entries: int, value: bytes = b"v") -> Record:
    record = foreign(value, sequence=1)
    for sequence in range(2, entries + 1):
        record = merge(record, foreign(value, sequence=sequence))
    return record


def queued(node: LoneReplica) -> list[Queued]:
    return node.replica.queue.page(b"", count_max=10_000)


def counts(node: LoneReplica) -> tuple[int, int]:
    return node.replica.queue.dead, node.replica.queue.long


async def counted(node: LoneReplica) -> None:
    task = asyncio.ensure_future(node.replica.queue.run(asyncio.sleep))
    while not node.replica.queue.counted:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_tombstone_is_queued_in_the_batch_that_writes_it() -> None:
    storage = Batches()
    async with lone_replica(OWNERS[0], storage) as node:
        await counted(node)
        await node.store(tombstone())
        assert storage.batches == [
            [("records", storage_key()), ("facts", REAP_PREFIX + storage_key())]
        ]
        assert queued(node) == [Queued(storage_key(), DEAD, 1, 1)]
        assert counts(node) == (1, 0)


async def test_a_value_is_written_alone_and_takes_a_tombstone_out_of_the_queue() -> None:
    storage = Batches()
    async with lone_replica(OWNERS[0], storage) as node:
        await counted(node)
        await node.mint(b"v")
        assert storage.batches == []
        await node.store(tombstone(), routing=key(1))
        await node.mint(b"new", routing=key(1))
        assert storage.batches[-1][1] == ("facts", REAP_PREFIX + storage_key(key(1)))
        assert (queued(node), counts(node)) == ([], (0, 0))
        await node.store(foreign(b"", sequence=2, kind=TOMBSTONE), routing=key(1))
        assert counts(node) == (0, 0)  # beside a value


async def test_long_vectors_are_queued_from_their_ninth_entry_on() -> None:
    async with lone_replica(OWNERS[0], MemoryStorage()) as node:
        await counted(node)
        await node.store(long(LONG))
        assert counts(node) == (0, 0)
        await node.store(long(LONG + 1))
        assert queued(node) == [Queued(storage_key(), LIVE, LONG + 1, 1)]
        await node.store(long(LONG + 3))
        assert (queued(node)[0].entries, counts(node)) == (LONG + 3, (0, 1))


async def test_a_dead_record_with_a_long_vector_waits_once() -> None:
    async with lone_replica(OWNERS[0], MemoryStorage()) as node:
        await counted(node)
        record = long(LONG + 1)
        await node.store(record)
        minted = (await node.mint(context=record.vector, kind=TOMBSTONE))[0]
        assert minted is not None
        assert (queued(node)[0].state, counts(node)) == (DEAD, (1, 0))
        await node.mint(b"new")
        assert (queued(node)[0].state, counts(node)) == (LIVE, (0, 1))


async def test_a_dropped_record_leaves_nothing_and_its_births_cannot_go_on() -> None:
    storage = Batches()
    async with lone_replica(OWNERS[0], storage) as node:
        await counted(node)
        await node.mint(b"v")
        await node.mint(context=stored(node).vector, kind=TOMBSTONE)
        before = stored(node)
        tree = node.replica.forest.trees[storage_key()[:6]]
        tree.begin()
        tree.reached = None
        empty = tree.root()
        seen = node.replica.look(storage_key())
        assert seen is not None
        tree.note(storage_key(), seen.stored.position, seen.stored.element)
        number = node.replica.drop([(storage_key(), seen.stored)])
        assert node.replica.unsynced[storage_key()] == number
        assert tree.root() == empty
        assert storage.get("records", storage_key()) is None
        assert (queued(node), counts(node)) == ([], (0, 0))
        await node.mint(b"again")
        assert dict(stored(node).vector).keys().isdisjoint(dict(before.vector))


def stored(node: LoneReplica) -> Record:
    seen = node.replica.look(storage_key())
    assert seen is not None
    return seen.record()


async def test_what_is_there_at_a_start_is_counted_page_by_page_while_writes_go_on() -> None:
    storage = MemoryStorage()
    many = PAGE_ENTRIES + 500
    async with lone_replica(OWNERS[0], storage) as node:
        await asyncio.gather(*(node.store(tombstone(), routing=key(2 * at)) for at in range(many)))
        assert counts(node) == (0, 0)  # nobody counts yet
    async with lone_replica(OWNERS[0], storage) as node:
        queue = node.replica.queue
        queue._count_some()
        assert (queue.dead, queue.counted) == (PAGE_ENTRIES, False)
        # Behind the place that the count has reached, and before it: one new, one gone, each.
        await node.store(tombstone(), routing=key(1))
        await node.mint(b"v", routing=key(2))
        await node.store(tombstone(), routing=key(2 * many + 1))
        await node.mint(b"v", routing=key(2 * many - 2))
        await counted(node)
        assert counts(node) == (many, 0) == (len(queued(node)), 0)


async def test_a_damaged_tombstone_leaves_the_queue_and_comes_back_with_what_mends_it() -> None:
    storage = MemoryStorage()
    async with lone_replica(OWNERS[0], storage) as node:
        await counted(node)
        await node.store(tombstone())
        data = storage.get("records", storage_key())
        assert data is not None
        storage.put("records", storage_key(), data[:-1] + bytes((data[-1] ^ 1,)))
        await node.fetch()
        assert (queued(node), counts(node)) == ([], (0, 0))
        await node.store(tombstone())
        assert (len(queued(node)), counts(node)) == (1, (1, 0))


async def test_a_fact_that_cannot_be_read_is_looked_at_all_the_same() -> None:
    storage = MemoryStorage()
    storage.put("facts", REAP_PREFIX + storage_key(), b"?")
    async with lone_replica(OWNERS[0], storage) as node:
        assert queued(node) == [Queued(storage_key(), DEAD, 0, 0)]
        await counted(node)
        node.replica.leave_queue(storage_key())
        assert (queued(node), counts(node)) == ([], (0, 0))


async def test_whoever_reaps_is_woken_by_the_first() -> None:
    async with lone_replica(OWNERS[0], MemoryStorage()) as node:
        await counted(node)
        woken: list[str] = []
        node.replica.queue.on_queued = lambda: woken.append("!")
        await node.store(tombstone())
        await node.store(tombstone(), routing=key(1))
        assert woken == ["!"]


@pytest.mark.parametrize("shown", [True, False])
async def test_a_tombstone_counts_from_when_it_was_written(shown: bool) -> None:
    async with lone_replica(OWNERS[0], MemoryStorage()) as node:
        record = tombstone()
        if shown:
            await node.mint(b"v")
            await node.store(record)
            assert queued(node) == []
        else:
            await node.take((KEY, encode_record(record)))
            assert queued(node)[0].since_ms == 1
