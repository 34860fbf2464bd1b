"""What the hash trees of a node cost: memory a leaf, a rebuild, verification, and each write.

A forest of 256 partitions is weighed. Then records of about 200 bytes are put into a RocksDB of its own
directory, and the service of a node builds its trees from it and verifies some, in this process. What a
write pays is counted, not timed, as `bench.hotpath` counts, with trees and without.

    python -m bench trees [--keys 1000000]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from zlib import crc32

import uvloop

from antientropy.forest import Forest
from antientropy.merkle import leaves_for
from bench import hotpath
from dynamo.clock import SystemClock
from dynamo.commit import GroupCommit
from dynamo.keys import partition_prefix, routing_key
from dynamo.leaf import LeafHasher
from dynamo.metrics import Metrics
from dynamo.record import EMPTY, VALUE, Content, Record, encode_content, encode_record, mint
from dynamo.replica import Replica
from dynamo.store.rocks import RocksStorage
from dynamo.stored import HEAD, HEAD_BYTES, LIVE, REST, STORED_FORMAT, Stored
from dynamo.trees import Trees
from dynamo.version import birth_bytes, incarnation_bytes
from ring.member import Member
from ring.ring import ReplicationClass, Ring

PARTITIONS: Final = 256
SECRET: Final = b"the secret of a measured cluster"
INCARNATION: Final = incarnation_bytes(1, b"measured")
#: With envelope and key, some 200 bytes a record.
VALUE_BYTES: Final = 64
VERIFIED: Final = 8
SYNC_EVERY: Final = 20_000


class Bare(LeafHasher):
    """Seals records and has nothing stand for them: what a write costs without trees."""

    def seal(
        self,
        storage_key: bytes,
        before: Stored | None,
        birth: bytes,
        counter: int,
        record: Record,
        encoded: bytes,
    ) -> tuple[bytes, int, int, int]:
        """The envelope alone, in one call as well."""
        rest = REST.pack(counter, len(birth), len(encoded), 0, 0, LIVE) + birth + encoded
        return HEAD.pack(STORED_FORMAT, crc32(storage_key + rest)) + rest, 0, 0, LIVE


class HastyClock(SystemClock):
    """This machine's, with so many seconds passed over."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0
        self.monotonic = lambda: time.monotonic() + self.skipped


def main(arguments: list[str] | None = None) -> int:
    """Print what was found."""
    parser = argparse.ArgumentParser(
        prog="dynamo-bench trees", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--keys", type=int, default=1_000_000)
    asked = parser.parse_args(arguments)
    print(f"memory    {weigh():6.2f} bytes a leaf, {PARTITIONS} partitions")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_rebuild(asked.keys))
    _print_counts()
    return 0


def weigh() -> float:
    """Bytes that a forest takes, for each of its leaves."""
    leaves = leaves_for(PARTITIONS)
    gc.collect()
    tracemalloc.start()
    try:
        forest = Forest()
        forest.adopt([partition_prefix(0, each) for each in range(PARTITIONS)], leaves)
        for tree in forest.trees.values():
            tree.reached = None
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return size / (PARTITIONS * leaves)


# A rebuild -----------------------------------------------------------------------------------


async def _rebuild(keys: int) -> None:
    with tempfile.TemporaryDirectory(prefix="dynamo-trees-") as directory:
        path = Path(directory) / "db"
        async with _opened(path, HastyClock(), Metrics()) as (storage, replica, _):
            size = await _fill(storage, replica, keys)
        # Opened anew, so that it reads what a start reads.
        clock, metrics = HastyClock(), Metrics()
        async with _opened(path, clock, metrics) as (_, replica, trees):
            replica.forest.doubt_all()
            task = asyncio.ensure_future(trees.run(asyncio.sleep))
            began, busy = time.monotonic(), time.process_time()
            while replica.forest.unready and not task.done():
                await asyncio.sleep(0.01)
            took, busy = time.monotonic() - began, time.process_time() - busy
            print(
                f"rebuild   {keys / busy:,.0f} keys a second of a core, {keys / took:,.0f} a second on"
                f" this machine now; {keys:,} of {size / keys:.0f} bytes in RocksDB"
            )
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            _print_verification(trees, clock, metrics)


def _print_verification(trees: Trees, clock: HastyClock, metrics: Metrics) -> None:
    """Let it verify some trees without the pauses, and say what that takes of a core with them."""
    before = metrics.count["trees_keys_read"]
    began, busy = clock.monotonic(), time.process_time()
    while metrics.count["trees_verified"] < VERIFIED:
        clock.skipped += trees.step()
    took, busy = clock.monotonic() - began, time.process_time() - busy
    read = metrics.count["trees_keys_read"] - before
    print(
        f"verifying {busy / took:.3%} of a core; {VERIFIED} trees with {read:,} records every"
        f" {took:.0f} s"
    )


async def _fill(storage: RocksStorage, replica: Replica, keys: int) -> int:
    """Have the replica write so many records; returns how many bytes their values and keys take."""
    chance, total = random.Random(1), 0
    birth = birth_bytes(INCARNATION, 1)
    for number in range(keys):
        key = partition_prefix(0, number % PARTITIONS) + routing_key(
            b"default", b"bench", b"object-%08d" % number
        )
        content = encode_content(Content(chance.randbytes(VALUE_BYTES), b"text/plain"))
        record = mint(EMPTY, (), birth=birth, counter=1, kind=VALUE, content=content, written_ms=1)
        encoded = encode_record(record)
        replica.put(key, None, birth, 1, record, encoded, False)
        total += len(key) + HEAD_BYTES + len(birth) + len(encoded)
        if number % SYNC_EVERY == 0:
            replica.unsynced.clear()
            await storage.flush()
    await storage.flush()
    return total


@asynccontextmanager
async def _opened(
    path: Path, clock: HastyClock, metrics: Metrics
) -> AsyncIterator[tuple[RocksStorage, Replica, Trees]]:
    storage = await RocksStorage.open(
        path, clock=clock, metrics=metrics, existed=False, free_space_min=0
    )
    try:
        commit = GroupCommit(storage=storage, metrics=metrics)
        replica = Replica(
            node_id="a",
            storage=storage,
            commit=commit,
            clock=clock,
            metrics=metrics,
            incarnation=INCARNATION,
            hasher=LeafHasher(SECRET),
        )
        trees = Trees(replica=replica, storage=storage, commit=commit, clock=clock, metrics=metrics)
        replica.adopt(
            Ring.build(
                (Member(id="a", address="a:1"),),
                partitions=PARTITIONS,
                seed=1,
                classes=(ReplicationClass(name="default", id=0, replicas=1),),
            )
        )
        yield storage, replica, trees
    finally:
        await storage.close()


# A write --------------------------------------------------------------------------------------


def _print_counts() -> None:
    counts = []
    for make in (Bare, LeafHasher):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            counts.append(runner.run(hotpath.count(make)))
    without, found = counts
    print("a write, three nodes together, without trees and with them:")
    for kind in ("put", "update"):
        for what in ("calls", "blocks"):
            a, b = without[kind][what], found[kind][what]
            print(f"  {kind:6} {what:6} {a:7.1f} {b:7.1f}  {b / a - 1:+.1%}")


if __name__ == "__main__":
    raise SystemExit(main())
