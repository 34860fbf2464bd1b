"""One node's replica with its hash trees, over a storage: stepped by hand, under a clock that jumps.

What the trees ought to be is worked out from the records themselves, in the dumbest way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from lone_replica import RING, foreign
from storages import HandClock, open_rocks

from dynamo.commit import GroupCommit
from dynamo.errors import StorageCorrupt
from dynamo.keys import PREFIX_BYTES, partition_prefix, routing_key
from dynamo.leaf import LeafHasher
from dynamo.metrics import Metrics
from dynamo.ports import Storage
from dynamo.record import encode_record
from dynamo.replica import Replica
from dynamo.stored import decode_stored
from dynamo.trees import Trees
from dynamo.version import incarnation_bytes
from dynamo.world import NodeStorage
from ring.ring import Ring

SECRET = b"s" * 32
NODE = RING.owners(0, 0, "dc1")[0]
PLACES = RING.partitions_of(NODE, 0)
_ABOVE_ALL = b"\xff" * 8


def record_key(number: int) -> bytes:
    """A storage key; those of one node's partitions in turn."""
    prefix = partition_prefix(0, PLACES[number % len(PLACES)])
    return prefix + routing_key(b"default", b"b", b"%06d" % number)


def wrong_trees(replica: Replica, storage: Storage, *, met: bool = True) -> list[bytes]:
    """Names of trees that are ready and not what they ought to be by the records. `met`: all that are
    damaged have been met, and are in none; else trees that have any are not judged."""
    forest, hasher = replica.forest, replica.hasher
    unjudged = set()
    truth = {name: [0] * forest.leaves for name in forest.trees}
    for key, data in storage.scan("records", b"", _ABOVE_ALL, count_max=1 << 20, bytes_max=1 << 30):
        try:
            position, element = hasher.compute(key, decode_stored(key, data))
        except StorageCorrupt:
            if not met:
                unjudged.add(key[:PREFIX_BYTES])
            continue
        truth[key[:PREFIX_BYTES]][position % forest.leaves] ^= element
    return [
        name
        for name, tree in forest.trees.items()
        if tree.is_ready and name not in unjudged and tree.leaves.tolist() != truth[name]
    ]


class Grown:
    """One start of the node."""

    def __init__(
        self,
        storage: NodeStorage,
        *,
        secret: bytes = SECRET,
        ring: Ring | None = RING,
        clock: HandClock | None = None,
    ) -> None:
        self.storage = storage
        self.metrics = Metrics()
        self.clock = clock or HandClock()
        self.commit = GroupCommit(storage=storage, metrics=self.metrics)
        self.replica = Replica(
            node_id=NODE,
            storage=storage,
            commit=self.commit,
            clock=self.clock,
            metrics=self.metrics,
            incarnation=incarnation_bytes(1, b"12345678"),
            hasher=LeafHasher(secret),
        )
        self.trees = Trees(
            replica=self.replica,
            storage=storage,
            commit=self.commit,
            clock=self.clock,
            metrics=self.metrics,
        )
        self.forest = self.replica.forest
        self.doubted: list[tuple[tuple[int, int], str]] = []
        self.replica.on_unreadable = lambda place, why: self.doubted.append((place, why))
        if ring is not None:
            self.adopt(ring)

    def adopt(self, ring: Ring) -> None:
        self.replica.adopt(ring)
        self.trees.adopt()

    def write(self, number: int, value: bytes) -> None:
        """Put a record of this value in place of what is there."""
        key = record_key(number)
        before = self.replica.load_for_merge(key)
        record = foreign(value)
        self.replica.put(key, before, b"", 0, record, encode_record(record), False)

    def step(self) -> float:
        """One step, and the wait after it."""
        pause = self.trees.step()
        self.clock.now += pause
        return pause

    def steps(self, until: Callable[[], bool]) -> None:
        for _ in range(10_000):
            if until():
                return
            self.step()
        raise AssertionError("it goes on for ever")

    def build(self) -> None:
        self.steps(lambda: not self.forest.unready)

    def verify(self) -> None:
        """Hold every tree against its records once, whichever was begun."""
        goal = self.metrics.count["trees_verified"] + len(self.forest.trees) + 1
        self.steps(lambda: self.metrics.count["trees_verified"] >= goal)

    @property
    def ready(self) -> int:
        return sum(tree.is_ready for tree in self.forest.trees.values())

    def check(self) -> None:
        """Every tree that is ready is what it ought to be, and every other is to be built."""
        for name, tree in self.forest.trees.items():
            assert tree.is_ready == (name not in self.forest.unready)
        assert wrong_trees(self.replica, self.storage) == []

    async def close(self) -> None:
        """As a node that stops."""
        self.trees.keep()
        await self.storage.close()


@asynccontextmanager
async def grown(
    directory: Path, *, secret: bytes = SECRET, existed: bool = False, ring: Ring | None = RING
) -> AsyncIterator[Grown]:
    """A node over RocksDB; it closes cleanly, unless the test has closed the storage."""
    one = Grown(await open_rocks(directory, existed=existed), secret=secret, ring=ring)
    try:
        yield one
    finally:
        await one.close()
