"""`make bench-floor`: the store against the floor (`bench.floor`), in one interleaved run.

Both clusters are up at once; in every round each load is driven at the one and at once at the other,
so that what else the machine does meets both alike. Of the ratios of the rounds the median is the
result. Rates are of all nodes together with the load generator on the same cores; CPU time is user
and system of the node processes alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

from bench.driver import DriverFailed, Result, drive, find_wrk, send
from bench.processes import Cluster, floor, store
from bench.rounds import Measured, header, row
from bench.workload import WORKLOADS, Workload, loading, sample, value_of
from dynamo.errors import DynamoError

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a file system in memory, for private directories
SAMPLE: Final = 500
LOAD_CONNECTIONS: Final = 48
SETTLE_SECONDS: Final = 0.2


class Setting(NamedTuple):
    """What the rows of one pair of clusters have in common."""

    nodes: int
    synced: bool

    @property
    def parent(self) -> Path:
        """Where the data goes: on the disk of temporary files, or in memory."""
        return Path(tempfile.gettempdir()) if self.synced else MEMORY


def measure(
    cluster: Cluster, workload: Workload, asked: argparse.Namespace, random_: random.Random
) -> Measured:
    """One load at one cluster, for its time. Raises DriverFailed."""
    workload = workload._replace(run=f"{random_.randrange(1 << 40):x}")
    before = cluster.cpu_seconds()
    result = drive(
        workload,
        cluster.addresses,
        connections=asked.connections,
        seconds=asked.seconds,
        seed=random_.randrange(1 << 30),
        wrk=asked.wrk,
    )
    time.sleep(SETTLE_SECONDS)  # the third replica's answer is part of what a request costs
    spent = cluster.cpu_seconds() - before
    if not result.requests:
        raise DriverFailed(f"the {cluster.name} answered nothing: {result.errors}")
    return Measured(
        rate=result.rate,
        cpu_micros=spent / result.requests * 1e6,
        p50=result.p50,
        p99=result.p99,
        errors=sum(result.errors.values()),
    )


def rounds_of(
    setting: Setting, asked: argparse.Namespace, random_: random.Random
) -> Iterator[tuple[Workload, list[Measured], list[Measured]]]:
    """Each load with what floor and store did, a pair a round. Raises DriverFailed, DynamoError."""
    value = value_of(random_)
    workloads = [one._replace(value=value, puts=asked.puts) for one in WORKLOADS]
    found: list[tuple[list[Measured], list[Measured]]] = [([], []) for _ in workloads]
    with ExitStack() as running:
        pair = [
            running.enter_context(floor(setting.nodes, setting.parent, synced=setting.synced)),
            running.enter_context(store(setting.nodes, setting.parent)),
        ]
        for cluster in pair:
            check(cluster, "loading", send_all(cluster, workloads[0]))
        for number in range(asked.rounds):
            for workload, both in zip(workloads, found, strict=True):
                order = (0, 1) if number % 2 == 0 else (1, 0)
                for which in order:
                    both[which].append(measure(pair[which], workload, asked, random_))
        for cluster in pair:
            exchanges = sample(workloads[0], random_, SAMPLE)
            check(cluster, "reading back", send(exchanges, cluster.addresses, connections=1))
    for workload, (floors, stores) in zip(workloads, found, strict=True):
        yield workload, floors, stores


def send_all(cluster: Cluster, workload: Workload) -> Result:
    """Every key is written once."""
    return send(loading(workload), cluster.addresses, connections=LOAD_CONNECTIONS)


def check(cluster: Cluster, what: str, result: Result) -> None:
    """Raises DriverFailed unless everything went as it must."""
    if result.errors:
        raise DriverFailed(f"{what} at the {cluster.name}: {result.errors}")


def run(asked: argparse.Namespace) -> int:
    """Measure and print; 1 if anything went wrong on the way."""
    settings = [
        Setting(nodes, synced)
        for nodes in asked.nodes
        for synced in (True, False)
        if asked.writes in ("both", "synced" if synced else "unsynced")
    ]
    random_ = random.Random(asked.seed)
    print_conditions(asked)
    print(header(), flush=True)
    errors = 0
    for setting in settings:
        if not setting.parent.is_dir():
            print(f"{setting.nodes} nodes, unsynced: left out, there is no {MEMORY}")
            continue
        for workload, floors, stores in rounds_of(setting, asked, random_):
            kind = "synced" if setting.synced else "unsynced"
            print(row(setting.nodes, kind, workload.name, floors, stores), flush=True)
            errors += sum(one.errors for one in (*floors, *stores))
    if errors:
        print(f"\n{errors} requests went wrong: the rows that have any are worth nothing")
    return 1 if errors else 0


def print_conditions(asked: argparse.Namespace) -> None:
    """What was measured, and how."""
    puts = "to new keys" if asked.puts == "new" else "to the loaded keys, last write wins"
    print(
        f"driver: {asked.wrk or 'sockets of our own (wrk is not installed)'}; "
        f"{asked.connections} connections over all nodes; {asked.rounds} rounds of "
        f"{asked.seconds:g} s; n=3 r=2 w=2; 10,000 keys, 100-byte values; PUT {puts}\n"
        "synced: data on disk, a reply after two syncs. unsynced: data of both in memory; the floor "
        "acknowledges before any sync, the store still makes its syncs, which are free there\n"
        f"Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} before; seed {asked.seed}\n"
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; `seconds`, `rounds` and `nodes` are filled in."""
    parser = argparse.ArgumentParser(
        prog="dynamo-bench floor", description="The store against the floor, interleaved."
    )
    add = parser.add_argument
    add("--nodes", type=int, nargs="+", default=[3, 6], help="(default: 3 6)")
    add("--writes", choices=("both", "synced", "unsynced"), default="both", help="(default: both)")
    add("--puts", choices=("new", "lww"), default="new", help="which keys (default: new)")
    add("--rounds", type=int, help="(default: 5)")
    add("--seconds", type=float, help="of each load (default: 2)")
    add("--quick", action="store_true", help="three nodes, two rounds of a second")
    add("--connections", type=int, default=48, help="over all nodes (default: 48)")
    add("--no-wrk", action="store_true", help="drive over sockets of our own")
    add("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.nodes = [3]
    asked.rounds = asked.rounds or (2 if asked.quick else 5)
    asked.seconds = asked.seconds or (1.0 if asked.quick else 2.0)
    if min(asked.nodes) < 3 or asked.rounds < 1 or asked.seconds <= 0 or asked.connections < 1:
        parser.error("at least 3 nodes, one round, some time and one connection")
    asked.wrk = None if asked.no_wrk else find_wrk()
    return asked


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole run; its exit code."""
    asked = parse(arguments)
    signal.signal(signal.SIGTERM, _stop)
    try:
        return run(asked)
    except (DriverFailed, DynamoError, OSError) as error:
        print(f"dynamo-bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dynamo-bench: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
