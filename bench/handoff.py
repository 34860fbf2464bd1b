"""How fast a node that was away gets what it missed, what that costs its holder, and who else feels it.

Four real nodes with RocksDB and n = 2: a holder, the target that returns, and two others. For each
delivery the holder is given hints (`bench.hint_filler`) while both are down; the holder starts, then the
target, and a sync point tells the end. First with nothing else running; then in rounds, beside a light
load at the two others, and at holder and target: latencies while hints are delivered, and right after,
as long, with nothing to deliver. Memory is read from /proc, so this runs on Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import uvloop

from bench.paced import Felt, Load
from bench.processes import Cluster, cpu_seconds, store
from dynamo.cli.client import Unreachable, fetch, send
from dynamo.cli.supervisor import NodeProcess, stop_all, wait_ready
from dynamo.cluster_disk import read_cluster_file
from dynamo.cluster_file import ClusterFile
from dynamo.errors import DynamoError
from dynamo.keys import routing_key
from ring.preference import Planner
from ring.ring import ReplicationClass, Ring

HINTS_DEFAULT: Final = 1_000_000
ROUNDS_DEFAULT: Final = 3
RATE_DEFAULT: Final = 200.0
KEYS: Final = 200
SYNC_SECONDS: Final = 300.0
#: What clients feel of a node that has just begun is not what they feel of a delivery.
WARM_SECONDS: Final = 1.0
#: Least time of a measurement without delivery, however soon the delivery was over.
QUIET_SECONDS: Final = 3.0
READY_SECONDS: Final = 120.0
POLL_SECONDS: Final = 0.02


class Delivery(NamedTuple):
    """`rate`: hints a second. `micros`: of a core, for each hint, at holder and target. `grown`: bytes
    of the holder's resident memory at its highest, above what
    it had before. `during`, `after`: what clients felt, None without any."""

    rate: float
    seconds: float
    micros: tuple[float, float]
    grown: int
    during: Felt | None
    after: Felt | None


class Parts(NamedTuple):
    """Who is who in the cluster, and keys of which no other node has a part."""

    holder: NodeProcess
    target: NodeProcess
    others: tuple[NodeProcess, NodeProcess]
    keys_of_both: list[str]
    keys_of_others: list[str]


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns 1 if something went wrong."""
    parser = argparse.ArgumentParser(
        prog="dynamo-bench handoff", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--hints", type=int, default=HINTS_DEFAULT, help="with nothing else running"
    )
    parser.add_argument(
        "--hints-beside", type=int, metavar="N", help="in a round (default: a tenth)"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS_DEFAULT)
    parser.add_argument("--load", type=float, default=RATE_DEFAULT, help="requests a second")
    parser.add_argument("--data-dir", metavar="DIR", default=tempfile.gettempdir())
    asked = parser.parse_args(arguments)
    beside = asked.hints // 10 if asked.hints_beside is None else asked.hints_beside
    try:
        with (
            store(4, Path(asked.data_dir), replicas=2) as cluster,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(_measure(cluster, asked.hints, beside, asked.rounds, asked.load))
    except (DynamoError, subprocess.CalledProcessError) as error:
        print(f"dynamo-bench: {error}", file=sys.stderr)
        return 1
    return 0


async def _measure(cluster: Cluster, hints: int, beside: int, rounds: int, load: float) -> None:
    parts = _parts(cluster)
    print(_line(_TITLES), flush=True)
    alone = await _deliver(parts, hints, "alone", None)
    print(_row("nothing else runs", hints, [alone]), flush=True)
    loads = (
        ("clients at two others", parts.others, parts.keys_of_others),
        ("clients at both", (parts.holder, parts.target), parts.keys_of_both),
    )
    found: dict[str, list[Delivery]] = {name: [] for name, _, _ in loads}
    for number in range(rounds):
        for name, nodes, keys in loads:
            clients = Load([node.http for node in nodes], keys, rate=load, seed=number)
            found[name].append(await _deliver(parts, beside, f"{name} {number}", clients))
    for name, deliveries in found.items():
        if deliveries:
            print(_row(name, beside, deliveries), flush=True)


async def _deliver(parts: Parts, hints: int, run: str, clients: Load | None) -> Delivery:
    """Fill, start, and see it through."""
    holder, target = parts.holder, parts.target
    stop_all([target, holder], hurry=lambda: False)
    await asyncio.to_thread(_fill, parts, hints, run.replace(" ", "-"))
    holder.start()
    await asyncio.to_thread(_wait_ready, holder)
    while not (before := await asyncio.to_thread(_held, holder))["counted"]:
        await asyncio.sleep(POLL_SECONDS)
    if before["hints"] != hints:
        raise DynamoError(f"the holder has {before['hints']} hints, not {hints}")
    memory = _Memory(holder)
    target.start()
    while not (first := await asyncio.to_thread(_delivered, holder)):
        await asyncio.sleep(POLL_SECONDS)
    ready = asyncio.create_task(asyncio.to_thread(_wait_ready, target))
    began, spent = time.monotonic(), (cpu_seconds(holder), cpu_seconds(target))
    sampling = asyncio.create_task(memory.sample())
    load = None
    try:
        await ready
        if clients is not None:
            load = asyncio.create_task(clients.run())
            await asyncio.sleep(WARM_SECONDS)
            clients.felt()
        await asyncio.to_thread(_sync, holder)
        seconds = time.monotonic() - began
        pairs = zip((holder, target), spent, strict=True)
        here, there = ((cpu_seconds(node) - s) / (hints - first) * 1e6 for node, s in pairs)
        during = after = None
        if clients is not None and load is not None:
            during = clients.felt()
            await asyncio.sleep(max(seconds, QUIET_SECONDS))
            after = clients.felt()
            clients.stop()
            await load
    finally:
        sampling.cancel()
        if load is not None:
            load.cancel()
    rate = (hints - first) / seconds
    return Delivery(rate, seconds, (here, there), memory.grown, during, after)


class _Memory:
    """The highest that a process' resident memory came to, above where it was when this was made."""

    def __init__(self, node: NodeProcess) -> None:
        self._path = Path(f"/proc/{node.pid}/statm")
        self._pages = self._most = self._resident()

    @property
    def grown(self) -> int:
        return (self._most - self._pages) * 4096

    def _resident(self) -> int:
        return int(self._path.read_text(encoding="ascii").split()[1])

    async def sample(self) -> None:
        while True:
            self._most = max(self._most, self._resident())
            await asyncio.sleep(POLL_SECONDS)


# Nodes -----------------------------------------------------------------------------------------


def _parts(cluster: Cluster) -> Parts:
    holder, target, *others = cluster.nodes
    cluster_file = read_cluster_file(_cluster_path(holder))
    ring = _ring(cluster_file)
    planner = Planner(ring, "dc1")
    both = {holder.node_id, target.node_id}
    found: tuple[list[str], list[str]] = ([], [])
    chance = random.Random(1)
    while min(map(len, found)) < KEYS:
        key = f"{chance.getrandbits(60):015x}"
        plan = planner.plan(ring.classes[0], routing_key(b"default", b"paced", key.encode()))
        owners = set(plan.primaries)
        if owners == both or not owners & both:
            found[owners != both].append(key)
    return Parts(holder, target, (others[0], others[1]), found[0][:KEYS], found[1][:KEYS])


def _ring(cluster: ClusterFile) -> Ring:
    """As every member forms it from the cluster file."""
    classes = tuple(
        ReplicationClass(name=name, id=index, replicas=replicas)
        for index, (name, replicas) in enumerate(cluster.classes)
    )
    return Ring.build(
        cluster.members, partitions=cluster.partitions, seed=cluster.seed, classes=classes
    )


def _cluster_path(node: NodeProcess) -> Path:
    return node.data_dir.parent / "cluster.toml"


def _fill(parts: Parts, hints: int, run: str) -> None:
    """Raises CalledProcessError."""
    holder = parts.holder
    command = [sys.executable, "-m", "bench.hint_filler", "--cluster", str(_cluster_path(holder))]
    command += ["--node-id", holder.node_id, "--data-dir", str(holder.data_dir)]
    command += ["--target", parts.target.node_id, "--hints", str(hints), "--run", run]
    subprocess.run(command, check=True)  # noqa: S603 - a module of ours


def _wait_ready(node: NodeProcess) -> None:
    wait_ready([node], timeout=READY_SECONDS, is_stopping=lambda: False)


def _held(node: NodeProcess) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(fetch(f"http://{node.http}", "/admin/hints"))
    return told


def _delivered(node: NodeProcess) -> int:
    return sum(target["delivered"] for target in _held(node)["targets"])


def _sync(node: NodeProcess) -> None:
    """Raises DynamoError if that takes too long."""
    path = f"/admin/hints/sync?timeout={int(SYNC_SECONDS * 1000)}"
    answer = send(f"http://{node.http}", "POST", path, seconds=SYNC_SECONDS + 5)
    if answer.status != 200:
        raise Unreachable(f"the hints are not delivered: {answer.error()}")


# The table -------------------------------------------------------------------------------------

_WIDTHS: Final = (24, 10, 20, 9, 22, 16, 18, 18, 22, 6)
_TITLES: Final = (
    *("", "hints", "hints/s min..max", "seconds", "us/hint holder/target", "holder grew MiB"),
    *("during p50/p99 ms", "after p50/p99 ms", "p99 ratio min..max", "errors"),
)


def _row(name: str, hints: int, deliveries: Sequence[Delivery]) -> str:
    rates = [one.rate for one in deliveries]
    cells = [name, f"{hints:,}", f"{median(rates):,.0f} {min(rates):,.0f}..{max(rates):,.0f}"]
    cells.append(f"{median(one.seconds for one in deliveries):.1f}")
    micros = [median(some) for some in zip(*(one.micros for one in deliveries), strict=True)]
    cells.append("/".join(f"{value:.0f}" for value in micros))
    cells.append(f"{max(one.grown for one in deliveries) / (1 << 20):.0f}")
    pairs = [(one.during, one.after) for one in deliveries if one.during and one.after]
    if pairs:
        ratios = [during.p99 / after.p99 for during, after in pairs]
        for felt in zip(*pairs, strict=True):
            cells.append(f"{median(f.p50 for f in felt):.1f}/{median(f.p99 for f in felt):.1f}")
        cells.append(f"{median(ratios):.2f} {min(ratios):.2f}..{max(ratios):.2f}")
        cells.append(str(sum(sum(felt.errors.values()) for pair in pairs for felt in pair)))
    return _line(cells)


def _line(cells: Sequence[str]) -> str:
    return "  ".join(
        cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=False)
    ).rstrip()


if __name__ == "__main__":
    sys.exit(main())
