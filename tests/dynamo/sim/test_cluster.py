"""The verbs of a simulated cluster: each does to the nodes what it says, and no more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, Literal

import pytest

from dynamo.errors import DynamoError, StorageCorrupt, Unavailable, WriteUncertain
from dynamo.requests import Found, ReadOptions, WriteOptions
from dynamo.sim import Cluster, Deadlock, NodeGone, run_virtual, simulate

ONE = ReadOptions(r=1)
ALL = WriteOptions(w="all", timeout_ms=500)
SOON = WriteOptions(timeout_ms=300)


def values(found: Found) -> set[bytes]:
    return {sibling.read().value for sibling in found.siblings}


def play(
    scene: Callable[[Cluster], Coroutine[Any, Any, None]], *, nodes: int = 3, seed: int = 1
) -> None:
    simulate(scene, nodes=nodes, seed=seed)


def test_what_is_written_at_one_node_is_read_at_another() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.write("a", b"k", b"v")
        assert values(await cluster.read("b", b"k")) == {b"v"}

    play(scene)


def test_a_context_replaces_and_a_delete_leaves_nothing_to_see() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.write("a", b"k", b"old")
        found = await cluster.read("a", b"k")
        await cluster.write("b", b"k", b"new", found.context)
        assert values(await cluster.read("c", b"k")) == {b"new"}
        await cluster.delete("c", b"k")
        assert (await cluster.read("a", b"k")).deleted

    play(scene)


def test_a_cut_node_misses_what_the_others_write_and_has_it_after_settling() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.cut(("c",), ("a", "b"))
        await cluster.write("a", b"k", b"v")
        with pytest.raises(Unavailable):
            await cluster.read("c", b"k", ReadOptions(timeout_ms=300))
        assert cluster.siblings("c", b"k") == ()
        cluster.heal()
        await cluster.settle()
        assert cluster.siblings("c", b"k") == (b"v",)

    play(scene)


def test_a_one_way_cut_lets_the_other_way_pass() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.cut(("b",), ("a",), both=False)
        cluster.cut(("c",), ("a",), both=False)
        with pytest.raises(WriteUncertain) as caught:
            await cluster.write("a", b"k", b"v", options=SOON)
        assert caught.value.details["received"] == 1
        # Nothing came back; what went out is there.
        assert [cluster.siblings(name, b"k") for name in "abc"] == [(b"v",)] * 3

    play(scene)


def test_a_crash_ends_requests_and_a_restart_finds_what_was_synced() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.write("a", b"k", b"v", options=ALL)
        asking = asyncio.ensure_future(cluster.read("a", b"k"))
        await asyncio.sleep(0)
        cluster.crash("a", kept=0)
        with pytest.raises(NodeGone):
            await asking
        with pytest.raises(NodeGone):
            await cluster.read("a", b"k")
        assert cluster.nodes["a"].state == "down"
        cluster.restart("a")
        await cluster.until(lambda: cluster.is_whole("a"), "a is whole")
        assert values(await cluster.read("a", b"k", ONE)) == {b"v"}
        assert cluster.nodes["a"].starts == 2

    play(scene)


def test_a_crash_keeps_as_many_unsynced_writes_as_it_is_told() -> None:
    async def scene(cluster: Cluster) -> None:
        disk = cluster.nodes["a"].disk
        disk.slow(1000)
        before = disk.unsynced
        cluster.cut(("a",), ("b", "c"))
        for value in (b"v0", b"v1", b"v2"):
            with pytest.raises(DynamoError):
                await cluster.write("a", b"k", value, options=WriteOptions(w=1, timeout_ms=50))
        assert disk.unsynced >= before + 2
        cluster.crash("a", kept=before + 1)
        assert cluster.siblings("a", b"k") == (b"v0", b"v1") or cluster.siblings("a", b"k") == (
            b"v0",
        )

    play(scene)


def test_a_paused_node_answers_once_it_goes_on() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.pause("a")
        asking = asyncio.ensure_future(cluster.write("a", b"k", b"v"))
        await asyncio.sleep(3)  # longer, and its peers would take it to be down
        assert not asking.done()
        cluster.resume("a")
        await asking

    play(scene)


def test_writes_go_on_beside_a_paused_node() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.pause("c")
        await cluster.write("a", b"k", b"v")
        assert values(await cluster.read("b", b"k")) == {b"v"}

    play(scene)


def test_a_node_that_stood_still_does_nothing_that_nobody_waits_for_any_more() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.write("a", b"k", b"v", options=ALL)
        cluster.pause("c")
        for number in range(5):
            with pytest.raises(DynamoError):
                await cluster.write("a", b"late%d" % number, b"v", options=ALL)
        await asyncio.sleep(0.2)
        node = cluster.nodes["c"]
        stores = node.count("stores")
        cluster.resume("c")
        await cluster.until(lambda: node.count("rpc_requests_past_deadline") >= 5, "c has read all")
        assert node.count("stores") == stores
        await cluster.write("b", b"k2", b"v", options=ALL)
        assert node.count("stores") + node.count("mints") > stores

    play(scene)


def test_a_wiped_node_is_refilled_before_it_counts() -> None:
    async def scene(cluster: Cluster) -> None:
        for number in range(20):
            await cluster.write("a", b"k%d" % number, b"v", options=ALL)
        cluster.wipe("b")
        assert cluster.siblings("b", b"k0") == ()
        cluster.restart("b")
        await cluster.until(lambda: cluster.is_whole("b"), "b is whole")
        assert all(cluster.siblings("b", b"k%d" % number) == (b"v",) for number in range(20))

    play(scene)


def test_a_rotten_record_is_no_record() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.write("a", b"k", b"v", options=ALL)
        cluster.nodes["b"].disk.rot("records", cluster.storage_key(b"k"))
        with pytest.raises(StorageCorrupt):
            cluster.record("b", b"k")
        assert cluster.siblings("b", b"k") is None
        await cluster.settle()
        assert cluster.siblings("b", b"k") == (b"v",)

    play(scene)


def test_a_skewed_clock_changes_the_time_of_its_node_alone() -> None:
    async def scene(cluster: Cluster) -> None:
        clocks = [cluster.nodes[name].clock for name in "ab"]
        assert all(clock is not None for clock in clocks)
        cluster.skew("a", ms=600_000)
        skewed, right = (clock.wall_ms() for clock in clocks if clock is not None)
        assert skewed - right == 600_000
        cluster.crash("a")
        cluster.restart("a")
        clock = cluster.nodes["a"].clock
        assert clock is not None
        assert clock.wall_ms() - right == 600_000

    play(scene)


def test_settling_says_what_it_waits_for() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.write("a", b"k", b"v")
        cluster.nodes["a"].disk.fill()
        with pytest.raises(TimeoutError, match="the nodes are whole"):
            await cluster.settle(patience=5)

    play(scene)


def test_a_node_that_ends_by_itself_is_told_of() -> None:
    async def scene(cluster: Cluster) -> None:
        ended: list[tuple[str, Exception]] = []
        cluster.on_end = lambda name, error: ended.append((name, error))
        cluster.crash("a")
        cluster.nodes["a"].disk.damage_file("identity")
        cluster.restart("a")
        await asyncio.sleep(1)
        ((name, error),) = ended
        assert name == "a"
        assert "identity" in str(error)
        assert cluster.nodes["a"].state == "down"

    play(scene)


def test_the_ring_can_be_found_out_by_the_nodes_themselves() -> None:
    async def scene() -> None:
        async with Cluster(nodes=("a", "b", "c"), seed=3, formed="peers") as cluster:
            await cluster.write("a", b"k", b"v")
            assert values(await cluster.read("b", b"k")) == {b"v"}

    run_virtual(scene(), random=random.Random(1))


@pytest.mark.parametrize("formed", ["file", "peers"])
def test_nodes_that_start_apart_find_each_other(formed: Literal["file", "peers"]) -> None:
    async def scene() -> None:
        async with Cluster(seed=4, formed=formed, apart=3.0) as cluster:
            assert cluster.up == []
            await cluster.until(lambda: len(cluster.up) == 3, "all have started")
            await cluster.until(
                lambda: all(cluster.is_whole(name) for name in "abc"), "all are whole"
            )
            await cluster.write("a", b"k", b"v")

    run_virtual(scene(), random=random.Random(1))


def test_the_same_seed_is_the_same_run() -> None:
    hashes = []

    async def scene(cluster: Cluster) -> None:
        for number in range(10):
            await cluster.write("a", b"k", b"%d" % number)
        hashes.append(cluster.trace.hash)

    play(scene, seed=5)
    play(scene, seed=5)
    play(scene, seed=6)
    assert hashes[0] == hashes[1] != hashes[2]


def test_no_cluster_without_a_simulated_loop() -> None:
    async def main() -> None:
        Cluster()

    with pytest.raises(AssertionError, match="run_virtual"):
        asyncio.run(main())


def test_a_cut_of_nobody_is_an_error() -> None:
    async def scene(cluster: Cluster) -> None:
        for wrong in (("zz",), "b"):
            with pytest.raises(ValueError, match=r"no node 'zz'|one name, not several"):
                cluster.cut(wrong, ("a",))

    play(scene)


def test_nothing_settles_where_all_who_keep_a_key_are_down() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.write("a", b"k", b"v")
        for name in "abc":
            cluster.crash(name)
        with pytest.raises(ValueError, match="all primaries of b'k' are down"):
            await cluster.settle()

    play(scene)


def test_more_nodes_than_letters_are_refused() -> None:
    async def scene(cluster: Cluster) -> None:
        """Never made."""

    with pytest.raises(ValueError, match="27 nodes"):
        play(scene, nodes=27)


def test_verbs_say_what_they_cannot_do_and_do_nothing() -> None:
    async def scene(cluster: Cluster) -> None:
        wrongs: list[Callable[[], object]] = [
            lambda: cluster.crash("zz"),
            lambda: cluster.crash("a", kept=99),
            lambda: cluster.restart("a"),
            lambda: cluster.skew("a", rate=0.0),
            lambda: cluster.rot("a", b"k"),
            lambda: cluster.siblings("zz", b"k"),
        ]
        for wrong in wrongs:
            with pytest.raises(
                ValueError, match=r"no node|unsynced|is up|rate 0.0|no synced record"
            ):
                wrong()
        assert cluster.up == ["a", "b", "c"]
        await cluster.write("a", b"k", b"v")

    play(scene)


def test_a_node_that_was_started_can_be_waited_for() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.write("a", b"k", b"v", options=ALL)
        cluster.crash("a")
        with pytest.raises(ValueError, match="node a is down"):
            await cluster.ready("a")
        cluster.restart("a")
        await cluster.ready("a")
        assert values(await cluster.read("a", b"k", ONE)) == {b"v"}
        cluster.pause("b")
        with pytest.raises(ValueError, match="node b is paused"):
            await cluster.settle()

    play(scene)


def test_a_scene_that_waits_for_ever_is_told_so() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.pause("a")
        await cluster.read("a", b"k")

    with pytest.raises(Deadlock, match=r"nobody got anywhere in 600 s.*paused: a#1"):
        simulate(scene, seconds_max=600.0)


def test_the_last_write_wins_at_keys_that_are_called_so() -> None:
    async def scene(cluster: Cluster) -> None:
        for key in (b"k", b"lww"):
            for node in ("a", "b"):
                await cluster.write(node, key, node.encode(), options=WriteOptions(w="all"))
        assert values(await cluster.read("c", b"k")) == {b"a", b"b"}
        assert values(await cluster.read("c", b"lww")) == {b"b"}

    simulate(scene)
