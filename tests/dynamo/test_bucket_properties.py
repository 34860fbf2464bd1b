"""Bucket properties in a cluster: at every member that is up before the answer, or an error that names
who not; at the others before they serve again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dynamo.errors import (
    InvalidArgument,
    KeyTooLong,
    NotReady,
    PropertiesUncertain,
    Unavailable,
    UnknownBucketType,
)
from dynamo.property_learning import AGAIN_INTERVAL
from dynamo.record import Content
from dynamo.requests import ListOptions, ReadOptions, WriteOptions
from dynamo.services import NodeServices
from dynamo.sim import Cluster, simulate

Scene = Callable[[Cluster], Coroutine[Any, Any, None]]
FILE = "properties.blob"


async def change(cluster: Cluster, node: str, bucket: bytes = b"b", **given: object) -> None:
    """Set these; with none, reset."""

    async def make(services: NodeServices) -> None:
        if given:
            await services.set_properties(b"default", bucket, given, 500)
        else:
            await services.reset_properties(b"default", bucket, 500)

    await cluster.request(node, b"k", make)


def shown(cluster: Cluster, node: str, bucket: bytes = b"b") -> dict[str, object]:
    services = cluster.nodes[node].services
    assert services is not None
    return services.properties(b"default", bucket)


def everywhere(cluster: Cluster, name: str, bucket: bytes = b"b") -> list[object]:
    """The value of one property at each node."""
    return [shown(cluster, node, bucket)[name] for node in cluster.nodes]


async def restart(cluster: Cluster, *names: str) -> None:
    for name in names:
        cluster.restart(name)
    await cluster.ready(*names)


async def missed(cluster: Cluster, node: str, **given: object) -> dict[str, str]:
    """Why each node that has not got the change has not."""
    with pytest.raises(PropertiesUncertain) as caught:
        await change(cluster, node, b"b", **given)
    details = caught.value.details
    assert caught.value.outcome == "unknown"
    assert details["received"] + len(details["reasons"]) == details["required"]
    reasons = details["reasons"]
    assert isinstance(reasons, dict)
    return reasons


@pytest.mark.parametrize("nodes", [1, 3, 5])
def test_what_is_set_at_one_is_in_force_and_on_disk_at_all(nodes: int) -> None:
    async def scene(cluster: Cluster) -> None:
        await change(cluster, "a", r=1, allow_mult=False)
        assert everywhere(cluster, "r") == [1] * nodes
        assert everywhere(cluster, "allow_mult") == [False] * nodes
        assert all(FILE in node.disk.small_files for node in cluster.nodes.values())
        await change(cluster, "a")
        assert everywhere(cluster, "r") == ["quorum"] * nodes

    simulate(scene, nodes=nodes)


def test_properties_outlive_a_crash_of_all() -> None:
    async def scene(cluster: Cluster) -> None:
        await change(cluster, "a", r=1)
        await change(cluster, "b", w=3)
        await change(cluster, "c", b"other", pw=2)
        for name in cluster.nodes:
            cluster.crash(name)
        await restart(cluster, *cluster.nodes)
        assert everywhere(cluster, "r") == [1] * 3
        assert everywhere(cluster, "w") == [3] * 3
        assert everywhere(cluster, "pw", b"other") == [2] * 3

    simulate(scene)


async def unreached(cluster: Cluster, one: str, *others: str) -> None:
    """Until a node that was cut off from others has given up on them, and they on it."""

    def reaches(node: str, other: str) -> bool:
        services = cluster.nodes[node].services
        return services is not None and other in services.connected()

    pairs = [(one, other) for other in others] + [(other, one) for other in others]
    await cluster.until(
        lambda: not any(reaches(*pair) for pair in pairs), "they are apart", patience=60.0
    )


async def first_shown(cluster: Cluster, node: str) -> dict[str, object]:
    """What a node that comes back shows as soon as it shows anything."""
    while True:
        if cluster.nodes[node].state == "up":
            try:
                return shown(cluster, node)
            except NotReady:
                pass
        await asyncio.sleep(0.0002)


def test_a_change_goes_on_without_who_is_down_and_is_learnt_before_that_serves_again() -> None:
    async def scene(cluster: Cluster) -> None:
        await change(cluster, "a", r=1)
        cluster.crash("c")
        await asyncio.sleep(1)
        await change(cluster, "a", r=2)
        assert cluster.count("properties_missed_by_down") == 1
        cluster.restart("c")
        assert (await first_shown(cluster, "c"))["r"] == 2
        await change(cluster, "c", r=3)
        assert everywhere(cluster, "r") == [3] * 3

    simulate(scene)


def test_a_reset_that_was_missed_is_learnt_too() -> None:
    async def scene(cluster: Cluster) -> None:
        await change(cluster, "a", r=1)
        cluster.crash("c")
        await asyncio.sleep(1)
        await change(cluster, "b")
        cluster.restart("c")
        assert (await first_shown(cluster, "c"))["r"] == "quorum"
        await asyncio.sleep(3 * AGAIN_INTERVAL)
        assert everywhere(cluster, "r") == ["quorum"] * 3

    simulate(scene)


@pytest.mark.parametrize("back", ["c", "b"])
def test_of_two_that_come_back_neither_takes_the_others_word(back: str) -> None:
    async def scene(cluster: Cluster) -> None:
        for name in "de":
            cluster.crash(name)
        await asyncio.sleep(1)
        await change(cluster, "a", r=1)
        cluster.cut(("d", "e"), (back,))
        for name in "de":
            cluster.restart(name)
        for name in "de":
            assert (await first_shown(cluster, name))["r"] == 1

    simulate(scene, nodes=5)


def test_who_was_cut_off_learns_what_changed_as_soon_as_it_is_connected() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.cut(("c",), ("a", "b"))
        await unreached(cluster, "c", "a", "b")
        await change(cluster, "a", r=1)
        assert shown(cluster, "c")["r"] == "quorum"
        cluster.heal()
        services = cluster.nodes["c"].services
        assert services is not None
        while not services.connected():
            await asyncio.sleep(0.0002)
        await cluster.until(lambda: shown(cluster, "c")["r"] == 1, "c has it", patience=1.5)

    simulate(scene)


def test_a_cluster_that_comes_back_as_a_whole_serves_though_all_were_away() -> None:
    async def scene(cluster: Cluster) -> None:
        await change(cluster, "a", r=1)
        for name in cluster.nodes:
            cluster.crash(name)
        await restart(cluster, "a", "b")
        await change(cluster, "a", r=2)
        cluster.restart("c")
        assert (await first_shown(cluster, "c"))["r"] == 2
        await asyncio.sleep(10)
        for node in cluster.nodes.values():
            assert node.services is not None
            assert not node.services._properties.learner.lacks

    simulate(scene)


def test_a_node_that_stood_still_asks_what_it_has_missed() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.pause("c")
        await asyncio.sleep(5)
        services = cluster.nodes["a"].services
        assert services is not None
        services._detector._down.add("c")
        await change(cluster, "a", r=1)
        cluster.resume("c")
        await cluster.until(lambda: cluster.count("gossip_rounds_late") == 1, "c knows")
        assert (await first_shown(cluster, "c"))["r"] == 1

    simulate(scene)


def test_who_is_cut_off_and_goes_on_changing_gives_way_to_the_higher_number() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.cut(("a",), ("b", "c"))
        await unreached(cluster, "a", "b", "c")
        await change(cluster, "a", r=1)
        await change(cluster, "b", r=2)
        await change(cluster, "b", r=3)
        cluster.heal()
        await cluster.until(lambda: everywhere(cluster, "r") == [3] * 3, "all agree")

    simulate(scene)


def test_what_one_could_not_be_sent_reaches_it_by_gossip_without_its_maker() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.cut(("a",), ("c",))
        await unreached(cluster, "a", "c")
        await change(cluster, "a", r=1)
        cluster.crash("a")
        await cluster.until(lambda: shown(cluster, "c")["r"] == 1, "c has it", patience=3.0)

    simulate(scene)


def test_a_frozen_node_is_named_at_the_deadline() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.pause("b")
        assert list(await missed(cluster, "a", r=1)) == ["b"]
        cluster.resume("b")
        await cluster.until(lambda: shown(cluster, "b")["r"] == 1, "b has it")

    simulate(scene)


def test_a_clock_that_jumps_loses_no_change() -> None:
    async def scene(cluster: Cluster) -> None:
        await change(cluster, "a", r=1)
        cluster.skew("a", ms=-3_600_000)
        cluster.skew("b", ms=10**12)
        await change(cluster, "a", r=2)
        await change(cluster, "b", r=3)
        cluster.skew("b", ms=-(10**12) - 10**7)
        await change(cluster, "b", r=1)
        await change(cluster, "c", r=2)
        assert everywhere(cluster, "r") == [2] * 3

    simulate(scene)


def test_changes_at_once_end_the_same_at_all_and_all_are_answered() -> None:
    async def scene(cluster: Cluster) -> None:
        await asyncio.gather(
            *(change(cluster, node, r=r) for node in "abc" for r in (1, 2, 3)),
            *(change(cluster, node, bytes([65 + n]), w=2) for node in "abc" for n in range(5)),
        )
        await asyncio.sleep(0.1)
        assert len(set(everywhere(cluster, "r"))) == 1
        for n in range(5):
            assert everywhere(cluster, "w", bytes([65 + n])) == [2] * 3

    simulate(scene)


@pytest.mark.parametrize("seed", range(8))
def test_changes_of_several_properties_at_several_nodes_at_once_are_all_kept(seed: int) -> None:
    async def scene(cluster: Cluster) -> None:
        await asyncio.gather(
            change(cluster, "a", r=1),
            change(cluster, "b", w=3),
            change(cluster, "c", pw=1),
            change(cluster, "d", dw=2),
            change(cluster, "e", rw=2),
            change(cluster, "a", pr=1),
            change(cluster, "b", allow_mult=False),
        )
        wanted = {"r": 1, "w": 3, "pw": 1, "dw": 2, "rw": 2, "pr": 1, "allow_mult": False}
        for name in cluster.nodes:
            assert {one: shown(cluster, name)[one] for one in wanted} == wanted

    simulate(scene, seed=seed, nodes=5)


def test_changes_of_two_properties_at_one_node_at_once_are_both_kept() -> None:
    async def scene(cluster: Cluster) -> None:
        await asyncio.gather(change(cluster, "a", r=1), change(cluster, "a", w=3))
        assert everywhere(cluster, "r") == [1] * 3
        assert everywhere(cluster, "w") == [3] * 3

    simulate(scene)


def test_a_damaged_file_is_learnt_from_the_peers_again() -> None:
    async def scene(cluster: Cluster) -> None:
        for number in range(3):
            await change(cluster, "a", b"b%d" % number, r=1)
        cluster.crash("a")
        assert cluster.nodes["a"].disk.damage_file(FILE)
        await restart(cluster, "a")
        assert cluster.count("properties_damaged") == 1
        await cluster.until(lambda: shown(cluster, "a", b"b2")["r"] == 1, "a has learnt")
        cluster.crash("a")
        await restart(cluster, "a")
        assert cluster.count("properties_damaged") == 1
        assert [shown(cluster, "a", b"b%d" % number)["r"] for number in range(3)] == [1] * 3

    simulate(scene)


def test_a_node_that_lost_all_counts_on_above_what_the_others_have() -> None:
    async def scene(cluster: Cluster) -> None:
        for r in (1, 2, 1, 2):
            await change(cluster, "a", r=r)
        cluster.crash("a")
        cluster.nodes["a"].disk.damage_file(FILE)
        await restart(cluster, "a")
        await change(cluster, "a", r=3)
        assert everywhere(cluster, "r") == [3] * 3

    simulate(scene)


def test_who_changes_without_knowing_the_last_change_is_told_and_goes_above_it() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.cut(("b",), ("c",))
        await unreached(cluster, "b", "c")
        for w in (1, 2, 3):
            await change(cluster, "b", w=w)
        await change(cluster, "c", r=1)
        assert cluster.count("properties_pushed_again") == 1
        for name in "ac":
            assert (shown(cluster, name)["r"], shown(cluster, name)["w"]) == (1, 3)

    simulate(scene)


def test_a_full_disk_is_named_and_holds_back_nobody_else() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.nodes["b"].disk.meet_end()
        reasons = await missed(cluster, "a", r=1)
        assert list(reasons) == ["b"]
        assert reasons["b"].startswith("storage_error")
        assert everywhere(cluster, "r") == [1, "quorum", 1]
        cluster.nodes["b"].disk.free()
        await cluster.until(lambda: shown(cluster, "b")["r"] == 1, "b has it", patience=30.0)

    simulate(scene)


def test_nodes_that_have_no_properties_do_not_speak_of_them() -> None:
    async def scene(cluster: Cluster) -> None:
        await asyncio.sleep(5 * AGAIN_INTERVAL)
        assert cluster.count("properties_learnt") == 0
        for node in cluster.nodes.values():
            assert FILE not in node.disk.small_files

    simulate(scene)


def test_what_is_refused_changes_nothing() -> None:
    async def scene(cluster: Cluster) -> None:
        with pytest.raises(InvalidArgument):
            await change(cluster, "a", r=1, w=4)
        with pytest.raises(KeyTooLong):
            await change(cluster, "a", b"b" * 257, r=1)
        services = cluster.nodes["a"].services
        assert services is not None
        with pytest.raises(UnknownBucketType):
            await services.set_properties(b"nope", b"b", {"r": 1}, 0)
        with pytest.raises(UnknownBucketType):
            services.properties(b"nope", b"b")
        assert everywhere(cluster, "r") == ["quorum"] * 3

    simulate(scene)


def test_properties_are_what_requests_go_by() -> None:
    async def scene(cluster: Cluster) -> None:
        await cluster.write("a", b"k", b"v")
        await change(cluster, "a", r=3, w="all")
        cluster.crash("c")
        await asyncio.sleep(1)
        with pytest.raises(Unavailable):
            await cluster.read("a", b"k", ReadOptions(timeout_ms=300))
        with pytest.raises(Unavailable):
            await cluster.write("b", b"k", b"w", options=WriteOptions(timeout_ms=300))
        # What a request says itself goes first.
        assert (await cluster.read("a", b"k", ReadOptions(r=2))).siblings
        await cluster.write("b", b"k", b"w", options=WriteOptions(w="one"))

    simulate(scene)


def test_a_type_is_set_like_a_bucket_and_stands_behind_all() -> None:
    async def scene(cluster: Cluster) -> None:
        await change(cluster, "a", b"", r=1)
        await change(cluster, "b", b"b", w=3)
        assert everywhere(cluster, "r") == [1] * 3
        assert everywhere(cluster, "r", b"another") == [1] * 3
        await change(cluster, "c", b"")
        assert everywhere(cluster, "r") == ["quorum"] * 3
        assert everywhere(cluster, "w") == [3] * 3

    simulate(scene)


def test_a_node_that_stops_takes_no_changes() -> None:
    async def scene(cluster: Cluster) -> None:
        services = cluster.nodes["a"].services
        assert services is not None
        services.stop_serving()
        with pytest.raises(NotReady):
            services.properties(b"default", b"b")
        with pytest.raises(NotReady):
            await change(cluster, "a", r=1)
        with pytest.raises(NotReady):
            await change(cluster, "a")

    simulate(scene)


@pytest.mark.parametrize("lost", ["disk", "file", "all since a copy"])
@pytest.mark.parametrize("is_alone", [False, True])
def test_who_lost_the_properties_takes_no_request_before_a_peer_has_told_them(
    lost: str, is_alone: bool
) -> None:
    where, one = (b"default", b"b"), WriteOptions(w=1)

    async def refuses(services: NodeServices) -> None:
        for request in (
            lambda: services.get(*where, b"k", ReadOptions(r=1)),
            lambda: services.put(*where, b"k", Content(b"2", b"a/b"), b"", one),
            lambda: services.delete(*where, b"k", b"", one),
            lambda: anext(services.list_keys(*where, ListOptions())),
            lambda: services.set_properties(*where, {"r": 2}, 500),
        ):
            with pytest.raises(NotReady, match="properties"):
                await request()

    async def scene(cluster: Cluster) -> None:
        disk = cluster.nodes["c"].disk
        image = disk.image()
        for number in range(20):
            await change(cluster, "a", b"b%d" % number, r=1)
        await change(cluster, "a", allow_mult=False)
        await cluster.write("a", b"k", b"1", options=WriteOptions(w=3))
        await asyncio.sleep(2)  # a heartbeat tells both others how far c is
        cluster.crash("c")
        if lost == "disk":
            cluster.wipe("c")
        elif lost == "file":
            assert disk.damage_file(FILE)
        else:
            disk.restore(image)
        if is_alone:
            cluster.cut(("c",), ("a", "b"))
        cluster.restart("c")
        if is_alone:
            await asyncio.sleep(5)
            cluster.heal()
        while cluster.nodes["c"].state != "up":
            await asyncio.sleep(0.0002)
        services = cluster.nodes["c"].services
        assert services is not None
        refused = 0
        while True:
            try:
                found = shown(cluster, "c")
            except NotReady:
                refused += 1
                assert not services.ready().ready
                await refuses(services)
            else:
                # Alone and new, it goes by the defaults; not once it has been told that it lost some.
                if services.connected() or cluster.nodes["c"].count("refused_by_peers"):
                    break
            await asyncio.sleep(0.0002)
        assert refused
        assert found["allow_mult"] is False
        assert all(shown(cluster, "c", b"b%d" % number)["r"] == 1 for number in range(20))
        await cluster.ready("c")

    simulate(scene)


def test_nodes_that_are_all_new_take_requests() -> None:
    async def scene(cluster: Cluster) -> None:
        for name in cluster.nodes:
            cluster.wipe(name)
        await restart(cluster, "a", "b")
        await cluster.write("a", b"k", b"1")
        assert [shown(cluster, name)["r"] for name in "ab"] == ["quorum"] * 2

    simulate(scene)
