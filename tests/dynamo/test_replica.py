"""One replica, asked directly: mints, births, merges, damage, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from little_cluster import GatedStorage, LittleCluster, LittleNode

from dynamo.backlog import BYTES_MAX, REQUESTS_MAX
from dynamo.errors import StorageCorrupt, StorageError, StorageRefusesWrites
from dynamo.keys import routing_key
from dynamo.ports import Family, Write
from dynamo.record import (
    EMPTY,
    TOMBSTONE,
    VALUE,
    Record,
    decode_record,
    encode_record,
    mint,
    record_digest,
)
from dynamo.refill_marks import RefillMark
from dynamo.rpc.messages import (
    Body,
    Condition,
    Digest,
    Fetch,
    Mint,
    Minted,
    Page,
    Refused,
    Reply,
    Scan,
    Store,
    Synced,
)
from dynamo.version import Vector, birth_bytes, incarnation_bytes

KEY = routing_key(b"default", b"b", b"k")
OTHER = incarnation_bytes(9, b"elsewher")


class Asked:
    """A `Call` that keeps what it was answered."""

    peer = "test"

    def __init__(self) -> None:
        self.deadline = float("inf")
        self.replies: list[Reply] = []
        self.done = asyncio.Event()

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        assert not self.done.is_set()
        self.replies.append(reply)
        if last:
            self.done.set()


@pytest.fixture
async def node() -> AsyncIterator[LittleNode]:
    async with LittleCluster(1, replicas=1, storage=lambda name: GatedStorage()) as cluster:
        yield cluster.nodes["a"]


def place(node: LittleNode) -> tuple[int, int]:
    _, plan = node.coordinator._plan(b"default", b"b", b"k")
    return plan.class_id, plan.partition


def storage_key(node: LittleNode) -> bytes:
    return node.replica.prefixes[place(node)] + KEY


async def do_mint(
    node: LittleNode,
    value: bytes = b"v",
    context: Vector = (),
    *,
    kind: int = VALUE,
    seen: Record = EMPTY,
    condition: Condition | None = None,
) -> list[Reply]:
    call = Asked()
    message = Mint(
        KEY,
        *place(node),
        1,
        1000,
        context,
        kind,
        value,
        seen=encode_record(seen) if seen else b"",
        condition=condition,
    )
    node.replica.on_mint(message, call)
    await call.done.wait()
    return call.replies


async def do_store(node: LittleNode, record: Record | bytes, *, key: bytes = KEY) -> Reply:
    call = Asked()
    data = record if isinstance(record, bytes) else encode_record(record)
    node.replica.on_store(Store(key, *place(node), 1, 1000, data), call)
    await call.done.wait()
    return call.replies[-1]


async def do_fetch(node: LittleNode, *, body: bool = True, epoch: int = 1) -> Reply:
    call = Asked()
    node.reads.on_fetch(Fetch(KEY, *place(node), epoch, 1000, body), call)
    await call.done.wait()
    return call.replies[-1]


def refusal(reply: Reply) -> tuple[str, bool]:
    assert isinstance(reply, Refused), reply
    return reply.code, reply.definite


def record_of(reply: Reply) -> Record:
    assert isinstance(reply, Minted | Body), reply
    return decode_record(reply.record) if reply.record else EMPTY


def foreign(value: bytes, *, sequence: int = 1, incarnation: bytes = OTHER) -> Record:
    return mint(
        EMPTY,
        (),
        birth=birth_bytes(incarnation, sequence),
        counter=1,
        kind=VALUE,
        content=value,
        written_ms=1,
    )


async def test_a_mint_answers_twice_at_once_and_when_it_is_on_disk(node: LittleNode) -> None:
    assert isinstance(node.storage, GatedStorage)
    node.storage.gate.clear()
    minting = asyncio.create_task(do_mint(node))
    call = Asked()
    await asyncio.sleep(0)
    node.replica.on_mint(Mint(KEY, *place(node), 1, 1000, (), VALUE, b"w"), call)
    assert [type(reply) for reply in call.replies] == [Minted]
    await asyncio.sleep(0.01)
    assert not call.done.is_set()
    node.storage.gate.set()
    assert [type(reply) for reply in await minting] == [Minted, Synced]
    await call.done.wait()
    assert [type(reply) for reply in call.replies] == [Minted, Synced]


async def test_counters_run_on_within_a_birth(node: LittleNode) -> None:
    first = record_of((await do_mint(node))[0])
    second = record_of((await do_mint(node, context=first.vector))[0])
    (birth, counter), *more = second.vector
    assert not more
    assert counter == 2
    assert first.vector == ((birth, 1),)


async def test_after_a_restart_a_key_gets_a_new_birth(node: LittleNode) -> None:
    first = record_of((await do_mint(node))[0])
    node.start_services(incarnation_bytes(2, b"restart!"))
    second = record_of((await do_mint(node, context=first.vector))[0])
    assert len(second.vector) == 2
    assert len(second.siblings) == 1


async def test_each_key_gets_a_birth_of_its_own(node: LittleNode) -> None:
    births = set()
    for number in range(3):
        key = routing_key(b"default", b"b", b"k%d" % number)
        _, plan = node.coordinator._plan(b"default", b"b", b"k%d" % number)
        call = Asked()
        node.replica.on_mint(
            Mint(key, plan.class_id, plan.partition, 1, 1000, (), VALUE, b""), call
        )
        births.add(record_of(call.replies[0]).vector[0][0])
    assert len(births) == 3


async def test_a_dropped_record_takes_its_birth_with_it(node: LittleNode) -> None:
    before = record_of((await do_mint(node))[0])
    node.storage.write([("records", storage_key(node), None)])  # type: ignore[list-item]
    after = record_of((await do_mint(node))[0])
    assert before.vector[0][0] != after.vector[0][0]


async def test_a_store_merges_and_leaves_the_birth_alone(node: LittleNode) -> None:
    mine = record_of((await do_mint(node, b"mine"))[0])
    assert isinstance(await do_store(node, foreign(b"theirs")), Synced)
    merged = record_of(await do_fetch(node))
    assert len(merged.siblings) == 2
    again = record_of((await do_mint(node, b"next", merged.vector))[0])
    assert dict(again.vector)[mine.vector[0][0]] == 2
    assert len(again.siblings) == 1


async def test_a_store_of_what_is_there_already_writes_nothing(node: LittleNode) -> None:
    record = foreign(b"x")
    await do_store(node, record)
    number = node.storage.write_number
    assert isinstance(await do_store(node, record), Synced)
    assert node.storage.write_number == number


async def test_a_fetch_gives_the_body_or_vector_and_digest(node: LittleNode) -> None:
    assert await do_fetch(node) == Body(b"")
    assert await do_fetch(node, body=False) == Digest((), b"")
    record = foreign(b"x")
    await do_store(node, record)
    assert await do_fetch(node) == Body(encode_record(record))
    assert await do_fetch(node, body=False) == Digest(record.vector, record_digest(record))


async def test_a_tombstone_is_a_sibling_that_covers_its_context(node: LittleNode) -> None:
    first = record_of((await do_mint(node))[0])
    second = record_of((await do_mint(node, b"", first.vector, kind=TOMBSTONE))[0])
    assert [sibling.kind for sibling in second.siblings] == [TOMBSTONE]


async def test_a_condition_is_judged_against_the_own_record_and_what_was_seen(
    node: LittleNode,
) -> None:
    create = Condition(if_none_match=("*",))
    refused = await do_mint(node, seen=foreign(b"elsewhere"), condition=create)
    assert refusal(refused[-1]) == ("precondition_failed", True)
    assert await do_fetch(node) == Body(b"")
    assert isinstance((await do_mint(node, condition=create))[0], Minted)
    assert refusal((await do_mint(node, condition=create))[-1])[0] == "precondition_failed"


async def test_a_foreign_dot_under_this_incarnation_is_an_alarm(node: LittleNode) -> None:
    alarms: list[None] = []
    node.replica.on_foreign_dot = lambda: alarms.append(None)
    await do_mint(node)
    mine = node.replica._incarnation
    await do_store(node, foreign(b"clone", sequence=7, incarnation=mine))
    assert len(alarms) == 1
    assert node.metrics.count["foreign_dots"] == 1


async def test_one_dot_with_two_values_is_an_alarm_and_both_are_kept(node: LittleNode) -> None:
    await do_store(node, foreign(b"one"))
    await do_store(node, foreign(b"two"))
    assert len(record_of(await do_fetch(node)).siblings) == 2
    assert node.metrics.count["dots_with_two_values"] == 1


@pytest.mark.parametrize("damage", ["flip", "zero", "other key"])
async def test_a_damaged_record_is_put_aside_never_served_nor_absent(
    node: LittleNode, damage: str
) -> None:
    await do_mint(node, b"precious")
    key = storage_key(node)
    data = node.storage.get("records", key)
    assert data is not None
    bad = {
        "flip": data[:-1] + bytes([data[-1] ^ 1]),
        "zero": bytes(len(data)),
        "other key": data,
    }[damage]
    if damage == "other key":
        key = key[:-1] + b"j"
    node.storage.put("records", key, bad)
    call = Asked()
    routing = key[len(node.replica.prefixes[place(node)]) :]
    for body in (True, False, True):
        call = Asked()
        node.reads.on_fetch(Fetch(routing, *place(node), 1, 1000, body), call)
        assert refusal(call.replies[0]) == ("corrupt", True)
    assert node.metrics.count["records_quarantined"] == 1
    assert node.storage.get("facts", b"quarantine/" + key) == bad


async def test_damage_is_remembered_over_a_restart_and_served_again_once_mended(
    node: LittleNode,
) -> None:
    await do_mint(node, b"precious")
    node.storage.put("records", storage_key(node), b"rubbish")
    await do_fetch(node)
    node.start_services(incarnation_bytes(2, b"restart!"))
    assert refusal(await do_fetch(node))[0] == "corrupt"
    assert isinstance(await do_store(node, foreign(b"copy")), Synced)
    assert refusal(await do_fetch(node))[0] == "corrupt"
    node.replica.mended(storage_key(node))
    assert len(record_of(await do_fetch(node)).siblings) == 1


async def test_nothing_takes_the_place_of_a_damaged_record_before_it_is_marked(
    node: LittleNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk takes tombstones, and no mark: a start would take a tombstone for all there is."""
    await do_mint(node, b"precious")
    key = storage_key(node)
    node.storage.put("records", key, b"rubbish")

    def refuse(writes: Sequence[Write]) -> int:
        raise StorageRefusesWrites("there is no room", reason="disk_full")

    with monkeypatch.context() as patch:
        patch.setattr(node.storage, "write", refuse)
        assert isinstance(await do_store(node, foreign(b"copy")), Refused)
    assert node.storage.get("records", key) == b"rubbish"
    assert isinstance(await do_store(node, foreign(b"copy")), Synced)
    assert node.storage.get("records", key) != b"rubbish"


async def test_a_damaged_record_leaves_the_mint_to_another_primary(node: LittleNode) -> None:
    await do_mint(node)
    node.storage.put("records", storage_key(node), b"rubbish")
    assert refusal((await do_mint(node))[-1]) == ("corrupt", True)


async def test_a_partition_being_refilled_takes_writes_and_answers_no_read(
    node: LittleNode,
) -> None:
    node.replica.mark_refill([(place(node), RefillMark(("b",), serving=False))])
    assert isinstance((await do_mint(node))[0], Minted)
    assert refusal(await do_fetch(node)) == ("refilling", True)
    node.start_services(incarnation_bytes(2, b"restart!"))
    assert refusal(await do_fetch(node)) == ("refilling", True)
    node.replica.refilled(place(node))
    assert isinstance(await do_fetch(node), Body)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\x93\x01\x90\x90", encode_record(foreign(b"x"))[:-1]]
)
async def test_a_store_that_is_no_record_changes_nothing(node: LittleNode, data: bytes) -> None:
    assert refusal(await do_store(node, data)) == ("malformed", True)
    assert await do_fetch(node) == Body(b"")


@pytest.mark.parametrize("key", [b"", b"\x07\0\x01defaultb", b"\x01\0\x01tb" + b"k" * 1025])
async def test_a_key_that_is_no_routing_key_is_refused(node: LittleNode, key: bytes) -> None:
    assert refusal(await do_store(node, foreign(b"x"), key=key))[0] == "malformed"


async def test_requests_of_the_wrong_place_epoch_or_purpose_are_refused(node: LittleNode) -> None:
    call = Asked()
    node.reads.on_fetch(Fetch(KEY, 0, 8, 1, 1000, True), call)
    assert refusal(call.replies[0]) == ("not_owner", True)
    assert refusal(await do_fetch(node, epoch=0)) == ("stale_epoch", True)
    assert isinstance(await do_fetch(node, epoch=7), Body)
    call = Asked()
    node.replica.on_store(
        Store(KEY, *place(node), 1, 1000, encode_record(foreign(b"x")), hint_for=1), call
    )
    assert refusal(call.replies[0]) == ("hint_refused", True)


async def test_a_full_disk_refuses_writes_and_serves_reads(node: LittleNode) -> None:
    assert isinstance(node.storage, GatedStorage)
    await do_mint(node, b"v")
    node.storage.refuses = "disk_full"
    assert refusal((await do_mint(node))[-1]) == ("disk_full", True)
    refused = await do_store(node, foreign(b"x"))
    assert refusal(refused) == ("disk_full", True)
    assert isinstance(refused, Refused)
    assert refused.detail == "this node is short of disk space"
    assert len(record_of(await do_fetch(node)).siblings) == 1


async def test_a_nearly_full_disk_takes_deletes(node: LittleNode) -> None:
    assert isinstance(node.storage, GatedStorage)
    shown = record_of((await do_mint(node, b"v"))[0])
    node.storage.refuses = "disk_full"
    done = (await do_mint(node, b"", shown.vector, kind=TOMBSTONE))[-1]
    assert isinstance(done, Synced)
    deleted = mint(
        shown,
        shown.vector,
        birth=birth_bytes(OTHER, 1),
        counter=1,
        kind=TOMBSTONE,
        content=b"",
        written_ms=1,
    )
    assert isinstance(await do_store(node, deleted), Synced)
    assert all(s.kind == TOMBSTONE for s in record_of(await do_fetch(node)).siblings)
    assert refusal(await do_store(node, b"no record")) == ("disk_full", True)
    node.storage.stuck = True
    assert refusal((await do_mint(node, b"", shown.vector, kind=TOMBSTONE))[-1]) == (
        "disk_full",
        True,
    )


async def test_a_failed_sync_leaves_the_outcome_open(node: LittleNode) -> None:
    assert isinstance(node.storage, GatedStorage)
    node.storage.broken = True
    replies = await do_mint(node)
    assert isinstance(replies[0], Minted)
    assert refusal(replies[1]) == ("sync_failed", False)
    code, _ = refusal(await do_fetch(node))
    assert code == "sync_failed"


async def test_pages_go_through_a_partition_in_key_order(node: LittleNode) -> None:
    cls, partition = place(node)
    keys = []
    for number in range(60):
        name = b"k%02d" % number
        _, plan = node.coordinator._plan(b"default", b"b", name)
        if plan.partition == partition:
            keys.append(routing_key(b"default", b"b", name))
            assert isinstance(await do_store(node, foreign(name), key=keys[-1]), Synced)
    found: list[bytes] = []
    after = b""
    for _ in range(100):
        call = Asked()
        node.reads.on_scan(Scan(cls, partition, 1, 1000, after, 1), call)
        await call.done.wait()
        page = call.replies[0]
        assert isinstance(page, Page)
        assert len(page.entries) <= 1
        found += [key for key, _ in page.entries]
        if not page.more:
            break
        after = page.last
    assert found == sorted(keys)


async def test_a_scan_after_a_broken_engine_is_an_error(node: LittleNode) -> None:
    await node.storage.close()
    call = Asked()
    node.reads.on_scan(Scan(*place(node), 1, 1000, b"", 1000), call)
    assert refusal(call.replies[0])[0] == "storage_error"
    with pytest.raises(StorageError):
        node.storage.get("records", b"k")


async def test_a_context_ahead_of_the_own_birth_ends_the_incarnation(node: LittleNode) -> None:
    """The record went back in time under a running incarnation: its birth must not go on."""
    node.replica.on_foreign_dot = lambda: node.replica.renew_incarnation(
        incarnation_bytes(2, b"restart!")
    )
    await do_mint(node, b"1")
    old = node.storage.get("records", storage_key(node))
    assert old is not None
    second = record_of((await do_mint(node, b"2"))[0])
    node.storage.put("records", storage_key(node), old)
    third = record_of((await do_mint(node, b"3", second.vector))[0])
    assert len(third.vector) == 2
    assert node.metrics.count["foreign_dots"] == 1


async def test_damage_that_the_engine_reports_of_a_write_leaves_its_outcome_open(
    node: LittleNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another primary must not mint again what may be in this one's log."""

    def corrupt(family: str, key: bytes, value: bytes, *, reserve: bool) -> int:
        raise StorageCorrupt("the storage engine failed: Corruption")

    monkeypatch.setattr(node.storage, "put", corrupt)
    assert refusal((await do_mint(node))[-1]) == ("storage_error", False)


async def test_a_write_whose_sync_failed_is_not_waited_for_once_a_later_one_is_synced(
    node: LittleNode,
) -> None:
    assert isinstance(node.storage, GatedStorage)
    node.storage.broken = True
    assert refusal((await do_mint(node))[-1]) == ("sync_failed", False)
    node.storage.broken, node.storage.refuses, node.commit.failed = False, None, None
    assert isinstance(await do_fetch(node), Body)
    assert node.replica.unsynced == {}


async def test_writes_that_come_while_the_storage_is_behind_are_carried_out_in_order(
    node: LittleNode,
) -> None:
    assert isinstance(node.storage, GatedStorage)
    node.storage.busy = 10
    written: list[bytes] = []
    put = node.storage.put

    def noted(family: Family, key: bytes, value: bytes, *, reserve: bool = False) -> int:
        number = put(family, key, value, reserve=reserve)
        written.append(key)
        return number

    node.storage.put = noted  # type: ignore[method-assign]
    keys = [routing_key(b"default", b"b", b"%d" % number) for number in range(3)]
    stores = [do_store(node, foreign(b"x"), key=key) for key in keys]
    replies = await asyncio.gather(do_mint(node, b"first"), *stores)
    assert [type(reply) for reply in replies[0]] == [Minted, Synced]  # type: ignore[union-attr]
    assert [type(reply) for reply in replies[1:]] == [Synced] * 3
    assert [key.rpartition(b"b")[2] for key in written] == [b"k", b"0", b"1", b"2"]
    assert node.metrics.count["writes_waited"] == 4
    assert node.storage.busy == 0


async def test_a_write_that_waits_for_the_storage_ends_at_its_deadline(node: LittleNode) -> None:
    assert isinstance(node.storage, GatedStorage)
    node.storage.busy = 10**9
    call = Asked()
    call.deadline = node.clock.monotonic() + 0.2
    node.replica.on_mint(Mint(KEY, *place(node), 1, 200, (), VALUE, b"w"), call)
    await call.done.wait()
    code, definite = refusal(call.replies[0])
    assert code in ("storage_busy", "deadline_past")
    assert definite
    assert await do_fetch(node) == Body(b"")


async def test_only_so_many_writes_wait_for_the_storage(node: LittleNode) -> None:
    assert isinstance(node.storage, GatedStorage)
    node.storage.busy = 10**9
    calls = [Asked() for _ in range(REQUESTS_MAX + 1)]
    for call in calls:
        node.replica.on_mint(Mint(KEY, *place(node), 1, 1000, (), VALUE, b"w"), call)
    assert [call for call in calls if call.replies] == calls[-1:]
    assert refusal(calls[-1].replies[0]) == ("storage_busy", True)
    node.replica.close()
    assert {refusal(call.replies[0]) for call in calls[:-1]} == {("not_ready", True)}

    value = bytes(BYTES_MAX // 3)
    calls = [Asked() for _ in range(4)]
    for call in calls:
        node.replica.on_mint(Mint(KEY, *place(node), 1, 1000, (), VALUE, value), call)
    assert [call for call in calls if call.replies] == calls[-1:]
    node.storage.busy = 0
    await asyncio.gather(*(call.done.wait() for call in calls))
    assert isinstance(calls[0].replies[0], Minted)
    assert refusal(calls[1].replies[0]) == ("record_full", True)  # carried out, and judged
