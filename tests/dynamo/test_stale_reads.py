"""What reads find of replicas that are behind is counted, with its age, and only that."""

from __future__ import annotations

import pytest
from little_cluster import LittleCluster, values

from dynamo.errors import Unavailable
from dynamo.latency import Histogram
from dynamo.metrics import Metrics
from dynamo.ports import Call
from dynamo.record import EMPTY, VALUE, Content, Record, encode_content, merge, mint
from dynamo.requests import ReadOptions, Stamps
from dynamo.rpc.messages import Fetch, Refused
from dynamo.stale_reads import newest_lacked
from dynamo.version import birth_bytes, incarnation_bytes

COUNTERS = ("reads_with_stale_replies", "stale_replies", "reads_answered_stale")


def counted(metrics: Metrics) -> tuple[int, ...]:
    return tuple(metrics.count[name] for name in COUNTERS)


def ages(cluster: LittleCluster, node: str) -> Histogram:
    return cluster.nodes[node].coordinator.repair_ages


async def write_past(cluster: LittleCluster, missing: str) -> None:
    """A write of which one replica learns nothing, and that was made 90 s ago by all clocks."""
    for node in cluster.nodes.values():
        node.clock.offset_ms = -90_000
    cluster.links.loses = lambda source, target, message: target == missing
    await cluster.put("a", b"k", b"v")
    await cluster.settle()
    cluster.links.loses = lambda source, target, message: False
    for node in cluster.nodes.values():
        node.clock.offset_ms = 0


async def test_a_read_that_finds_all_agreed_counts_nothing() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"v")
        await cluster.settle()
        await cluster.get("b", b"k")
        await cluster.settle()
        assert counted(cluster.nodes["b"].metrics) == (0, 0, 0)
        assert ages(cluster, "b").count == 0


@pytest.mark.parametrize(("reader", "r", "answered_stale"), [("a", 2, 0), ("c", 1, 1)])
async def test_a_replica_that_is_behind_is_counted_with_its_age_once(
    reader: str, r: int, answered_stale: int
) -> None:
    async with LittleCluster(3) as cluster:
        await write_past(cluster, "c")
        for _ in range(2):  # the first repairs it
            found = await cluster.get(reader, b"k", ReadOptions(r=r))
            await cluster.settle()
        assert values(found) == {b"v"}
        assert counted(cluster.nodes[reader].metrics) == (1, 1, answered_stale)
        assert ages(cluster, reader).count == 1
        assert 90 <= ages(cluster, reader).longest < 100


async def test_a_local_read_shows_what_is_here_and_neither_counts_nor_repairs() -> None:
    async with LittleCluster(3) as cluster:
        await write_past(cluster, "c")
        stamps = Stamps()
        sent = len(cluster.links.sent)
        behind = await cluster.get("c", b"k", ReadOptions(local=True, stamps=stamps))
        ahead = await cluster.get("a", b"k", ReadOptions(local=True, r="all", pr="all"))
        await cluster.settle()
        assert (behind.absent, values(ahead)) == (True, {b"v"})
        assert 0 < stamps.began <= stamps.committed
        assert all(source == target for source, target, _ in cluster.links.sent[sent:])
        for node in "abc":
            assert counted(cluster.nodes[node].metrics) == (0, 0, 0)
        assert values(await cluster.get("a", b"k", ReadOptions(local=True))) == {b"v"}
        assert (await cluster.get("c", b"k", ReadOptions(local=True))).absent


async def test_a_copy_that_may_lack_writes_is_not_shown() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"v")

        def refuse(message: Fetch, call: Call) -> None:
            call.reply(Refused("refilling", True))

        cluster.links.handlers["c"] = {**cluster.links.handlers["c"], Fetch: refuse}
        with pytest.raises(Unavailable) as raised:
            await cluster.get("c", b"k", ReadOptions(local=True))
        assert raised.value.details["reasons"] == {"c": "refilling"}


async def test_a_copy_that_is_damaged_is_neither_shown_nor_absent() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"v")
        cluster.nodes["c"].replica.damaged.add(cluster.storage_key(b"k"))
        with pytest.raises(Unavailable, match="damaged"):
            await cluster.get("c", b"k", ReadOptions(local=True))


def test_the_age_is_of_the_newest_write_that_is_lacked() -> None:
    births = [birth_bytes(incarnation_bytes(1, b"%d" % node * 8), 1) for node in (1, 2)]

    def written(base: Record, birth: bytes, counter: int, at_ms: int) -> Record:
        content = encode_content(Content(b"%d" % at_ms, b"text/plain"))
        return mint(
            base, (), birth=birth, counter=counter, kind=VALUE, content=content, written_ms=at_ms
        )

    one = written(written(EMPTY, births[0], 1, 100), births[0], 2, 300)
    both = merge(one, written(EMPTY, births[1], 1, 200))
    assert newest_lacked(both, ()) == 300
    assert newest_lacked(both, one.vector) == 200
    assert newest_lacked(both, both.vector) == 0
    assert newest_lacked(EMPTY, ()) == 0
