"""Expired values in a whole cluster: bodies go node by node, and nobody repairs anything for it."""

from __future__ import annotations

import asyncio

from dynamo.expiry import LOOK_INTERVAL
from dynamo.record import EXPIRED_BODY_KEPT_MS, decode_record
from dynamo.requests import ReadOptions, WriteOptions
from dynamo.sim import Cluster, simulate
from dynamo.stored import DEAD, Stored, decode_stored

K = b"k"
MINUTE = WriteOptions(w="all", ttl_s=60)
ALL = WriteOptions(w="all")
LONG_AFTER_MS = EXPIRED_BODY_KEPT_MS + 61_000
QUIET = ("repairs_stored", "read_repairs", "deliveries_stored", "stores")


def stored(cluster: Cluster, name: str) -> Stored:
    storage_key = cluster.storage_key(K)
    data = cluster.nodes[name].disk.durable("records", storage_key)
    assert data is not None
    return decode_stored(storage_key, data)


def bodies(cluster: Cluster, name: str) -> int:
    record = decode_record(stored(cluster, name).record)
    return sum(sibling.content is not None for sibling in record.siblings)


def traffic(cluster: Cluster) -> int:
    return sum(
        node.services.metrics.count[name]
        for node in cluster.nodes.values()
        if node.services is not None
        for name in QUIET
    )


async def much_later(cluster: Cluster, name: str) -> None:
    """The node was down for more than an hour, by its clock."""
    cluster.crash(name)
    cluster.skew(name, ms=LONG_AFTER_MS)
    cluster.restart(name)
    await cluster.ready()


def test_bodies_go_an_hour_later_and_nobody_sees_a_difference() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.write("a", K, b"v", options=MINUTE)
        elements = {stored(cluster, name).element for name in "abc"}
        for count, name in enumerate("abc"):
            await much_later(cluster, name)
            before = traffic(cluster)
            await asyncio.sleep(3 * LOOK_INTERVAL)
            assert [bodies(cluster, one) for one in "abc"] == [0] * (count + 1) + [1] * (2 - count)
            assert (await cluster.read(name, K, ReadOptions(r="all"))).deleted
            await asyncio.sleep(LOOK_INTERVAL)
            assert traffic(cluster) == before
        assert {stored(cluster, name).element for name in "abc"} == elements
        assert {stored(cluster, name).state for name in "abc"} == {DEAD}

    simulate(scene)


def test_a_clock_that_jumps_ahead_costs_no_value() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.write("a", K, b"v", options=MINUTE)
        cluster.skew("a", ms=LONG_AFTER_MS)
        await asyncio.sleep(3 * LOOK_INTERVAL)
        assert (await cluster.read("a", K)).deleted
        cluster.skew("a", ms=-LONG_AFTER_MS)
        assert [bodies(cluster, name) for name in "abc"] == [1, 1, 1]
        found = await cluster.read("a", K)
        assert [sibling.read().value for sibling in found.siblings] == [b"v"]

    simulate(scene)


def test_a_node_that_missed_it_all_brings_no_expired_value_back() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.write("a", K, b"v", options=MINUTE)
        for name in "ab":
            await much_later(cluster, name)
        await asyncio.sleep(3 * LOOK_INTERVAL)
        cluster.cut(("c",), ("a", "b"))
        found = await cluster.read("a", K)
        await cluster.write("a", K, b"new", found.context, WriteOptions())
        cluster.heal()
        await cluster.settle()
        for name in "abc":
            found = await cluster.read(name, K, ReadOptions(r="all"))
            assert [sibling.read().value for sibling in found.siblings] == [b"new"]
            assert bodies(cluster, name) == 1

    simulate(scene)
