"""Trees of nodes that crash, stop, fill up and rot: never ready and wrong, and ready in the end."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from grown_trees import wrong_trees

from dynamo.errors import DynamoError
from dynamo.requests import WriteOptions
from dynamo.sim import Cluster, NodeGone, simulate

SOON = WriteOptions(timeout_ms=300)


def play(
    scene: Callable[[Cluster], Coroutine[Any, Any, None]], *, nodes: int = 3, seed: int = 1
) -> None:
    simulate(scene, nodes=nodes, seed=seed)


def check(cluster: Cluster) -> None:
    for name in cluster.up:
        services = cluster.nodes[name].services
        storage = None if services is None else services._storage
        if services is None or services.trees is None or storage is None:
            continue
        if storage.refusal() is None:
            assert wrong_trees(services._replica, storage, met=False) == [], name


def ready(cluster: Cluster, name: str) -> bool:
    services = cluster.nodes[name].services
    if services is None or services.trees is None:
        return False
    status = services.trees.status()
    return 0 < status.trees == status.ready


async def fill(cluster: Cluster, count: int = 30) -> None:
    for number in range(count):
        await cluster.write("a", b"k%d" % number, b"v")


def test_a_stop_hands_the_trees_on_and_a_crash_does_not() -> None:
    async def scene(cluster: Cluster) -> None:
        await fill(cluster)
        for end, rebuilt in ((cluster.stop, False), (None, True)):
            if end is None:
                cluster.crash("b")
            else:
                await end("b")
            cluster.restart("b")
            await cluster.ready()
            await cluster.until(lambda: ready(cluster, "b"), "the trees are ready")
            assert (cluster.nodes["b"].metrics.count["trees_rebuilt"] > 0) is rebuilt
            check(cluster)

    play(scene)


def test_all_trees_are_built_anew_after_a_full_disk() -> None:
    async def scene(cluster: Cluster) -> None:
        await fill(cluster)
        disk = cluster.nodes["a"].disk
        disk.meet_end()
        with suppress(DynamoError):
            await cluster.write("a", b"k1", b"w", options=SOON)
        disk.free()
        node = cluster.nodes["a"]
        await cluster.until(lambda: node.metrics.count["storage_reopened"] > 0, "it is reopened")
        check(cluster)
        await cluster.until(lambda: ready(cluster, "a"), "the trees are ready")
        services = node.services
        assert services is not None
        assert services.trees is not None
        assert node.metrics.count["trees_rebuilt"] >= services.trees.status().trees
        check(cluster)

    play(scene)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_no_tree_is_ready_and_wrong(seed: int) -> None:
    chance = random.Random(seed)

    async def something(cluster: Cluster) -> None:
        name = chance.choice("abc")
        node = cluster.nodes[name]
        draw = chance.random()
        if node.state == "down":
            cluster.restart(name)
        elif draw < 0.05:
            cluster.crash(name, silent=chance.random() < 0.5)
        elif draw < 0.1 and node.state == "up":
            with suppress(DynamoError, NodeGone):
                await cluster.stop(name)
        elif draw < 0.13:
            node.disk.rot("records", cluster.storage_key(b"k%d" % chance.randrange(20)))
        elif draw < 0.15:
            node.disk.meet_end()
        elif draw < 0.25:
            node.disk.free()
        elif draw < 0.28:
            node.disk.fail_write()
        elif draw < 0.35 and cluster.up:
            with suppress(DynamoError, NodeGone, TimeoutError):
                await cluster.delete(
                    chance.choice(cluster.up), b"k%d" % chance.randrange(20), options=SOON
                )
        elif cluster.up:
            with suppress(DynamoError, NodeGone, TimeoutError):
                await cluster.write(
                    chance.choice(cluster.up), b"k%d" % chance.randrange(20), b"v", options=SOON
                )

    async def scene(cluster: Cluster) -> None:
        await fill(cluster, 10)
        for _ in range(150):
            await something(cluster)
            check(cluster)
        for name, node in cluster.nodes.items():
            node.disk.calm()
            if node.state == "up":
                cluster.crash(name)
            if node.state == "down":
                cluster.restart(name)
        await cluster.ready()
        for name in cluster.nodes:
            await cluster.until(partial(ready, cluster, name), "the trees are ready")
        check(cluster)
        assert cluster.count("trees_wrong") == 0

    play(scene, seed=seed)
