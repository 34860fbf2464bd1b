"""`make bench-floor`: the store against the floor (`bench.floor`), in one interleaved run.

Both clusters are up at once; in every round each load is driven at the one and then at the other, so
that what else the machine does meets both alike. The median of the ratios of the rounds is the
result. Rates are of all nodes together, with the load generator on the same cores; CPU time is user
and system of the node processes alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

from bench.driver import DriverFailed, Result, drive, find_wrk, send
from bench.processes import Cluster, floor, store
from bench.pyspy import find_pyspy, recorded
from bench.rounds import Measured, header, row, total
from bench.workload import (
    KEYS,
    VALUE_BYTES,
    WORKLOADS,
    Exchange,
    Workload,
    last_write_wins,
    loading,
    sample,
    value_of,
)
from dynamo.errors import DynamoError

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a file system in memory; the directories are private
#: Loaded values that are read back at the end, byte by byte.
SAMPLE: Final = 500
#: After a load: the third replica's part is of what a request costs.
SETTLE_SECONDS: Final = 0.2
SECONDS_MAX: Final = 3600.0

Rows = list[tuple[Workload, list[Measured], list[Measured]]]


class Setting(NamedTuple):
    """What the rows of one pair of clusters have in common."""

    nodes: int
    synced: bool

    @property
    def writes(self) -> str:
        """Its name in the table."""
        return "synced" if self.synced else "unsynced"

    @property
    def parent(self) -> Path:
        """Where the data goes: to the disk of temporary files, or into memory."""
        return Path(tempfile.gettempdir()) if self.synced else MEMORY


def compare(setting: Setting, asked: argparse.Namespace, chance: random.Random) -> Rows:
    """Each load with what floor and store did, a pair a round. Raises DriverFailed, DynamoError,
    OSError."""
    value = value_of(chance)
    workloads = [one._replace(value=value, puts=asked.puts, keys=asked.keys) for one in WORKLOADS]
    rows: Rows = [(workload, [], []) for workload in workloads]
    with ExitStack() as running:
        the_floor = running.enter_context(
            floor(setting.nodes, setting.parent, synced=setting.synced)
        )
        the_store = running.enter_context(store(setting.nodes, setting.parent))
        if asked.puts == "lww":
            _ask(
                the_store, "making a bucket whose last write wins", [last_write_wins(workloads[0])]
            )
        for cluster in (the_floor, the_store):
            _ask(cluster, "loading", list(loading(workloads[0])), asked.connections)
        for number in range(asked.rounds):
            for workload, floors, stores in rows:
                pair = [(the_floor, floors), (the_store, stores)]
                for cluster, found in pair if number % 2 == 0 else reversed(pair):
                    found.append(measure(cluster, workload, asked, chance))
        for cluster in (the_floor, the_store):
            _ask(cluster, "reading back", list(sample(workloads[0], chance, SAMPLE)))
        if asked.profile is not None:
            _profile(the_store, setting, workloads, asked, chance)
    return rows


def measure(
    cluster: Cluster, workload: Workload, asked: argparse.Namespace, chance: random.Random
) -> Measured:
    """One load at one cluster, for its time. Raises DriverFailed."""
    workload = workload._replace(run=f"{chance.randrange(1 << 40):x}")
    before = cluster.cpu_seconds()
    result = drive(
        workload,
        cluster.addresses,
        connections=asked.connections,
        seconds=asked.seconds,
        seed=chance.randrange(1 << 30),
        wrk=asked.wrk,
    )
    time.sleep(SETTLE_SECONDS)
    spent = cluster.cpu_seconds() - before
    if not result.requests:
        raise DriverFailed(f"the {cluster.name} answered nothing: {result.errors}")
    return Measured(
        rate=result.rate,
        cpu_micros=spent / result.requests * 1e6,
        p50=result.p50,
        p99=result.p99,
        errors=result.errors,
    )


def _ask(
    cluster: Cluster, what: str, exchanges: Sequence[Exchange], connections: int = 1
) -> Result:
    """Every request has had the reply that is due. Raises DriverFailed."""
    result = send(iter(exchanges), cluster.addresses, connections=connections)
    if result.errors or result.requests < len(exchanges):
        raise DriverFailed(
            f"{what} at the {cluster.name}: {result.requests} of {len(exchanges)} answered, "
            f"of them wrong: {json.dumps(result.errors)}"
        )
    return result


def _profile(
    cluster: Cluster,
    setting: Setting,
    workloads: Sequence[Workload],
    asked: argparse.Namespace,
    chance: random.Random,
) -> None:
    """A flame graph of one node for each load, in a round of its own: sampling costs time."""
    asked.profile.mkdir(parents=True, exist_ok=True)
    pid = cluster.nodes[0].pid
    assert pid is not None
    for workload in workloads:
        name = f"{setting.nodes}-{setting.writes}-{workload.name.replace('/', '-')}.svg"
        with recorded(asked.pyspy, pid, asked.seconds, asked.profile / name):
            measure(cluster, workload, asked, chance)


def run(asked: argparse.Namespace) -> int:
    """Measure and print; 1 if anything went wrong on the way."""
    chance = random.Random(asked.seed)
    print_conditions(asked)
    print(header(), flush=True)
    errors: Counter[str] = Counter()
    for nodes in asked.nodes:
        for setting in (Setting(nodes, True), Setting(nodes, False)):
            if asked.writes not in ("both", setting.writes):
                continue
            if not setting.parent.is_dir():
                print(f"{nodes} nodes, {setting.writes}: left out, there is no {setting.parent}")
                continue
            for workload, floors, stores in compare(setting, asked, chance):
                print(row(nodes, setting.writes, workload.name, floors, stores), flush=True)
                errors += total((*floors, *stores))
    if errors:
        print(f"\nworth nothing, since requests went wrong: {json.dumps(errors)}")
    return 1 if errors else 0


def print_conditions(asked: argparse.Namespace) -> None:
    """What is measured, and how."""
    puts = "to new keys" if asked.puts == "new" else "to the loaded keys, last write wins"
    driver = asked.wrk or "sockets of our own, without wrk"
    print(
        f"driver: {driver}; {asked.connections} connections over all nodes; {asked.rounds} rounds "
        f"of {asked.seconds:g} s;\nn=3 r=2 w=2; {asked.keys:,} keys, {VALUE_BYTES}-byte values; "
        f"PUT {puts}\n"
        "synced: data on disk, a PUT is answered after two syncs\n"
        "unsynced: data of both in memory; the floor answers before any sync, the store after two "
        "that cost nothing there\n"
        f"Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} before; seed {asked.seed}\n"
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, with `wrk` and `pyspy`: where they are, or None."""
    parser = argparse.ArgumentParser(
        prog="dynamo-bench floor",
        description="Requests a second of the store and of the floor, interleaved.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--nodes", type=int, nargs="+", metavar="N", help="(default: 3 6)")
    add("--writes", choices=("both", "synced", "unsynced"), default="both", help="(default: both)")
    add("--puts", choices=("new", "lww"), default="new", help="which keys (default: new)")
    add("--keys", type=int, default=KEYS, metavar="N", help="that are loaded (default: 10,000)")
    add("--rounds", type=int, metavar="N", help="(default: 9)")
    add(
        "--seconds",
        type=float,
        default=1.0,
        metavar="S",
        help="of each load; whole ones with wrk (default: 1)",
    )
    add("--quick", action="store_true", help="three nodes, two rounds")
    add("--connections", type=int, default=48, metavar="N", help="over all nodes (default: 48)")
    add("--no-wrk", action="store_true", help="drive over sockets of our own")
    add(
        "--profile", type=Path, metavar="DIR", help="flame graphs of a node of the store, by py-spy"
    )
    add("--seed", type=int, default=1, metavar="N", help="(default: 1)")
    asked = parser.parse_args(arguments)
    asked.nodes = asked.nodes or ([3] if asked.quick else [3, 6])
    asked.rounds = (2 if asked.quick else 9) if asked.rounds is None else asked.rounds
    counts = (asked.rounds, asked.connections, asked.keys)
    if min(asked.nodes) < 3 or min(counts) < 1 or not 0 < asked.seconds <= SECONDS_MAX:
        parser.error(
            "at least 3 nodes, a key, a connection, a round, and some time, an hour at most"
        )
    asked.wrk = None if asked.no_wrk else find_wrk()
    asked.pyspy = find_pyspy()
    if asked.profile is not None and asked.pyspy is None:
        parser.error("--profile needs py-spy: pip install py-spy")
    return asked


def _stop(number: int, frame: FrameType | None) -> None:
    # Once: what tidies up is not to be broken off, and is bounded itself.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole run; its exit code."""
    asked = parse(arguments)
    before = [(one, signal.signal(one, _stop)) for one in (signal.SIGINT, signal.SIGTERM)]
    try:
        return run(asked)
    except (DriverFailed, DynamoError, OSError) as error:
        print(f"dynamo-bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dynamo-bench: stopped", file=sys.stderr)
        return 130
    finally:
        for one, handler in before:
            signal.signal(one, handler)


if __name__ == "__main__":
    sys.exit(main())
