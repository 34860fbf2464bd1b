"""What a replica keeps for absent owners: minted, merged, owed, paged, settled, bounded, dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from little_cluster import GatedStorage
from lone_replica import (
    FALLBACK,
    KEY,
    OTHER_FALLBACK,
    OWNERS,
    PLACE,
    RING,
    Asked,
    HandClock,
    LoneReplica,
    code_of,
    foreign,
    hint_key,
    index,
    key,
    lone_replica,
    mint_message,
    record_of,
    storage_key,
)
from storages import open_sim, quick_disk, rocks

from dynamo.errors import StorageError
from dynamo.hint_store import Hint
from dynamo.keys import partition_prefix
from dynamo.own_records import OwnRecords
from dynamo.ports import Family, Storage, Write
from dynamo.record import TOMBSTONE, decode_record, encode_record, merge, record_digest
from dynamo.rpc.messages import Body, Digest, Minted, Reply, Synced
from dynamo.store.memory import MemoryStorage
from dynamo.stored import decode_hint
from dynamo.version import incarnation_bytes

FIRST, SECOND, THIRD = OWNERS
HOUR_MS = 3_600_000
WINDOW_MS = 3 * HOUR_MS
LATER = incarnation_bytes(2, b"restart!")


@pytest.fixture(params=["memory", "rocks"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    if request.param == "memory":
        yield MemoryStorage()
    else:
        async with rocks(tmp_path) as opened:
            yield opened


@pytest.fixture
async def fallback(storage: Storage) -> AsyncIterator[LoneReplica]:
    async with lone_replica(FALLBACK, storage) as node:
        yield node


@pytest.fixture
async def owner(storage: Storage) -> AsyncIterator[LoneReplica]:
    async with lone_replica(FIRST, storage) as node:
        yield node


def page(node: LoneReplica, target: str = FIRST) -> tuple[Hint, ...]:
    """All hints for the target, a few at a time."""
    hints: list[Hint] = []
    after = b""
    while True:
        some, after = node.hints.page(target, after, count_max=3, bytes_max=1 << 20)
        assert len(some) <= 3
        hints += some
        if not after:
            return tuple(hints)


def birth(reply: Reply) -> bytes:
    assert isinstance(reply, Minted)
    return reply.birth


def counts(node: LoneReplica) -> dict[str, int]:
    return {held.target: held.count for held in node.hints.held()}


def on_disk_bytes(node: LoneReplica) -> int:
    found = node.storage.scan("hints", b"", b"\xff", count_max=10_000, bytes_max=1 << 30)
    return sum(len(name) + len(data) for name, data in found)


# Minting and merging ------------------------------------------------------------------------------


async def test_a_fallback_mints_into_the_hint_and_into_nothing_else(fallback: LoneReplica) -> None:
    minted, synced = await fallback.mint(b"1", hint_for=FIRST)
    assert isinstance(synced, Synced)
    (hint,) = page(fallback)
    assert (hint.target, hint.key, hint.is_marker) == (FIRST, KEY, False)
    assert decode_record(hint.record) == record_of(minted)
    assert fallback.storage.get("records", storage_key()) is None


async def test_counters_run_on_within_the_birth_of_a_hint(fallback: LoneReplica) -> None:
    one = record_of((await fallback.mint(hint_for=FIRST))[0])
    two = record_of((await fallback.mint(context=one.vector, hint_for=FIRST))[0])
    ((first, counter),) = two.vector
    assert (first, counter) == (one.vector[0][0], 2)


async def test_two_hints_of_a_key_have_a_birth_each_and_do_not_see_each_other(
    fallback: LoneReplica,
) -> None:
    one = (await fallback.mint(b"1", hint_for=FIRST))[0]
    two = (await fallback.mint(b"2", hint_for=SECOND))[0]
    assert birth(one) != birth(two)
    assert len(record_of(two).siblings) == 1
    assert fallback.metrics.count["foreign_dots"] == 0


async def test_a_hint_that_was_delivered_and_dropped_takes_its_birth_with_it(
    fallback: LoneReplica,
) -> None:
    """Scene 13: then it becomes fallback again and mints for the same key."""
    dots = set()
    for turn in range(3):
        one = (await fallback.mint(b"%d" % turn, hint_for=FIRST))[0]
        assert isinstance(one, Minted)
        assert (one.birth, one.counter) not in dots
        dots.add((one.birth, one.counter))
        assert fallback.hints.settle(page(fallback)) == 1
    assert len({birth for birth, _ in dots}) == 3
    assert fallback.metrics.count["foreign_dots"] == 0


async def test_a_store_merges_into_the_hint_and_leaves_its_birth_alone(
    fallback: LoneReplica,
) -> None:
    mine = (await fallback.mint(b"mine", hint_for=FIRST))[0]
    assert isinstance(await fallback.store(foreign(b"theirs"), hint_for=FIRST), Synced)
    (hint,) = page(fallback)
    merged = decode_record(hint.record)
    assert merged == merge(record_of(mine), foreign(b"theirs"))
    again = (await fallback.mint(b"2", merged.vector, hint_for=FIRST))[0]
    assert isinstance(again, Minted)
    assert (again.birth, again.counter) == (birth(mine), 2)


async def test_stores_of_what_a_hint_has_write_nothing(fallback: LoneReplica) -> None:
    await fallback.store(foreign(b"1"), hint_for=FIRST)
    number = fallback.storage.write_number
    assert isinstance(await fallback.store(foreign(b"1"), hint_for=FIRST), Synced)
    assert fallback.storage.write_number == number


async def test_a_hint_survives_a_restart_and_its_birth_is_not_minted_under_again(
    storage: Storage,
) -> None:
    async with lone_replica(FALLBACK, storage) as node:
        before = (await node.mint(b"1", hint_for=FIRST))[0]
        held = node.hints.held()
    async with lone_replica(FALLBACK, storage, incarnation=LATER) as node:
        await asyncio.sleep(0.01)
        assert node.hints.counted
        assert node.hints.held() == held
        (hint,) = page(node)
        assert decode_record(hint.record) == record_of(before)
        after = (await node.mint(b"2", record_of(before).vector, hint_for=FIRST))[0]
        assert birth(after) != birth(before)
        assert len(record_of(after).siblings) == 1


async def test_no_answer_leaves_before_the_hint_is_on_disk() -> None:
    storage = GatedStorage()
    async with lone_replica(FALLBACK, storage) as node:
        storage.gate.clear()
        minting = asyncio.create_task(node.mint(hint_for=FIRST))
        storing = asyncio.create_task(node.store(foreign(b"x"), hint_for=SECOND))
        await asyncio.sleep(0.01)
        fetching = asyncio.create_task(node.fetch(hinted=True))
        await asyncio.sleep(0.01)
        assert [minting.done(), storing.done(), fetching.done()] == [False] * 3
        assert page(node) == ()  # nor is it delivered
        storage.gate.set()
        assert isinstance((await minting)[-1], Synced)
        assert isinstance(await storing, Synced)
        assert len(record_of(await fetching).siblings) == 2
        assert len(page(node)) == 1


async def test_a_hint_whose_sync_failed_is_answered_for_by_no_synced() -> None:
    storage = GatedStorage()
    async with lone_replica(FALLBACK, storage) as node:
        storage.broken = True
        refused = (await node.mint(hint_for=FIRST))[-1]
        assert code_of(refused) == "sync_failed"
        assert page(node) == ()


# Reading ------------------------------------------------------------------------------------------


async def test_a_hinted_fetch_merges_the_hints_of_all_targets(fallback: LoneReplica) -> None:
    one = record_of((await fallback.mint(b"1", hint_for=FIRST))[0])
    two = record_of((await fallback.mint(b"2", hint_for=SECOND))[0])
    merged = merge(one, two)
    assert await fallback.fetch(hinted=True) == Body(encode_record(merged))
    digest = Digest(merged.vector, record_digest(merged))
    assert await fallback.fetch(hinted=True, body=False) == digest
    fallback.hints.settle(page(fallback, FIRST))
    assert await fallback.fetch(hinted=True) == Body(encode_record(two))


async def test_a_hinted_fetch_finds_nothing_only_once_it_is_known_what_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = MemoryStorage()
    async with lone_replica(FALLBACK, storage) as node:
        held = record_of((await node.mint(hint_for=FIRST))[0])

    def fail(*names: object, **bounds: object) -> list[tuple[bytes, bytes]]:
        raise StorageError("it cannot be read now")

    with monkeypatch.context() as broken:
        broken.setattr(storage, "scan", fail)
        broken.setattr(OwnRecords, "_load_marks", lambda self: None)
        node = LoneReplica(FALLBACK, storage, incarnation=LATER)
        assert code_of(await node.fetch(hinted=True)) == "storage_error"
    node.start()
    await asyncio.sleep(0.01)
    assert record_of(await node.fetch(hinted=True)) == held
    await node.stop()


async def test_a_hinted_fetch_of_what_is_not_held_finds_nothing(fallback: LoneReplica) -> None:
    await fallback.mint(hint_for=FIRST, routing=key(1))
    assert await fallback.fetch(hinted=True) == Body(b"")
    assert await fallback.fetch(hinted=True, body=False) == Digest((), b"")


async def test_a_fallback_answers_no_fetch_that_does_not_ask_for_hints(
    fallback: LoneReplica,
) -> None:
    await fallback.mint(hint_for=FIRST)
    assert code_of(await fallback.fetch()) == "not_owner"


async def test_an_owner_answers_a_hinted_fetch_with_its_own_record(owner: LoneReplica) -> None:
    minted = (await owner.mint())[0]
    assert record_of(await owner.fetch(hinted=True)) == record_of(minted)


async def test_hints_are_found_before_they_are_all_counted(storage: Storage) -> None:
    async with lone_replica(FALLBACK, storage) as node:
        minted = (await node.mint(hint_for=SECOND))[0]
    async with lone_replica(FALLBACK, storage, count=False, incarnation=LATER) as node:
        assert not node.hints.counted
        assert [held.target for held in node.hints.held()] == [SECOND]
        assert record_of(await node.fetch(hinted=True)) == record_of(minted)


# Owing --------------------------------------------------------------------------------------------


async def test_an_owner_notes_what_it_owes_in_the_batch_that_writes_the_record(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[list[tuple[str, bytes]]] = []
    write = storage.write

    def watched(writes: list[Write], *, reserve: bool = False) -> int:
        batches.append([(one.family, one.key) for one in writes])
        return write(writes, reserve=reserve)

    monkeypatch.setattr(storage, "write", watched)
    async with lone_replica(FIRST, storage) as node:
        minted = (await node.mint(owes=[index(SECOND), index(THIRD)]))[0]
        (batch,) = batches
        assert {
            ("records", storage_key()),
            ("hints", hint_key(SECOND)),
            ("hints", hint_key(THIRD)),
        } <= set(batch)
        for target in (SECOND, THIRD):
            (hint,) = page(node, target)
            assert hint.is_marker
            assert decode_record(hint.record) == record_of(minted)


async def test_a_marker_delivers_the_record_as_it_is_now(owner: LoneReplica) -> None:
    one = record_of((await owner.mint(b"1", owes=[index(SECOND)]))[0])
    (old,) = page(owner, SECOND)
    two = record_of((await owner.mint(b"2", one.vector))[0])
    (new,) = page(owner, SECOND)
    assert decode_record(new.record) == two
    assert owner.hints.settle([old]) == 0
    assert owner.hints.settle([new]) == 1
    again = (await owner.mint(b"3", two.vector))[0]
    assert isinstance(again, Minted)
    assert again.counter == 3  # of the record's own birth, which no hint touches


async def test_a_marker_that_is_there_keeps_its_age(owner: LoneReplica) -> None:
    await owner.mint(owes=[index(SECOND)])
    first_ms = owner.hints.now_ms()
    owner.clock.now_ms += HOUR_MS
    await owner.mint(owes=[index(SECOND)])
    await owner.owe(SECOND)
    data = owner.storage.get("hints", hint_key(SECOND))
    assert data is not None
    assert decode_hint(hint_key(SECOND), data).created_ms <= first_ms
    assert counts(owner) == {SECOND: 1}


async def test_an_owner_asked_to_owe_notes_its_record_for_each_target(owner: LoneReplica) -> None:
    await owner.store(foreign(b"1"))
    assert isinstance(await owner.owe(SECOND, THIRD), Synced)
    assert counts(owner) == {SECOND: 1, THIRD: 1}


async def test_who_has_no_record_owes_nothing(owner: LoneReplica) -> None:
    assert code_of(await owner.owe(SECOND)) == "hint_refused"
    assert owner.metrics.count["hints_refused_nothing"] == 1


async def test_markers_that_are_not_taken_do_not_stop_the_mint(storage: Storage) -> None:
    async with lone_replica(FIRST, storage, hint_bytes_max=10) as node:
        minted, synced = await node.mint(owes=[index(SECOND)])
        assert isinstance(minted, Minted)
        assert isinstance(synced, Synced)
        assert node.hints.held() == ()
        assert node.metrics.count["hints_not_kept"] == 1


async def test_a_target_that_is_up_is_owed_a_thousand_keys_and_no_more(storage: Storage) -> None:
    async with lone_replica(FIRST, storage) as node:
        node.down.add(THIRD)
        names = [key(number) for number in range(1_001)]
        await asyncio.gather(*(node.store(foreign(b"x"), routing=name) for name in names))
        replies = await asyncio.gather(*(node.owe(SECOND, routing=name) for name in names))
        assert all(isinstance(reply, Synced) for reply in replies[:1_000])
        assert code_of(replies[1_000]) == "hint_refused"
        assert node.metrics.count["hints_left_to_antientropy"] == 1
        replies = await asyncio.gather(*(node.owe(THIRD, routing=name) for name in names))
        assert all(isinstance(reply, Synced) for reply in replies)


async def test_a_marker_whose_record_is_gone_goes_too(owner: LoneReplica) -> None:
    await owner.mint(owes=[index(SECOND)])
    owner.storage.write((Write("records", storage_key(), None),))
    assert page(owner, SECOND) == ()
    assert owner.hints.held() == ()


async def test_a_marker_stays_while_its_record_is_being_restored(owner: LoneReplica) -> None:
    await owner.mint(owes=[index(SECOND)])
    owner.storage.put("records", storage_key(), b"rubbish")
    assert page(owner, SECOND) == ()
    assert page(owner, SECOND) == ()
    assert counts(owner) == {SECOND: 1}


# Refusals -----------------------------------------------------------------------------------------


async def test_an_owner_stands_in_for_nobody(owner: LoneReplica) -> None:
    assert code_of((await owner.mint(hint_for=SECOND))[-1]) == "hint_refused"
    assert code_of(await owner.store(foreign(b"x"), hint_for=SECOND)) == "hint_refused"
    assert owner.metrics.count["hints_refused_owner"] == 2


@pytest.mark.parametrize(
    ("target", "why"),
    [(99, "unknown_member"), ("other fallback", "not_owner"), ("elsewhere", "datacenter")],
)
async def test_a_hint_for_whom_there_is_none_is_refused(target: int | str, why: str) -> None:
    async with lone_replica(FALLBACK, MemoryStorage()) as node:
        if isinstance(target, str):
            names = {"other fallback": OTHER_FALLBACK, "elsewhere": RING.owners(*PLACE, "dc2")[0]}
            target = index(names[target])
        (refused,) = await node.mint(target=target)
        assert code_of(refused) == "hint_refused"
        assert node.metrics.count[f"hints_refused_{why}"] == 1
        assert node.hints.held() == ()


async def test_a_hint_by_the_ring_of_another_epoch_is_refused(fallback: LoneReplica) -> None:
    assert code_of((await fallback.mint(hint_for=FIRST, epoch=0))[-1]) == "stale_epoch"
    assert code_of((await fallback.mint(hint_for=FIRST, epoch=2))[-1]) == "hint_refused"


async def test_a_key_that_is_not_owned_and_no_hint_is_refused(fallback: LoneReplica) -> None:
    assert code_of((await fallback.mint())[-1]) == "not_owner"
    assert code_of(await fallback.store(foreign(b"x"))) == "not_owner"
    assert code_of(await fallback.owe(FIRST)) == "not_owner"


async def test_after_the_window_no_new_hint_is_taken_and_those_there_still_merge(
    fallback: LoneReplica,
) -> None:
    await fallback.mint(b"1", hint_for=FIRST)
    fallback.clock.now_ms += WINDOW_MS - 60_000
    assert isinstance((await fallback.mint(hint_for=FIRST, routing=key(1)))[-1], Synced)
    fallback.clock.now_ms += 60_000
    assert code_of((await fallback.mint(hint_for=FIRST, routing=key(2)))[-1]) == "hint_refused"
    assert isinstance(await fallback.store(foreign(b"2"), hint_for=FIRST), Synced)
    assert isinstance((await fallback.mint(hint_for=SECOND, routing=key(2)))[-1], Synced)
    assert counts(fallback) == {FIRST: 2, SECOND: 1}


async def test_a_flapping_target_does_not_extend_the_window(storage: Storage) -> None:
    """Scene 10: it returns for a moment and is given what it missed, over and over."""
    async with lone_replica(FALLBACK, storage) as node:
        for minute in range(180):
            assert isinstance((await node.mint(hint_for=FIRST, routing=key(minute)))[-1], Synced)
            node.hints.settle(page(node))
            assert node.hints.held() == ()
            node.clock.now_ms += 60_000
        assert code_of((await node.mint(hint_for=FIRST))[-1]) == "hint_refused"
        now_ms = node.clock.now_ms + 60_000  # what the test itself took counts too
    async with lone_replica(FALLBACK, storage, incarnation=LATER) as node:  # nor does a restart
        node.clock.now_ms = now_ms
        assert code_of((await node.mint(hint_for=FIRST))[-1]) == "hint_refused"
        node.hints.steady(FIRST)
        assert isinstance((await node.mint(hint_for=FIRST))[-1], Synced)


async def test_the_window_begins_anew_only_once_no_hint_is_left(fallback: LoneReplica) -> None:
    await fallback.mint(hint_for=FIRST)
    fallback.hints.steady(FIRST)
    fallback.clock.now_ms += WINDOW_MS
    assert code_of((await fallback.mint(hint_for=FIRST, routing=key(1)))[-1]) == "hint_refused"
    fallback.hints.settle(page(fallback))
    assert isinstance((await fallback.mint(hint_for=FIRST, routing=key(1)))[-1], Synced)


async def test_a_hint_taken_meanwhile_takes_back_that_the_target_was_well(
    fallback: LoneReplica,
) -> None:
    await fallback.mint(hint_for=FIRST)
    fallback.hints.steady(FIRST)
    await fallback.mint(hint_for=FIRST, routing=key(1))
    fallback.hints.settle(page(fallback))
    fallback.clock.now_ms += WINDOW_MS
    assert code_of((await fallback.mint(hint_for=FIRST))[-1]) == "hint_refused"


@pytest.mark.parametrize("hours", [-1_000, 1_000])
async def test_a_clock_that_is_set_neither_ends_a_window_nor_holds_it_open(
    fallback: LoneReplica, hours: int
) -> None:
    """I15: a machine that was put to sleep wakes hours later, and goes on taking hints."""
    await fallback.mint(hint_for=FIRST)
    held = fallback.hints.held()
    fallback.clock.jump(hours * HOUR_MS)
    assert isinstance((await fallback.mint(hint_for=FIRST, routing=key(1)))[-1], Synced)
    assert fallback.hints.held()[0].oldest_ms == held[0].oldest_ms
    fallback.clock.now_ms += WINDOW_MS
    assert code_of((await fallback.mint(hint_for=FIRST, routing=key(2)))[-1]) == "hint_refused"
    assert len(page(fallback)) == 2


async def test_a_clock_that_has_gone_back_at_a_start_holds_no_window_open(storage: Storage) -> None:
    async with lone_replica(FALLBACK, storage) as node:
        await node.mint(hint_for=FIRST)
        earlier = HandClock(node.clock.now_ms - 1_000 * HOUR_MS)
    async with lone_replica(FALLBACK, storage, incarnation=LATER, clock=earlier) as node:
        assert isinstance((await node.mint(hint_for=FIRST, routing=key(1)))[-1], Synced)
        node.clock.now_ms += WINDOW_MS
        assert code_of((await node.mint(hint_for=FIRST, routing=key(2)))[-1]) == "hint_refused"
        assert len(page(node)) == 2


async def test_a_window_of_nothing_takes_no_hints(storage: Storage) -> None:
    async with lone_replica(FALLBACK, storage, hint_window=0) as node:
        assert code_of((await node.mint(hint_for=FIRST))[-1]) == "hint_refused"


async def test_above_their_bound_hints_may_shrink_and_not_grow(storage: Storage) -> None:
    async with lone_replica(FALLBACK, storage, hint_bytes_max=2_000) as node:
        first = record_of((await node.mint(bytes(1_500), hint_for=FIRST))[0])
        assert code_of((await node.mint(bytes(500), hint_for=SECOND))[-1]) == "hint_refused"
        assert code_of(await node.store(foreign(bytes(500)), hint_for=FIRST)) == "hint_refused"
        assert node.metrics.count["hints_refused_full"] == 2
        deleted = await node.mint(context=first.vector, hint_for=FIRST, kind=TOMBSTONE)
        assert isinstance(deleted[-1], Synced)
        assert isinstance((await node.mint(bytes(500), hint_for=SECOND))[-1], Synced)
        assert node.hints.held_bytes == on_disk_bytes(node)


async def test_a_full_disk_takes_hints_of_deletes_and_lets_go_of_hints() -> None:
    storage = GatedStorage()
    async with lone_replica(FALLBACK, storage) as node:
        await node.mint(hint_for=FIRST)
        storage.refuses = "disk_full"
        assert code_of((await node.mint(hint_for=SECOND))[-1]) == "disk_full"
        assert code_of(await node.store(foreign(b"x"), hint_for=SECOND)) == "disk_full"
        deleted = await node.mint(hint_for=SECOND, kind=TOMBSTONE)
        assert isinstance(deleted[0], Minted)
        storage.refuses = None
        await asyncio.sleep(0.01)
        storage.refuses = "disk_full"
        assert node.hints.settle(page(node)) == 1


async def test_a_busy_storage_makes_a_hint_wait_and_not_fail() -> None:
    storage = GatedStorage()
    async with lone_replica(FALLBACK, storage) as node:
        storage.busy = 1
        assert isinstance((await node.mint(hint_for=FIRST))[-1], Synced)
        assert counts(node) == {FIRST: 1}


# Settling -----------------------------------------------------------------------------------------


async def test_an_ack_of_an_older_record_leaves_the_hint(fallback: LoneReplica) -> None:
    await fallback.mint(b"1", hint_for=FIRST)
    old = page(fallback)
    await fallback.mint(b"2", hint_for=FIRST)
    assert fallback.hints.settle(old) == 0
    (hint,) = page(fallback)
    assert len(decode_record(hint.record).siblings) == 2
    assert fallback.hints.settle([hint, hint]) == 1
    assert fallback.hints.held() == ()
    assert fallback.hints.settle([hint]) == 0


async def test_hints_are_paged_in_order_and_within_their_bounds(fallback: LoneReplica) -> None:
    for number in (5, 3, 1, 4, 2, 0):
        await fallback.mint(bytes(1_000), hint_for=FIRST, routing=key(number))
        await fallback.mint(hint_for=SECOND, routing=key(number))
    assert [hint.key for hint in page(fallback)] == [key(number) for number in range(6)]
    some, after = fallback.hints.page(FIRST, b"", count_max=100, bytes_max=2_500)
    assert [hint.key for hint in some] == [key(0), key(1), key(2)]
    fallback.hints.settle(some)
    more, _ = fallback.hints.page(FIRST, after, count_max=100, bytes_max=1 << 20)
    assert [hint.key for hint in more] == [key(3), key(4), key(5)]


async def test_the_first_hint_for_a_target_is_told(fallback: LoneReplica) -> None:
    told: list[str] = []
    fallback.hints.on_hint = told.append
    await fallback.mint(hint_for=FIRST)
    await fallback.mint(hint_for=FIRST, routing=key(1))
    await fallback.mint(hint_for=SECOND)
    assert told == [FIRST, SECOND]
    fallback.hints.settle(page(fallback))
    await fallback.mint(hint_for=FIRST)
    assert told == [FIRST, SECOND, FIRST]


async def test_the_age_of_the_oldest_hint_is_known_to_five_seconds(fallback: LoneReplica) -> None:
    start_ms = fallback.clock.now_ms // 5_000 * 5_000
    await fallback.mint(hint_for=FIRST, routing=key(0))
    fallback.clock.now_ms += 120_000
    await fallback.mint(hint_for=FIRST, routing=key(1))
    assert fallback.hints.held()[0].oldest_ms == start_ms
    fallback.hints.settle(page(fallback)[:1])
    assert fallback.hints.held()[0].oldest_ms == start_ms + 120_000


class CountedScans(MemoryStorage):
    """Counts who looks through hints."""

    def __init__(self) -> None:
        super().__init__()
        self.scans = 0

    def scan(
        self, family: Family, start: bytes, end: bytes, *, count_max: int, bytes_max: int
    ) -> list[tuple[bytes, bytes]]:
        self.scans += family == "hints"
        return super().scan(family, start, end, count_max=count_max, bytes_max=bytes_max)


async def test_few_hints_are_not_searched_for_among_many_that_have_left() -> None:
    """What has left a log-structured storage is still in the way of who scans: of a million, seconds."""
    storage = CountedScans()
    async with lone_replica(FALLBACK, storage) as node:
        for number in range(20):
            await node.mint(hint_for=FIRST, routing=key(number))
        for left in (12, 5, 1, 0):
            assert node.hints.settle(page(node)[left:]) > 0
            if left:
                await node.mint(hint_for=FIRST, routing=key(left))
        storage.scans = 0
        assert page(node) == ()
        await node.mint(hint_for=FIRST, routing=key(7))
        await node.mint(hint_for=FIRST, routing=key(3))
        await node.mint(hint_for=SECOND, routing=key(5))
        assert [hint.key for hint in page(node)] == [key(3), key(7)]
        assert storage.scans == 0


async def test_few_hints_of_an_earlier_start_are_searched_for_once() -> None:
    storage = CountedScans()
    async with lone_replica(FALLBACK, storage) as node:
        for number in range(2):
            await node.mint(hint_for=FIRST, routing=key(number))
    async with lone_replica(FALLBACK, storage, incarnation=LATER) as node:
        await asyncio.sleep(0.01)
        storage.scans = 0
        for _ in range(3):
            assert [hint.key for hint in page(node)] == [key(0), key(1)]
        assert storage.scans == 1


# Damage, and disks that went back -----------------------------------------------------------------


async def test_a_damaged_hint_is_put_aside_and_never_served(fallback: LoneReplica) -> None:
    await fallback.mint(b"precious", hint_for=FIRST)
    await fallback.mint(hint_for=FIRST, routing=key(1))
    data = fallback.storage.get("hints", hint_key(FIRST))
    assert data is not None
    bad = data[:-1] + bytes([data[-1] ^ 1])
    fallback.storage.put("hints", hint_key(FIRST), bad)
    assert code_of(await fallback.fetch(hinted=True)) == "corrupt"
    assert [hint.key for hint in page(fallback)] == [key(1)]
    assert fallback.storage.get("facts", b"quarantine-hint/" + hint_key(FIRST)) == bad
    assert fallback.metrics.count["hints_damaged"] == 1
    assert counts(fallback) == {FIRST: 1}
    assert fallback.hints.held_bytes == on_disk_bytes(fallback)


@pytest.mark.parametrize("damage", ["age", "other key"])
async def test_a_page_skips_what_is_damaged(fallback: LoneReplica, damage: str) -> None:
    await fallback.mint(hint_for=FIRST)
    data = fallback.storage.get("hints", hint_key(FIRST))
    assert data is not None
    if damage == "age":
        fallback.storage.put("hints", hint_key(FIRST), bytes([data[0] ^ 1]) + data[1:])
    else:
        fallback.storage.put("hints", hint_key(FIRST), b"")
        await fallback.mint(hint_for=SECOND, routing=key(7))
        fallback.storage.put("hints", hint_key(FIRST), data[:-1])
    assert page(fallback) == ()
    assert isinstance((await fallback.mint(hint_for=FIRST))[-1], Synced)


@pytest.mark.parametrize("kept", range(4))
async def test_a_crash_keeps_a_record_with_all_that_is_owed_of_it_or_none_of_that(
    kept: int,
) -> None:
    disk = quick_disk()
    storage = await open_sim(disk)
    node = LoneReplica(FIRST, storage)  # which syncs nothing
    call = Asked()
    for number in range(3):
        message = mint_message(routing=key(number), owes=[index(SECOND), index(THIRD)])
        node.replica.on_mint(message, call)
    assert disk.unsynced == 3
    disk.crash(kept)
    again = LoneReplica(FIRST, await open_sim(disk, existed=True), incarnation=LATER)
    again.start()
    while not again.hints.counted:
        await asyncio.sleep(0)
    names = {key(number) for number in range(kept)}
    for target in (SECOND, THIRD):
        assert {hint.key for hint in page(again, target)} == names
    await again.stop()


async def test_all_hints_are_dropped_at_once_where_the_disk_is_an_older_one(
    fallback: LoneReplica,
) -> None:
    await fallback.mint(hint_for=FIRST)
    await fallback.mint(hint_for=SECOND)
    fallback.clock.now_ms += WINDOW_MS
    fallback.hints.discard_all()
    assert fallback.hints.held() == ()
    assert page(fallback) == ()
    assert await fallback.fetch(hinted=True) == Body(b"")
    assert fallback.metrics.count["hints_discarded"] == 2
    after = await fallback.mint(hint_for=FIRST, routing=key(1))
    assert isinstance(after[-1], Synced)  # with a window of its own


async def test_dropping_many_hints_is_gone_on_with_after_a_restart(storage: Storage) -> None:
    async with lone_replica(FALLBACK, storage) as node:
        calls = [node.mint(hint_for=FIRST, routing=key(number)) for number in range(2_500)]
        await asyncio.gather(*calls)
        node.hints.discard_all()
        assert node.metrics.count["hints_discarded"] == 1_000
        assert page(node) == ()
        assert code_of((await node.mint(hint_for=FIRST))[-1]) == "hint_refused"
        assert await node.fetch(hinted=True, routing=key(2_400)) == Body(b"")
    async with lone_replica(FALLBACK, storage, incarnation=LATER) as node:
        assert page(node) == ()
        await asyncio.sleep(0.1)
        assert node.hints.counted
        assert node.metrics.count["hints_discarded"] == 1_500
        assert isinstance((await node.mint(hint_for=FIRST))[-1], Synced)
        assert counts(node) == {FIRST: 1}


# The account --------------------------------------------------------------------------------------


async def test_hints_are_counted_once_whatever_is_written_meanwhile(storage: Storage) -> None:
    async with lone_replica(FALLBACK, storage) as node:
        for target in (FIRST, SECOND):
            calls = [node.mint(hint_for=target, routing=key(2 * n)) for n in range(1_300)]
            await asyncio.gather(*calls)
    async with lone_replica(FALLBACK, storage, count=False, incarnation=LATER) as node:
        assert not node.hints.counted
        while not node.hints.counted:
            node.hints._count_some()
            for number in (1, 1_999, 2_001, 2_599):  # new, on both sides of what has been counted
                await node.mint(hint_for=FIRST, routing=key(number))
                await node.mint(hint_for=SECOND, routing=key(number))
            await node.store(foreign(b"longer"), hint_for=FIRST, routing=key(0))
            await node.store(foreign(b"longer"), hint_for=SECOND, routing=key(2_598))
            some, _ = node.hints.page(SECOND, b"", count_max=2, bytes_max=1 << 20)
            node.hints.settle(some)
        found = node.storage.scan("hints", b"", b"\xff", count_max=10_000, bytes_max=1 << 30)
        assert sum(counts(node).values()) == len(found)
        assert node.hints.held_bytes == on_disk_bytes(node)


async def test_a_storage_that_was_opened_again_is_counted_anew(fallback: LoneReplica) -> None:
    await fallback.mint(hint_for=FIRST)
    await fallback.mint(hint_for=SECOND)
    fallback.storage.write((Write("hints", hint_key(SECOND), None),))  # as a lost tail
    fallback.hints.recount()
    await asyncio.sleep(0.01)
    assert counts(fallback) == {FIRST: 1}


# For who asks about one partition -------------------------------------------------------------------


async def test_it_is_known_whether_a_target_has_hints_in_a_partition(fallback: LoneReplica) -> None:
    here, elsewhere = partition_prefix(*PLACE), partition_prefix(PLACE[0], PLACE[1] + 1)
    assert not fallback.hints.has_for(FIRST, here)
    await fallback.mint(hint_for=FIRST)
    assert fallback.hints.has_for(FIRST, here)
    assert not fallback.hints.has_for(FIRST, elsewhere)
    assert not fallback.hints.has_for(SECOND, here)
    fallback.hints.settle(page(fallback))
    assert not fallback.hints.has_for(FIRST, here)


async def test_hints_of_before_are_known_while_they_are_counted(storage: Storage) -> None:
    async with lone_replica(FALLBACK, storage) as before:
        await before.mint(hint_for=FIRST)
    async with lone_replica(FALLBACK, storage, count=False) as node:
        assert not node.hints.counted
        assert node.hints.has_for(FIRST, partition_prefix(*PLACE))
        assert not node.hints.has_for(SECOND, partition_prefix(*PLACE))
