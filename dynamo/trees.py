"""Keeps the hash trees of a node true: builds those that are not known to say what is stored, goes over
the others now and then, and hands them on from a clean close to the next start.

One task reads records page by page, one page at a time, while writes go on: a tree that is being built
takes the changes of keys that it has got to already. It keeps to a rate, and makes way for clients. To
verify a tree, another of the same partition is built from disk beside it, a shadow; the two have to be
equal. Reads storage, and has the replica write. Knows nothing of peers, nor of what trees are for.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from antientropy.merkle import Tree
from dynamo.commit import GroupCommit
from dynamo.errors import DynamoError, StorageCorrupt, StorageError
from dynamo.kept_trees import KeptTrees
from dynamo.keys import after_prefix, place_of
from dynamo.metrics import Metrics
from dynamo.pace import ClientLoad
from dynamo.ports import Clock
from dynamo.replica import Replica
from dynamo.status import TreesStatus
from dynamo.stored import decode_stored
from dynamo.world import NodeStorage

log = logging.getLogger(__name__)

#: Above every storage key.
_ABOVE_ALL: Final = b"\xff" * 8
PAGE_BYTES: Final = 256 << 10
#: A page costs as much as so many keys, if it has fewer; and a key as much as one of so many bytes.
PAGE_KEYS_MIN: Final = 20
KEY_BYTES: Final = 400
#: And one whose record has to be read as much as so many others.
COMPUTED_COST: Final = 4
#: After a range that cannot be read, or a storage that takes nothing, its partition is tried again
#: after so long (seconds); at once, if the storage was reopened.
UNREADABLE_DELAY: Final = 60.0
FAILED_DELAY: Final = 1.0
#: Between the verifications of two trees, at least so long (seconds).
VERIFY_PAUSE: Final = 5.0
#: Nothing is to be done: look again after so long (seconds).
IDLE: Final = 1.0


class Speed(NamedTuple):
    """`keys`: of one page, at most. `rate`: keys a second."""

    keys: int
    rate: float


#: A page of this size keeps the loop for two milliseconds; all of a core, but for what else comes.
FREELY: Final = Speed(keys=1000, rate=1_000_000.0)
#: Half a millisecond, and seven hundredths of a core.
BESIDE_CLIENTS: Final = Speed(keys=250, rate=30_000.0)
#: A thousandth of a core.
VERIFYING: Final = Speed(keys=250, rate=500.0)


class Trees:
    """The one task that builds and verifies the trees of one start of a node."""

    def __init__(
        self,
        *,
        replica: Replica,
        storage: NodeStorage,
        commit: GroupCommit,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """Before anything is written: what was kept is taken over, or forgotten."""
        self._replica = replica
        self._storage = storage
        self._clock = clock
        self._count = metrics.count
        self._forest = replica.forest
        self._load = ClientLoad(metrics.count)
        self._wake = asyncio.Event()
        self._kept = KeptTrees(storage=storage, mark=replica.hasher.mark)
        #: All records below it are known to be keyed with the cluster's secret; None: all are.
        self._seated: bytes | None = b""
        self._build_at = self._verify_at = 0.0
        #: Trees that cannot be built before that second.
        self._again_at: dict[bytes, float] = {}
        self._upheavals = 0
        #: The tree that is being verified, and its shadow; or the last that was.
        self._verifying = b""
        self._shadow: Tree | None = None
        self._round_began: float | None = None
        #: When the last round over all trees began that has ended.
        self._whole_round: float | None = None
        self._forest.on_doubt = self._wake.set
        before = storage.write_number
        self._take_over()
        if storage.write_number > before:
            commit.when_synced(storage.write_number, _log_failure)

    def __repr__(self) -> str:
        return f"Trees({self._forest!r} verifying={self._verifying.hex() or 'none'})"

    # What it is told ----------------------------------------------------------------------------

    def adopt(self) -> None:
        """The replica has taken a ring. Where nothing is stored at all, no tree need be built."""
        forest = self._forest
        if self._seated is None and forest.unready and self._is_empty():
            for name in forest.unready:
                forest.trees[name].reached = None
            forest.unready.clear()
        self._wake.set()

    def keep(self) -> None:
        """At a clean close, when nothing will be written any more: write down the trees that are ready,
        for the next start."""
        forest = self._forest
        ready = {name: tree.leaves for name, tree in forest.trees.items() if tree.is_ready}
        if not ready or self._seated is not None:
            return
        try:
            self._kept.keep(ready, forest.leaves)
        except StorageError as error:
            log.warning("the hash trees are not kept: %s", error.message)

    def status(self) -> TreesStatus:
        """How far it has come."""
        now = self._clock.monotonic()
        forest, whole = self._forest, self._whole_round
        return TreesStatus(
            trees=len(forest.trees),
            ready=sum(tree.is_ready for tree in forest.trees.values()),
            leaves=forest.leaves,
            built=self._count["trees_rebuilt"],
            verified=self._count["trees_verified"],
            wrong=self._count["trees_wrong"],
            all_verified_s=None if whole is None else round(now - whole, 3),
        )

    def roots(self) -> dict[tuple[int, int], int]:
        """The root of each tree that can be compared, by class and partition. Adds up all leaves."""
        return {
            place_of(name): tree.root()
            for name, tree in self._forest.trees.items()
            if tree.is_ready
        }

    # The task -----------------------------------------------------------------------------------

    async def run(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Build and verify for ever; owned and cancelled by the node."""
        while True:
            pause = self.step()
            if pause <= 0.0:
                await sleep(0.0)  # the loop goes round between two pages
                continue
            timer = self._clock.call_later(pause, self._wake.set)
            await self._wake.wait()
            self._wake.clear()
            timer.cancel()

    def step(self) -> float:
        """Read the page that is needed most, if its time has come; seconds until that of the next."""
        now = self._clock.monotonic()
        forest = self._forest
        if self._upheavals != forest.upheavals:
            self._upheavals = forest.upheavals
            self._again_at.clear()
            if self._seated is not None:
                self._seated = b""  # what was written again may be gone
        name = self._to_build(now)
        if self._seated is not None or name:
            if now < self._build_at:
                return self._build_at - now
            speed = BESIDE_CLIENTS if self._load.is_busy(now) else FREELY
            cost = self._build(name, speed, now) if self._seated is None else self._seat(speed, now)
            self._build_at = max(self._build_at, now + cost / speed.rate)
            return 0.0
        if not forest.trees or forest.unready:
            return IDLE
        if now < self._verify_at:
            return self._verify_at - now
        self._verify(now)
        return 0.0

    # Building -----------------------------------------------------------------------------------

    def _to_build(self, now: float) -> bytes:
        """The name of a tree that can be built now, or b""."""
        unready, again_at = self._forest.unready, self._again_at
        return next((name for name in unready if again_at.get(name, 0.0) <= now), b"")

    def _build(self, name: bytes, speed: Speed, now: float) -> float:
        """Read a page into this tree; returns what it cost, in keys."""
        tree = self._forest.trees[name]
        cost = 0.0 if tree.is_ready else self._read(name, tree, speed.keys, now)
        if tree.is_ready:
            self._forest.unready.pop(name, None)
            self._count["trees_rebuilt"] += 1
        return cost

    def _read(self, name: bytes, tree: Tree, keys: int, now: float) -> float:
        """Put the next page of a partition into a tree of it; returns what it cost, in keys: 0.0 if it
        cannot be read now."""
        assert tree.reached is not None
        start = tree.reached or name
        try:
            page = self._storage.scan(
                "records", start, after_prefix(name), count_max=keys, bytes_max=PAGE_BYTES
            )
        except StorageError as error:
            self._unread(name, error, now)
            return 0.0
        size, damaged = self._replica.hasher.gather(page, tree.leaves)
        for storage_key, data in damaged:
            self._replica.put_aside(storage_key, data)
        whole = len(page) < keys and size < PAGE_BYTES
        tree.reached = None if whole else page[-1][0] + b"\0"
        self._count["trees_keys_read"] += len(page)
        return max(PAGE_KEYS_MIN, len(page), size / KEY_BYTES)

    def _unread(self, name: bytes, error: StorageError, now: float) -> None:
        """A page of the partition cannot be read: it is left alone for a while."""
        if isinstance(error, StorageCorrupt):
            self._again_at[name] = now + UNREADABLE_DELAY
            self._replica.doubt(place_of(name), error.message)
        else:
            self._again_at[name] = now + FAILED_DELAY

    # Verifying ----------------------------------------------------------------------------------

    def _verify(self, now: float) -> None:
        """Read a page of the partition whose turn it is into a shadow of its tree."""
        name, shadow = self._verifying, self._shadow
        tree = self._forest.trees.get(name)
        if tree is None or shadow is None or tree.shadow is not shadow:
            self._verifying = name = self._next(now)
            tree = self._forest.trees[name]
            if not tree.is_ready:
                self._forest.doubt(name)  # whoever began it anew has not said so
                return
            self._shadow = shadow = tree.cast_shadow()
        cost = self._read(name, shadow, VERIFYING.keys, now)
        self._verify_at = now + cost / VERIFYING.rate
        if tree.shadow is not shadow:
            return  # what was met had to be put aside: the tree is built anew
        if shadow.is_ready:
            self._count["trees_verified"] += 1
            if not tree.settle():
                self._replica.refusing.alarm(
                    "trees_wrong", f"the hash tree of partition {place_of(name)} was wrong"
                )
        elif cost:
            return
        tree.shadow = self._shadow = None
        self._verify_at = max(self._verify_at, now + VERIFY_PAUSE)

    def _next(self, now: float) -> bytes:
        """The partition after the last that was verified, round and round."""
        names = sorted(self._forest.trees)
        at = bisect_right(names, self._verifying)
        if at == len(names) or self._round_began is None:
            self._whole_round, self._round_began = self._round_began, now
        return names[at % len(names)]

    # Another secret -----------------------------------------------------------------------------

    def _take_over(self) -> None:
        try:
            if self._kept.knows_secret():
                self._seated = None
                self._forest.take_over(self._kept.take())
            elif self._is_empty():
                self._kept.note_secret()
                self._seated = None
            else:
                self._kept.forget_secret()
        except StorageError as error:
            log.warning("the hash trees that were kept are not used: %s", error.message)

    def _is_empty(self) -> bool:
        """True if there is no record at all."""
        try:
            return not self._storage.scan("records", b"", _ABOVE_ALL, count_max=1, bytes_max=1)
        except StorageError:
            return False

    def _seat(self, speed: Speed, now: float) -> float:
        """Go over a page of all records: what stands beside them may be keyed with another secret.
        Returns what it cost, in keys."""
        assert self._seated is not None
        keys = speed.keys // COMPUTED_COST
        try:
            if not self._seated:
                self._kept.forget_secret()
            page = self._storage.scan(
                "records", self._seated, _ABOVE_ALL, count_max=keys, bytes_max=PAGE_BYTES
            )
            size = 0
            for storage_key, data in page:
                size += len(data)
                self._seat_one(storage_key, data)
                self._seated = storage_key + b"\0"
            if not page:
                self._kept.note_secret()
                self._seated = None
                self.adopt()
        except StorageError as error:
            log.warning("records are not gone over now: %s", error.message)
            return FAILED_DELAY * speed.rate
        return max(PAGE_KEYS_MIN, len(page) * COMPUTED_COST, size / KEY_BYTES)

    def _seat_one(self, storage_key: bytes, data: bytes) -> None:
        hasher = self._replica.hasher
        try:
            stored = decode_stored(storage_key, data)
            found = hasher.compute(storage_key, stored)
        except StorageCorrupt:
            self._replica.put_aside(storage_key, data)
            return
        # Those of the first format have nothing beside them.
        if stored.position >= 0 and found != (stored.position, stored.element):
            self._replica.reseat(storage_key, stored)
            self._count["records_reseated"] += 1


def _log_failure(error: DynamoError | None) -> None:
    if error is not None:
        log.warning("that hash trees were taken over may not be on disk: %s", error.message)
