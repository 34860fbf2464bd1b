"""Two nodes that dial each other, over networks that deliver in every order, in virtual time."""

from __future__ import annotations

import asyncio
import random
from itertools import combinations

from rpc_nodes import PeerNode
from sim_peers import SimPeers

from dynamo.sim.chance import stream
from dynamo.sim.link import Timing
from dynamo.sim.loop import run_virtual

DELAY = 0.02


def meet(seed: int, *, count: int, resets: int, restarts: int = 0) -> list[PeerNode]:
    """Nodes that all dial all, with resets and restarts meanwhile; raises unless they settle."""

    async def scene() -> list[PeerNode]:
        peers = SimPeers(seed=seed, count=count)
        network, chance = peers.network, stream(seed, "collisions")
        network.timing(None, None, Timing(latency=0.0, jitter=DELAY, tail=0.0, tail_chance=0.0))
        for name in peers.names:
            await peers.start(name)
            await asyncio.sleep(DELAY * chance.random())
        for _ in range(resets):
            await asyncio.sleep(DELAY * chance.random())
            network.reset(*chance.choice(list(combinations(peers.names, 2))))
        for _ in range(restarts):
            name = chance.choice(peers.names)
            network.crash(name, silent=False)
            peers.processes[name].kill()
            await peers.start(name)
        await peers.meet()
        await asyncio.sleep(DELAY * 4)  # all that was on its way has arrived
        await peers.meet()
        before = [list(node.gate.events) for node in peers.nodes.values()]
        await asyncio.sleep(DELAY * 6)
        assert peers.together()
        assert [node.gate.events for node in peers.nodes.values()] == before, "it flaps"
        for name, node in peers.nodes.items():
            assert len(node.transport._links._alive) == count - 1
            for other in peers.names:
                assert (await peers.pinged(name, other)).replies
        nodes = list(peers.nodes.values())
        await peers.stop()
        return nodes

    return run_virtual(scene(), random=random.Random(seed))


def meet_all(seeds: range, *, count: int, resets: int, restarts: int = 0) -> list[list[PeerNode]]:
    """The nodes of each seed's meeting."""
    return [meet(seed, count=count, resets=resets, restarts=restarts) for seed in seeds]


def test_whatever_the_order_one_connection_stays_and_none_flaps() -> None:
    for nodes in meet_all(range(150), count=2, resets=0):
        # Connected once, until the end: the pair agreed the first time.
        assert [node.gate.events for node in nodes] == [["+b", "-b"], ["+a", "-a"]]


def test_after_resets_that_one_side_hears_late_the_pair_finds_itself() -> None:
    meet_all(range(150), count=2, resets=4)


def test_after_restarts_the_pair_finds_itself() -> None:
    meet_all(range(50), count=2, resets=2, restarts=2)


def test_five_nodes_settle_too() -> None:
    meet_all(range(8), count=5, resets=6)
