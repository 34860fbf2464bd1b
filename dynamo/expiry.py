"""Lets the bodies of expired values go, an hour after their time, by the queue written with them.

One task works the queue off, page by page: each page waits for its sync, keeps to a bound, and makes
way for clients. A record that has changed since it was queued costs a look and no more. No replica
tells another: each lets go of its own, and as digests and trees say nothing of bodies, none finds a
difference to another that has not come so far. Knows nothing of how records are stored, nor of who
reads them.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from dynamo.believed_time import BelievedTime
from dynamo.commit import GroupCommit
from dynamo.errors import DynamoError, StorageError
from dynamo.metrics import Metrics
from dynamo.pace import ClientLoad, pause_after
from dynamo.ports import Clock, Storage
from dynamo.queues import EXPIRY_PREFIX, expired_end, split_expiry_key
from dynamo.replica import Replica

log = logging.getLogger(__name__)

#: Seconds between two looks at the queue, give or take a tenth: so that nodes do not take turns as one.
LOOK_INTERVAL: Final = 10.0
LOOK_JITTER: Final = 0.1
#: Of one page, which holds up the loop: entries, and bytes of records, of which one more may be read.
PAGE_ENTRIES: Final = 64
PAGE_BYTES: Final = 1 << 20
#: What an entry of the queue takes at most, roughly: of a whole page no more is read.
_ENTRIES_BYTES_MAX: Final = 256 << 10


class Expiry:
    """The one task that works off a node's queue of expired values."""

    def __init__(
        self,
        *,
        replica: Replica,
        storage: Storage,
        commit: GroupCommit,
        clock: Clock,
        chance: random.Random,
        metrics: Metrics,
    ) -> None:
        """`storage`: that of the replica; only read here. `chance`: for jitter."""
        self._replica = replica
        self._storage = storage
        self._commit = commit
        self._clock = clock
        self._chance = chance
        self._count = metrics.count
        self._load = ClientLoad(metrics.count)
        self._time = BelievedTime(clock.wall_ms(), clock.monotonic())

    async def run(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Look for what is due, for ever; owned and cancelled by the node."""
        while True:
            jitter = self._chance.uniform(-LOOK_JITTER, LOOK_JITTER)
            await sleep(LOOK_INTERVAL * (1.0 + jitter))
            try:
                await self.work_off(sleep)
            except StorageError as error:
                # A full disk, for one: what was not done stays queued.
                self._count["expiries_interrupted"] += 1
                log.warning("expired values stay for now: %s", error.message)

    async def work_off(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Let go of all that is due now. Raises StorageError."""
        now_ms = self._time.now_ms(self._clock.wall_ms(), self._clock.monotonic())
        end = expired_end(now_ms)
        after = EXPIRY_PREFIX
        while after:
            began = self._clock.monotonic()
            after, written = self._page(after, end, now_ms)
            await self._synced(written)
            if after:
                now = self._clock.monotonic()
                await sleep(pause_after(now - began, clients=self._load.is_busy(now)))

    def _page(self, start: bytes, end: bytes, now_ms: int) -> tuple[bytes, dict[bytes, int]]:
        """Work off entries from `start` on: (where to go on, b"" at the end; storage key -> number of
        the write of its record). Raises StorageError."""
        found = self._storage.scan(
            "facts", start, end, count_max=PAGE_ENTRIES, bytes_max=_ENTRIES_BYTES_MAX
        )
        written: dict[bytes, int] = {}
        bytes_left = PAGE_BYTES
        last = b""
        for entry, _ in found:
            storage_key = split_expiry_key(entry)
            number, size = self._replica.let_bodies_go(storage_key, entry, now_ms)
            written[storage_key] = number
            last = entry + b"\0"
            bytes_left -= size
            if bytes_left <= 0:
                break
        return last, written

    async def _synced(self, written: dict[bytes, int]) -> None:
        """Return once these writes are on disk. Raises StorageError if they may not be."""
        if not written:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def synced(error: DynamoError | None) -> None:
            if done.done():
                return  # the node stops
            if error is not None:
                done.set_exception(StorageError(error.message))
                return
            unsynced = self._replica.unsynced
            for storage_key, number in written.items():
                if unsynced.get(storage_key, number + 1) <= number:
                    del unsynced[storage_key]
            done.set_result(None)

        self._commit.when_synced(max(written.values()), synced)
        await done
