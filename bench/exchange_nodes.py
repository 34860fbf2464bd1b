"""What the measurements of exchanges share: a cluster whose nodes all have the same records, and what
nodes say of how far they agree.

Knows nothing of what is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.processes import Cluster
from dynamo.cli.client import Unreachable, fetch
from dynamo.cli.supervisor import NodeProcess, stop_all, wait_ready
from dynamo.errors import DynamoError

NODES: Final = 3
#: No hint brings anything up: only exchanges can.
FLAGS: Final = ("--hint-window", "0")
READY_SECONDS: Final = 120.0
#: For a million keys that are looked at one by one.
AGREED_SECONDS: Final = 600.0
POLL_SECONDS: Final = 0.1
#: How far a node agrees with others; not told of each partition.
ANTIENTROPY: Final = "/admin/antientropy?limit=1"
#: Both cores.
_AT_ONCE: Final = 2


class Moved(NamedTuple):
    """What exchanges cost. `messages`: that compare. `hash_bytes`: of hashes, and of keys with what
    stands for them. `rpc_bytes`: all that was said, whatever for. `records`, `record_bytes`: that were
    brought up to date."""

    messages: int
    hash_bytes: int
    rpc_bytes: int
    records: int
    record_bytes: int

    def since(self, before: Moved) -> Moved:
        return Moved(*(now - then for now, then in zip(self, before, strict=True)))


def fill(cluster: Cluster, keys: int) -> None:
    """All nodes, which do not run, have so many keys alike. Raises CalledProcessError."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda node: _fill(node, keys), cluster.nodes))


def _fill(node: NodeProcess, keys: int) -> None:
    command = [sys.executable, "-m", "bench.record_filler", "--keys", str(keys)]
    command += ["--cluster", str(cluster_path(node))]
    command += ["--node-id", node.node_id, "--data-dir", str(node.data_dir)]
    subprocess.run(command, check=True)  # noqa: S603 - a module of ours


class Restarts:
    """Starts nodes of a cluster anew, with other flags."""

    def __init__(self, cluster: Cluster) -> None:
        self._commands = {node.node_id: node.command for node in cluster.nodes}

    def start(self, nodes: Sequence[NodeProcess], *flags: str) -> None:
        """They run, and are ready. Raises CannotStart."""
        for node in nodes:
            node.command = (*self._commands[node.node_id], *flags)
            node.start()
        self.wait_ready(nodes)

    def wait_ready(self, nodes: Sequence[NodeProcess]) -> None:
        """Raises CannotStart where one is not ready in time."""
        wait_ready(nodes, timeout=READY_SECONDS, is_stopping=lambda: False)

    def stop(self, nodes: Sequence[NodeProcess]) -> None:
        """They have stopped by themselves."""
        stop_all(nodes, hurry=lambda: False)


# What nodes say ----------------------------------------------------------------------------------


def told(node: NodeProcess, path: str) -> dict[str, Any]:
    """What the node answers there. Raises Unreachable."""
    answer: dict[str, Any] = json.loads(fetch(f"http://{node.http}", path))
    return answer


def counters(nodes: Iterable[NodeProcess]) -> Counter[str]:
    """Of all of them together. Raises Unreachable."""
    total: Counter[str] = Counter()
    for node in nodes:
        for name, value in told(node, "/stats").items():
            if type(value) is int:
                total[name] += value
    return total


def moved(nodes: Sequence[NodeProcess]) -> Moved:
    """By these nodes since they started, as who began an exchange counts it. Raises Unreachable."""
    count = counters(nodes)
    return Moved(
        count["exchange_messages"],
        count["exchange_hash_bytes"],
        count["rpc_bytes_sent"],
        count["repairs_by_exchange_pulled"] + count["repairs_by_exchange_pushed"],
        count["repair_bytes_by_exchange_pulled"] + count["repair_bytes_by_exchange_pushed"],
    )


def have_agreed(nodes: Sequence[NodeProcess], since: float) -> bool:
    """True once each of these nodes has found that it agrees with each other of them, by an exchange
    that began after `since` (monotonic seconds). Raises Unreachable."""
    names = {node.node_id for node in nodes}
    for node in nodes:
        asked = time.monotonic()
        for peer in told(node, ANTIENTROPY)["peers"]:
            oldest = peer["oldest_clean_s"]
            if peer["peer"] in names and (oldest is None or asked - oldest < since):
                return False
    return True


def wait_agreed(nodes: Sequence[NodeProcess]) -> float:
    """Until these nodes have found, from now on, that they agree; returns the seconds that took. Raises
    DynamoError if it takes too long."""
    began = time.monotonic()
    wait_for(lambda: have_agreed(nodes, began), "all nodes agree")
    return time.monotonic() - began


def activity(nodes: Iterable[NodeProcess]) -> set[str]:
    """What these nodes are at with their peers now. Raises Unreachable."""
    return {peer["state"] for node in nodes for peer in told(node, ANTIENTROPY)["peers"]}


def wait_for(true: Callable[[], bool], what: str, *, poll: float = POLL_SECONDS) -> None:
    """Until that is so. Raises DynamoError if it takes too long."""
    limit = time.monotonic() + AGREED_SECONDS
    while True:
        try:
            if true():
                return
        except Unreachable:
            if time.monotonic() > limit:
                raise
        if time.monotonic() > limit:
            raise DynamoError(f"not within {AGREED_SECONDS:.0f} s: {what}")
        time.sleep(poll)


def cluster_path(node: NodeProcess) -> Path:
    """The cluster file of the node."""
    return node.data_dir.parent / "cluster.toml"
