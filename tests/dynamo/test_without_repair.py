"""A coordinator without read repair, or without hints: what it leaves out, and what it still does."""

from __future__ import annotations

import random

import pytest
from little_cluster import LittleCluster, LittleNode, values

from dynamo.context import ContextSealer
from dynamo.coordinator import Coordinator
from dynamo.errors import Unavailable
from dynamo.requests import ReadOptions, WriteOptions
from dynamo.rpc.messages import Owe, Store

K = b"k"
ALL = ReadOptions(r="all")


def without(cluster: LittleCluster, *, read_repair: bool = True, hints: bool = True) -> None:
    """From now on every node coordinates so."""
    for node in cluster.nodes.values():
        node.coordinator = _coordinator(node, read_repair=read_repair, hints=hints)
        node.coordinator.adopt(cluster.ring)


def _coordinator(node: LittleNode, *, read_repair: bool, hints: bool) -> Coordinator:
    return Coordinator(
        node_id=node.id,
        datacenter="dc1",
        transport=node.transport,
        clock=node.clock,
        sealer=ContextSealer(cluster_id="little", secret=b"little secret"),
        metrics=node.metrics,
        opinions=node.opinions,
        chance=random.Random(node.id),
        read_repair=read_repair,
        hints=hints,
    )


def count(cluster: LittleCluster, name: str) -> int:
    return sum(node.metrics.count[name] for node in cluster.nodes.values())


async def test_without_read_repair_who_is_behind_stays_so_unless_the_client_waits() -> None:
    async with LittleCluster(3) as cluster:
        without(cluster, read_repair=False)
        cluster.links.down.add("c")
        await cluster.put("a", K, b"1")
        cluster.links.down.clear()
        assert values(await cluster.get("c", K, ALL)) == {b"1"}
        await cluster.settle()
        assert not cluster.records(K)["c"]
        assert count(cluster, "read_repairs_left_out") == 1
        blocking = ReadOptions(r=1, read_repair="blocking")
        assert values(await cluster.get("a", K, blocking)) == {b"1"}
        assert cluster.records(K)["c"]
        assert count(cluster, "read_repairs_blocking") >= 1


async def test_without_hints_nobody_stands_in_and_nothing_is_owed() -> None:
    async with LittleCluster(5) as cluster:
        without(cluster, hints=False)
        a, b, c = cluster.plan(K).primaries
        cluster.lose(c)
        written = await cluster.put(a, K, b"1", options=WriteOptions(w=2))
        assert (written.primary_acks, written.fallback_acks) == (2, 0)
        with pytest.raises(Unavailable) as caught:
            await cluster.put(a, K, b"2", options=WriteOptions(w="all"))
        assert caught.value.details["received"] == 2
        with pytest.raises(Unavailable):
            await cluster.get(b, K, ALL)
        assert [
            owner.primary for owner in cluster.nodes[a].coordinator.preflist(b"default", b"b", K)
        ]
        await cluster.settle()
        messages = [message for _, _, message in cluster.links.sent]
        assert not any(isinstance(message, Owe) for message in messages)
        assert not any(isinstance(m, Store) and m.hint_for != -1 for m in messages)
        assert all(not cluster.hints(name, K) for name in cluster.nodes)
        assert count(cluster, "hints_left_out") == 1


async def test_without_hints_a_write_needs_a_primary_that_is_up() -> None:
    async with LittleCluster(5) as cluster:
        without(cluster, hints=False)
        cluster.lose(*cluster.plan(K).primaries)
        d = cluster.plan(K).fallbacks[0]
        with pytest.raises(Unavailable):
            await cluster.put(d, K, b"1", options=WriteOptions(w=1))
