"""The production replica of a node that does not run, in this process: to fill its disk.

Only the network is left out: what is stored here is what the node finds when it starts. Knows nothing
of what is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from dynamo.cluster.topology import Known, Topology
from dynamo.cluster_disk import read_cluster_file
from dynamo.commit import GroupCommit
from dynamo.config import NodeConfig, Settings, build_config
from dynamo.leaf import LeafHasher
from dynamo.metrics import Metrics
from dynamo.node import Machine
from dynamo.replica import Replica
from dynamo.rpc.messages import Reply, Store, Synced
from dynamo.version import incarnation_bytes
from ring.ring import Ring

#: Messages that are carried out before one waits until their effect is on disk.
AT_ONCE: Final = 2_000


def stopped_config(cluster: str, node_id: str, data_dir: str) -> NodeConfig:
    """Of a member of this cluster file. Raises DynamoError."""
    settings = Settings(node_id=node_id, data_dir=data_dir, cluster=cluster, rpc="127.0.0.1:1")
    return build_config(settings, read_cluster_file(Path(cluster)))


@asynccontextmanager
async def stopped_replica(config: NodeConfig) -> AsyncIterator[tuple[Replica, Ring]]:
    """The replica with the disk of this node, and the ring; all is on disk at the end. Raises
    DynamoError, as where the node runs."""
    machine, metrics = Machine(config), Metrics()
    directory = machine.open_directory()
    storage = await machine.open_storage(existed=directory.has_database, metrics=metrics)
    commit = GroupCommit(storage=storage, metrics=metrics)
    replica = Replica(
        node_id=config.node_id,
        storage=storage,
        commit=commit,
        clock=machine.clock,
        metrics=metrics,
        incarnation=incarnation_bytes(directory.start, directory.random),
        hasher=LeafHasher(config.cluster.secret),
        hint_bytes_max=config.hint_bytes_max,
    )
    member = config.cluster.member(config.node_id)
    assert member is not None
    topology = Topology(
        own=member,
        cluster=config.cluster,
        peers=(),
        blobs=directory,
        standing=lambda: Known(directory.start, storage.synced_number, directory.random),
        metrics=metrics,
    )
    ring = topology.ring
    assert ring is not None
    replica.adopt(ring)
    tasks = [
        asyncio.ensure_future(work) for work in (commit.run(), replica.hints.run(machine.sleep))
    ]
    try:
        yield replica, ring
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await storage.close()
        directory.close()


class _Batch:
    """The port `Call` of many messages: done once all are answered."""

    peer = "elsewhere"
    deadline = float("inf")

    def __init__(self, count: int) -> None:
        self.refused: list[Reply] = []
        self._missing = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        if not isinstance(reply, Synced):
            self.refused.append(reply)
        self._missing -= 1
        if not self._missing:
            self.done.set_result(None)


async def store_all(replica: Replica, stores: Iterator[Store]) -> list[Reply]:
    """Carry them out, as if they had come from a coordinator elsewhere; returns what was refused, after
    which nothing more is stored."""
    while taken := list(islice(stores, AT_ONCE)):
        batch = _Batch(len(taken))
        for store in taken:
            replica.on_store(store, batch)
        await batch.done
        if batch.refused:
            return batch.refused
    return []
