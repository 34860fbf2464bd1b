"""One replica's pages: bounded, in order, and never of what cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from little_cluster import LittleCluster, LittleNode

from dynamo.errors import StorageCorrupt
from dynamo.keys import bucket_prefix, partition_prefix, routing_key
from dynamo.record import EMPTY, TOMBSTONE, VALUE, Content, encode_content, encode_record, mint
from dynamo.refill_marks import Partition
from dynamo.replica_listing import PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, PAGE_SEEKS_MAX
from dynamo.rpc.messages import Buckets, Keys, ListBuckets, ListKeys, Refused
from dynamo.stored import encode_stored
from dynamo.version import birth_bytes, incarnation_bytes

BIRTH = birth_bytes(incarnation_bytes(7, b"\x07" * 8), 1)
PREFIX = bucket_prefix(b"default", b"b")


class Asked:
    """A call, and its answer."""

    peer = "a"
    deadline = float("inf")
    answer: Any = None

    def reply(self, reply: Any, *, last: bool = True) -> None:
        assert last
        self.answer = reply

    async def answered(self) -> Any:
        """Once what was met is on disk."""
        async with asyncio.timeout(5):
            while self.answer is None:
                await asyncio.sleep(0)
        return self.answer


@pytest.fixture
async def node() -> AsyncIterator[LittleNode]:
    async with LittleCluster(1, replicas=1, partitions=1) as cluster:
        yield cluster.nodes["a"]


def store(
    node: LittleNode, key: bytes, *, bucket: bytes = b"b", kind: int = VALUE, size: int = 1
) -> bytes:
    """A record on disk; returns what it lies under."""
    content = encode_content(Content(bytes(size))) if kind == VALUE else b""
    record = mint(EMPTY, (), birth=BIRTH, counter=1, kind=kind, content=content, written_ms=1)
    storage_key = partition_prefix(0, 0) + routing_key(b"default", bucket, key)
    data = encode_stored(storage_key, BIRTH, 1, encode_record(record))
    node.storage.put("records", storage_key, data)
    return storage_key


async def keys(node: LittleNode, after: bytes = b"", count_max: int = 1000) -> Any:
    call = Asked()
    handler = node.links.handlers["a"][ListKeys]
    handler(ListKeys(0, 0, 1, 1000, PREFIX, after, count_max), call)
    return await call.answered()


async def buckets(node: LittleNode, start: bytes = b"", end: bytes = b"") -> Any:
    call = Asked()
    handler = node.links.handlers["a"][ListBuckets]
    handler(ListBuckets(0, 0, 1, 1000, b"default", start, end, 1000), call)
    return await call.answered()


async def test_a_page_ends_at_its_count_and_the_next_begins_after_it(node: LittleNode) -> None:
    names = [b"%04d" % number for number in range(PAGE_ENTRIES_MAX + 3)]
    for name in names:
        store(node, name)
    page = await keys(node)
    assert page == Keys(
        tuple(names[:PAGE_ENTRIES_MAX]), (), (), True, names[PAGE_ENTRIES_MAX - 1], 0
    )
    assert await keys(node, page.last) == Keys(tuple(names[PAGE_ENTRIES_MAX:]), (), (), False)
    assert await keys(node, count_max=2) == Keys(tuple(names[:2]), (), (), True, names[1])


async def test_a_page_ends_at_its_bytes(node: LittleNode) -> None:
    for number in range(5):
        store(node, b"%d" % number, size=PAGE_BYTES_MAX // 2)
    page = await keys(node)
    assert (page.live, page.more, page.last) == ((b"0", b"1"), True, b"1")


async def test_deleted_keys_are_told_apart(node: LittleNode) -> None:
    store(node, b"live")
    store(node, b"dead", kind=TOMBSTONE)
    assert await keys(node) == Keys((b"live",), (b"dead",), (), False)


async def test_a_page_says_how_many_damaged_records_lie_in_its_range(node: LittleNode) -> None:
    node.replica.on_damage = lambda: None
    for number in range(4):
        storage_key = store(node, b"%d" % number)
    node.storage.put("records", storage_key, b"rot")
    page = await keys(node, count_max=2)
    assert (page.live, page.skipped) == ((b"0", b"1"), 0)
    for _ in range(2):  # found damaged, then known to be
        page = await keys(node, page.last if page.more else b"1")
        assert (page.live, page.more, page.skipped) == ((b"2",), False, 1)
    assert node.replica.damaged == {storage_key}


async def test_a_range_that_the_engine_cannot_read_is_refused_and_refilled(
    node: LittleNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable: list[Partition] = []
    node.replica.on_unreadable = lambda place, why: unreadable.append(place)

    def broken(*arguments: Any, **bounds: Any) -> Any:
        raise StorageCorrupt("a block is damaged")

    monkeypatch.setattr(node.storage, "scan", broken)
    for answer in (await keys(node), await buckets(node)):
        assert isinstance(answer, Refused)
        assert (answer.code, answer.definite) == ("corrupt", True)
    assert unreadable == [(0, 0), (0, 0)]


async def test_a_page_of_buckets_seeks_past_each_and_ends_after_so_many(node: LittleNode) -> None:
    names = [b"%04d" % number for number in range(PAGE_SEEKS_MAX + 10)]
    for name in names:
        for key in (b"k", b"l", b"m"):
            store(node, key, bucket=name)
    page = await buckets(node)
    shown = tuple((name, b"k", b"") for name in names)
    assert page.entries == shown[:PAGE_SEEKS_MAX]
    rest = await buckets(node, page.next)
    assert rest == Buckets(shown[PAGE_SEEKS_MAX:], b"")
    until = bucket_prefix(b"default", names[3])
    assert await buckets(node, b"", until) == Buckets(shown[:3], b"")


async def test_a_bucket_of_many_dead_keys_is_read_in_bounded_pages(node: LittleNode) -> None:
    for number in range(300):
        store(node, b"%05d" % number, kind=TOMBSTONE, size=0)
    big = PAGE_BYTES_MAX // 2
    for number in range(4):
        store(node, b"x%d" % number, bucket=b"big%d" % number, size=big)
    store(node, b"live")
    page = await buckets(node)
    assert [entry[0] for entry in page.entries] == [b"b", b"big0", b"big1"]
    page = await buckets(node, page.next)
    assert [entry[0] for entry in page.entries] == [b"big2", b"big3"]


async def test_a_damaged_record_is_no_sign_of_a_bucket(node: LittleNode) -> None:
    node.replica.on_damage = lambda: None
    node.storage.put("records", store(node, b"a"), b"rot")
    assert await buckets(node) == Buckets((), b"", 1)
    store(node, b"b")
    assert await buckets(node) == Buckets(((b"b", b"b", b""),), b"", 1)
