"""The target of a delivery: what it merges, what it refuses, and when it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

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
)

from dynamo.record import TOMBSTONE, Record, encode_record, merge
from dynamo.replica_deliver import SLICE_ENTRIES, UNDER_WAY_MAX
from dynamo.rpc.messages import DELIVERIES_MAX, Deliver, Delivered, Delivery, Synced
from dynamo.version import birth_bytes, incarnation_bytes


@pytest.fixture
async def owner() -> AsyncIterator[LoneReplica]:
    async with lone_replica(OWNERS[0], GatedStorage()) as node:
        yield node


def gate(node: LoneReplica) -> GatedStorage:
    assert isinstance(node.storage, GatedStorage)
    return node.storage


def many(count: int) -> list[tuple[bytes, Record]]:
    return [(key(number), foreign(b"x", sequence=number + 1)) for number in range(count)]


async def test_what_is_delivered_is_merged_and_answered_once_it_is_on_disk(
    owner: LoneReplica,
) -> None:
    mine = record_of((await owner.mint(b"mine"))[0])
    gate(owner).gate.clear()
    taking = asyncio.create_task(owner.take((KEY, foreign(b"missed")), (key(1), foreign(b"2"))))
    await asyncio.sleep(0.01)
    assert not taking.done()
    gate(owner).gate.set()
    assert await taking == Delivered()
    assert record_of(await owner.fetch()) == merge(mine, foreign(b"missed"))
    assert record_of(await owner.fetch(routing=key(1))) == foreign(b"2")
    assert owner.replica.unsynced == {}


async def test_what_was_delivered_before_changes_nothing(owner: LoneReplica) -> None:
    await owner.take((KEY, foreign(b"1")))
    number = owner.storage.write_number
    assert await owner.take((KEY, foreign(b"1")), (KEY, foreign(b"1"))) == Delivered()
    assert owner.storage.write_number == number


async def test_what_was_delivered_twice_at_a_time_waits_for_the_one_sync(
    owner: LoneReplica,
) -> None:
    gate(owner).gate.clear()
    taking = [asyncio.create_task(owner.take((KEY, foreign(b"1")))) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in taking)
    gate(owner).gate.set()
    assert await asyncio.gather(*taking) == [Delivered(), Delivered()]


async def test_entries_are_refused_one_by_one(owner: LoneReplica) -> None:
    reply = await owner.take(
        (KEY, foreign(b"1")), (key(1), b"rubbish"), (key(2), b""), (key(3), foreign(b"3"))
    )
    assert reply == Delivered(((1, "malformed"), (2, "malformed")))
    assert record_of(await owner.fetch(routing=key(3))) == foreign(b"3")
    assert owner.metrics.count["deliveries_refused_malformed"] == 2
    assert owner.metrics.count["deliveries_stored"] == 2


async def test_who_owns_nothing_of_it_takes_nothing() -> None:
    async with lone_replica(FALLBACK, GatedStorage()) as node:
        assert await node.take((KEY, foreign(b"1"))) == Delivered(((0, "not_owner"),))


async def test_what_is_delivered_by_an_older_ring_is_refused(owner: LoneReplica) -> None:
    reply = await owner.take((KEY, foreign(b"1")), epoch=0)
    assert reply == Delivered(((0, "stale_epoch"),))


async def test_a_disk_that_is_nearly_full_takes_delivered_deletes_alone(
    owner: LoneReplica,
) -> None:
    gate(owner).refuses = "disk_full"
    taking = asyncio.create_task(
        owner.take((KEY, foreign(b"1")), (key(1), foreign(b"", kind=TOMBSTONE)))
    )
    assert await taking == Delivered(((0, "disk_full"),))


async def test_a_storage_that_is_behind_refuses_what_it_cannot_take(owner: LoneReplica) -> None:
    gate(owner).busy = 1
    reply = await owner.take((KEY, foreign(b"1")), (key(1), foreign(b"2")))
    assert reply == Delivered(((0, "storage_busy"),))


async def test_a_sync_that_fails_says_so(owner: LoneReplica) -> None:
    gate(owner).broken = True
    assert code_of(await owner.take((KEY, foreign(b"1")))) == "sync_failed"


async def test_a_sync_that_fails_between_two_slices_is_told(
    owner: LoneReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a disk that was full, whose storage is reopened meanwhile: the first slice may be gone, and
    the hints that are called delivered are removed."""
    held: list[Callable[[], None]] = []
    monkeypatch.setattr(owner.clock, "call_later", lambda delay, then: held.append(then))
    taking = asyncio.create_task(owner.take(*many(SLICE_ENTRIES + 1)))
    await asyncio.sleep(0.01)
    gate(owner).fails_once = True
    owner.commit.reopened()
    await asyncio.sleep(0.01)
    assert owner.metrics.count["flushes_failed"] == 1
    held.pop()()
    assert code_of(await taking) == "storage_error"


async def test_a_dot_of_this_incarnation_that_it_never_minted_is_an_alarm(
    owner: LoneReplica,
) -> None:
    told: list[None] = []
    owner.replica.on_foreign_dot = lambda: told.append(None)
    incarnation = incarnation_bytes(1, owner.who.encode().rjust(8, b"\0"))
    birth = birth_bytes(incarnation, 7)
    clone = Record(1, ((birth, 1),), ())
    await owner.take((KEY, clone))
    assert len(told) == 1


async def test_others_are_served_between_the_slices_of_a_delivery(owner: LoneReplica) -> None:
    taking = asyncio.create_task(owner.take(*many(DELIVERIES_MAX)))
    await asyncio.sleep(0)
    assert owner.metrics.count["deliveries_stored"] == SLICE_ENTRIES
    assert isinstance((await owner.mint(b"mine", routing=key(5_000)))[-1], Synced)
    assert owner.metrics.count["deliveries_stored"] < DELIVERIES_MAX
    assert await taking == Delivered()
    assert owner.metrics.count["deliveries_stored"] == DELIVERIES_MAX
    assert len(owner.deliver) == 0


async def test_large_records_make_shorter_slices(owner: LoneReplica) -> None:
    entries = [(key(n), foreign(bytes(700_000), sequence=n + 1)) for n in range(4)]
    taking = asyncio.create_task(owner.take(*entries))
    await asyncio.sleep(0)
    assert owner.metrics.count["deliveries_stored"] == 2
    assert await taking == Delivered()


async def test_what_nobody_waits_for_is_not_gone_on_with(owner: LoneReplica) -> None:
    entries = tuple(Delivery(name, *PLACE, encode_record(one)) for name, one in many(200))
    call = Asked(deadline=owner.clock.monotonic() + 0.01)
    owner.deliver.on_deliver(Deliver(10, 1, entries), call)
    call.deadline = 0.0
    await call.done.wait()
    assert code_of(call.replies[0]) == "deadline_past"
    assert owner.metrics.count["deliveries_stored"] == SLICE_ENTRIES


async def test_deliveries_at_a_time_are_bounded(owner: LoneReplica) -> None:
    entries = tuple(Delivery(name, *PLACE, encode_record(one)) for name, one in many(65))
    calls = [Asked() for _ in range(UNDER_WAY_MAX + 1)]
    for call in calls:
        owner.deliver.on_deliver(Deliver(1000, 1, entries), call)
    assert code_of(calls[-1].replies[0]) == "busy"
    await calls[0].done.wait()
    assert calls[0].replies == [Delivered()]


async def test_a_node_that_stops_answers_for_what_it_has_not_merged(owner: LoneReplica) -> None:
    entries = tuple(Delivery(name, *PLACE, encode_record(one)) for name, one in many(200))
    call = Asked()
    owner.deliver.on_deliver(Deliver(1000, 1, entries), call)
    owner.deliver.close()
    assert code_of(call.replies[0]) == "not_ready"
    await asyncio.sleep(0.01)
    assert owner.metrics.count["deliveries_stored"] == SLICE_ENTRIES
