"""Exchanges between the nodes of a `LittleCluster`, with trees that are built as soon as asked for."""

from __future__ import annotations

import asyncio
import random
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from little_cluster import LittleCluster, LittleNode

from dynamo.exchanges import Exchanges
from dynamo.replica_looks import ReplicaLooks
from dynamo.replica_trees import ReplicaTrees

DEADLINE = 0.05


def grow_trees(node: LittleNode) -> None:
    """Build the trees of this node that are not ready from what it has stored."""
    forest = node.replica.forest
    for name, tree in forest.trees.items():
        if tree.is_ready:
            continue
        end = (int.from_bytes(name) + 1).to_bytes(len(name))
        found = node.storage.scan("records", name, end, count_max=1 << 20, bytes_max=1 << 40)
        tree.begin()
        node.replica.hasher.gather(found, tree.leaves)
        tree.reached = None
    forest.unready.clear()


class Exchanging:
    """`async with Exchanging(cluster) as exchanging:`; one `Exchanges` a node, by its name."""

    def __init__(self, cluster: LittleCluster, **settings: Any) -> None:
        self.cluster = cluster
        self.of: dict[str, Exchanges] = {}
        self.holds = 0
        self.delivering: set[tuple[str, str]] = set()
        self._settings: dict[str, Any] = {
            "interval": 0,
            "interval_remote": 0,
            "keys": 1_000_000,
            "rate": 1 << 30,
            "window": "",
            "deadline": DEADLINE,
            **settings,
        }
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Exchanging:
        for node in self.cluster.nodes.values():
            self.add(node)
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, node: LittleNode) -> Exchanges:
        """Exchange at this node."""
        trees = ReplicaTrees(
            node_id=node.id,
            replica=node.replica,
            reads=node.reads,
            storage=node.storage,
            metrics=node.metrics,
        )
        looks = ReplicaLooks(replica=node.replica, commit=node.commit, metrics=node.metrics)
        handlers = self.cluster.links.handlers
        handlers[node.id] = {**handlers[node.id], **trees.handlers(), **looks.handlers()}
        exchanges = self.of[node.id] = Exchanges(
            node_id=node.id,
            replica=node.replica,
            trees=trees,
            transport=node.transport,
            in_delivery=lambda peer, place: (node.id, peer) in self.delivering,
            down=node.opinions.down,
            clock=node.clock,
            sleep=asyncio.sleep,
            chance=random.Random(1),
            metrics=node.metrics,
            holds=self._hold,
            **self._settings,
        )
        trees.adopt(self.cluster.ring)
        exchanges.adopt(self.cluster.ring)
        grow_trees(node)
        self._tasks.append(asyncio.get_running_loop().create_task(exchanges.run()))
        return exchanges

    def _hold(self) -> AbstractContextManager[None]:
        self.holds += 1
        return nullcontext()

    def same(self, *names: str) -> bool:
        """True if these nodes (all, if none is named) have the same roots."""
        found = [
            {name: tree.root() for name, tree in node.replica.forest.trees.items()}
            for node in self.cluster.nodes.values()
            if not names or node.id in names
        ]
        return all(one == found[0] for one in found)

    def count(self, counter: str) -> int:
        """Of all nodes together."""
        return sum(node.metrics.count[counter] for node in self.cluster.nodes.values())
