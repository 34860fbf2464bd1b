"""One replica is a hundred times slower, or some answers are late: what clients feel of it.

Five nodes, three replicas, virtual time, an open loop of reads and writes. Each scene is played once
more with what holds it switched off.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest

from dynamo.cluster.detector import Detector
from dynamo.read_operation import ReadOperation
from dynamo.sim import Cluster, run_virtual
from dynamo.sim.chance import stream
from dynamo.sim.link import Timing

NODES = ("a", "b", "c", "d", "e")
SLOW = "c"
#: Seconds until everybody knows what the others usually take, and from then on.
BEFORE, SECONDS = 5.0, 20.0
#: Requests a second, of all clients.
RATE = 200.0
#: Keys that are read.
KEYS = 200


class Outcome(NamedTuple):
    """99th percentiles, in seconds; how many reads there were; counters of all nodes; hints left."""

    writes: float
    reads: float
    asked: int
    counts: Counter[str]
    undelivered: list[str]


class Clients:
    """`asks`: the nodes that may be asked for a key."""

    def __init__(self, cluster: Cluster, asks: Callable[[Cluster, bytes], list[str]]) -> None:
        self._cluster = cluster
        self._asks = asks
        self._random = stream(cluster.seed, "clients")
        self._number = 0
        self.writes: list[float] = []
        self.reads: list[float] = []

    async def run(self, seconds: float) -> None:
        """Whatever fails, fails the test."""
        loop = self._cluster.loop
        until = loop.time() + seconds
        tasks = []
        while loop.time() < until:
            await asyncio.sleep(self._random.expovariate(RATE))
            self._number += 1
            reads = self._random.random() < 0.5
            key = b"k%d" % (self._random.randrange(KEYS) if reads else self._number)
            node = self._random.choice(self._asks(self._cluster, key))
            work: Coroutine[Any, Any, object] = (
                self._cluster.read(node, key)
                if reads
                else self._cluster.write(node, key, b"v%d" % self._number)
            )
            times = self.reads if reads else self.writes
            tasks.append(loop.create_task(self._timed(work, times)))
        await asyncio.gather(*tasks)

    async def _timed(self, work: Coroutine[Any, Any, object], times: list[float]) -> None:
        began = self._cluster.loop.time()
        await work
        times.append(self._cluster.loop.time() - began)


def play(
    seed: int, disturb: Callable[[Cluster], None], asks: Callable[[Cluster, bytes], list[str]]
) -> Outcome:
    async def scene() -> Outcome:
        async with Cluster(nodes=NODES, seed=seed, partitions=32) as cluster:
            clients = Clients(cluster, asks)
            await clients.run(BEFORE)
            disturb(cluster)
            clients.writes, clients.reads = [], []
            await clients.run(SECONDS)
            counts: Counter[str] = Counter()
            for node in cluster.nodes.values():
                assert node.services is not None
                counts.update(node.services.metrics.count)
            return Outcome(
                p99(clients.writes),
                p99(clients.reads),
                len(clients.reads),
                counts,
                cluster.undelivered(),
            )

    return run_virtual(scene(), random=stream(seed, "loop"))


def p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def nothing(cluster: Cluster) -> None:
    """Everything stays as it was."""


def one_slow(cluster: Cluster) -> None:
    for name in NODES:
        if name != SLOW:
            cluster.network.slow(name, SLOW, 100)
            cluster.network.slow(SLOW, name, 100)


def some_late(cluster: Cluster) -> None:
    cluster.network.timing(None, None, Timing(tail=0.2, tail_chance=0.002))


def the_others(cluster: Cluster, key: bytes) -> list[str]:
    return [name for name in NODES if name != SLOW]


def outsiders(cluster: Cluster, key: bytes) -> list[str]:
    """Those that have to ask another node for a record."""
    owners = cluster.owners(key)
    return [name for name in NODES if name not in owners]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_replica_a_hundred_times_slower_at_most_doubles_the_p99(seed: int) -> None:
    healthy = play(seed, nothing, the_others)
    slow = play(seed, one_slow, the_others)
    assert slow.writes <= 2 * healthy.writes
    assert slow.reads <= 2 * healthy.reads
    # It is slow, not absent: nothing is kept for it.
    for counter in ("stores_at_stand_ins", "writes_missed", "debts_noted"):
        assert slow.counts[counter] == 0, counter
    assert slow.undelivered == []


def test_without_avoidance_a_slow_replica_is_felt_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Detector, "_doubt", lambda *any_: None)
    monkeypatch.setattr("dynamo.operations.STALLED_AFTER", float("inf"))
    healthy = play(1, nothing, the_others)
    slow = play(1, one_slow, the_others)
    assert slow.writes > 10 * healthy.writes
    assert slow.reads > 10 * healthy.reads


def test_a_read_whose_record_is_late_asks_another_replica() -> None:
    late = play(3, some_late, outsiders)
    assert late.reads < 0.01
    assert 0 < late.counts["reads_hedged"] <= 0.05 * late.asked + 10 * len(NODES)


def test_without_hedges_a_late_record_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReadOperation, "hedge", lambda self: True)
    late = play(3, some_late, outsiders)
    assert late.reads > 0.02
    assert late.counts["reads_hedged"] == 0
