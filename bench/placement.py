"""What the ring costs: seconds to place 1,000 members x 16,384 partitions, microseconds per plan.

Run as `dynamo-bench placement`. Knows nothing of nodes or of the network.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import TypeVar

from dynamo.keys import routing_key
from ring.member import Member
from ring.preference import Planner
from ring.ring import ReplicationClass, Ring

MEMBERS = 1_000
PARTITIONS = 16_384
RACKS = 20
PLANS = 200_000
FALLBACKS = 500
ROUNDS = 5
DEFAULT = ReplicationClass("default", 0)

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what placing and planning cost; it takes no arguments."""
    argparse.ArgumentParser(prog="dynamo-bench placement").parse_args(arguments)
    members = [_member(number) for number in range(MEMBERS)]
    ring = _timed(
        f"place {MEMBERS} members x {PARTITIONS} partitions x {DEFAULT.replicas}",
        lambda: Ring.build(members, partitions=PARTITIONS, seed=7, classes=[DEFAULT]),
    )
    _print_balance(ring)
    for what, now in (
        ("one leaves", members[1:]),
        ("one joins", [*members, _member(MEMBERS)]),
        ("half leave", members[::2]),
    ):
        _print_moves(ring, _timed(f"the next ring: {what}", partial(ring.successor, now)))
    data = _timed("to bytes", ring.to_bytes)
    print(f"{'':4}{len(data):,} bytes")
    _timed("from bytes", lambda: Ring.from_bytes(data))
    _print_plans(ring)
    return 0


def _member(number: int) -> Member:
    address = f"10.0.{number // 250}.{number % 250}:7400"
    return Member(f"node{number:04}", address, rack=f"rack{number % RACKS}")


def _timed(what: str, action: Callable[[], T]) -> T:
    start = time.perf_counter()
    result = action()
    print(f"{what}: {time.perf_counter() - start:.3f} s")
    return result


def _print_balance(ring: Ring) -> None:
    rows = [ring.owners(0, partition, "dc1") for partition in range(ring.partitions)]
    owned = Counter(name for row in rows for name in row)
    led = Counter(row[0] for row in rows)
    print(f"{'':4}owned {min(owned.values())} to {max(owned.values())},", end=" ")
    print(f"first in {min(led.values())} to {max(led.values())}")


def _print_moves(old: Ring, new: Ring) -> None:
    moves, least = 0, 0
    for partition in range(old.partitions):
        before, after = old.all_owners(0, partition), new.all_owners(0, partition)
        moves += len(set(after) - set(before))
        least += sum(new.member(name) is None for name in before)
    print(f"{'':4}{moves} slots moved, {least} had to for the members that left")


def _print_plans(ring: Ring) -> None:
    keys = [routing_key(b"default", b"carts", b"key%07d" % number) for number in range(PLANS)]
    tracemalloc.start()
    planner = Planner(ring, "dc1")
    for partition in range(ring.partitions):
        planner.plan_partition(0, partition)
    plans_bytes = tracemalloc.get_traced_memory()[0]
    for partition in range(FALLBACKS):
        planner.fallbacks(0, partition)
    more_bytes = tracemalloc.get_traced_memory()[0] - plans_bytes
    tracemalloc.stop()
    print(f"all plans: {plans_bytes / 1e6:.1f} MB", end=", ")
    print(f"fallbacks of {FALLBACKS} partitions: {more_bytes / 1e6:.1f} MB more")
    cold = Planner(ring, "dc1")
    print(f"plan, first time: {_micros(lambda: _plan_all(cold, keys[:1000]), 1000):.2f} us")
    rounds = [_micros(lambda: _plan_all(planner, keys), PLANS) for _ in range(ROUNDS)]
    print(f"plan: {median(rounds):.2f} us")
    fresh = Planner(ring, "dc1")
    walks = _micros(lambda: [fresh.fallbacks(0, partition) for partition in range(100)], 100)
    print(f"all fallbacks of a partition, first time: {walks:.0f} us")


def _plan_all(planner: Planner, keys: Sequence[bytes]) -> None:
    plan = planner.plan
    for key in keys:
        plan(DEFAULT, key)


def _micros(action: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) / count * 1e6


if __name__ == "__main__":
    sys.exit(main())
