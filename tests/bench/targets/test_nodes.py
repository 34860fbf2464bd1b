"""The harness starts real nodes, does to them what a scenario says, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from bench.faults import Fault, Slow
from bench.scenario import Cluster
from bench.targets.http import HttpTarget, parse_address
from bench.targets.nodes import NodesTarget
from bench.targets.protocol import Capabilities, Setup, TargetFailed
from dynamo.cli.supervisor import NodeProcess

SETUP = Setup(run="t1", n=3, properties={"allow_mult": True})


def running(nodes: list[NodeProcess]) -> list[int]:
    return [
        node.pid for node in nodes if node.pid is not None and Path(f"/proc/{node.pid}").exists()
    ]


async def test_reads_say_which_writes_they_saw(tmp_path: Path) -> None:
    async with NodesTarget(Cluster(), parent=tmp_path) as target:
        await target.setup(SETUP)
        assert target.nodes == ("n1", "n2", "n3")
        assert (await target.read("k", coordinator=1)).seen == ()
        first = await target.write("k", 1, coordinator=0, w=3)
        assert (first.outcome, first.coordinator, first.seen) == ("ok", "n1", (1,))
        await target.write("k", 2, coordinator=1, w=3)
        both = await target.read("k", coordinator=2, r=2)
        assert (both.outcome, both.coordinator, sorted(both.seen)) == ("ok", "n3", [1, 2])
        await target.write("k", 3, context=both.context, w=3, elements=(7,))
        before = time.monotonic_ns()
        last = await target.read("k", r=1)
        assert before < last.began < last.committed < time.monotonic_ns()
        assert (last.seen, last.elements, last.foreign) == ((3,), (7,), 0)
        assert target.capabilities == Capabilities(
            verbs=("pause", "crash", "restart", "restore"),
            directed=True,
            stamps=True,
            siblings=True,
            contexts=True,
            wars=True,
            trees=True,
        )
        assert b'"node":"n1"' in (await target.wars() or b"")
        async with HttpTarget([f"http://{a}" for a in target.addresses]) as other:
            assert other.nodes == target.nodes
            await other.setup(Setup(run="t2", n=3, properties={"w": 1}))
            assert (await other.read("k")).seen == ()
            with pytest.raises(TargetFailed, match="cannot do that"):
                await other.fault(Fault(do="crash", at=0.0, nodes=(0,)))
            with pytest.raises(TargetFailed, match="--fault-injection"):
                await other.fault(Fault(do="partition", at=0.0, nodes=(0,)))
            with pytest.raises(TargetFailed, match="3 replicas, not 5"):
                await other.setup(Setup(run="t2", n=5))
        processes = target.processes
        assert len(running(processes)) == 3
    assert running(processes) == []
    assert os.listdir(tmp_path) == []


async def test_a_pause_a_crash_a_restart_and_an_earlier_disk(tmp_path: Path) -> None:
    async with NodesTarget(Cluster(), parent=tmp_path) as target:
        await target.setup(SETUP)
        pause = Fault(do="pause", at=0.0, nodes=(1,))
        await target.fault(pause)
        hung = await target.write("k", 1, coordinator=1, timeout=0.3)
        assert hung.outcome == "unknown"
        assert (await target.read("k", coordinator=1, timeout=0.3)).outcome == "fail"
        await target.mend(pause)
        assert (await target.write("k", 2, coordinator=1, w=3)).outcome == "ok"
        restore = Fault(do="restore", at=1.0, image_at=0.0, nodes=(2,))
        await target.image(restore)
        crash = Fault(do="crash", at=0.0, nodes=(0,))
        await target.fault(crash)
        refused = await target.write("k", 3, coordinator=0)
        assert refused.outcome == "fail"
        assert (await target.write("k", 4)).outcome == "ok"  # at a node that is there
        await target.mend(crash)
        assert (await target.read("k", coordinator=0)).outcome == "ok"
        pid = target.processes[2].pid
        await target.fault(restore)
        assert target.processes[2].pid != pid
        await target.fault(Fault(do="restart", at=0.0, nodes=(1,)))
        assert 4 in (await target.read("k", coordinator=2, r=3)).seen
    assert os.listdir(tmp_path) == []


async def test_messages_are_slow_and_cut_and_well_again(tmp_path: Path) -> None:
    slow = Fault(do="slow", at=0.0, slow=Slow(legs={"W": [[1, "constant", 200]]}))
    cut = Fault(do="partition", at=0.0, nodes=(2,))
    cluster = Cluster(slow={"A": [[1, "constant", 60]]})
    async with NodesTarget(cluster, (slow, cut), parent=tmp_path) as target:
        assert {"slow", "partition"} <= set(target.capabilities.verbs)
        await target.setup(SETUP)
        assert 0.06 <= await seconds_of_write(target, "a", 1) < 0.2
        await target.fault(slow)
        assert 0.26 <= await seconds_of_write(target, "b", 2) < 0.5
        await target.fault(cut)
        lonely = await target.write("c", 3, coordinator=2, w=2, timeout=1.0)
        assert lonely.outcome == "fail"
        await target.fault(Fault(do="restart", at=0.0, nodes=(2,)))  # it is told anew
        assert (await target.write("c", 4, coordinator=2, w=2, timeout=1.0)).outcome == "fail"
        assert (await target.write("c", 5, coordinator=0, w=2)).outcome == "ok"
        assert await target.trees_equal() is False
        await target.mend(slow)
        await target.mend(cut)
        async with asyncio.timeout(30):
            while not await target.trees_equal():
                await asyncio.sleep(0.05)
        assert (await target.read("c", replica=2)).seen == (5,)
        with pytest.raises(TargetFailed, match="not all"):
            await target.fault(Fault(do="partition", at=0.0, nodes=(0, 1, 2)))
        with pytest.raises(TargetFailed, match="no node 7"):
            await target.fault(Fault(do="pause", at=0.0, nodes=(7,)))
        wrong = Slow(legs={"W": [[2, "normal", 1]]})
        with pytest.raises(TargetFailed, match="unknown kind"):
            await target.fault(Fault(do="slow", at=0.0, slow=wrong))
        async with asyncio.timeout(30):  # each node has to see first that the third is up
            while (await target.write("d", 6, w=3)).outcome != "ok":
                await asyncio.sleep(0.05)
        async with HttpTarget(target.addresses) as other:
            assert other.capabilities.verbs == ("slow", "partition")


async def seconds_of_write(target: NodesTarget, key: str, version: int) -> float:
    """At best: the machine may have something else to do."""
    found = []
    for _ in range(4):
        begun = time.monotonic()
        assert (await target.write(key, version, coordinator=0, w=2)).outcome == "ok"
        found.append(time.monotonic() - begun)
    return min(found)


async def test_who_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    target = NodesTarget(Cluster(), parent=tmp_path)

    async def run() -> None:
        async with target:
            await target.setup(SETUP)
            await target.fault(Fault(do="pause", at=0.0))
            await asyncio.sleep(60)

    for seconds in (0.05, 4.0):
        task = asyncio.ensure_future(run())
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert running(target.processes) == []
        assert os.listdir(tmp_path) == []
        target = NodesTarget(Cluster(), parent=tmp_path)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("http://a.b:80/", "a.b:80"),
        ("http://a.b", "a.b:80"),
        ("http://[::1]:8098", "[::1]:8098"),
    ],
)
def test_an_address_is_one_of_http(text: str, address: str) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "a", "https://a:1", "http://a:1/x", "http://a:99999", "http://u@a:1", "ftp://a:1"]
)
def test_what_is_no_address_is_said_so(text: str) -> None:
    with pytest.raises(TargetFailed, match="no address"):
        parse_address(text)


async def test_a_node_that_is_not_there_is_named() -> None:
    with pytest.raises(TargetFailed, match=r"127\.0\.0\.1:1"):
        async with HttpTarget(["127.0.0.1:1"]):
            pass


async def test_a_flag_that_no_node_takes_is_told(tmp_path: Path) -> None:
    with pytest.raises(TargetFailed, match="unrecognized arguments: --none"):
        async with NodesTarget(Cluster(flags=("--none",)), parent=tmp_path):
            pass
    assert os.listdir(tmp_path) == []
