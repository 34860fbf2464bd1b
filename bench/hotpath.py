"""What a get and a put cost in software: Python calls and allocated blocks, counted, not timed.

Three nodes in one process, with the production coordinator, replica and wire over streams in memory
and storage in memory; a fixed workload. The counts of all three nodes together, per request, are
the same on every machine with the same Python and libraries. `--compare` holds them against the file
beside this one and fails above 10 %: whoever makes the path costlier edits the file (`--write`) and
says why in the commit.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvloop

from bench.memory_network import MemoryNetwork
from dynamo.clock import SystemClock
from dynamo.cluster.topology import Known, Topology
from dynamo.cluster_file import ClusterFile
from dynamo.commit import GroupCommit
from dynamo.config import MEASURE_ONE_IN_DEFAULT
from dynamo.context import ContextSealer
from dynamo.coordinator import Coordinator
from dynamo.leaf import LeafHasher
from dynamo.metrics import Metrics
from dynamo.ports import Prompt
from dynamo.record import Content
from dynamo.replica import Replica
from dynamo.replica_reads import ReplicaReads
from dynamo.rpc.messages import Fetch, Mint, Store
from dynamo.rpc.peers import PeerTransport
from dynamo.store.memory import MemoryStorage
from dynamo.version import incarnation_bytes
from ring.member import Member

FILE: Final = Path(__file__).with_suffix(".json")
TOLERANCE: Final = 0.10
KEYS: Final = 50
ROUNDS: Final = 4
SECRET: Final = b"the secret of a counted cluster."


class _Blobs:
    """Small files in memory."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def read_blob(self, name: str) -> bytes | None:
        return self._blobs.get(name)

    def write_blob(self, name: str, data: bytes) -> None:
        self._blobs[name] = data

    async def keep_blob(self, name: str, data: bytes) -> None:
        self.write_blob(name, data)


class _Node:
    """What a node is made of, less disk, sockets and HTTP."""

    def __init__(
        self,
        member: Member,
        cluster: ClusterFile,
        network: MemoryNetwork,
        make_hasher: Callable[[bytes], LeafHasher],
        sampled: int,
    ) -> None:
        clock, metrics, storage = SystemClock(), Metrics(), MemoryStorage()
        self.commit = GroupCommit(storage=storage, metrics=metrics)
        replica = Replica(
            node_id=member.id,
            storage=storage,
            commit=self.commit,
            clock=clock,
            metrics=metrics,
            incarnation=incarnation_bytes(1, member.id.encode().rjust(8)),
            hasher=make_hasher(cluster.secret),
        )
        reads = ReplicaReads(replica=replica, storage=storage, commit=self.commit, metrics=metrics)
        topology = Topology(
            own=member,
            cluster=cluster,
            peers=(),
            blobs=_Blobs(),
            standing=lambda: Known(1, 0),
            metrics=metrics,
        )
        self.transport = PeerTransport(
            node_id=member.id,
            secret=cluster.secret,
            gate=topology,
            network=network,
            clock=clock,
            random=random.Random(member.id),
            metrics=metrics,
            handlers={
                Mint: replica.on_mint,
                Store: replica.on_store,
                Fetch: Prompt(reads.fetch_at_once, reads.on_fetch),
            },
        )
        topology.attach(self.transport)
        self.coordinator = Coordinator(
            node_id=member.id,
            datacenter=member.datacenter,
            transport=self.transport,
            clock=clock,
            sealer=ContextSealer(cluster_id=cluster.id, secret=cluster.secret),
            metrics=metrics,
            chance=random.Random(member.id),
            sampled=sampled,
        )
        assert topology.ring is not None
        replica.adopt(topology.ring)
        for tree in replica.forest.trees.values():
            tree.reached = None  # as those of a node that has been up for a while
        self.coordinator.adopt(topology.ring)
        self.addresses = topology.addresses


class Counter:
    """Counts calls of Python functions, and blocks as they are allocated."""

    def __init__(self) -> None:
        self.calls = 0
        self.blocks = 0
        self._last = 0

    def _event(self, frame: FrameType, event: str, argument: object) -> None:
        now = sys.getallocatedblocks()
        if now > self._last:
            self.blocks += now - self._last
        self._last = now
        if event == "call":
            self.calls += 1

    def __enter__(self) -> Counter:
        gc.collect()
        gc.disable()
        self._last = sys.getallocatedblocks()
        sys.setprofile(self._event)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None)
        gc.enable()


async def count(
    make_hasher: Callable[[bytes], LeafHasher] = LeafHasher,
    sampled: int = MEASURE_ONE_IN_DEFAULT,
) -> dict[str, dict[str, float]]:
    """Calls and blocks a request, of all three nodes together, for each kind of request.

    `make_hasher`: of the hash trees, from the cluster's secret. `sampled`: one request in so many is
    measured."""
    members = tuple(Member(id=f"n{i}", address=f"n{i}:1", host=f"h{i}") for i in range(3))
    cluster = ClusterFile(id="counted", secret=SECRET, seed=1, partitions=16, members=members)
    network = MemoryNetwork()
    nodes = [_Node(member, cluster, network, make_hasher, sampled) for member in members]
    tasks = [asyncio.ensure_future(node.commit.run()) for node in nodes]
    try:
        for node, member in zip(nodes, members, strict=True):
            await node.transport.start(member.address)
            node.transport.dial(node.addresses)
        while any(len(node.transport.connected()) < 2 for node in nodes):
            await asyncio.sleep(0.01)
        return await _workloads(nodes[0].coordinator)
    finally:
        for node in nodes:
            await node.transport.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _workloads(store: Coordinator) -> dict[str, dict[str, float]]:
    content = Content(value=b"v" * 100, content_type=b"text/plain")
    contexts: dict[int, bytes] = {}

    async def create(key: int) -> None:
        await store.put(b"default", b"bench", b"new %d" % key, content)

    async def put(key: int) -> None:
        await store.put(b"default", b"bench", b"key %d" % key, content, contexts.get(key, b""))

    async def get(key: int) -> None:
        contexts[key] = (await store.get(b"default", b"bench", b"key %d" % key)).context

    for key in range(KEYS):  # warm: caches are filled, records exist, contexts are at hand
        await put(key)
        await get(key)
    await create(-1)
    await _settle()
    return {
        "get": await _measure(get),
        "put": await _measure(create),
        "update": await _measure(put),
    }


async def _measure(request: Callable[[int], Awaitable[None]]) -> dict[str, float]:
    counter = Counter()
    for round_number in range(ROUNDS):
        with counter:
            for key in range(KEYS):
                await request(key + (KEYS * round_number if request.__name__ == "create" else 0))
            await _settle()
    requests = KEYS * ROUNDS
    return {
        "calls": round(counter.calls / requests, 1),
        "blocks": round(counter.blocks / requests, 1),
    }


async def _settle() -> None:
    """Let the stragglers arrive: they are part of what a request costs."""
    for _ in range(20):
        await asyncio.sleep(0)


def version() -> str:
    """The counts differ from one minor version of Python to the next."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def recorded() -> dict[str, dict[str, dict[str, float]]]:
    """Counts by Python version, as the file has them."""
    found: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    return found


def over(found: dict[str, dict[str, float]], allowed: dict[str, dict[str, float]]) -> list[str]:
    """A line for each count that is more than TOLERANCE above what is recorded."""
    return [
        f"{kind} {what}: {found[kind][what]} is over {allowed[kind][what]} by more than"
        f" {TOLERANCE:.0%}"
        for kind in allowed
        for what in allowed[kind]
        if found[kind][what] > allowed[kind][what] * (1 + TOLERANCE)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Print the counts; with --compare exit 1 if one is over, with --write record them."""
    parser = argparse.ArgumentParser(prog="python -m bench.hotpath", description=__doc__)
    parser.add_argument("--compare", action="store_true", help="fail if a count is over")
    parser.add_argument("--write", action="store_true", help="record the counts")
    asked = parser.parse_args(arguments)
    # uvloop, as in production: what asyncio's own loop does in Python is not the store's doing.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(count())
    kept = recorded()
    allowed = kept.get(version())
    print(f"per request, three nodes together, Python {version()}")
    for kind, counts in found.items():
        before = f"  (recorded {allowed[kind]})" if allowed else ""
        print(f"  {kind:6}  calls {counts['calls']:7}  blocks {counts['blocks']:7}{before}")
    if asked.write:
        kept[version()] = found
        FILE.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    if asked.compare:
        if allowed is None:
            print(f"no counts are recorded for Python {version()}: nothing to compare with")
            return 0
        lines = over(found, allowed)
        print("\n".join(lines) or "within what is recorded")
        return 1 if lines else 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
