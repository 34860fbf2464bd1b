"""Puts, gets and deletes at quorum, over links that tests cut."""

from __future__ import annotations

import asyncio
import gc
import random

import msgspec
import pytest
from little_cluster import GatedStorage, LittleCluster, values

from dynamo.errors import (
    BadContext,
    InvalidArgument,
    KeyTooLong,
    PreconditionFailed,
    ReadUncertain,
    RecordFull,
    StorageFull,
    Unavailable,
    UnknownBucketType,
    ValueTooLarge,
    WriteUncertain,
)
from dynamo.ports import Call, Handler
from dynamo.read_operation import ReadOperation
from dynamo.record import EMPTY, FORMAT, SIBLINGS_MAX, Content, Record, encode_record, merge
from dynamo.requests import Found, ReadOptions, WriteOptions, Written
from dynamo.rpc.messages import Condition, Fetch, Mint, Minted, Refused, Request, Store, Synced
from dynamo.sim.loop import SimLoop, run_virtual
from dynamo.stored import encode_stored
from dynamo.version import birth_bytes, incarnation_bytes
from dynamo.write_operation import WriteOperation

ALL = ReadOptions(r="all")


def answer(cluster: LittleCluster, node: str, kind: type[Request], handler: Handler) -> None:
    """From now on the node answers messages of this kind so."""
    cluster.links.handlers[node] = {**cluster.links.handlers[node], kind: handler}


def gated(cluster: LittleCluster, node: str) -> GatedStorage:
    storage = cluster.nodes[node].storage
    assert isinstance(storage, GatedStorage)
    return storage


async def test_what_one_node_wrote_every_node_reads() -> None:
    async with LittleCluster(3) as cluster:
        written = await cluster.put("a", b"k", b"1")
        assert written.primary_acks >= 2
        for node in "abc":
            assert values(await cluster.get(node, b"k")) == {b"1"}


async def test_a_node_that_owns_nothing_of_the_key_coordinates_as_well() -> None:
    async with LittleCluster(6) as cluster:
        for node in "abcdef":
            await cluster.put(node, node.encode(), node.encode())
        for node in "abcdef":
            for key in "abcdef":
                assert values(await cluster.get(node, key.encode())) == {key.encode()}


async def test_two_blind_writes_are_siblings_until_their_context_comes_back() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        await cluster.put("b", b"k", b"2")
        both = await cluster.get("c", b"k")
        assert values(both) == {b"1", b"2"}
        await cluster.put("c", b"k", b"3", both.context)
        assert values(await cluster.get("a", b"k")) == {b"3"}


async def test_a_write_with_an_old_context_leaves_what_came_since() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        seen = await cluster.get("a", b"k")
        await cluster.put("b", b"k", b"2", seen.context)
        await cluster.put("c", b"k", b"3", seen.context)
        assert values(await cluster.get("a", b"k")) == {b"2", b"3"}


async def test_a_delete_leaves_a_tombstone_with_a_context() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        assert isinstance(await cluster.delete("b", b"k"), Written)
        gone = await cluster.get("c", b"k")
        assert gone.deleted
        assert gone.context
        assert not gone.siblings


async def test_a_blind_write_after_a_delete_shows_alone_and_its_context_covers_both() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        await cluster.delete("a", b"k")
        await cluster.put("b", b"k", b"2")
        found = await cluster.get("c", b"k")
        assert values(found) == {b"2"}
        assert len(found.record.siblings) == 2
        await cluster.put("c", b"k", b"3", found.context)
        assert len((await cluster.get("a", b"k")).record.siblings) == 1


async def test_deleting_what_is_not_there_writes_nothing() -> None:
    async with LittleCluster(3) as cluster:
        outcome = await cluster.delete("a", b"k")
        assert isinstance(outcome, Found)
        assert outcome.absent
        assert not any(isinstance(message, Mint) for _, _, message in cluster.links.sent)


async def test_a_context_of_another_key_is_refused() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        context = (await cluster.get("a", b"k")).context
        with pytest.raises(BadContext):
            await cluster.put("a", b"other", b"2", context)


@pytest.mark.parametrize(
    ("bucket_type", "bucket", "key", "value", "error"),
    [
        (b"default", b"b", b"", b"", InvalidArgument),
        (b"default", b"", b"k", b"", InvalidArgument),
        (b"default", b"b", b"k" * 1025, b"", KeyTooLong),
        (b"default", b"b" * 257, b"k", b"", KeyTooLong),
        (b"nobody", b"b", b"k", b"", UnknownBucketType),
        (b"default", b"b", b"k", b"v" * ((1 << 20) + 1), ValueTooLarge),
    ],
)
async def test_names_and_values_out_of_bounds_are_refused(
    bucket_type: bytes, bucket: bytes, key: bytes, value: bytes, error: type[Exception]
) -> None:
    async with LittleCluster(1, replicas=1) as cluster:
        with pytest.raises(error):
            await cluster.nodes["a"].coordinator.put(bucket_type, bucket, key, Content(value=value))


async def test_what_speaks_against_a_put_is_told_before_the_value_is_there() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        context = (await cluster.get("a", b"k")).context
        check = cluster.nodes["a"].coordinator.check_put
        check(b"default", b"b", b"k", context, WriteOptions(w="all", pw=3))
        for type_, key, given, options, error in (
            (b"nobody", b"k", b"", WriteOptions(), UnknownBucketType),
            (b"default", b"other", context, WriteOptions(), BadContext),
            (b"default", b"k", b"", WriteOptions(w=4), InvalidArgument),
            (b"default", b"k", b"", WriteOptions(dw=4), InvalidArgument),
            (b"default", b"k", b"", WriteOptions(node_confirms=4), InvalidArgument),
        ):
            with pytest.raises(error):
                check(type_, b"b", key, given, options)


async def test_a_write_survives_one_dead_owner_and_says_so_when_three_were_asked() -> None:
    async with LittleCluster(3) as cluster:
        cluster.links.down.add("c")
        assert (await cluster.put("a", b"k", b"1")).primary_acks == 2
        with pytest.raises(WriteUncertain) as caught:
            await cluster.put("a", b"k", b"2", options=WriteOptions(w=3))
        details = caught.value.details
        assert (details["required"], details["received"]) == (3, 2)
        assert list(details["reasons"]) == ["c"]
        assert caught.value.outcome == "unknown"


async def test_a_read_at_three_with_a_dead_owner_says_who_is_missing() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        cluster.links.down.add("c")
        with pytest.raises(Unavailable) as caught:
            await cluster.get("a", b"k", ALL)
        assert (caught.value.details["required"], caught.value.details["received"]) == (3, 2)
        assert list(caught.value.details["reasons"]) == ["c"]


async def test_nobody_to_mint_is_a_definite_failure() -> None:
    async with LittleCluster(3) as cluster:
        _, plan = cluster.nodes["a"].coordinator._plan(b"default", b"b", b"k")
        cluster.links.down.update("abc")
        with pytest.raises(Unavailable) as caught:
            await cluster.put("a", b"k", b"1")
        assert caught.value.outcome == "none"
        assert caught.value.details["received"] == 0
        assert sorted(caught.value.details["reasons"]) == sorted(plan.primaries)


async def test_a_mint_without_an_answer_is_never_repeated_elsewhere() -> None:
    async with LittleCluster(4) as cluster:
        _, plan = cluster.nodes["a"].coordinator._plan(b"default", b"b", b"k")
        outsider = next(node for node in "abcd" if node not in plan.primaries)
        cluster.links.mute.add(plan.primaries[0])
        writing = asyncio.create_task(cluster.put(outsider, b"k", b"1"))
        await cluster.settle()
        cluster.links.kill(plan.primaries[0])
        with pytest.raises(WriteUncertain):
            await writing
        assert sum(isinstance(message, Mint) for _, _, message in cluster.links.sent) == 1


async def test_a_stalled_primary_is_not_asked_to_mint() -> None:
    async with LittleCluster(4) as cluster:
        _, plan = cluster.nodes["a"].coordinator._plan(b"default", b"b", b"k")
        outsider = next(node for node in "abcd" if node not in plan.primaries)
        cluster.links.frozen.add(plan.primaries[0])
        assert (await cluster.put(outsider, b"k", b"1")).primary_acks == 2


async def test_a_primary_that_refuses_leaves_the_mint_to_the_next() -> None:
    async with LittleCluster(3, storage=lambda name: GatedStorage()) as cluster:
        gated(cluster, "a").refuses = "disk_full"
        assert (await cluster.put("a", b"k", b"1")).primary_acks == 2
        with pytest.raises(WriteUncertain) as caught:
            await cluster.put("a", b"k", b"2", options=WriteOptions(w=3))
        assert caught.value.details["received"] == 2
        for node in "bc":
            gated(cluster, node).refuses = "disk_full"
        with pytest.raises(StorageFull) as full:
            await cluster.put("a", b"k", b"3")
        assert full.value.outcome == "none"
        assert values(await cluster.get("a", b"k")) == {b"1", b"2"}


async def test_no_reply_shows_what_is_not_on_disk_yet() -> None:
    async with LittleCluster(3, storage=lambda name: GatedStorage()) as cluster:
        for node in "abc":
            gated(cluster, node).gate.clear()
        writing = asyncio.create_task(cluster.put("a", b"k", b"1"))
        await cluster.settle()
        reading = asyncio.create_task(cluster.get("b", b"k"))
        await cluster.settle()
        assert not writing.done()
        assert not reading.done()
        for node in "abc":
            gated(cluster, node).gate.set()
        await writing
        assert values(await reading) == {b"1"}


async def test_a_read_that_waits_for_a_sync_is_not_held_up_by_later_writes() -> None:
    async with LittleCluster(1, replicas=1, storage=lambda name: GatedStorage()) as cluster:
        storage = gated(cluster, "a")
        storage.gate.clear()
        first = asyncio.create_task(cluster.put("a", b"k", b"1"))
        await cluster.settle()
        reading = asyncio.create_task(cluster.get("a", b"k"))
        await cluster.settle()
        second = asyncio.create_task(cluster.put("a", b"k", b"2"))
        await cluster.settle()
        storage.gate.set()
        assert values(await reading) == {b"1"}
        await first
        await second


async def test_a_failed_sync_is_never_acknowledged_and_stops_writes() -> None:
    async with LittleCluster(3, storage=lambda name: GatedStorage()) as cluster:
        gated(cluster, "c").broken = True
        with pytest.raises(WriteUncertain) as caught:
            await cluster.put("a", b"k", b"1", options=WriteOptions(w=3))
        assert caught.value.details["received"] == 2
        assert (await cluster.put("a", b"other", b"1")).primary_acks == 2
        assert cluster.nodes["c"].metrics.count["refused_sync_failed"] >= 2


async def test_a_read_repairs_who_was_behind() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        cluster.links.down.add("c")
        seen = await cluster.get("a", b"k")
        await cluster.put("a", b"k", b"2", seen.context)
        await cluster.put("a", b"new", b"n")
        cluster.links.down.clear()
        assert values(await cluster.get("c", b"k", ALL)) == {b"2"}
        assert values(await cluster.get("a", b"new")) == {b"n"}
        await cluster.settle()
        for key in (b"k", b"new"):
            assert len({repr(record) for record in cluster.records(key).values()}) == 1
        counted = [node.metrics.count for node in cluster.nodes.values()]
        sent = [m for _, _, m in cluster.links.sent if isinstance(m, Store) and m.repair]
        assert sum(count["read_repairs"] for count in counted) == len(sent) == 2
        assert sum(count["read_repair_bytes"] for count in counted) == sum(
            len(store.record) for store in sent
        )
        again = len(cluster.links.sent)
        await cluster.get("c", b"k", ALL)
        await cluster.settle()
        assert not any(isinstance(m, Store) for _, _, m in cluster.links.sent[again:])


async def test_concurrent_records_are_merged_and_repaired_both_ways() -> None:
    async with LittleCluster(3) as cluster:
        cluster.links.down.update("bc")
        with pytest.raises(WriteUncertain):
            await cluster.put("a", b"k", b"1")
        cluster.links.down.clear()
        cluster.links.down.update("ac")
        with pytest.raises(WriteUncertain):
            await cluster.put("b", b"k", b"2")
        cluster.links.down.clear()
        assert values(await cluster.get("c", b"k", ALL)) == {b"1", b"2"}
        await cluster.settle()
        assert len({repr(record) for record in cluster.records(b"k").values()}) == 1


async def test_a_newer_value_whose_body_is_lost_is_not_answered_with_the_older() -> None:
    """r = 2 of a, b with c down: b says it is ahead, and is lost before its body arrives."""
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        await cluster.settle()
        cluster.links.down.update("ac")
        seen = await cluster.get("b", b"k", ReadOptions(r=1))
        with pytest.raises(WriteUncertain):
            await cluster.put("b", b"k", b"2", seen.context)
        cluster.links.down.clear()
        cluster.links.down.add("c")
        cluster.links.drop_replies.add(("Body", "b"))
        reading = asyncio.create_task(cluster.get("a", b"k"))
        await cluster.settle()
        assert not reading.done()
        cluster.links.kill("b")
        with pytest.raises(Unavailable):
            await reading


async def test_a_body_that_does_not_come_is_asked_of_another_replica() -> None:
    async with LittleCluster(4) as cluster:
        _, plan = cluster.nodes["a"].coordinator._plan(b"default", b"b", b"k")
        outsider = next(node for node in "abcd" if node not in plan.primaries)
        await cluster.put(outsider, b"k", b"1")
        cluster.links.mute.add(plan.primaries[0])
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert values(await cluster.get(outsider, b"k")) == {b"1"}
        assert loop.time() - started < 2.0
        assert cluster.nodes[outsider].metrics.count["reads_hedged"] == 1


async def test_a_body_lost_with_its_connection_is_asked_of_another_at_once() -> None:
    async with LittleCluster(4) as cluster:
        _, plan = cluster.nodes["a"].coordinator._plan(b"default", b"b", b"k")
        outsider = next(node for node in "abcd" if node not in plan.primaries)
        await cluster.put(outsider, b"k", b"1")
        cluster.links.mute.add(plan.primaries[0])
        reading = asyncio.create_task(cluster.get(outsider, b"k"))
        await cluster.settle()
        cluster.links.kill(plan.primaries[0])
        assert values(await reading) == {b"1"}
        assert cluster.nodes[outsider].metrics.count["reads_hedged"] == 0


async def test_blocking_repair_answers_once_enough_primaries_hold_what_it_shows() -> None:
    async with LittleCluster(3) as cluster:
        cluster.links.down.update("bc")
        with pytest.raises(WriteUncertain):
            await cluster.put("a", b"k", b"1")
        cluster.links.down.clear()
        blocking = ReadOptions(r=2, read_repair="blocking")
        assert values(await cluster.get("a", b"k", blocking)) == {b"1"}
        holders = sum(bool(record) for record in cluster.records(b"k").values())
        assert holders >= 2


async def test_a_blocking_repair_that_nobody_acknowledges_fails_the_read() -> None:
    async with LittleCluster(3) as cluster:
        cluster.links.down.update("bc")
        with pytest.raises(WriteUncertain):
            await cluster.put("a", b"k", b"1")
        cluster.links.down.clear()
        cluster.links.drop_replies.update((("Synced", "b"), ("Synced", "c")))
        blocking = ReadOptions(r=2, read_repair="blocking", timeout_ms=200)
        with pytest.raises(ReadUncertain):
            await cluster.get("a", b"k", blocking)


async def test_a_blocking_repair_that_can_no_longer_succeed_fails_at_once() -> None:
    """r = 1 needs all three: one acknowledges the repair, one is lost."""
    async with LittleCluster(3, storage=lambda name: GatedStorage()) as cluster:
        cluster.links.down.update("bc")
        with pytest.raises(WriteUncertain):
            await cluster.put("a", b"k", b"1")
        cluster.links.down.clear()
        gated(cluster, "c").gate.clear()
        reading = asyncio.create_task(
            cluster.get("a", b"k", ReadOptions(r=1, read_repair="blocking"))
        )
        await cluster.settle()
        assert not reading.done()
        cluster.links.kill("c")
        async with asyncio.timeout(1):
            with pytest.raises(ReadUncertain) as caught:
                await reading
        assert (caught.value.details["required"], caught.value.details["received"]) == (3, 2)
        assert list(caught.value.details["reasons"]) == ["c"]


async def test_a_replica_that_never_gives_the_body_it_is_asked_for_is_a_lost_one() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1", options=WriteOptions(w="all"))
        digest = cluster.nodes["b"].reads.fetch_at_once

        def evade(message: Fetch, call: Call) -> None:
            reply = digest(msgspec.structs.replace(message, body=False))
            assert reply is not None
            call.reply(reply)

        answer(cluster, "b", Fetch, evade)
        answer(cluster, "c", Fetch, evade)
        cluster.nodes["a"].replica.damaged.add(cluster.storage_key(b"k"))
        async with asyncio.timeout(2):
            with pytest.raises(Unavailable):
                await cluster.get("a", b"k")


@pytest.mark.parametrize("step", ["put", "full", "delete"])
async def test_a_request_that_fails_leaves_nothing_for_the_collector(step: str) -> None:
    """Its error knows its frames: one that knows the error keeps the value, until a collection."""
    async with LittleCluster(3) as cluster:
        if step == "full":
            for number in range(SIBLINGS_MAX):
                await cluster.put("a", b"k", b"%d" % number)
        else:
            cluster.links.down.update("abc")
        await cluster.settle()
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                with pytest.raises((Unavailable, RecordFull)):
                    await (
                        cluster.delete("a", b"k")
                        if step == "delete"
                        else cluster.put("a", b"k", b"v" * 1000)
                    )
            kept = [o for o in gc.get_objects() if isinstance(o, WriteOperation | ReadOperation)]
        finally:
            gc.enable()
        assert kept == []


async def test_a_blocking_read_that_repairs_leaves_nothing_for_the_collector() -> None:
    async with LittleCluster(3) as cluster:
        cluster.links.down.update("bc")
        with pytest.raises(WriteUncertain):
            await cluster.put("a", b"k", b"1")
        cluster.links.down.clear()
        gc.collect()
        gc.disable()
        try:
            await cluster.get("a", b"k", ReadOptions(read_repair="blocking"))
            await cluster.settle()
            assert not [o for o in gc.get_objects() if isinstance(o, ReadOperation)]
        finally:
            gc.enable()


async def test_what_a_read_showed_is_kept_only_where_all_of_it_is_small() -> None:
    """As many are kept as there are: a long vector, and the context made of it, cost what values do."""
    births = [birth_bytes(incarnation_bytes(start, b"12345678"), 1) for start in range(1, 200)]
    long = Record(FORMAT, tuple((birth, 1) for birth in births), ())
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"short", b"1", options=WriteOptions(w="all"))
        written = await cluster.put("a", b"long", b"1", options=WriteOptions(w="all"))
        longer = encode_record(merge(written.record, long))
        for node in cluster.nodes.values():
            storage_key = cluster.storage_key(b"long")
            node.storage.put("records", storage_key, encode_stored(storage_key, b"", 0, longer))
        short = await cluster.get("a", b"short")
        assert await cluster.get("a", b"short") is short
        found = await cluster.get("a", b"long")
        assert values(found) == {b"1"}
        assert await cluster.get("a", b"long") is not found


def test_a_blocking_read_leaves_no_timer_behind() -> None:
    async def read() -> list[float]:
        async with LittleCluster(3) as cluster:
            cluster.links.down.update("bc")
            with pytest.raises(WriteUncertain):
                await cluster.put("a", b"k", b"1")
            cluster.links.down.clear()
            await asyncio.sleep(60.0)
            await cluster.get("a", b"k", ReadOptions(read_repair="blocking"))
            await cluster.settle()
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SimLoop)
            return loop.armed()

    assert run_virtual(read(), random=random.Random(1)) == []


def test_a_write_whose_client_has_gone_leaves_no_timer_behind() -> None:
    async def write(acknowledging: str) -> list[float]:
        async with LittleCluster(3, storage=lambda name: GatedStorage()) as cluster:
            cluster.links.delay = lambda: 0.01
            for name in set("abc") - set(acknowledging):
                gated(cluster, name).refuses = "disk_full"
            options = WriteOptions(timeout_ms=300_000)
            writing = asyncio.ensure_future(cluster.put("a", b"k", b"1", options=options))
            await asyncio.sleep(0.001)
            writing.cancel()
            await asyncio.sleep(1.0)
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SimLoop)
            return loop.armed()

    for acknowledging in ("abc", "ab", "a", "c", ""):
        assert run_virtual(write(acknowledging), random=random.Random(1)) == [], acknowledging


async def test_a_body_that_is_wanted_and_does_not_come_is_asked_of_another_that_holds_it() -> None:
    """a has an older record, b and c the newer one; b is asked for it and says nothing more."""
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        seen = await cluster.get("a", b"k")
        await cluster.settle()
        cluster.links.down.add("a")
        await cluster.put("b", b"k", b"2", seen.context)
        await cluster.settle()
        cluster.links.down.clear()
        cluster.links.drop_replies.add(("Body", "b"))
        async with asyncio.timeout(2):
            assert values(await cluster.get("a", b"k")) == {b"2"}
        assert cluster.nodes["a"].metrics.count["reads_hedged"] == 1


@pytest.mark.parametrize("first", ["digest", "record", "refusal"])
async def test_who_was_hedged_to_while_its_digest_was_on_its_way_has_two_answers(
    first: str,
) -> None:
    """Of three owners the last is down, the first is slow, and the second gives a digest first."""
    async with LittleCluster(4) as cluster:
        slow, asked_twice, dead = cluster.owners(b"k")
        outsider = next(node for node in "abcd" if node not in (slow, asked_twice, dead))
        await cluster.put(outsider, b"k", b"1")
        await cluster.settle()
        cluster.links.down.add(dead)
        fetches = {node: cluster.links.handlers[node][Fetch] for node in (slow, asked_twice)}
        held: dict[str, list[tuple[Request, Call]]] = {slow: [], asked_twice: []}
        for node, calls in held.items():
            answer(cluster, node, Fetch, lambda *asked, calls=calls: calls.append(asked))
        reading = asyncio.create_task(cluster.get(outsider, b"k"))
        async with asyncio.timeout(2):
            while len(held[asked_twice]) < 2:
                await asyncio.sleep(0.005)
        assert cluster.nodes[outsider].metrics.count["reads_hedged"] == 1
        fetches[slow](*held[slow].pop())
        if first == "record":
            held[asked_twice].reverse()
        elif first == "refusal":
            held[asked_twice].pop(0)[1].reply(Refused("refilling", True))
        for asked in held[asked_twice]:
            await cluster.settle()
            fetches[asked_twice](*asked)
        async with asyncio.timeout(2):
            assert values(await reading) == {b"1"}
        await cluster.settle()
        assert cluster.nodes[outsider].metrics.count["read_repairs"] == 0


async def test_a_sync_whose_mint_was_lost_leaves_the_write_unknown_at_once() -> None:
    async with LittleCluster(4) as cluster:
        minter, *others = cluster.owners(b"k")
        outsider = next(node for node in "abcd" if node not in (minter, *others))
        cluster.links.drop_replies.add(("Minted", minter))
        async with asyncio.timeout(1):
            with pytest.raises(WriteUncertain) as caught:
                await cluster.put(outsider, b"k", b"1", options=WriteOptions(w=1))
        assert list(caught.value.details["reasons"]) == [minter]


@pytest.mark.parametrize(
    "record", [b"\xc1", encode_record(EMPTY)], ids=["no record", "without the write"]
)
async def test_a_minted_record_that_cannot_be_used_leaves_the_write_unknown(record: bytes) -> None:
    async with LittleCluster(4) as cluster:
        minter, *others = cluster.owners(b"k")
        outsider = next(node for node in "abcd" if node not in (minter, *others))

        def mint(message: Request, call: Call) -> None:
            birth = birth_bytes(incarnation_bytes(1, b"12345678"), 1)
            call.reply(Minted(record, birth, 1), last=False)
            call.reply(Synced())

        answer(cluster, minter, Mint, mint)
        async with asyncio.timeout(1):
            with pytest.raises(WriteUncertain, match="the minter's answer cannot be read"):
                await cluster.put(outsider, b"k", b"1", options=WriteOptions(w=1))


async def test_only_the_minter_says_what_was_minted() -> None:
    async with LittleCluster(3) as cluster:
        birth = birth_bytes(incarnation_bytes(1, b"12345678"), 1)
        minted = Minted(encode_record(EMPTY), birth, 1)
        answer(cluster, "b", Store, lambda message, call: call.reply(minted))
        written = await cluster.put("a", b"k", b"1")
        assert [sibling.read().value for sibling in written.record.siblings] == [b"1"]
        with pytest.raises(WriteUncertain) as caught:
            await cluster.put("a", b"k", b"2", options=WriteOptions(w=3))
        assert caught.value.details["reasons"] == {"b": "unexpected reply"}


async def test_a_full_record_that_cannot_be_read_is_a_full_record_all_the_same() -> None:
    async with LittleCluster(3) as cluster:
        full = Refused("record_full", True, "full", record=b"\xc1", limit="siblings")
        answer(cluster, "a", Mint, lambda message, call: call.reply(full))
        async with asyncio.timeout(1):
            with pytest.raises(RecordFull):
                await cluster.put("a", b"k", b"1")


async def test_nobody_is_asked_to_mint_once_the_client_has_its_answer() -> None:
    async with LittleCluster(4, storage=lambda name: GatedStorage()) as cluster:
        minter, *others = cluster.owners(b"k")
        outsider = next(node for node in "abcd" if node not in (minter, *others))
        gated(cluster, minter).refuses = "disk_full"
        cluster.links.delay = lambda: 0.06
        with pytest.raises(WriteUncertain) as caught:
            await cluster.put(outsider, b"k", b"1", options=WriteOptions(timeout_ms=100))
        assert list(caught.value.details["reasons"]) == [minter]
        await asyncio.sleep(0.2)
        assert sum(isinstance(message, Mint) for _, _, message in cluster.links.sent) == 1


async def test_a_delete_that_reads_first_has_one_timeout_for_both() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        await cluster.settle()
        cluster.links.delay = lambda: 0.12
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(WriteUncertain):
            await cluster.delete("a", b"k", options=WriteOptions(timeout_ms=350))
        assert loop.time() - started < 0.45


async def test_a_frozen_replica_costs_a_write_of_three_its_deadline_and_no_more() -> None:
    async with LittleCluster(3) as cluster:
        cluster.links.frozen.add("c")
        assert (await cluster.put("a", b"k", b"1")).primary_acks == 2
        with pytest.raises(WriteUncertain) as caught:
            await cluster.put("a", b"k", b"2", options=WriteOptions(w=3, timeout_ms=100))
        assert caught.value.details["received"] == 2
        assert caught.value.details["reasons"] == {"c": "no answer in time"}


async def test_a_condition_is_judged_by_a_read_and_by_the_minter() -> None:
    async with LittleCluster(3) as cluster:
        create = WriteOptions(condition=Condition(if_none_match=("*",)))
        written = await cluster.put("a", b"k", b"1", options=create)
        with pytest.raises(PreconditionFailed):
            await cluster.put("b", b"k", b"2", options=create)
        seen = await cluster.get("c", b"k")
        match = WriteOptions(condition=Condition(if_match=(written.vtag,)))
        await cluster.put("c", b"k", b"3", seen.context, options=match)
        with pytest.raises(PreconditionFailed):
            await cluster.put("c", b"k", b"4", seen.context, options=match)
        assert values(await cluster.get("a", b"k")) == {b"3"}


async def test_a_write_if_not_modified_holds_only_for_what_its_context_covers() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        first = (await cluster.get("b", b"k")).context
        options = WriteOptions(unmodified=first)
        await cluster.put("c", b"k", b"2", first, options)
        for context in (first, b""):
            with pytest.raises(PreconditionFailed):
                await cluster.put("b", b"k", b"3", context, options)
            with pytest.raises(PreconditionFailed):
                await cluster.delete("a", b"k", context, options)
        with pytest.raises(BadContext):
            await cluster.put("a", b"other", b"1", b"", options)
        assert values(await cluster.get("a", b"k")) == {b"2"}


async def test_a_delete_whose_condition_does_not_hold_fails_though_what_it_names_is_gone() -> None:
    async with LittleCluster(3) as cluster:
        first = await cluster.put("a", b"k", b"1")
        seen = await cluster.get("a", b"k")
        await cluster.put("a", b"k", b"2", seen.context, WriteOptions(w=3))
        options = WriteOptions(condition=Condition(if_match=(first.vtag,)))
        for context in (seen.context, b""):
            with pytest.raises(PreconditionFailed):
                await cluster.delete("a", b"k", context, options)
        assert values(await cluster.get("a", b"k")) == {b"2"}


async def test_siblings_beyond_the_cap_are_refused_and_shown() -> None:
    async with LittleCluster(3) as cluster:
        for number in range(100):
            await cluster.put("a", b"k", b"%d" % number)
        with pytest.raises(RecordFull) as caught:
            await cluster.put("a", b"k", b"too many")
        found = caught.value.record
        assert isinstance(found, Found)
        assert len(found.siblings) == 100
        await cluster.put("a", b"k", b"one", found.context)
        assert values(await cluster.get("b", b"k")) == {b"one"}


@pytest.mark.parametrize("field", ["r", "pr", "node_confirms"])
async def test_reads_of_more_than_n_are_refused(field: str) -> None:
    async with LittleCluster(3) as cluster:
        with pytest.raises(InvalidArgument, match=field):
            await cluster.get("a", b"k", ReadOptions(**{field: 4}))  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["w", "dw", "pw", "node_confirms"])
async def test_writes_of_more_than_n_are_refused(field: str) -> None:
    async with LittleCluster(3) as cluster:
        with pytest.raises(InvalidArgument, match=field):
            await cluster.put(
                "a",
                b"k",
                b"",
                options=WriteOptions(**{field: 4}),  # type: ignore[arg-type]
            )


async def test_two_dead_of_five_are_not_noticed_at_three() -> None:
    async with LittleCluster(5, replicas=5) as cluster:
        cluster.links.down.update("de")
        written = await cluster.put("a", b"k", b"1", options=WriteOptions(w=3))
        assert written.primary_acks == 3
        assert values(await cluster.get("b", b"k", ReadOptions(r=3))) == {b"1"}


async def test_a_delete_sent_twice_leaves_one_tombstone() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        seen = await cluster.get("a", b"k")
        assert isinstance(await cluster.delete("b", b"k", seen.context), Written)
        for node in "abc":
            assert isinstance(await cluster.delete(node, b"k", seen.context), Found)
        assert len((await cluster.get("a", b"k", ALL)).record.siblings) == 1


@pytest.mark.parametrize("named", [True, False])
async def test_what_is_deleted_at_one_replica_only_is_deleted_again(named: bool) -> None:
    """The first delete was left uncertain; who asks again must not find the value afterwards."""
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        context = (await cluster.get("a", b"k")).context if named else b""
        await cluster.settle()
        cluster.links.down.update("bc")
        with pytest.raises(WriteUncertain):
            await cluster.delete("a", b"k", context, WriteOptions(r=1))
        cluster.links.down.clear()
        cluster.links.down.add("c")
        assert isinstance(await cluster.delete("a", b"k", context), Written)
        cluster.links.down.clear()
        cluster.links.down.add("a")
        assert (await cluster.get("b", b"k")).deleted


async def test_a_delete_names_what_a_read_may_have_missed() -> None:
    """The value is at one replica only, and the read before the delete does not reach it."""
    async with LittleCluster(3) as cluster:
        cluster.links.down.update("ab")
        with pytest.raises(WriteUncertain):
            await cluster.put("c", b"k", b"1")
        seen = await cluster.get("c", b"k", ReadOptions(r=1))
        cluster.links.down.clear()
        cluster.links.down.add("c")
        assert isinstance(await cluster.delete("a", b"k", seen.context), Written)
        cluster.links.down.clear()
        assert (await cluster.get("c", b"k", ALL)).deleted


async def test_a_delete_with_a_context_goes_through_where_no_read_does() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        seen = await cluster.get("a", b"k")
        cluster.links.down.update("bc")
        done = await cluster.delete("a", b"k", seen.context, WriteOptions(w=1))
        assert isinstance(done, Written)
