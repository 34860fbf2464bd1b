"""What it takes to find and mend d differences among a million keys, and what it costs to find none.

Three real nodes with RocksDB, n = 3, hints off. All have the same records (`bench.record_filler`). For
each d one node stops, clients write d keys at the two others, and it returns: no client reads. Counted
is what all three say to each other until each has found, since, that it agrees with each. Then nothing
differs and nobody asks: CPU time and bytes of exchanges beside none. Then a node is killed, and builds
its trees anew. Fails where a limit is passed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench.driver import DriverFailed, send
from bench.exchange_idle import rebuilt, steady
from bench.exchange_nodes import (
    FLAGS,
    NODES,
    POLL_SECONDS,
    Moved,
    Restarts,
    activity,
    fill,
    have_agreed,
    moved,
    wait_agreed,
)
from bench.processes import Cluster, store
from bench.record_filler import BUCKET, key_of
from bench.workload import Exchange
from dynamo.cluster_file import PARTITIONS_DEFAULT
from dynamo.errors import DynamoError

KEYS_DEFAULT: Final = 1_000_000
DIFFERING_DEFAULT: Final = "0,1,100,10000"
STEADY_DEFAULT: Final = 60.0
#: Hashes for each key that differs, and for each partition.
BOUND_BYTES: Final = 2_000
#: Times that a record which differs is moved: from or to each of the two others.
BOUND_MOVES: Final = 2
PATIENCE_SECONDS: Final = 600.0
#: States of an exchange in which something is done.
WORKING: Final = frozenset(("comparing", "listing", "moving"))
CONNECTIONS: Final = 8
RIAK: Final = (
    "Riak, as published: one difference among 10^9 keys, 3 exchanges of hashes, about 1,000 keys"
)


class Mended(NamedTuple):
    """`all`: what all nodes had to say. `one`: of it, the exchange of one of the others with the node
    that was absent, and what it asks of the other that is its equal. `there`: seconds from when the node
    was ready until so many records had been moved; `agreed`: until all had found that they agree.
    `working`, `waiting`: of them, while an exchange was under way at any node, and while the second look
    was waited for and nothing else was done."""

    differing: int
    all: Moved
    one: Moved
    there: float
    agreed: float
    working: float
    waiting: float


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; returns 1 if a limit is passed, or something went wrong."""
    parser = argparse.ArgumentParser(
        prog="dynamo-bench exchange", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--keys", type=int, default=KEYS_DEFAULT)
    parser.add_argument(
        "--differing", default=DIFFERING_DEFAULT, metavar="D,D", help="default: %(default)s"
    )
    parser.add_argument(
        "--interval", type=int, default=1, help="of exchanges, in seconds (default: 1)"
    )
    parser.add_argument(
        "--steady-seconds", type=float, default=STEADY_DEFAULT, help="0 to leave that out"
    )
    parser.add_argument("--data-dir", metavar="DIR", default=tempfile.gettempdir())
    asked = parser.parse_args(arguments)
    differing = [int(part) for part in asked.differing.split(",") if part]
    try:
        with store(NODES, Path(asked.data_dir), flags=FLAGS) as cluster:
            return _measure(cluster, asked.keys, differing, asked.interval, asked.steady_seconds)
    except (DynamoError, DriverFailed, subprocess.CalledProcessError) as error:
        print(f"dynamo-bench: {error}", file=sys.stderr)
        return 1


def _measure(
    cluster: Cluster, keys: int, differing: Sequence[int], interval: int, steady_seconds: float
) -> int:
    restarts, failures = Restarts(cluster), list[str]()
    restarts.stop(cluster.nodes)
    fill(cluster, keys)
    often = ("--exchange-interval", str(interval))
    restarts.start(cluster.nodes, *often)
    print(f"all agree {wait_agreed(cluster.nodes):.1f} s after their start", flush=True)
    print(_line(_TITLES), flush=True)
    for count in differing:
        mended = _mend(cluster, restarts, keys, count, often)
        print(_row(mended), flush=True)
        failures += _passed(mended)
    print(RIAK, flush=True)
    failures += rebuilt(cluster, restarts, keys)
    if steady_seconds:
        failures += steady(cluster, restarts, steady_seconds)
    for failure in failures:
        print(f"limit passed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _mend(
    cluster: Cluster, restarts: Restarts, keys: int, count: int, flags: Sequence[str]
) -> Mended:
    """One node misses so many writes, and returns."""
    *others, absent = cluster.nodes
    restarts.stop([absent])
    result = send(
        _writes(keys, count), [node.http for node in others], connections=min(CONNECTIONS, count)
    )
    if result.errors:
        raise DynamoError(f"writes failed: {result.errors}")
    wait_agreed(others)
    before = [moved([node]) for node in others]
    restarts.start([absent], *flags)
    return _watch(cluster, count, before)


def _writes(keys: int, count: int) -> Iterator[Exchange]:
    """To so many keys, spread over all; each gets a sibling."""
    for number in range(count):
        head = (
            f"PUT /buckets/{BUCKET}/keys/{key_of(number * (keys // count))}?w=2 HTTP/1.1\r\n"
            "Host: bench\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n"
        )
        yield Exchange(head.encode("ascii") + b"newer", 204)


def _watch(cluster: Cluster, count: int, before: Sequence[Moved]) -> Mended:
    """The absent node is back: what is said and moved until all is equal. `before`: by each of the
    others until then."""
    nodes = cluster.nodes
    began = last = time.monotonic()
    there = 0.0 if not count else None
    working = waiting = 0.0
    goal = sum(one.records for one in before) + count
    while not have_agreed(nodes, began):
        states, now = activity(nodes), time.monotonic()
        if states & WORKING:
            working += now - last
        elif "waiting" in states:
            waiting += now - last
        last = now
        if there is None and moved(nodes).records >= goal:
            there = time.monotonic() - began
        if now - began > PATIENCE_SECONDS:
            raise DynamoError(f"not equal within {PATIENCE_SECONDS:.0f} s: {count} differences")
        time.sleep(POLL_SECONDS)
    agreed = time.monotonic() - began
    by_node = [moved([node]).since(then) for node, then in zip(nodes, before, strict=False)]
    everything = Moved(*map(sum, zip(*by_node, moved(nodes[-1:]), strict=True)))
    if everything.records < count:
        raise DynamoError(f"all agree, but {everything.records} records of {count} were moved")
    one = max(by_node, key=lambda node: node.hash_bytes)
    return Mended(
        count, everything, one, agreed if there is None else there, agreed, working, waiting
    )


# The table -------------------------------------------------------------------------------------

_WIDTHS: Final = (8, 9, 14, 14, 10, 14, 14, 9, 13, 9, 9, 9, 8)
_TITLES: Final = (
    *("differ", "messages", "hash bytes", "bound", "all: msgs", "hash bytes", "rpc bytes", "moved"),
    *("bytes moved", "there s", "agreed s", "at work s", "waits s"),
)


def _bound(differing: int) -> int:
    return (differing + PARTITIONS_DEFAULT) * BOUND_BYTES


def _passed(mended: Mended) -> list[str]:
    """The limits that were passed."""
    passed, count = [], mended.differing
    if mended.one.hash_bytes > _bound(count):
        passed.append(f"{mended.one.hash_bytes:,} bytes of hashes for {count} differences")
    if mended.all.records > BOUND_MOVES * count:
        passed.append(f"{mended.all.records:,} records moved for {count} differences")
    return passed


def _row(mended: Mended) -> str:
    numbers = (
        *(mended.differing, mended.one.messages, mended.one.hash_bytes, _bound(mended.differing)),
        *(mended.all.messages, mended.all.hash_bytes, mended.all.rpc_bytes),
        *(mended.all.records, mended.all.record_bytes),
    )
    times = (mended.there, mended.agreed, mended.working, mended.waiting)
    return _line([*(f"{n:,}" for n in numbers), *(f"{seconds:.1f}" for seconds in times)])


def _line(cells: Sequence[str]) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True))


if __name__ == "__main__":
    sys.exit(main())
