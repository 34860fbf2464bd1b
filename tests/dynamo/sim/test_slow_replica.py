"""I16: one replica of three is a hundred times slower. What that costs the clients of the others."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import pytest

from dynamo.cluster.detector import Detector
from dynamo.hedging import Hedger
from dynamo.requests import ReadOptions, WriteOptions
from dynamo.sim import Cluster, run_virtual
from dynamo.sim.chance import stream
from dynamo.sim.link import Timing

#: Seconds of a message, and of a sync: what it takes of a healthy node.
TIMING = Timing(latency=0.001, jitter=0.001)
SYNC_SECONDS = (0.001, 0.003)
FACTOR = 100
OPERATIONS = 400
KEYS = 20


class Times(NamedTuple):
    """Seconds that 99 of 100 took at most: reads and writes at quorum. `hints`: taken meanwhile."""

    reads: float
    writes: float
    hints: int


def play(*, slow: bool) -> Times:
    """A coordinator that owns some of the keys, and a slow node that owns most."""

    async def scene() -> Times:
        async with Cluster(nodes=("a", "b", "c", "d"), seed=3) as cluster:
            cluster.network.timing(None, None, TIMING)
            for node in cluster.nodes.values():
                node.disk.sync_seconds = SYNC_SECONDS
            if slow:
                for peer in ("a", "c", "d"):
                    cluster.network.slow("b", peer, FACTOR)
                    cluster.network.slow(peer, "b", FACTOR)
                cluster.nodes["b"].disk.slow(FACTOR)
            await _ask(cluster, OPERATIONS // 4)  # until it is known to be slow
            before = cluster.count("hints_taken")
            reads, writes = await _ask(cluster, OPERATIONS)
            return Times(_p99(reads), _p99(writes), cluster.count("hints_taken") - before)

    return run_virtual(scene(), random=stream(3, "loop"))


async def _ask(cluster: Cluster, count: int) -> tuple[list[float], list[float]]:
    """Clients at all nodes but the slow one, a few at once."""
    reads: list[float] = []
    writes: list[float] = []

    async def client(number: int) -> None:
        chance = stream(3, "client", count, number)
        for turn in range(count // 4):
            node = chance.choice(("a", "c", "d"))
            key = b"k%d" % chance.randrange(KEYS)
            begun = cluster.loop.time()
            if turn % 2:
                await cluster.write(node, key, b"v", options=WriteOptions(timeout_ms=5000))
                writes.append(cluster.loop.time() - begun)
            else:
                await cluster.read(node, key, ReadOptions(timeout_ms=5000))
                reads.append(cluster.loop.time() - begun)
            await asyncio.sleep(0.01)

    await asyncio.gather(*(client(number) for number in range(4)))
    return reads, writes


def _p99(times: list[float]) -> float:
    return sorted(times)[len(times) * 99 // 100]


@pytest.fixture(scope="module")
def healthy() -> Times:
    return play(slow=False)


def test_one_slow_replica_at_most_doubles_the_p99_of_the_others(healthy: Times) -> None:
    slow = play(slow=True)
    assert slow.reads <= 2 * healthy.reads
    assert slow.writes <= 2 * healthy.writes


def test_a_replica_that_is_slow_and_alive_meets_no_storm_of_hints() -> None:
    assert play(slow=True).hints <= OPERATIONS // 20


def test_without_opinions_and_hedges_it_costs_more(
    healthy: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above is worth: with what protects the clients switched off, it fails."""
    monkeypatch.setattr(Detector, "doubted", property(lambda self: frozenset()))
    monkeypatch.setattr(Hedger, "watch", lambda self, read, begun: False)
    monkeypatch.setattr("dynamo.operations.STALLED_AFTER", float("inf"))
    slow = play(slow=True)
    assert slow.reads > 2 * healthy.reads
    assert slow.writes > 2 * healthy.writes
