"""A disk that went back in time brings nothing back to life, and loses nothing that anybody has."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from little_cluster import LittleCluster, LittleNode, values
from sortedcontainers import SortedDict

from dynamo.arrivals import ENTRIES_MAX, Arrivals
from dynamo.errors import Unavailable
from dynamo.metrics import Metrics
from dynamo.ports import Family
from dynamo.record import decode_record
from dynamo.refill_marks import RefillMark, decode_mark
from dynamo.requests import ReadOptions, WriteOptions
from dynamo.set_back import ASIDE_PREFIX
from dynamo.sim.loop import run_virtual
from dynamo.store.memory import MemoryStorage
from dynamo.stored import decode_stored
from dynamo.version import birth_bytes, incarnation_bytes

ALL = ReadOptions(r="all")
ONE = ReadOptions(r=1)
W_ALL = WriteOptions(w=3)

Image = dict[Family, dict[bytes, bytes]]


def image(node: LittleNode) -> Image:
    assert isinstance(node.storage, MemoryStorage)
    return {family: dict(found) for family, found in node.storage._families.items()}


def put_back(cluster: LittleCluster, name: str, old: Image, *, start: int = 2) -> LittleNode:
    """The node starts anew on an old copy of its disk, and knows."""
    cluster.crash(name)
    storage = MemoryStorage()
    for family, entries in old.items():
        storage._families[family] = SortedDict(entries)
    before = cluster.nodes[name].storage
    storage._number = before.write_number + 10
    node = cluster.restart(name, storage, incarnation_bytes(start, b"new" + name.encode() * 5))
    node.refill.mark_all(storage.write_number + 1, node.replica.incarnations)
    cluster.links.down.discard(name)
    node.refill.wake()
    return node


def reap(cluster: LittleCluster, key: bytes, names: str) -> None:
    """As if every member had settled: the record is gone at these."""
    for name in names:
        replica, storage_key = cluster.nodes[name].replica, cluster.storage_key(key)
        stored = replica.load_for_merge(storage_key)
        assert stored is not None
        replica.remove(storage_key, stored, ())


async def refilled(node: LittleNode) -> None:
    async with asyncio.timeout(60):
        while node.replica.refilling:
            await asyncio.sleep(0.05)


def aside(cluster: LittleCluster, name: str) -> list[bytes]:
    """The values that a node has set aside."""
    storage = cluster.nodes[name].storage
    found = storage.scan("facts", ASIDE_PREFIX, b"aside0", count_max=100, bytes_max=1 << 20)
    kept = []
    for key, data in found:
        record = decode_record(decode_stored(key[len(ASIDE_PREFIX) : -8], data).record)
        kept += [sibling.read().value for sibling in record.siblings]
    return kept


def play(scene: Callable[[LittleCluster], Awaitable[None]], partitions: int = 4) -> None:
    async def run() -> None:
        async with LittleCluster(3, partitions=partitions) as cluster:
            await scene(cluster)

    run_virtual(run(), random=random.Random(1))


def test_a_deleted_value_stays_away_when_a_disk_of_before_the_delete_is_put_back() -> None:
    async def scene(cluster: LittleCluster) -> None:
        await cluster.put("a", b"k", b"old", options=W_ALL)
        old = image(cluster.nodes["c"])
        seen = await cluster.get("a", b"k", ALL)
        await cluster.delete("a", b"k", seen.context, W_ALL)
        await cluster.put("a", b"other", b"new", options=W_ALL)
        await cluster.settle()
        reap(cluster, b"k", "ab")
        node = put_back(cluster, "c", old)
        await refilled(node)
        for name in "abc":
            for key, expected in ((b"k", set()), (b"other", {b"new"})):
                assert values(await cluster.get(name, key, ONE)) == expected
                assert values(await cluster.get(name, key, ALL)) == expected
        assert aside(cluster, "c") == [b"old"]
        assert node.replica.set_back.aside == 1
        assert node.metrics.count["records_set_aside"] == 1

    play(scene)


def test_a_birth_that_left_the_vectors_brings_back_no_sibling() -> None:
    async def scene(cluster: LittleCluster) -> None:
        await cluster.put("a", b"k", b"old", options=W_ALL)
        old = image(cluster.nodes["c"])
        reap(cluster, b"k", "abc")
        await cluster.put("b", b"k", b"new", options=W_ALL)
        await refilled(put_back(cluster, "c", old))
        for name in "abc":
            assert values(await cluster.get(name, b"k", ALL)) == {b"new"}
        assert len({repr(record) for record in cluster.records(b"k").values()}) == 1
        assert aside(cluster, "c") == [b"old"]

    play(scene)


def test_what_comes_while_a_disk_is_set_back_is_kept_though_its_senders_are_gone() -> None:
    """The only peer that is whole has missed it, and a, which has it, is gone for good."""

    async def scene(cluster: LittleCluster) -> None:
        await cluster.put("a", b"k", b"old", options=W_ALL)
        await cluster.settle()
        links = cluster.links
        links.drop_replies |= {("Page", "a"), ("Page", "b")}
        node = put_back(cluster, "c", image(cluster.nodes["c"]))
        links.down.add("b")
        await cluster.put("a", b"k", b"new", options=WriteOptions(w=2))
        await cluster.put("c", b"mine", b"minted", options=WriteOptions(w=2))
        await cluster.settle()
        links.kill("a")
        links.down.discard("b")
        links.drop_replies.clear()
        await asyncio.sleep(60.0)
        assert not node.refill.waiting
        assert values(await cluster.get("b", b"k", ReadOptions(r=2))) == {b"old", b"new"}
        assert values(await cluster.get("b", b"mine", ReadOptions(r=2))) == {b"minted"}
        assert aside(cluster, "c") == []

    play(scene)


def test_a_disk_that_went_back_is_not_read_while_nobody_can_say_what_became_of_it() -> None:
    async def scene(cluster: LittleCluster) -> None:
        await cluster.put("a", b"k", b"old", options=W_ALL)
        await cluster.settle()
        old = image(cluster.nodes["c"])
        cluster.lose("a", "b")
        node = put_back(cluster, "c", old)
        await asyncio.sleep(60.0)
        with pytest.raises(Unavailable):
            await cluster.get("c", b"k", ONE)
        assert node.refill.waiting == 4
        cluster.regain("a", "b")
        node.refill.wake()
        await refilled(node)
        assert values(await cluster.get("c", b"k", ONE)) == {b"old"}
        assert aside(cluster, "c") == []

    play(scene)


@pytest.mark.parametrize("names", ["abc", "bc"])
def test_disks_that_all_went_back_keep_what_any_of_them_has(names: str) -> None:
    """With "bc", a is gone for good."""

    async def scene(cluster: LittleCluster) -> None:
        for holder in "bc":
            for other in names.replace(holder, ""):
                cluster.links.sever(holder, other)
            await cluster.put(holder, b"by " + holder.encode(), b"1", options=WriteOptions(w=1))
            await cluster.settle()
            cluster.links.cut.clear()
        images = {name: image(cluster.nodes[name]) for name in names}
        if "a" not in names:
            cluster.lose("a")
        for name in names:
            put_back(cluster, name, images[name])
        await cluster.put("b", b"new", b"1", options=WriteOptions(w=2))
        await asyncio.sleep(60.0)
        for name in names:
            node = cluster.nodes[name]
            assert not node.refill.waiting
            assert node.metrics.count["partitions_unpurged"] == 4
            assert aside(cluster, name) == []
            for key in (b"by b", b"by c", b"new"):
                assert values(await cluster.get(name, key, ReadOptions(r=2))) == {b"1"}

    play(scene)


def test_what_is_kept_is_merged_back_by_the_next_start_too() -> None:
    """The node ends after it has been said that what it has counts, before it does."""

    async def scene(cluster: LittleCluster) -> None:
        await cluster.put("a", b"k", b"old", options=WriteOptions(w=3))
        await cluster.settle()
        for name in "ab":
            await cluster.put(name, b"k", name.encode(), options=W_ALL)
        images = {name: image(cluster.nodes[name]) for name in "bc"}
        cluster.lose("a")
        for name in "bc":
            put_back(cluster, name, images[name])
        await cluster.put("b", b"k", b"new", options=WriteOptions(w=2))
        node = cluster.nodes["c"]

        async def never(place: object) -> None:
            await asyncio.sleep(3600.0)

        node.refill._purge.sweep = never  # type: ignore[method-assign]
        await asyncio.sleep(20.0)
        assert not node.replica.is_back((0, cluster.plan(b"k").partition))
        kept = image(node)
        cluster.crash("c")
        storage = MemoryStorage()
        for family, entries in kept.items():
            storage._families[family] = SortedDict(entries)
        cluster.restart("c", storage, incarnation_bytes(3, b"third..."))
        cluster.links.down.discard("c")
        await asyncio.sleep(20.0)
        cluster.links.kill("b")
        assert values(await cluster.get("c", b"k", ONE)) == {b"old", b"a", b"b", b"new"}

    play(scene)


def test_who_comes_late_after_all_went_back_loses_nothing_to_those_who_did_not_wait() -> None:
    """a and b serve without c, which alone has a write; none of them can say that it is not there."""

    async def scene(cluster: LittleCluster) -> None:
        for other in "ab":
            cluster.links.sever("c", other)
        await cluster.put("c", b"k", b"1", options=WriteOptions(w=1))
        await cluster.settle()
        cluster.links.cut.clear()
        images = {name: image(cluster.nodes[name]) for name in "abc"}
        cluster.lose("c")
        for name in "ab":
            put_back(cluster, name, images[name])
        await asyncio.sleep(20.0)
        assert not any(cluster.nodes[name].refill.waiting for name in "ab")
        node = put_back(cluster, "c", images["c"])
        cluster.regain("c")
        for name in "abc":
            await refilled(cluster.nodes[name])
            assert values(await cluster.get(name, b"k", ALL)) == {b"1"}
        assert (aside(cluster, "c"), node.metrics.count["partitions_purged"]) == ([], 0)

    play(scene)


def test_a_peer_that_has_lost_its_disk_does_not_say_what_is_gone() -> None:
    """b is empty, and a, which is whole, is down: what c had is all there is."""

    async def scene(cluster: LittleCluster) -> None:
        cluster.lose("a")
        await cluster.put("c", b"k", b"1", options=WriteOptions(w=2))
        await cluster.settle()
        old = image(cluster.nodes["c"])
        cluster.lose("b")
        put_back(cluster, "b", {})
        cluster.nodes["b"].replica.refilling.clear()
        cluster.nodes["b"].refill.mark_all()
        put_back(cluster, "c", old)
        cluster.regain("b")
        await asyncio.sleep(20.0)
        for name in "bc":
            assert not cluster.nodes[name].refill.waiting
            assert values(await cluster.get(name, b"k", ReadOptions(r=2))) == {b"1"}
        assert aside(cluster, "c") == []

    play(scene)


def test_a_node_that_is_set_back_twice_before_it_has_settled_judges_all_of_it() -> None:
    """It has taken a write in between, and the second copy is of then."""

    async def scene(cluster: LittleCluster) -> None:
        await cluster.put("a", b"k", b"old", options=W_ALL)
        await cluster.settle()
        old = image(cluster.nodes["c"])
        reap(cluster, b"k", "abc")
        cluster.links.drop_replies |= {("Page", "a"), ("Page", "b")}
        put_back(cluster, "c", old)
        await cluster.put("b", b"k", b"new", options=W_ALL)
        await cluster.settle()
        put_back(cluster, "c", image(cluster.nodes["c"]), start=3)
        await cluster.put("b", b"k", b"newer", options=W_ALL)
        cluster.links.drop_replies.clear()
        await refilled(cluster.nodes["c"])
        for name in "abc":
            assert values(await cluster.get(name, b"k", ALL)) == {b"new", b"newer"}
        assert aside(cluster, "c") == [b"old"]
        facts = cluster.nodes["c"].storage.scan(
            "facts", b"earlier/", b"earlier0", count_max=10, bytes_max=1 << 20
        )
        assert facts == []

    play(scene)


def test_what_an_old_disk_owes_is_not_delivered_while_that_may_be_long_gone() -> None:
    async def scene(cluster: LittleCluster) -> None:
        cluster.lose("b")
        await cluster.put("a", b"k", b"old", options=WriteOptions(w=2))
        await cluster.settle()
        holder = next(name for name in "ac" if cluster.hints(name, b"k"))
        old = image(cluster.nodes[holder])
        for name in "ac":
            cluster.links.kill(name)
        put_back(cluster, holder, old)
        await cluster.settle()
        assert cluster.hints(holder, b"k") == {}
        await cluster.nodes[holder].storage.flush()
        replica = cluster.nodes[holder].replica
        for place, mark in list(replica.refilling.items()):
            replica.mark_refill(((place, msgspec.structs.replace(mark, back=0)),))
        assert cluster.hints(holder, b"k") == {"b": True}

    play(scene)


def test_what_came_before_it_was_found_out_is_kept_apart_from_what_was_there() -> None:
    """b alone knows that c's disk went back, and meets it late; a, which sent a write, is gone then."""

    async def scene(cluster: LittleCluster) -> None:
        await cluster.put("a", b"k", b"old", options=W_ALL)
        await cluster.settle()
        old = image(cluster.nodes["c"])
        reap(cluster, b"k", "abc")
        cluster.lose("b")
        node = put_back(cluster, "c", old)
        node.replica.refilling.clear()
        node.replica.arrivals.open()
        await cluster.put("a", b"k", b"new", options=WriteOptions(w=2))
        await cluster.settle()
        node.refill.mark_all(node.storage.write_number + 1, node.replica.incarnations)
        node.replica.set_back.tell_apart(node.replica.arrivals.take())
        cluster.lose("a")
        cluster.regain("b")
        node.refill.wake()
        await asyncio.sleep(20.0)
        assert not node.refill.waiting
        assert values(await cluster.get("c", b"k", ReadOptions(r=2))) == {b"new"}
        assert aside(cluster, "c") == [b"old"]

    play(scene)


def test_arrivals_are_noted_up_to_a_bound_and_until_every_member_is_met() -> None:
    metrics = Metrics()
    arrivals = Arrivals(metrics=metrics)
    arrivals.open()
    births = [birth_bytes(incarnation_bytes(1, b"8 bytes."), number) for number in range(1, 4)]
    arrivals.note(b"k", ((births[0], 1),))
    arrivals.note(b"k", ((births[0], 2), (births[1], 1)))
    assert arrivals.take() == [(b"k", ((births[0], 2), (births[1], 1)))]
    long = tuple((birth_bytes(incarnation_bytes(1, b"8 bytes."), n), 1) for n in range(1, 101))
    for number in range(ENTRIES_MAX // 100):
        arrivals.note(b"%d" % number, tuple(sorted(long)))
    assert metrics.count["arrivals_forgotten"] == 1
    arrivals.met("b", ("b", "c"))
    assert arrivals.is_open
    arrivals.met("c", ("b", "c"))
    assert (arrivals.is_open, len(arrivals)) == (False, 0)


def test_marks_of_before_are_read_as_they_were_meant() -> None:
    data = msgspec.msgpack.encode((("n2", "n3"), True))
    assert decode_mark(data) == RefillMark(("n2", "n3"), serving=True)
