"""Listings in simulated clusters: the production lister while nodes crash, are cut off and come back."""

from __future__ import annotations

import random
from contextlib import aclosing

import pytest

from dynamo.errors import DynamoError
from dynamo.requests import ListOptions
from dynamo.services import NodeServices
from dynamo.sim import Cluster, NodeGone, simulate


async def listed(cluster: Cluster, node: str, options: ListOptions) -> tuple[list[bytes], bool]:
    """(keys, complete) of the bucket that simulated clients write to."""

    async def collect(services: NodeServices) -> tuple[list[bytes], bool]:
        names: list[bytes] = []
        async with aclosing(services.list_keys(b"default", b"b", options)) as parts:
            async for part in parts:
                names += part.names
        return names, part.complete

    return await cluster.request(node, b"listed", collect)


def scene_of(seed: int) -> list[tuple[list[bytes], bool]]:
    """Writes, deletes and lists by chance, in a cluster that is not whole; returns what was listed."""
    lists: list[tuple[list[bytes], bool]] = []

    async def scene(cluster: Cluster) -> None:
        chance = random.Random(seed)
        there: set[bytes] = set()
        doubtful: set[bytes] = set()
        for step in range(60):
            node = chance.choice("abc")
            key = b"k%d" % chance.randrange(25)
            verb = chance.choice(
                ("write", "write", "write", "delete", "cut", "heal", "list", "list")
            )
            try:
                if verb == "write":
                    was_doubtful = key in doubtful
                    doubtful.add(key)
                    await cluster.write(node, key, b"%d" % step)
                    there.add(key)
                    if not was_doubtful:
                        doubtful.discard(key)
                elif verb == "delete":
                    # It covers what it read: a write that was in doubt may be there all the same.
                    was_doubtful = key in doubtful
                    doubtful.add(key)
                    there.discard(key)
                    await cluster.delete(node, key)
                    if not was_doubtful:
                        doubtful.discard(key)
                elif verb == "cut":
                    cluster.heal()
                    cluster.cut((node,), tuple(name for name in "abc" if name != node))
                elif verb == "heal":
                    cluster.heal()
                else:
                    names, complete = await listed(cluster, node, ListOptions(timeout_ms=5000))
                    lists.append((names, complete))
                    assert len(names) == len(set(names))
                    if complete:
                        assert there <= set(names)
                        assert set(names) <= there | doubtful
            except DynamoError:
                pass  # a write that was refused, or may have happened: it is in doubt
        cluster.heal()
        await cluster.settle()
        names, complete = await listed(cluster, "a", ListOptions())
        assert complete
        assert there <= set(names) <= there | doubtful

    simulate(scene, nodes=3, seed=seed)
    return lists


@pytest.mark.parametrize("seed", range(8))
def test_a_list_that_says_it_is_complete_holds_what_was_acknowledged_and_no_more(seed: int) -> None:
    assert scene_of(seed)


def test_a_seed_gives_the_same_lists_again() -> None:
    assert scene_of(3) == scene_of(3)


def test_most_lists_of_a_cluster_that_is_mostly_whole_are_complete() -> None:
    lists = [one for seed in range(4) for one in scene_of(seed)]
    assert sum(complete for _, complete in lists) > len(lists) / 3
    assert not all(complete for _, complete in lists)


def test_a_node_that_crashes_takes_its_listings_with_it() -> None:
    async def scene(cluster: Cluster) -> None:
        for number in range(20):
            await cluster.write("a", b"k%d" % number, b"v")
        cluster.cut(("a",), ("b", "c"))
        cluster.loop.call_later(1.0, lambda: cluster.crash("a"))
        with pytest.raises(NodeGone):
            await listed(cluster, "a", ListOptions())
        cluster.heal()
        names, complete = await listed(cluster, "b", ListOptions())
        assert (len(names), complete) == (20, True)

    simulate(scene, nodes=3, seed=1)
