"""What a coordinator measures of its requests: each way to each replica, as long as it truly took."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from little_cluster import LittleCluster

from dynamo.metrics import Metrics
from dynamo.requests import ReadOptions, Stamps, WriteOptions
from dynamo.sim.loop import run_virtual
from dynamo.wars import KEPT, PEERS_MAX, WINDOW, Wars
from dynamo.wars_status import WarsRead, WarsStatus, WarsWrite

ALL_READ, ALL_WRITE = ReadOptions(r="all"), WriteOptions(w="all")
#: Seconds that a message takes from one node to another: no two the same.
WAYS = {"ab": 0.010, "ba": 0.020, "ac": 0.040, "ca": 0.001, "bc": 0.005, "cb": 0.003}


def slow(cluster: LittleCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived: dict[str, float] = {}

    def later(source: str, target: str, call: Callable[..., None], *args: Any) -> None:
        if source == target:
            call(*args)
            return
        loop, way = asyncio.get_running_loop(), source + target
        # In the order in which they were sent.
        arrived[way] = max(loop.time() + WAYS[way], arrived.get(way, 0.0) + 1e-6)
        loop.call_at(arrived[way], call, *args)

    monkeypatch.setattr(cluster.links, "later", later)


def measure_all(cluster: LittleCluster) -> Wars:
    """All that node a coordinates is measured."""
    wars = cluster.nodes["a"].coordinator.wars
    wars.sampled = wars.reads_left = wars.writes_left = 1
    return wars


def status_of(cluster: LittleCluster) -> WarsStatus:
    node = cluster.nodes["a"]
    return node.coordinator.wars.status(node.clock.monotonic())


def near(legs: tuple[float, float], *expected: float) -> bool:
    return legs == pytest.approx(expected, abs=0.01)


def in_virtual_time(test: Callable[[LittleCluster], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with LittleCluster(3) as cluster:
            slow(cluster, monkeypatch)
            measure_all(cluster)
            await test(cluster)

    run_virtual(run(), random=random.Random(1))


@pytest.mark.parametrize("offset_ms", [0, 3_600_000, -3_600_000])
def test_each_way_is_measured_whatever_the_clocks_show(
    monkeypatch: pytest.MonkeyPatch, offset_ms: int
) -> None:
    async def test(cluster: LittleCluster) -> None:
        for name in "bc":
            cluster.nodes[name].clock.offset_ms = offset_ms
        await cluster.put("a", b"k", b"v", options=ALL_WRITE)
        await cluster.get("a", b"k", ALL_READ)
        await asyncio.sleep(1)
        found = status_of(cluster)
        write, read = found.writes[0], found.reads[0]
        assert (write.minter, read.body, found.n, found.sampled) == ("a", "a", 3, 1)
        assert near(write.legs["a"], 0, 0)
        assert near(read.legs["a"], 0, 0)
        for legs in (write.legs, read.legs):
            if offset_ms == 0:
                assert near(legs["b"], 10, 20)
                assert near(legs["c"], 40, 1)
            else:  # a clock that is an hour off tells how long both ways take together
                assert sum(legs["b"]) == pytest.approx(30, abs=0.01)
                assert sum(legs["c"]) == pytest.approx(41, abs=0.01)
                assert min(*legs["b"], *legs["c"]) >= 0
        peer = found.peers["b"]
        assert (peer.writes, peer.reads, len(peer.w), len(peer.s)) == (1, 1, 1, 1)
        assert abs(peer.clock_offset_ms - offset_ms) <= 30

    in_virtual_time(test, monkeypatch)


def test_the_way_over_the_minter_is_part_of_w(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with LittleCluster(3, replicas=2, partitions=64) as cluster:
            key = next(
                key
                for key in (b"k%d" % number for number in range(1000))
                if cluster.owners(key) == ("b", "c")
            )
            slow(cluster, monkeypatch)
            measure_all(cluster)
            await cluster.put("a", key, b"v", options=ALL_WRITE)
            write = status_of(cluster).writes[0]
            assert write.minter == "b"
            assert near(write.legs["b"], 10, 20)
            assert near(write.legs["c"], 10 + 20 + 40, 1)

    run_virtual(test(), random=random.Random(1))


def test_who_does_not_answer_is_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cluster: LittleCluster) -> None:
        cluster.links.mute.add("c")
        await cluster.put("a", b"k", b"v", options=WriteOptions(timeout_ms=500))
        await cluster.get("a", b"k", ReadOptions(timeout_ms=500))
        await asyncio.sleep(2)
        found = status_of(cluster)
        assert set(found.writes[0].legs) == set(found.reads[0].legs) == {"a", "b"}
        assert set(found.peers) == {"a", "b"}
        assert cluster.nodes["a"].metrics.count["wars_answers_left_out"] == 2

    in_virtual_time(test, monkeypatch)


def test_a_write_that_is_not_measured_says_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cluster: LittleCluster) -> None:
        wars = cluster.nodes["a"].coordinator.wars
        wars.reads_left = wars.writes_left = 2
        await cluster.put("a", b"k", b"v", options=ALL_WRITE)
        await cluster.get("a", b"k", ALL_READ)
        assert status_of(cluster).peers == {}
        assert not any(getattr(sent, "measured", False) for _, _, sent in cluster.links.sent)
        await cluster.put("a", b"k", b"v", options=ALL_WRITE)
        assert set(status_of(cluster).peers) == {"a", "b", "c"}

    in_virtual_time(test, monkeypatch)


def test_stamps_say_when_it_began_and_when_it_had_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cluster: LittleCluster) -> None:
        now = asyncio.get_running_loop().time
        began = now()
        for w, taken in ((1, 0.0), (2, 0.030), (3, 0.041)):
            stamps = Stamps()
            began = now()
            await cluster.put("a", b"k", b"v", options=WriteOptions(w=w, stamps=stamps))
            assert stamps.node == "a"
            assert stamps.began == pytest.approx(began, abs=1e-4)
            assert stamps.committed - began == pytest.approx(taken, abs=1e-3)
            await asyncio.sleep(1)
        for r, taken in ((1, 0.0), (2, 0.030), (3, 0.041)):
            stamps = Stamps()
            began = now()
            await cluster.get("a", b"k", ReadOptions(r=r, stamps=stamps))
            assert stamps.committed - began == pytest.approx(taken, abs=1e-3)
            await asyncio.sleep(1)

    in_virtual_time(test, monkeypatch)


def test_whole_operations_are_of_the_class_whose_replicas_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(cluster: LittleCluster) -> None:
        wars = cluster.nodes["a"].coordinator.wars
        for cls in (7, 0):
            wars.adopt(set(cluster.nodes), 3, cls)
            await cluster.put("a", b"k", b"v", options=ALL_WRITE)
            await cluster.get("a", b"k", ALL_READ)
            found = status_of(cluster)
            assert [len(found.writes), len(found.reads)] == [cls == 0, cls == 0]
        assert {(legs.writes, legs.reads) for legs in found.peers.values()} == {(2, 2)}
        assert cluster.nodes["a"].metrics.count["wars_writes_measured"] == 2

    in_virtual_time(test, monkeypatch)


def new_wars() -> Wars:
    return Wars(node_id="a", chance=random.Random(5), now=0.0, metrics=Metrics())


def test_one_operation_in_so_many_is_measured_and_never_by_a_pattern() -> None:
    wars = new_wars()
    gaps = [wars.countdown() for _ in range(20_000)]
    assert sum(gaps) / len(gaps) == pytest.approx(wars.sampled, rel=0.02)
    assert set(gaps) == set(range(1, 2 * wars.sampled))


def test_what_is_kept_is_bounded_and_of_the_window_alone() -> None:
    wars = new_wars()
    for number in range(3 * KEPT):
        node = f"n{number % (2 * PEERS_MAX)}"
        wars.wrote(node, 1.0, 1.0)
        wars.read("n1", 1.0, 1.0)
        wars.ended_write(WarsWrite(minter="a", legs={node: (1.0, 1.0)}), 0, 0)
        wars.ended_read(WarsRead(body="a", legs={}), 0, 0)
    found = wars.status(WINDOW / 2)
    assert len(found.peers) == PEERS_MAX
    assert len(found.peers["n1"].r) == len(found.writes) == len(found.reads) == KEPT
    assert found.peers["n1"].reads == 3 * KEPT
    assert found.seconds == WINDOW / 2
    later = wars.status(WINDOW * 2)
    assert not (later.writes + later.peers["n1"].r)
    assert not later.reads
    assert later.seconds <= WINDOW


def test_who_is_no_member_any_more_is_forgotten() -> None:
    wars = new_wars()
    for name in "abc":
        wars.read(name, 1.0, 1.0)
    wars.adopt({"a", "b"}, 2, 0)
    assert set(wars.status(1.0).peers) == {"a", "b"}


def test_it_is_read_by_who_predicts_from_it() -> None:
    wars = new_wars()
    wars.wrote("b", 1.0, 2.0)
    wars.read("b", 3.0, 4.0)
    wars.ended_write(WarsWrite(minter="a", legs={"b": (1.0, 2.0)}), 2, 0)
    wars.ended_read(WarsRead(body="a", legs={"b": (3.0, 4.0)}), 2, 0)
    shown = wars.status(2.0)
    decoder = msgspec.json.Decoder(WarsStatus, strict=True)
    decoded = decoder.decode(msgspec.json.encode(shown))
    assert msgspec.to_builtins(decoded) == msgspec.to_builtins(shown)
