"""Listings over real replicas: true when they say so, in pages, bounded, and gone when closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from little_cluster import GatedStorage, LittleCluster

from dynamo import replica_listing
from dynamo.errors import (
    BadCursor,
    InvalidArgument,
    NotReady,
    TooManyListings,
    UnknownBucketType,
)
from dynamo.listing import LISTINGS_MAX
from dynamo.listing_ask import WIDTH
from dynamo.record import Content
from dynamo.refill_marks import RefillMark
from dynamo.requests import Listed, ListOptions, WriteOptions
from dynamo.rpc.messages import Keys, ListKeys
from ring.member import Member
from ring.ring import ReplicationClass, Ring

KEYS = [b"k%03d" % number for number in range(60)]


async def collect(parts: AsyncGenerator[Listed, None]) -> tuple[list[bytes], bool, bytes]:
    """(names, complete, cursor) of a listing."""
    names: list[bytes] = []
    async with aclosing(parts):
        async for part in parts:
            names += part.names
    assert part.done
    return names, part.complete, part.cursor


async def keys(
    cluster: LittleCluster, node: str = "a", options: ListOptions | None = None
) -> tuple[list[bytes], bool, bytes]:
    listing = cluster.nodes[node].listing
    return await collect(listing.list_keys(b"default", b"b", options or ListOptions()))


async def buckets(
    cluster: LittleCluster, node: str = "a", options: ListOptions | None = None
) -> tuple[list[bytes], bool, bytes]:
    listing = cluster.nodes[node].listing
    return await collect(listing.list_buckets(b"default", options or ListOptions()))


async def put_in(cluster: LittleCluster, bucket: bytes, key: bytes) -> None:
    coordinator = cluster.nodes["a"].coordinator
    await coordinator.put(b"default", bucket, key, Content(b"v", b"a/b"), b"", WriteOptions())


async def test_every_node_lists_what_was_written_and_is_still_there() -> None:
    async with LittleCluster(5) as cluster:
        for key in KEYS:
            await cluster.put("a", key, b"v")
        for key in KEYS[:10]:
            await cluster.delete("b", key)
        await cluster.put("a", b"expired", b"v", options=WriteOptions(expires_ms=1))
        await put_in(cluster, b"bb", b"of another bucket")
        await cluster.settle()
        for node in cluster.nodes:
            names, complete, cursor = await keys(cluster, node)
            assert (sorted(names), complete, cursor) == (KEYS[10:], True, b"")
        assert sum(node.metrics.count["listing_keys_read"] for node in cluster.nodes.values()) == 0


async def test_a_key_deleted_and_written_again_blindly_is_listed_without_a_read() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"1")
        await cluster.delete("a", b"k")
        await cluster.put("a", b"k", b"2")
        await cluster.settle()
        assert await keys(cluster) == ([b"k"], True, b"")
        assert cluster.nodes["a"].metrics.count["listing_keys_read"] == 0


async def test_a_node_that_was_away_lists_what_it_missed() -> None:
    async with LittleCluster(3) as cluster:
        for key in KEYS[:30]:
            await cluster.put("a", key, b"v")
        await cluster.settle()
        cluster.links.down.add("c")
        for key in KEYS[:10]:
            await cluster.delete("a", key)
        for key in KEYS[30:]:
            await cluster.put("b", key, b"v")
        cluster.links.down.discard("c")
        names, complete, _ = await keys(cluster, "c")
        assert (sorted(names), complete) == (KEYS[10:], True)
        count = cluster.nodes["c"].metrics.count
        # Those deleted without it are read, which repairs it: nobody needs to again.
        assert count["listing_keys_read"] == 10
        await cluster.settle()
        assert sorted((await keys(cluster, "c"))[0]) == KEYS[10:]
        assert count["listing_keys_read"] == 10


async def test_with_one_owner_of_three_the_list_says_that_it_is_not_complete() -> None:
    async with LittleCluster(3) as cluster:
        for key in KEYS:
            await cluster.put("a", key, b"v", options=WriteOptions(w="all"))
        cluster.links.down |= {"b", "c"}
        names, complete, cursor = await keys(cluster)
        assert (sorted(names), complete, cursor) == (KEYS, False, b"")
        assert (await buckets(cluster))[:2] == ([b"b"], False)
        assert cluster.nodes["a"].metrics.count["listings_ended_incomplete"] == 2


@pytest.mark.parametrize("limit", [1, 7, 60, 61, 1000])
async def test_pages_hold_every_key_once(limit: int) -> None:
    async with LittleCluster(3) as cluster:
        for key in KEYS:
            await cluster.put("a", key, b"v")
        await cluster.settle()
        found: list[bytes] = []
        cursor = b""
        for turn in range(200):
            node = "abc"[turn % 3]  # a cursor goes on at any node
            names, complete, cursor = await keys(cluster, node, ListOptions(limit, cursor))
            assert complete
            assert len(names) <= limit
            found += names
            if not cursor:
                break
            assert len(names) == limit
            await cluster.put("a", b"new %d" % turn, b"v")
            await cluster.delete("a", b"new %d" % turn)
        assert sorted(found) == KEYS
        # Whole lists come in the same order.
        assert (await keys(cluster))[0] == found


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_pages_of_buckets_hold_every_bucket_once(limit: int) -> None:
    names = [b"x", b"y", b"abc", b"abd", b"\xff\xff", b"long" * 64, b"zzz"]
    async with LittleCluster(3) as cluster:
        for bucket in names:
            for number in range(5):
                await put_in(cluster, bucket, b"k%d" % number)
        await cluster.settle()
        found: list[bytes] = []
        cursor = b""
        while True:
            some, complete, cursor = await buckets(cluster, "b", ListOptions(limit, cursor))
            assert complete
            found += some
            if not cursor:
                break
        assert found == sorted(names, key=lambda bucket: (len(bucket), bucket))


async def test_a_cursor_is_good_for_its_own_list_only() -> None:
    async with LittleCluster(3) as cluster:
        for key in KEYS:
            await cluster.put("a", key, b"v")
            await put_in(cluster, b"other", key)
        _, _, cursor = await keys(cluster, "a", ListOptions(5))
        listing = cluster.nodes["a"].listing
        for at in range(len(cursor)):
            forged = cursor[:at] + bytes((cursor[at] ^ 1,)) + cursor[at + 1 :]
            with pytest.raises(BadCursor):
                await keys(cluster, "a", ListOptions(5, forged))
        for parts in (
            listing.list_keys(b"default", b"other", ListOptions(5, cursor)),
            listing.list_buckets(b"default", ListOptions(5, cursor)),
            listing.list_keys(b"default", b"b", ListOptions(5, cursor[:9])),
            listing.list_keys(b"default", b"b", ListOptions(5, cursor + b"x" * 4096)),
        ):
            with pytest.raises(BadCursor):
                await collect(parts)


async def test_what_cannot_be_listed_is_refused_before_anybody_is_asked() -> None:
    async with LittleCluster(3) as cluster:
        listing = cluster.nodes["a"].listing
        with pytest.raises(UnknownBucketType):
            await collect(listing.list_keys(b"no such type", b"b"))
        with pytest.raises(UnknownBucketType):
            await collect(listing.list_buckets(b"no such type"))
        with pytest.raises(InvalidArgument):
            await collect(listing.list_keys(b"default", b"b", ListOptions(-1)))
        listing._ring = None
        with pytest.raises(NotReady):
            await collect(listing.list_keys(b"default", b"b"))
        assert cluster.links.sent == []


async def test_a_node_runs_a_few_listings_at_a_time() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"v")
        await put_in(cluster, b"other", b"k")
        listing = cluster.nodes["a"].listing
        running = [listing.list_buckets(b"default", ListOptions()) for _ in range(LISTINGS_MAX)]
        for parts in running:
            await anext(parts)
        with pytest.raises(TooManyListings):
            await keys(cluster)
        for parts in running:
            await parts.aclose()
        assert listing.running == 0
        assert await keys(cluster) == ([b"k"], True, b"")


async def test_a_listing_that_is_closed_leaves_no_task() -> None:
    async with LittleCluster(3, partitions=64) as cluster:
        for key in KEYS:
            await cluster.put("a", key, b"v")
        await cluster.settle()
        before = asyncio.all_tasks()
        cluster.links.frozen |= {"b", "c"}
        parts = cluster.nodes["a"].listing.list_keys(b"default", b"b")
        waiting = asyncio.ensure_future(anext(parts))
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks() - before) > 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await parts.aclose()
        assert asyncio.all_tasks() <= before
        assert cluster.nodes["a"].listing.running == 0
        assert cluster.nodes["a"].metrics.count["listings_ended_abandoned"] == 1


async def test_no_more_is_asked_for_than_is_taken() -> None:
    async with LittleCluster(3, partitions=64) as cluster:
        for number in range(6000):
            await cluster.put("a", b"k%d" % number, b"v")
        await cluster.settle()
        del cluster.links.sent[:]
        parts = cluster.nodes["a"].listing.list_keys(b"default", b"b")
        async with aclosing(parts):
            first = await anext(parts)
            await cluster.settle()
            asked = {m.partition for _, _, m in cluster.links.sent if isinstance(m, ListKeys)}
            assert 500 <= len(first.names) < 1000
            assert len(asked) <= len(first.names) * 64 // 6000 + 2 + WIDTH


async def test_time_that_runs_out_leaves_a_cursor_to_go_on_from() -> None:
    async with LittleCluster(3) as cluster:
        for key in KEYS:
            await cluster.put("a", key, b"v")
        await cluster.settle()
        cluster.links.frozen |= {"b", "c"}
        names, complete, cursor = await keys(cluster, "a", ListOptions(timeout_ms=100))
        assert (names, complete) == ([], False)
        for node in "bc":
            cluster.links.thaw(node)
        rest, complete, end = await keys(cluster, "a", ListOptions(0, cursor))
        assert (sorted(rest), complete, end) == (KEYS, True, b"")
        cluster.links.frozen |= {"b", "c"}
        names, complete, cursor = await buckets(cluster, "a", ListOptions(timeout_ms=100))
        assert (names, complete, bool(cursor)) == ([], False, True)


async def test_an_owner_that_does_not_answer_is_replaced_once_for_all_partitions() -> None:
    async with LittleCluster(3) as cluster:
        for key in KEYS:
            await cluster.put("a", key, b"v")
        await cluster.settle()
        cluster.links.mute.add("b")
        began = asyncio.get_running_loop().time()
        names, complete, _ = await keys(cluster)
        assert (sorted(names), complete) == (KEYS, True)
        assert asyncio.get_running_loop().time() - began < 4  # not two seconds for each partition


async def test_a_damaged_record_is_put_aside_and_another_owner_asked() -> None:
    async with LittleCluster(3) as cluster:
        for key in KEYS:
            await cluster.put("a", key, b"v")
        await cluster.settle()
        cluster.nodes["a"].replica.on_damage = lambda: None  # nobody mends it meanwhile
        storage_key = cluster.storage_key(KEYS[7])
        cluster.nodes["a"].storage.put("records", storage_key, b"rotten")
        names, complete, _ = await keys(cluster)
        assert (sorted(names), complete) == (KEYS, True)
        assert cluster.nodes["a"].replica.damaged == {storage_key}
        assert cluster.nodes["a"].metrics.count["listing_pages_partial"] == 1
        cluster.links.down.add("b")
        names, complete, _ = await keys(cluster)
        assert (sorted(names), complete) == (KEYS, False)
        assert (await buckets(cluster))[:2] == ([b"b"], False)
        cluster.links.down.discard("b")
        assert (await buckets(cluster))[:2] == ([b"b"], True)


async def test_a_partition_that_is_being_refilled_counts_for_nothing() -> None:
    async with LittleCluster(3) as cluster:
        for key in KEYS:
            await cluster.put("a", key, b"v")
        await cluster.settle()
        for partition in range(8):
            cluster.nodes["a"].replica.refilling[0, partition] = RefillMark(("b",), serving=False)
        names, complete, _ = await keys(cluster)
        assert (sorted(names), complete) == (KEYS, True)
        cluster.links.down.add("b")
        names, complete, _ = await keys(cluster)
        assert (sorted(names), complete) == (KEYS, False)
        assert cluster.nodes["a"].metrics.count["refused_refilling"] > 0


async def test_no_page_shows_what_is_not_on_disk() -> None:
    storages = {name: GatedStorage() for name in "abc"}
    async with LittleCluster(3, storage=storages.__getitem__) as cluster:
        await cluster.put("a", b"old", b"v")
        await cluster.settle()
        pages: list[Keys] = []
        cluster.links.on_reply = lambda node, reply: (
            pages.append(reply) if isinstance(reply, Keys) else None
        )
        for storage in storages.values():
            storage.gate.clear()
        writing = asyncio.ensure_future(cluster.put("a", b"new", b"v"))
        await asyncio.sleep(0.02)
        listing = asyncio.ensure_future(keys(cluster))
        await asyncio.sleep(0.05)
        assert pages == []
        for storage in storages.values():
            storage.gate.set()
        assert sorted((await listing)[0]) == [b"new", b"old"]
        await writing


async def test_only_buckets_that_hold_something_are_listed() -> None:
    async with LittleCluster(3) as cluster:
        coordinator = cluster.nodes["a"].coordinator
        for bucket in (b"dead", b"partly", b"live"):
            for number in range(80):
                await put_in(cluster, bucket, b"k%02d" % number)
        for bucket, count in ((b"dead", 80), (b"partly", 79)):
            for number in range(count):
                await coordinator.delete(b"default", bucket, b"k%02d" % number)
        await cluster.settle()
        assert await buckets(cluster) == ([b"live", b"partly"], True, b"")


async def test_a_bucket_that_replicas_do_not_agree_on_is_judged_by_its_keys() -> None:
    async with LittleCluster(3) as cluster:
        coordinator = cluster.nodes["a"].coordinator
        for number in range(20):
            await put_in(cluster, b"gone", b"k%02d" % number)
        await put_in(cluster, b"kept", b"k")
        await cluster.settle()
        cluster.links.down.add("c")
        for number in range(20):
            await coordinator.delete(b"default", b"gone", b"k%02d" % number)
        await put_in(cluster, b"came", b"k")
        await cluster.settle()
        cluster.links.down.discard("c")
        assert await buckets(cluster, "c") == ([b"came", b"kept"], True, b"")
        assert cluster.nodes["c"].metrics.count["listing_buckets_read"] == 2


async def test_buckets_of_other_types_lie_between_and_are_passed_over() -> None:
    names = ("aaaa", "mmmm", "zzzz", "other")
    ring = Ring.build(
        tuple(Member(id=name, address=f"{name}:1") for name in "abc"),
        partitions=8,
        seed=1,
        classes=tuple(
            ReplicationClass(name=name, id=number, replicas=3) for number, name in enumerate(names)
        ),
    )
    async with LittleCluster(3, ring=ring) as cluster:
        coordinator = cluster.nodes["a"].coordinator
        # As if one class served several types: all their keys lie in the same partitions.
        coordinator._classes = dict.fromkeys(map(str.encode, names), ring.classes[1])
        listing = cluster.nodes["a"].listing
        listing._classes = dict.fromkeys(map(str.encode, names), ring.classes[1].id)
        for kind in names:
            for bucket in (b"1", b"22", b"2" + kind.encode(), b"x" * 200):
                for key in (b"k", b"l"):
                    content = Content(b"v", b"a/b")
                    await coordinator.put(kind.encode(), bucket, key, content)
        await cluster.settle()
        for kind in names:
            found = await collect(listing.list_buckets(kind.encode()))
            assert found == ([b"1", b"22", b"2" + kind.encode(), b"x" * 200], True, b"")


async def test_many_buckets_take_several_rounds() -> None:
    async with LittleCluster(3, partitions=1) as cluster:
        names = [b"bucket %04d" % number for number in range(900)]
        for name in names:
            await put_in(cluster, name, b"k")
        await cluster.settle()
        assert await buckets(cluster) == (names, True, b"")
        assert cluster.nodes["a"].metrics.count["bucket_pages_listed"] > 2


async def test_a_bucket_that_a_page_ended_in_is_named_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As if thousands of dead keys lay before those that are live.
    monkeypatch.setattr(replica_listing, "PAGE_SEEKS_MAX", 2)
    monkeypatch.setattr(replica_listing, "_DEAD_ENTRIES", 2)
    async with LittleCluster(3) as cluster:
        for bucket in (b"a", b"b", b"c"):
            for key in KEYS:
                await put_in(cluster, bucket, key)
            for key in KEYS[:-1]:
                await cluster.nodes["a"].coordinator.delete(b"default", bucket, key)
        await put_in(cluster, b"b", b"a first one")
        await cluster.settle()
        assert await buckets(cluster) == ([b"a", b"b", b"c"], True, b"")
        paged: list[bytes] = []
        cursor = b""
        while cursor or not paged:
            names, complete, cursor = await buckets(cluster, "b", ListOptions(1, cursor))
            assert complete
            paged += names
        assert paged == [b"a", b"b", b"c"]


async def test_a_small_page_does_not_look_at_dead_keys_one_by_one() -> None:
    async with LittleCluster(3, partitions=1) as cluster:
        for number in range(400):
            await cluster.put("a", b"dead %03d" % number, b"v")
            await cluster.delete("a", b"dead %03d" % number)
        for key in (b"x", b"y", b"z"):
            await cluster.put("a", key, b"v")
        await cluster.settle()
        found, complete, cursor = await keys(cluster, "a", ListOptions(limit=1))
        assert (found, complete) == ([b"x"], True)
        assert await keys(cluster, "a", ListOptions(3, cursor)) == ([b"y", b"z"], True, b"")
        assert cluster.nodes["a"].metrics.count["key_pages_listed"] < 20
