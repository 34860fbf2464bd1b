"""Clusters of real node processes to measure: the store as users run it, and the floor.

Both are started and stopped as `dynamo cluster` does it. No process, port or directory is left when
the `with` block ends. Knows nothing of loads.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from dynamo.cli.supervisor import NodeProcess, stop_all, wait_ready
from dynamo.cluster_disk import write_cluster_file
from dynamo.cluster_file import PARTITIONS_DEFAULT, new_cluster
from ring.member import Member

LOOPBACK: Final = "127.0.0.1"
REPLICAS: Final = 3
READY_SECONDS: Final = 60.0
#: Below those that outgoing connections get, so that none of these takes a node's port.
PORTS: Final = range(12_000, 32_000)
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Cluster(NamedTuple):
    """Running nodes. `name`: what they are, "floor" or "store"."""

    name: str
    nodes: Sequence[NodeProcess]

    @property
    def addresses(self) -> list[str]:
        """Of HTTP, "host:port"."""
        return [node.http for node in self.nodes]

    def cpu_seconds(self) -> float:
        """User and system time of all nodes so far. Raises OSError for one that has ended."""
        return sum(cpu_seconds(node) for node in self.nodes if node.pid is not None)


def cpu_seconds(node: NodeProcess) -> float:
    """User and system time of a running node so far. Raises OSError if it has ended."""
    return _cpu_seconds(node.pid or 0)


def _cpu_seconds(pid: int) -> float:
    # Its name is in parentheses, and may hold any of them itself; utime and stime are fields 14, 15.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def store(
    count: int,
    parent: Path,
    *,
    replicas: int = REPLICAS,
    flags: Sequence[str] = (),
    is_stopping: Callable[[], bool] = lambda: False,
) -> Iterator[Cluster]:
    """`count` nodes of the store with a cluster file; their data below `parent` meanwhile. `flags`: of
    `dynamo serve`, for all. They are not waited for any more once `is_stopping` says so."""
    with _directory(parent) as directory, free_addresses(2 * count) as addresses:
        rpc, http = addresses[:count], addresses[count:]
        members = [Member(f"n{number + 1}", rpc[number]) for number in range(count)]
        path = directory / "cluster.toml"
        write_cluster_file(
            path,
            new_cluster(
                members=members,
                classes=[("default", replicas)],
                partitions=PARTITIONS_DEFAULT,
                entropy=os.urandom,
            ),
        )
        nodes = [
            NodeProcess(
                node_id=member.id,
                http=address,
                rpc=member.address,
                data_dir=directory / member.id,
                log=directory / f"{member.id}.log",
                arguments=(
                    *("--cluster", str(path), "--node-id", member.id),
                    *("--data-dir", str(directory / member.id), "--http", address, *flags),
                ),
            )
            for member, address in zip(members, http, strict=True)
        ]
        with _running(nodes, is_stopping):
            yield Cluster("store", nodes)


@contextmanager
def floor(count: int, parent: Path, *, synced: bool) -> Iterator[Cluster]:
    """`count` nodes of the floor; their data below `parent` meanwhile."""
    with _directory(parent) as directory, free_addresses(2 * count) as addresses:
        rpc, http = addresses[:count], addresses[count:]
        nodes = []
        for number in range(count):
            node = NodeProcess(
                node_id=f"floor{number + 1}",
                http=http[number],
                rpc=rpc[number],
                data_dir=directory / f"floor{number + 1}",
                log=directory / f"floor{number + 1}.log",
                arguments=(),
            )
            node.command = (
                *(sys.executable, "-m", "bench.floor", "--index", str(number), "--rpc", *rpc),
                *("--http", node.http, "--data-dir", str(node.data_dir)),
                *(() if synced else ("--unsynced",)),
            )
            nodes.append(node)
        with _running(nodes):
            yield Cluster("floor", nodes)


@contextmanager
def _directory(parent: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dynamo-bench-", dir=parent) as name:
        yield Path(name)


@contextmanager
def _running(
    nodes: Sequence[NodeProcess], is_stopping: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    try:
        for node in nodes:
            node.start()
        wait_ready(nodes, timeout=READY_SECONDS, is_stopping=is_stopping)
        yield
    finally:
        stop_all(nodes, hurry=lambda: False)


@contextmanager
def free_addresses(count: int) -> Iterator[list[str]]:
    """Different addresses on loopback that nobody listens at, and that no other harness here takes
    before the block ends: meanwhile the UDP port of each number is held, which nodes do not use.
    Raises OSError if there are none."""
    held: list[socket.socket] = []
    addresses: list[str] = []
    try:
        for port in random.sample(PORTS, len(PORTS)):
            if len(addresses) == count:
                break
            claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            held.append(claim)
            with socket.socket() as probe:
                try:
                    claim.bind((LOOPBACK, port))
                    probe.bind((LOOPBACK, port))
                except OSError:
                    held.pop().close()
                else:
                    addresses.append(f"{LOOPBACK}:{port}")
        else:
            raise OSError(f"no {count} free ports from {PORTS.start} to {PORTS.stop - 1}")
        yield addresses
    finally:
        for one in held:
            one.close()
