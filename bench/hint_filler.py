"""Makes a node hold hints for another, in a process of its own, while neither of them runs.

The hints are taken by the production replica, one message each, as from a coordinator whose write the
other has missed; only the network is left out. What is said at the end is how many there are.

    python -m bench.hint_filler --cluster FILE --node-id ID --data-dir DIR --target ID --hints N \
        --run NAME
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvloop

from bench.workload import value_of
from dynamo.cluster.topology import Known, Topology
from dynamo.cluster_disk import read_cluster_file
from dynamo.commit import GroupCommit
from dynamo.config import NodeConfig, Settings, build_config
from dynamo.keys import routing_key
from dynamo.leaf import LeafHasher
from dynamo.metrics import Metrics
from dynamo.node import Machine
from dynamo.record import EMPTY, VALUE, Content, encode_content, encode_record, mint
from dynamo.replica import Replica
from dynamo.rpc.messages import Reply, Store, Synced
from dynamo.version import birth_bytes, incarnation_bytes
from ring.preference import Planner
from ring.ring import Ring

#: Hints that are written before one waits until they are on disk.
AT_ONCE: Final = 2_000
CLASS: Final = 0
DEADLINE_MS: Final = 60_000


def main(arguments: list[str] | None = None) -> int:
    """Fill; returns 0, or 1 if a hint was not taken."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    for name in ("--cluster", "--node-id", "--data-dir", "--target", "--run"):
        parser.add_argument(name, required=True)
    parser.add_argument("--hints", type=int, required=True)
    asked = parser.parse_args(arguments)
    settings = Settings(
        node_id=asked.node_id, data_dir=asked.data_dir, cluster=asked.cluster, rpc="127.0.0.1:1"
    )
    config = build_config(settings, read_cluster_file(Path(asked.cluster)))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        refused = runner.run(_fill(config, asked.target, asked.hints, asked.run))
    if refused:
        print(f"{len(refused)} hints were not taken: {refused[0]}", file=sys.stderr)
    return 1 if refused else 0


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


async def _fill(config: NodeConfig, target: str, hints: int, run: str) -> list[Reply]:
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
        return await _take(replica, _stores(ring, config.node_id, target, run), hints)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await storage.close()
        directory.close()


async def _take(replica: Replica, stores: Iterator[Store], hints: int) -> list[Reply]:
    refused: list[Reply] = []
    while hints and not refused:
        count = min(hints, AT_ONCE)
        batch = _Batch(count)
        for _ in range(count):
            replica.on_store(next(stores), batch)
        await batch.done
        refused = batch.refused
        hints -= count
    return refused


def _stores(ring: Ring, holder: str, target: str, run: str) -> Iterator[Store]:
    """Writes of new keys that the target owns and the holder does not, without end."""
    chance = random.Random(f"{run} {target}")
    incarnation = incarnation_bytes(1, os.urandom(8))
    planner = Planner(ring, "dc1")
    index = ring.index(target)
    assert index is not None
    class_ = ring.class_with(CLASS)
    assert class_ is not None
    sequence = 0
    while True:
        key = routing_key(b"default", b"handoff", f"{chance.getrandbits(60):015x}-{run}".encode())
        plan = planner.plan(class_, key)
        if target not in plan.primaries or holder in plan.primaries:
            continue
        sequence += 1
        content = Content(value=value_of(chance), content_type=b"text/plain")
        record = mint(
            EMPTY,
            (),
            birth=birth_bytes(incarnation, sequence),
            counter=1,
            kind=VALUE,
            content=encode_content(content),
            written_ms=1,
        )
        yield Store(
            key,
            CLASS,
            plan.partition,
            ring.epoch,
            DEADLINE_MS,
            encode_record(record),
            hint_for=index,
        )


if __name__ == "__main__":
    sys.exit(main())
