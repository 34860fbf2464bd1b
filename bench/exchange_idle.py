"""What hash trees cost where nothing differs and nobody asks, and how fast they are built anew.

Knows nothing of what exchanges find.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from bench.exchange_nodes import (
    Restarts,
    moved,
    told,
    wait_agreed,
    wait_for,
)
from bench.processes import Cluster, cpu_seconds
from dynamo.cli.supervisor import NodeProcess
from dynamo.cluster_file import PARTITIONS_DEFAULT

#: Of a core, each node; bytes a second, of exchanges with each peer; keys a second.
SHARE_MAX: Final = 0.01
BYTES_MAX: Final = 1_000.0
REBUILD_MIN: Final = 400_000.0
KILLS: Final = 5
REBUILD_POLL_SECONDS: Final = 0.02
#: With fewer, what happened between them is not known.
SAMPLES_MIN: Final = 10
#: What a node does in its first moments is not what it does at rest.
SETTLE_SECONDS: Final = 5.0
OFF: Final = ("--exchange-interval", "0", "--exchange-interval-remote", "0")


class Idle(NamedTuple):
    """`share`: of a core, of each node. `bytes_per_s`: of exchanges, with each peer."""

    share: float
    bytes_per_s: float


class Rebuild(NamedTuple):
    """Keys that were read in a second, and in a second of CPU time."""

    seconds: float
    cpu_seconds: float


def steady(cluster: Cluster, restarts: Restarts, seconds: float) -> list[str]:
    """Print what exchanges cost at their default interval where nothing differs; returns the limits that
    were passed."""
    without = _idle(cluster, restarts, OFF, seconds)
    beside = _idle(cluster, restarts, (), seconds)
    share = beside.share - without.share
    print(
        f"nothing differs: {beside.share:.2%} of a core a node, {without.share:.2%} without exchanges, "
        f"so {share:.2%} (limit {SHARE_MAX:.0%}); {beside.bytes_per_s:.0f} bytes/s a peer "
        f"(limit {BYTES_MAX:.0f})",
        flush=True,
    )
    passed = []
    if share > SHARE_MAX:
        passed.append(f"{share:.2%} of a core for exchanges where nothing differs")
    if beside.bytes_per_s > BYTES_MAX:
        passed.append(f"{beside.bytes_per_s:.0f} bytes/s a peer where nothing differs")
    return passed


def _idle(cluster: Cluster, restarts: Restarts, flags: tuple[str, ...], seconds: float) -> Idle:
    nodes = cluster.nodes
    restarts.stop(nodes)
    restarts.start(nodes, *flags)
    if flags != OFF:
        wait_agreed(nodes)
    time.sleep(SETTLE_SECONDS)
    spent, said, began = cluster.cpu_seconds(), moved(nodes), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    spent, said = cluster.cpu_seconds() - spent, moved(nodes).since(said)
    # Each message of hashes is counted once, by who began the exchange.
    pairs = len(nodes) * (len(nodes) - 1)
    return Idle(spent / took / len(nodes), said.hash_bytes / took / pairs)


def rebuilt(cluster: Cluster, restarts: Restarts, keys: int) -> list[str]:
    """Kill a node some times, and print how fast it builds its trees anew; returns the limits that were
    passed."""
    rates = sorted(
        rate for _ in range(KILLS) if (rate := _rebuild(cluster.nodes[-1], restarts)) is not None
    )
    if len(rates) < KILLS:
        print(f"trees of {keys:,} keys are built before the node can be asked", flush=True)
        return []
    middle = rates[KILLS // 2]
    print(
        f"killed and started anew: trees of {keys:,} keys, {middle.seconds:,.0f} keys/s "
        f"({rates[0].seconds:,.0f}..{rates[-1].seconds:,.0f}), {middle.cpu_seconds:,.0f} keys a second "
        f"of CPU time (limit {REBUILD_MIN:,.0f})",
        flush=True,
    )
    # What else runs on a shared machine takes from the first only.
    if max(middle) < REBUILD_MIN:
        return [f"trees built at {middle.seconds:,.0f} keys/s"]
    return []


def _rebuild(node: NodeProcess, restarts: Restarts) -> Rebuild | None:
    """None if it was over before the node could be asked about it."""
    assert node.process is not None
    node.process.kill()
    node.process.wait()
    node.start()
    samples: list[tuple[int, float, float]] = []

    def all_built() -> bool:
        stats = told(node, "/stats")
        samples.append((stats["trees_keys_read"], time.monotonic(), cpu_seconds(node)))
        return bool(stats.get("trees_rebuilt", 0) >= PARTITIONS_DEFAULT)

    wait_for(all_built, "all trees are built", poll=REBUILD_POLL_SECONDS)
    restarts.wait_ready([node])
    if len(samples) < SAMPLES_MIN:
        return None
    keys, seconds, spent = (
        last - first for first, last in zip(samples[0], samples[-1], strict=True)
    )
    return Rebuild(keys / seconds, keys / spent)
