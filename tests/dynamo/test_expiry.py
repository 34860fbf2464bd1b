"""What waits for its time is queued with its record, and goes when that is over; nothing else does."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import msgspec
import pytest
from lone_replica import (
    KEY,
    OWNERS,
    LoneReplica,
    foreign,
    key,
    lone_replica,
    mint_message,
    record_of,
    storage_key,
)

from dynamo.believed_time import BELIEVED_AFTER
from dynamo.errors import StorageRefusesWrites
from dynamo.expiry import LOOK_INTERVAL, LOOK_JITTER, PAGE_ENTRIES, Expiry
from dynamo.keys import PREFIX_BYTES
from dynamo.ports import Write
from dynamo.queues import EXPIRY_PREFIX, body_goes_ms, expired_end, expiry_key
from dynamo.record import (
    EMPTY,
    EXPIRED_BODY_KEPT_MS,
    INT64_MAX,
    TOMBSTONE,
    VALUE,
    Record,
    merge,
    record_digest,
)
from dynamo.refill_marks import facts
from dynamo.rpc.messages import Synced
from dynamo.store.memory import MemoryStorage
from dynamo.stored import DEAD, EXPIRING, LIVE, Stored, decode_stored

NOW = 1_700_000_000_000
SOON = NOW + 5_000
LATER = NOW + 60_000
HOUR = EXPIRED_BODY_KEPT_MS


class Disk(MemoryStorage):
    """May be full but for what is kept free, and counts batches."""

    full = False
    batches = 0

    def refusal(self, *, reserve: bool = False) -> str | None:
        return "disk_full" if self.full and not reserve else super().refusal(reserve=reserve)

    def write(self, writes: object, *, reserve: bool = False) -> int:
        if self.full and not reserve:
            raise StorageRefusesWrites("full", reason="disk_full")
        self.batches += 1
        return super().write(writes, reserve=reserve)  # type: ignore[arg-type]


@pytest.fixture
async def owner() -> AsyncIterator[LoneReplica]:
    async with lone_replica(OWNERS[0], Disk()) as replica:
        yield replica


def queue(owner: LoneReplica) -> list[tuple[int, bytes]]:
    """(when, storage key) of each entry."""
    found = [entry for entry, _ in facts(owner.storage, EXPIRY_PREFIX)]
    return [(int.from_bytes(entry[:8]), entry[8:]) for entry in found]


def stored(owner: LoneReplica, routing: bytes = KEY) -> Stored:
    at = storage_key(routing)
    data = owner.storage.get("records", at)
    assert data is not None
    return decode_stored(at, data)


def expiring(expires_ms: int, *, value: bytes = b"v", sequence: int = 1) -> Record:
    record = foreign(value, sequence=sequence)
    sibling = msgspec.structs.replace(record.siblings[0], expires_ms=expires_ms)
    return msgspec.structs.replace(record, siblings=(sibling,))


async def mint(
    owner: LoneReplica,
    expires_ms: int,
    *,
    context: Record = EMPTY,
    routing: bytes = KEY,
    kind: int = VALUE,
) -> Record:
    message = mint_message(context=context.vector, routing=routing, kind=kind)
    message = msgspec.structs.replace(message, expires_ms=expires_ms)
    return record_of((await owner.asked(owner.replica.on_mint, message))[0])


def sweeper(owner: LoneReplica) -> Expiry:
    return Expiry(
        replica=owner.replica,
        storage=owner.storage,
        commit=owner.commit,
        clock=owner.clock,
        chance=random.Random(1),
        metrics=owner.metrics,
    )


async def at_once(seconds: float) -> None:
    pass


async def sweep(owner: LoneReplica, now_ms: int) -> None:
    """Have the node look at its queue when its clock says so, and has said so for long."""
    owner.clock.now_ms = now_ms
    await sweeper(owner).work_off(at_once)


# What is queued ----------------------------------------------------------------------------------


async def test_only_what_expires_has_an_entry(owner: LoneReplica) -> None:
    kept = await mint(owner, 0)
    assert (queue(owner), stored(owner).state) == ([], LIVE)
    before = owner.storage.batches  # type: ignore[attr-defined]
    shown = await mint(owner, 0, context=kept)
    assert owner.storage.batches == before  # type: ignore[attr-defined]
    shown = await mint(owner, SOON, context=shown)
    assert (queue(owner), stored(owner).state) == ([(SOON + HOUR, storage_key())], EXPIRING)
    shown = await mint(owner, LATER, context=shown)
    assert queue(owner) == [(LATER + HOUR, storage_key())]
    await mint(owner, 0, context=shown)
    assert (queue(owner), stored(owner).state) == ([], LIVE)


async def test_a_delete_takes_the_entry_with_it(owner: LoneReplica) -> None:
    shown = await mint(owner, SOON)
    await mint(owner, 77, context=shown, kind=TOMBSTONE)  # whatever is said of a tombstone
    assert (queue(owner), stored(owner).state) == ([], DEAD)


async def test_of_several_siblings_the_first_that_goes_is_queued(owner: LoneReplica) -> None:
    one, other = expiring(LATER), expiring(SOON, sequence=2)
    assert isinstance(await owner.store(one), Synced)
    await owner.store(other)
    await owner.store(foreign(b"stays", sequence=3))
    assert (queue(owner), stored(owner).state) == ([(SOON + HOUR, storage_key())], EXPIRING)
    await sweep(owner, SOON + HOUR)
    assert (queue(owner), stored(owner).state) == ([(LATER + HOUR, storage_key())], EXPIRING)
    await sweep(owner, LATER + HOUR)
    assert (queue(owner), stored(owner).state) == ([], LIVE)


async def test_what_is_owed_to_others_is_queued_in_one_batch_too(owner: LoneReplica) -> None:
    message = mint_message(owes=tuple(range(5)))
    absent = [i for i in range(5) if "abcde"[i] in OWNERS[1:]]
    message = msgspec.structs.replace(message, expires_ms=SOON, owes=tuple(absent))
    owner.down.update(OWNERS[1:])
    await owner.asked(owner.replica.on_mint, message)
    assert owner.storage.batches == 1  # type: ignore[attr-defined]
    assert queue(owner) == [(SOON + HOUR, storage_key())]
    assert owner.hints.page(OWNERS[1], b"", count_max=9, bytes_max=9999)[0][0].is_marker


def test_the_queue_is_in_the_order_of_time() -> None:
    assert expiry_key(1, b"z") < expiry_key(2, b"a") < expired_end(2) <= expiry_key(3, b"")
    assert expired_end(-5) == EXPIRY_PREFIX
    assert expiry_key(INT64_MAX, b"k") < expired_end(INT64_MAX + 5)
    assert body_goes_ms(expiring(INT64_MAX)) == INT64_MAX
    assert body_goes_ms(foreign(b"v")) == 0


# What goes ---------------------------------------------------------------------------------------


async def test_a_body_goes_and_nothing_else_changes(owner: LoneReplica) -> None:
    tree = owner.replica.forest.trees[storage_key()[:PREFIX_BYTES]]
    await mint(owner, SOON)
    minted, before, leaves = await owner.fetch(body=False), stored(owner), list(tree.leaves)
    await sweep(owner, SOON + HOUR - 1)
    assert stored(owner) == before
    await sweep(owner, SOON + HOUR)
    after = stored(owner)
    assert (await owner.fetch(body=False), list(tree.leaves)) == (minted, leaves)
    assert (after.position, after.element) == (before.position, before.element)
    assert (after.birth, after.counter, after.state) == (before.birth, before.counter, DEAD)
    (sibling,) = record_of(await owner.fetch()).siblings
    assert (sibling.content, sibling.expires_ms) == (None, SOON)
    assert (queue(owner), owner.replica.unsynced) == ([], {})
    assert owner.metrics.count["expired_bodies_dropped"] == 1


async def test_a_body_that_went_does_not_come_back(owner: LoneReplica) -> None:
    bodied = expiring(SOON)
    await owner.store(bodied)
    await sweep(owner, SOON + HOUR)
    bare = record_of(await owner.fetch())
    number = owner.storage.write_number
    assert isinstance(await owner.store(bodied), Synced)
    await owner.take((KEY, bodied))
    assert (record_of(await owner.fetch()), owner.storage.write_number) == (bare, number)
    assert record_digest(bare) == record_digest(bodied)
    assert merge(bodied, bare) == merge(bare, bodied) == bare


async def test_a_mint_beside_what_nothing_shows_any_more_replaces_it(owner: LoneReplica) -> None:
    gone = await mint(owner, SOON)
    await sweep(owner, SOON + HOUR)
    record = await mint(owner, 0)
    (sibling,) = record.siblings
    assert sibling.content is not None
    assert merge(record, gone) == record


async def test_a_copy_that_comes_late_goes_at_the_next_look(owner: LoneReplica) -> None:
    owner.clock.now_ms = SOON + 2 * HOUR
    await owner.store(expiring(SOON))
    assert stored(owner).state == EXPIRING
    await sweep(owner, SOON + 2 * HOUR)
    assert stored(owner).state == DEAD


async def test_a_queue_is_worked_off_in_pages(owner: LoneReplica) -> None:
    count = 3 * PAGE_ENTRIES + 1
    for number in range(count):
        await owner.store(expiring(SOON + number), routing=key(number))
    await owner.store(expiring(LATER), routing=key(count))
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    owner.clock.now_ms = SOON + HOUR + count
    await sweeper(owner).work_off(pause)
    assert owner.metrics.count["expired_bodies_dropped"] == count
    assert queue(owner) == [(LATER + HOUR, storage_key(key(count)))]
    assert len(pauses) == 4


async def test_a_stale_entry_is_dropped_and_the_record_stays(owner: LoneReplica) -> None:
    await mint(owner, LATER)
    await mint(owner, 0, routing=key(2))
    for at in (storage_key(), storage_key(key(2)), storage_key(key(3)), b"", b"x"):
        owner.storage.write((Write("facts", expiry_key(SOON, at), b""),))
    before = stored(owner), stored(owner, key(2))
    await sweep(owner, SOON + HOUR)
    assert (stored(owner), stored(owner, key(2))) == before
    assert queue(owner) == [(LATER + HOUR, storage_key())]
    assert owner.metrics.count["expiries_stale"] == 5


async def test_a_damaged_record_is_put_aside_by_the_look(owner: LoneReplica) -> None:
    await mint(owner, SOON)
    data = owner.storage.get("records", storage_key())
    assert data is not None
    owner.storage.put("records", storage_key(), data[:-1] + bytes((data[-1] ^ 1,)))
    await sweep(owner, SOON + HOUR)
    assert owner.replica.damaged == {storage_key()}
    assert queue(owner) == []
    await owner.store(expiring(SOON))  # a peer's copy
    assert queue(owner) == [(SOON + HOUR, storage_key())]


async def test_bodies_go_from_a_full_disk(owner: LoneReplica) -> None:
    await mint(owner, SOON)
    owner.storage.full = True  # type: ignore[attr-defined]
    await sweep(owner, SOON + HOUR)
    assert (queue(owner), stored(owner).state) == ([], DEAD)


async def test_a_failing_disk_leaves_the_queue_and_the_task(owner: LoneReplica) -> None:
    await mint(owner, SOON)
    waits: list[float] = []

    class Enough(Exception):
        pass

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            owner.storage.write = write  # type: ignore[method-assign]
        if len(waits) == 4:
            raise Enough

    write = owner.storage.write
    owner.clock.now_ms = SOON + HOUR
    task = sweeper(owner)
    owner.storage.write = _fails  # type: ignore[method-assign]
    with pytest.raises(Enough):
        await task.run(sleep)
    assert owner.metrics.count["expiries_interrupted"] == 2
    assert (queue(owner), stored(owner).state) == ([], DEAD)
    assert all(abs(one - LOOK_INTERVAL) <= LOOK_INTERVAL * LOOK_JITTER for one in waits[:3])
    assert len(set(waits[:3])) == 3


def _fails(writes: object, *, reserve: bool = False) -> int:
    raise StorageRefusesWrites("no", reason="storage_error")


async def test_a_clock_that_jumps_ahead_costs_no_value(owner: LoneReplica) -> None:
    await mint(owner, LATER)
    clock, task = owner.clock, sweeper(owner)
    clock.jump(365 * 24 * HOUR)
    await task.work_off(at_once)
    clock.now_ms += int(BELIEVED_AFTER * 1000) - 2 * 60_000
    await task.work_off(at_once)
    assert stored(owner).state == EXPIRING
    clock.jump(-365 * 24 * HOUR)
    await task.work_off(at_once)
    assert stored(owner).state == EXPIRING
    await sweep(owner, LATER + HOUR)
    assert stored(owner).state == DEAD


async def test_a_jump_that_lasts_is_the_time(owner: LoneReplica) -> None:
    await mint(owner, LATER)
    clock, task = owner.clock, sweeper(owner)
    clock.jump(24 * HOUR)
    await task.work_off(at_once)
    clock.now_ms += int(BELIEVED_AFTER * 1000)
    await task.work_off(at_once)
    assert stored(owner).state == DEAD
