"""Two nodes that dial each other, over networks that deliver in every order."""

from __future__ import annotations

import asyncio
import random

import pytest
from rpc_nodes import PeerNode, until
from slow_network import SlowNetwork

DELAY = 0.02


def together(nodes: list[PeerNode]) -> bool:
    return all(len(node.transport.connected()) == len(nodes) - 1 for node in nodes)


async def meet(seed: int, *, count: int, resets: int, restarts: int = 0) -> list[PeerNode]:
    """Nodes that all dial all, with resets and restarts meanwhile; raises unless they settle."""
    chance = random.Random(seed)
    network = SlowNetwork(seed, DELAY)
    addresses = [f"n{i}:1" for i in range(count)]
    nodes = [PeerNode(f"n{i}", network=network) for i in range(count)]

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
            nodes[which] = PeerNode(f"n{which}", start=2, network=network)
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


@pytest.mark.parametrize("block", range(3))
async def test_whatever_the_order_one_connection_stays_and_none_flaps(block: int) -> None:
    seeds = range(block * 50, block * 50 + 50)
    for nodes in await asyncio.gather(*(meet(seed, count=2, resets=0) for seed in seeds)):
        # Connected once, until the end: the pair agreed the first time.
        assert [node.gate.events for node in nodes] == [["+n1", "-n1"], ["+n0", "-n0"]]


@pytest.mark.parametrize("block", range(3))
async def test_after_resets_that_one_side_hears_late_the_pair_finds_itself(block: int) -> None:
    seeds = range(block * 50, block * 50 + 50)
    await asyncio.gather(*(meet(seed, count=2, resets=4) for seed in seeds))


async def test_after_restarts_the_pair_finds_itself() -> None:
    await asyncio.gather(*(meet(seed, count=2, resets=2, restarts=2) for seed in range(50)))


async def test_five_nodes_settle_too() -> None:
    await asyncio.gather(*(meet(seed, count=5, resets=6) for seed in range(8)))
