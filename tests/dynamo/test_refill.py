"""A node that lost its disk, or a record, gets it back from the others."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest
from little_cluster import GatedStorage, LittleCluster, LittleNode, values

from dynamo.errors import StorageCorrupt, Unavailable
from dynamo.ports import Family, Write
from dynamo.refill import REBUILD_PATIENCE
from dynamo.requests import ReadOptions, WriteOptions
from dynamo.sim.loop import run_virtual
from dynamo.store.memory import MemoryStorage
from dynamo.version import incarnation_bytes

ALL = ReadOptions(r="all")


def wipe(node: LittleNode) -> None:
    """Everything the node had is gone, and it knows."""
    assert isinstance(node.storage, MemoryStorage)
    for family in node.storage._families.values():
        family.clear()
    node.replica.renew_incarnation(incarnation_bytes(2, b"new disk"))
    node.refill.mark_all()


async def refilled(node: LittleNode) -> None:
    async with asyncio.timeout(20):
        while node.replica.refilling or node.replica.damaged:
            await asyncio.sleep(0.01)


async def test_a_wiped_node_counts_toward_no_read_until_it_has_everything_again() -> None:
    async with LittleCluster(3) as cluster:
        keys = [b"k%d" % number for number in range(50)]
        for key in keys:
            await cluster.put("a", key, key)
        await cluster.settle()
        cluster.links.down.update("ab")
        wipe(cluster.nodes["c"])
        assert cluster.nodes["c"].refill.waiting == 8
        await asyncio.sleep(0.05)
        assert cluster.nodes["c"].refill.waiting == 8
        cluster.links.down.clear()
        cluster.nodes["c"].refill.wake()
        await refilled(cluster.nodes["c"])
        for key in keys:
            assert values(await cluster.get("c", key, ALL)) == {key}
            assert len({repr(record) for record in cluster.records(key).values()}) == 1


async def test_a_peer_that_is_down_is_waited_for_a_while_and_read_when_it_returns() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        await cluster.settle()
        node = cluster.nodes["c"]
        cluster.links.down.add("b")
        wipe(node)
        node.refill.wake()
        async with asyncio.timeout(20):
            while node.refill.waiting:
                await asyncio.sleep(0.05)
        assert len(node.replica.refilling) == 8
        cluster.links.down.clear()
        node.refill.wake()
        await refilled(node)


async def test_births_of_before_the_wipe_are_not_used_again() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("c", b"k", b"1")
        await cluster.put("a", b"k", b"2")
        await cluster.settle()
        wipe(cluster.nodes["c"])
        await cluster.put("c", b"k", b"3")
        await refilled(cluster.nodes["c"])
        assert values(await cluster.get("c", b"k", ALL)) == {b"1", b"2", b"3"}


async def test_a_damaged_record_is_fetched_from_a_peer() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        await cluster.settle()
        node = cluster.nodes["c"]
        routing, plan = node.coordinator._plan(b"default", b"b", b"k")
        storage_key = node.replica.prefixes[(plan.class_id, plan.partition)] + routing
        node.storage.put("records", storage_key, b"rubbish")
        assert values(await cluster.get("c", b"k")) == {b"1"}
        await refilled(node)
        assert node.metrics.count["records_mended"] == 1
        assert values(await cluster.get("a", b"k", ALL)) == {b"1"}


async def test_a_damaged_record_without_a_good_copy_is_an_error_and_not_absent() -> None:
    async with LittleCluster(3) as cluster:
        node = cluster.nodes["c"]
        routing, plan = node.coordinator._plan(b"default", b"b", b"k")
        storage_key = node.replica.prefixes[(plan.class_id, plan.partition)] + routing
        node.storage.put("records", storage_key, b"rubbish")
        cluster.links.down.update("ab")
        for _ in range(2):
            with pytest.raises(Unavailable) as caught:
                await cluster.get("c", b"k", ReadOptions(r=1))
            assert "c" in caught.value.details["reasons"]


async def test_a_full_disk_interrupts_a_refill_and_does_not_end_it() -> None:
    async with LittleCluster(3, storage=lambda name: GatedStorage()) as cluster:
        await cluster.put("a", b"k", b"1")
        await cluster.settle()
        node = cluster.nodes["c"]
        assert isinstance(node.storage, GatedStorage)
        wipe(node)
        node.storage.full = True
        await asyncio.sleep(0.05)
        assert node.metrics.count["refills_interrupted"] >= 1
        assert node.refill.waiting == 8
        node.storage.full = False
        node.refill.wake()
        await refilled(node)
        assert values(await cluster.get("c", b"k", ALL)) == {b"1"}


async def test_what_was_read_before_a_second_loss_does_not_count() -> None:
    """The answer of the second peer arrives after everything was marked anew."""
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        await cluster.settle()
        node = cluster.nodes["c"]
        marks = node.replica.refilling
        cluster.links.delay = lambda: 0.02
        wipe(node)
        async with asyncio.timeout(5):
            while ("b",) not in {mark.owed for mark in marks.values()}:
                await asyncio.sleep(0.001)
        wipe(node)
        cluster.links.down.add("a")
        await asyncio.sleep(0.1)
        assert len(marks) == 8
        assert all("a" in mark.owed for mark in marks.values())
        cluster.links.down.clear()
        node.refill.wake()
        await refilled(node)
        assert values(await cluster.get("c", b"k", ALL)) == {b"1"}


async def test_a_damaged_record_waits_a_while_for_a_primary_that_is_down() -> None:
    """b alone has the last write beside the damaged record of c."""
    async with LittleCluster(3) as cluster:
        cluster.links.down.add("a")
        await cluster.put("b", b"k", b"1")
        await cluster.settle()
        cluster.links.down.clear()
        cluster.links.down.add("b")
        node = cluster.nodes["c"]
        node.storage.put("records", cluster.storage_key(b"k"), b"rubbish")
        await cluster.put("a", b"k", b"2", options=WriteOptions(w=1))
        for _ in range(3):
            with pytest.raises(Unavailable):
                await cluster.get("a", b"k")
            node.refill.wake()
            await cluster.settle()
        cluster.links.down.clear()
        node.refill.wake()
        await refilled(node)
        assert values(await cluster.get("c", b"k")) == {b"1", b"2"}


def test_a_refill_that_cannot_go_on_looks_again_once_a_second_however_often_it_is_woken() -> None:
    async def wait() -> tuple[int, int]:
        async with LittleCluster(3) as cluster:
            node = cluster.nodes["c"]
            cluster.links.down.update("ab")
            wipe(node)
            looks = 0
            look = node.refill._look

            async def counted() -> None:
                nonlocal looks
                looks += 1
                await look()

            node.refill._look = counted  # type: ignore[method-assign]
            for _ in range(20):
                node.refill.wake()
                await asyncio.sleep(0.01)
            before = looks
            await asyncio.sleep(10.0)
            return before, looks

    before, after = run_virtual(wait(), random=random.Random(1))
    assert before <= 20
    assert after - before == 10


def storage_key_of(cluster: LittleCluster, name: str, key: bytes) -> bytes:
    node = cluster.nodes[name]
    routing, plan = node.coordinator._plan(b"default", b"b", key)
    return node.replica.prefixes[(plan.class_id, plan.partition)] + routing


async def test_a_damaged_record_is_not_served_until_every_primary_has_answered_for_it() -> None:
    """b has the past only; what was acknowledged at a and c is damaged at c while a is away."""
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"old", options=WriteOptions(w=3))
        seen = await cluster.get("a", b"k")
        cluster.links.down.add("b")
        await cluster.put("a", b"k", b"new", seen.context)
        await cluster.settle()
        cluster.links.down.clear()
        node = cluster.nodes["c"]
        cluster.links.down.add("a")
        node.storage.put("records", storage_key_of(cluster, "c", b"k"), b"rubbish")
        with pytest.raises(Unavailable):
            await cluster.get("c", b"k")
        await asyncio.sleep(1.5)
        with pytest.raises(Unavailable):
            await cluster.get("b", b"k")
        cluster.links.down.clear()
        node.refill.wake()
        await refilled(node)
        assert values(await cluster.get("b", b"k", ALL)) == {b"new"}


async def test_a_record_damaged_at_two_nodes_is_mended_from_the_third() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1", options=WriteOptions(w=3))
        for name in "bc":
            node = cluster.nodes[name]
            node.storage.put("records", storage_key_of(cluster, name, b"k"), b"rubbish")
        for name in "bc":
            with suppress(Unavailable):
                await cluster.get(name, b"k")
        for name in "bc":
            await refilled(cluster.nodes[name])
        for name in "abc":
            assert values(await cluster.get(name, b"k", ALL)) == {b"1"}


async def test_a_copy_that_is_damaged_while_others_are_waited_for_is_not_taken_for_mended() -> None:
    """b, which is waited for, has no record: then c would say that there is none."""
    async with LittleCluster(3) as cluster:
        cluster.links.down.add("b")
        await cluster.put("a", b"k", b"1")
        await cluster.settle()
        node = cluster.nodes["c"]
        storage_key = cluster.storage_key(b"k")
        for _ in range(2):
            node.storage.put("records", storage_key, b"rubbish")
            assert values(await cluster.get("c", b"k", ReadOptions(r=1))) == {b"1"}
            await cluster.settle()
        cluster.links.down.clear()
        cluster.links.sever("a", "c")
        node.refill.wake()
        await cluster.settle()
        assert node.replica.damaged == {storage_key}
        cluster.links.cut.clear()
        node.refill.wake()
        await refilled(node)
        assert values(await cluster.get("c", b"k", ALL)) == {b"1"}


def test_a_partition_that_turns_unreadable_waits_a_while_for_a_peer_that_is_down() -> None:
    """b alone has what c cannot read any more; it is back soon."""

    async def run() -> None:
        async with LittleCluster(3, partitions=1) as cluster:
            cluster.links.down.add("a")
            await cluster.put("b", b"k", b"1")
            await cluster.settle()
            cluster.links.down.clear()
            await asyncio.sleep(60.0)
            node = cluster.nodes["c"]
            node.storage.write((Write("records", cluster.storage_key(b"k"), None),))
            cluster.links.down.add("b")
            node.replica.on_unreadable((0, 0), "a block is damaged")
            await asyncio.sleep(2.0)
            with pytest.raises(Unavailable):
                await cluster.get("a", b"k")
            cluster.links.down.clear()
            node.refill.wake()
            await refilled(node)
            assert values(await cluster.get("c", b"k", ALL)) == {b"1"}

    run_virtual(run(), random=random.Random(1))


def cut_short(
    family: Family, start: bytes, end: bytes, *, count_max: int, bytes_max: int
) -> list[tuple[bytes, bytes]]:
    """A scan of a storage of which a block is damaged."""
    raise StorageCorrupt("a block is damaged")


@pytest.mark.parametrize("rebuilt", [True, False])
def test_two_nodes_that_cannot_read_one_partition_through_serve_it_again(
    rebuilt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asks the other once it has rebuilt its database, or does without it at last."""

    async def run() -> None:
        async with LittleCluster(3, partitions=1) as cluster:
            await cluster.put("a", b"k", b"1")
            await cluster.settle()
            await asyncio.sleep(60.0)
            damaged = [cluster.nodes[name] for name in "ab"]
            with monkeypatch.context() as patch:
                for node in damaged:
                    patch.setattr(node.storage, "scan", cut_short)
                damaged[0].replica.on_unreadable((0, 0), "another block is damaged")
                await asyncio.sleep(5.0 if rebuilt else 2 * REBUILD_PATIENCE)
            if rebuilt:
                await asyncio.sleep(2.0)
                assert not any(node.replica.refilling for node in damaged)
            assert not any(node.refill.waiting for node in damaged)
            for name in "abc":
                assert values(await cluster.get(name, b"k", ALL)) == {b"1"}

    run_virtual(run(), random=random.Random(1))


def test_what_lies_behind_the_damage_of_a_peer_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be nowhere else: here the other that had it has lost its disk."""

    async def run() -> None:
        async with LittleCluster(3, partitions=1) as cluster:
            cluster.links.down.add("c")
            await cluster.put("a", b"k", b"1")
            await cluster.settle()
            cluster.links.down.clear()
            await asyncio.sleep(60.0)
            with monkeypatch.context() as patch:
                patch.setattr(cluster.nodes["b"].storage, "scan", cut_short)
                wipe(cluster.nodes["a"])
                await asyncio.sleep(20.0)  # c has been read long ago
                assert cluster.nodes["a"].refill.waiting
            await asyncio.sleep(2.0)
            assert not cluster.nodes["a"].replica.refilling
            cluster.links.down.add("b")
            assert values(await cluster.get("a", b"k")) == {b"1"}

    run_virtual(run(), random=random.Random(1))


def test_a_peer_that_is_being_refilled_may_have_what_a_damaged_record_had() -> None:
    """b has lost its disk and taken a write since, which but for c's copy is nowhere else."""

    async def run() -> None:
        async with LittleCluster(3, partitions=1) as cluster:
            await cluster.put("a", b"k", b"1")
            await cluster.settle()
            links = cluster.links
            links.drop_replies |= {("Page", "a"), ("Page", "c")}
            wipe(cluster.nodes["b"])
            links.sever("a", "b")
            links.sever("a", "c")
            await cluster.put("b", b"k", b"2", options=WriteOptions(w=2))
            await cluster.settle()
            links.cut.clear()
            damaged = cluster.nodes["c"]
            damaged.storage.put("records", cluster.storage_key(b"k"), b"rubbish")
            with pytest.raises(Unavailable):
                await cluster.get("c", b"k", ReadOptions(r=2, timeout_ms=500))
            await asyncio.sleep(10.0)
            assert damaged.replica.damaged
            links.drop_replies.clear()
            async with asyncio.timeout(60):
                while damaged.replica.damaged:
                    await asyncio.sleep(0.1)
            links.down.add("b")
            assert b"2" in values(await cluster.get("a", b"k"))

    run_virtual(run(), random=random.Random(1))


def test_what_a_peer_could_not_give_once_is_no_reason_to_do_without_it_later() -> None:
    """a had a damaged record when c was refilled; when c is refilled again, a is slow to answer."""

    async def run() -> None:
        async with LittleCluster(3, partitions=1) as cluster:
            await cluster.put("a", b"k", b"1")
            await cluster.settle()
            node, peer = cluster.nodes["c"], cluster.nodes["a"]
            peer.storage.put("records", cluster.storage_key(b"k"), b"rubbish")
            wipe(node)
            async with asyncio.timeout(60):
                while node.replica.refilling or peer.replica.damaged:
                    await asyncio.sleep(0.1)
            assert node.metrics.count["refill_records_skipped"] == 1
            await asyncio.sleep(60.0)
            cluster.links.drop_replies.add(("Page", "a"))
            wipe(node)
            await asyncio.sleep(60.0)
            assert node.refill.waiting == 1
            cluster.links.drop_replies.clear()
            async with asyncio.timeout(60):
                while node.replica.refilling:
                    await asyncio.sleep(0.1)

    run_virtual(run(), random=random.Random(1))


async def test_a_damaged_record_without_any_other_replica_is_served_once_it_is_written_anew() -> (
    None
):
    async with LittleCluster(1) as cluster:
        await cluster.put("a", b"k", b"1")
        node = cluster.nodes["a"]
        node.storage.put("records", cluster.storage_key(b"k"), b"rubbish")
        for _ in range(2):
            with pytest.raises(Unavailable):
                await cluster.get("a", b"k")
            await cluster.settle()
        await cluster.put("a", b"k", b"2")
        node.refill.wake()
        await refilled(node)
        assert values(await cluster.get("a", b"k")) == {b"2"}


async def test_a_key_that_is_damaged_at_every_replica_is_served_once_it_is_written_anew() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1", options=WriteOptions(w=3))
        for node in cluster.nodes.values():
            node.storage.put("records", cluster.storage_key(b"k"), b"rubbish")
        for _ in range(2):  # an error, not absence, for as long as it is not
            with pytest.raises(Unavailable):
                await cluster.get("a", b"k")
            await cluster.settle()
        await cluster.put("a", b"k", b"2", options=WriteOptions(w=3))
        for node in cluster.nodes.values():
            node.refill.wake()
        for node in cluster.nodes.values():
            await refilled(node)
        found = await cluster.get("a", b"k", ReadOptions(r=3))
        assert values(found) == {b"2"}
