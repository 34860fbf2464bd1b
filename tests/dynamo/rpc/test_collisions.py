"""Two nodes that dial each other, over networks that deliver in every order, in virtual time."""

from __future__ import annotations

import asyncio
import random

from little_cluster import LoopClock
from rpc_nodes import PeerNode, until
from slow_network import SlowNetwork

from dynamo.sim.loop import run_virtual

DELAY = 0.02


def together(nodes: list[PeerNode]) -> bool:
    return all(len(node.transport.connected()) == len(nodes) - 1 for node in nodes)


async def meet(seed: int, *, count: int, resets: int, restarts: int = 0) -> list[PeerNode]:
    """Nodes that all dial all, with resets and restarts meanwhile; raises unless they settle."""
    chance = random.Random(seed)
    network = SlowNetwork(seed, DELAY)
    addresses = [f"n{i}:1" for i in range(count)]

    def make(which: int, start: int) -> PeerNode:
        return PeerNode(f"n{which}", start=start, network=network, clock=LoopClock(), chance=chance)

    nodes = [make(which, 1) for which in range(count)]

    async def start(node: PeerNode, address: str) -> None:
        await node.start(address)
        await asyncio.sleep(DELAY * chance.random())
        node.transport.dial(addresses)

    try:
        await asyncio.gather(*map(start, nodes, addresses))
        for _ in range(resets):
            await asyncio.sleep(DELAY * chance.random())
            network.reset_one()
        for _ in range(restarts):
            which = chance.randrange(count)
            await nodes[which].transport.close()
            nodes[which] = make(which, 2)
            await start(nodes[which], addresses[which])
        await until(lambda: together(nodes), 6)
        await asyncio.sleep(DELAY * 4)  # all that was on its way has arrived
        await until(lambda: together(nodes), 6)
        before = [list(node.gate.events) for node in nodes]
        await asyncio.sleep(DELAY * 6)
        assert together(nodes)
        assert [node.gate.events for node in nodes] == before, "the connection flaps"
        for node in nodes:
            assert len(node.transport._links._alive) == count - 1
            for other in nodes:
                assert (await node.ping(other.node_id)).replies
    finally:
        for node in nodes:
            await node.transport.close()
    return nodes


def meet_all(seeds: range, *, count: int, resets: int, restarts: int = 0) -> list[list[PeerNode]]:
    """The nodes of each seed's meeting."""
    return [
        run_virtual(
            meet(seed, count=count, resets=resets, restarts=restarts), random=random.Random(1)
        )
        for seed in seeds
    ]


def test_whatever_the_order_one_connection_stays_and_none_flaps() -> None:
    for nodes in meet_all(range(150), count=2, resets=0):
        # Connected once, until the end: the pair agreed the first time.
        assert [node.gate.events for node in nodes] == [["+n1", "-n1"], ["+n0", "-n0"]]


def test_after_resets_that_one_side_hears_late_the_pair_finds_itself() -> None:
    meet_all(range(150), count=2, resets=4)


def test_after_restarts_the_pair_finds_itself() -> None:
    meet_all(range(50), count=2, resets=2, restarts=2)


def test_five_nodes_settle_too() -> None:
    meet_all(range(8), count=5, resets=6)
