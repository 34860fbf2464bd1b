"""The transport of production on the simulated network: it meets, loses, finds itself; the frame
layer refuses what TCP would not do, and nothing is executed twice.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from sim_peers import SimPeers, run_peers

from dynamo.rpc import frame
from dynamo.rpc.frame import HEADER_BYTES, FrameReader, Message
from dynamo.sim.chance import stream

ROOT = Path(__file__).parents[3]
LINK_FAULTS = ("cut", "heal", "clog", "unclog", "reset", "half_open")
TRICKS = ("flip", "tear", "repeat", "swap", "replay")


@pytest.mark.parametrize("count", [2, 3, 7])
def test_nodes_meet_and_answer_each_other(count: int) -> None:
    async def scene(peers: SimPeers) -> None:
        sent = await peers.ping_often(100, 0.01)
        assert all(answers.replies for _, answers in sent)
        assert len(peers.executed) == 100

    peers = run_peers(scene, count=count)
    assert peers.nothing_twice()
    # One for each pair, and those that were one too many; none to oneself is counted twice.
    assert peers.network.counts["connections"] <= count * count


def test_after_resets_the_nodes_find_each_other_and_nothing_is_done_twice() -> None:
    async def scene(peers: SimPeers) -> None:
        for _ in range(30):
            peers.network.reset("a", "b")
            await peers.ping_often(5, 0.01)
        assert await peers.meet() < 10
        assert (await peers.pinged("a", "b")).replies

    for seed in range(10):
        assert run_peers(scene, seed=seed, count=3).nothing_twice()


@pytest.mark.parametrize("seconds", [1, 8, 30])
@pytest.mark.parametrize("both", [False, True])
def test_after_a_cut_the_nodes_find_each_other(seconds: int, both: bool) -> None:
    async def scene(peers: SimPeers) -> None:
        peers.network.cut("a", "b")
        if both:
            peers.network.cut("b", "a")
        answers = await peers.pinged("a", "b")
        assert answers.kinds == ["timed_out"]
        assert (await peers.pinged("a", "c")).replies
        await asyncio.sleep(seconds)
        peers.network.heal_all()
        await asyncio.sleep(15)
        assert await peers.meet() < 1
        assert (await peers.pinged("a", "b")).replies
        assert (await peers.pinged("b", "a")).replies

    for seed in range(5):
        assert run_peers(scene, seed=seed, count=3).nothing_twice()


def test_a_half_open_connection_is_replaced() -> None:
    async def scene(peers: SimPeers) -> None:
        for one, other in (("a", "b"), ("b", "a")):
            peers.network.half_open(one, other)
            await asyncio.sleep(5)
            assert peers.together()
            assert (await peers.pinged(one, other)).replies
            assert (await peers.pinged(other, one)).replies

    for seed in range(10):
        run_peers(scene, seed=seed)


@pytest.mark.parametrize("trick", TRICKS)
def test_the_frame_layer_refuses_what_tcp_would_not_do(trick: str) -> None:
    bad = 0

    async def scene(peers: SimPeers) -> None:
        nonlocal bad
        await peers.ping_often(20, 0.01)
        for _ in range(20):
            getattr(peers.network, trick)("a", "b")
            await peers.ping_often(10, 0.001)
            # A frame with a length that is not its own is waited for, for ten seconds.
            await asyncio.sleep(15)
            assert await peers.meet() < 10
        sent = await peers.ping_often(20, 0.01)
        assert all(answers.replies for _, answers in sent)
        assert peers.network.counts[trick] > 10
        count = peers.nodes["b"].count
        bad += count["rpc_frames_bad"] + count["rpc_frames_stalled"]

    for seed in range(5):
        assert run_peers(scene, seed=seed).nothing_twice()
    assert bad > 50


def test_a_frame_layer_that_does_not_count_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = FrameReader.feed

    def careless(reader: FrameReader, data: bytes) -> list[Message]:
        if len(data) >= HEADER_BYTES:
            reader._number = frame._HEADER.unpack_from(data)[2]
        return feed(reader, data)

    async def scene(peers: SimPeers) -> None:
        for _ in range(20):
            peers.network.repeat("a", "b")
            await peers.ping_often(10, 0.01)
            await peers.meet()

    monkeypatch.setattr(FrameReader, "feed", careless)
    assert not run_peers(scene).nothing_twice()


def test_what_dribbles_is_understood() -> None:
    async def scene(peers: SimPeers) -> None:
        peers.network.dribble("a", "b", True)
        peers.network.dribble("b", "a", True)
        peers.network.reset("a", "b")
        await peers.meet()
        await asyncio.sleep(1)
        assert await peers.meet() == 0
        sent = await peers.ping_often(50, 0.05)
        assert all(answers.replies for _, answers in sent)

    run_peers(scene)


@pytest.mark.parametrize("silent", [False, True])
def test_a_node_that_crashed_comes_back(silent: bool) -> None:
    async def scene(peers: SimPeers) -> None:
        for _ in range(5):
            peers.network.crash("b", silent=silent)
            peers.processes["b"].kill()
            await peers.processes["b"].gone()
            _, answers = peers.ping("a", "b")
            await asyncio.sleep(3)
            assert answers.failures
            await peers.start("b")
            assert await peers.meet() < 15
            assert (await peers.pinged("a", "b")).replies
            assert (await peers.pinged("b", "c")).replies

    for seed in range(5):
        run_peers(scene, seed=seed, count=3)


def test_a_paused_node_makes_up_for_it_or_is_replaced() -> None:
    async def scene(peers: SimPeers) -> None:
        for seconds in (0.5, 5, 30):
            peers.processes["b"].pause()
            _, answers = peers.ping("a", "b")
            await asyncio.sleep(seconds)
            peers.processes["b"].resume()
            await answers.wait(1)
            await asyncio.sleep(10)
            assert await peers.meet() < 5
            assert (await peers.pinged("a", "b")).replies

    run_peers(scene, count=3)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_nodes_find_each_other_in_the_end(seed: int) -> None:
    async def scene(peers: SimPeers) -> None:
        chance = stream(seed, "weather")
        for _ in range(60):
            await _misfortune(peers, chance)
            await peers.ping_often(chance.randrange(8), 0.02)
            await asyncio.sleep(chance.choice([0, 0.05, 1, 5, 14]) * chance.random())
        peers.network.heal_all()
        await asyncio.sleep(40)
        assert peers.together()
        assert peers.nothing_twice()
        for source in peers.names:
            for target in peers.names:
                await _reach(peers, source, target)

    peers = run_peers(scene, seed=seed, count=3)
    assert "0 ends, faults: none" in repr(peers.network)


async def _misfortune(peers: SimPeers, chance: random.Random) -> None:
    network = peers.network
    one, other = chance.sample(peers.names, 2)
    what = chance.choice([*TRICKS, *LINK_FAULTS, "dribble", "slow", "crash", "silence", "pause"])
    if what == "dribble":
        network.dribble(one, other, chance.random() < 0.5)
    elif what == "slow":
        network.slow(one, other, chance.choice([1, 5, 50]))
    elif what == "pause":
        peers.processes[one].pause()
        await asyncio.sleep(chance.choice([0.1, 1, 15]) * chance.random())
        peers.processes[one].resume()
    elif what in ("crash", "silence"):
        network.crash(one, silent=what == "silence")
        peers.processes[one].kill()
        await asyncio.sleep(chance.choice([0, 0.1, 3, 20]) * chance.random())
        await peers.start(one)
    else:
        getattr(network, what)(one, other)


async def _reach(peers: SimPeers, source: str, target: str) -> None:
    """A first ping may find that the peer has forgotten the connection: nobody has sent anything."""
    if source != target and not (await peers.pinged(source, target)).replies:
        await asyncio.sleep(5)
        assert (await peers.pinged(source, target)).replies


async def _storm(peers: SimPeers) -> None:
    """Everything at once."""
    network = peers.network
    for round_ in range(40):
        one, other = peers.names[round_ % 3], peers.names[(round_ + 1) % 3]
        getattr(network, TRICKS[round_ % 5])(one, other)
        if round_ % 3 == 0:
            network.cut(one, other)
        if round_ % 4 == 0:
            network.clog(other, one)
        if round_ % 5 == 0:
            network.reset(one, other)
        if round_ % 7 == 0:
            network.half_open(other, one)
        network.dribble(one, other, round_ % 2 == 0)
        network.slow(other, one, 1 + round_ % 6)
        if round_ == 20:
            network.crash("c", silent=True)
            peers.processes["c"].kill()
            await peers.start("c")
        await peers.ping_often(20, 0.1)
        network.heal_all()
    await asyncio.sleep(30)
    assert peers.together()
    assert peers.nothing_twice()


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    hashes = [run_peers(_storm, seed=seed, count=3).trace.hash for seed in (1, 1, 2, 3)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_the_trace_depends_on_no_hash_seed() -> None:
    code = (
        "import sys; sys.path[:0] = ['tests/support', 'tests/dynamo/sim', '.']\n"
        "from test_network_peers import _storm\n"
        "from sim_peers import run_peers\n"
        "print(run_peers(_storm, seed=4, count=3).trace.hash)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert hashes == {run_peers(_storm, seed=4, count=3).trace.hash + "\n"}
