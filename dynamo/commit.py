"""Group commit: one sync at a time serves all who wait (DESIGN: a write, a read).

Writes go to the storage unsynced; whoever needs one on disk leaves a callback with its number. The
one task flushes while anyone waits. Knows nothing of records or replies.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from dynamo.errors import DynamoError, StorageError
from dynamo.metrics import Metrics
from dynamo.ports import Storage

Callback = Callable[[DynamoError | None], None]


class GroupCommit:
    """Who waits for which write number."""

    def __init__(self, *, storage: Storage, metrics: Metrics) -> None:
        self._storage = storage
        self._count = metrics.count
        self._waiting: deque[tuple[int, Callback]] = deque()
        self._wake = asyncio.Event()
        self.synced = storage.synced_number
        #: Why nothing will be synced any more; None most of the time.
        self.failed: DynamoError | None = None

    def when_synced(self, number: int, callback: Callback) -> None:
        """Call `callback` with None once the write is on disk, or with why it may not be."""
        if number <= self.synced:
            callback(None)
        elif self.failed is not None:
            callback(self.failed)
        else:
            self._waiting.append((number, callback))
            self._wake.set()

    async def run(self) -> None:
        """Flush while anyone waits; owned and cancelled by the node."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await self._flush()
        finally:
            self.failed = StorageError("the node stopped before the write was synced")
            self._end(self.failed)

    async def _flush(self) -> None:
        try:
            self.synced = await self._storage.flush()
        except StorageError as error:
            if self._storage.refusal() == "sync_failed":
                self.failed = error
            self._end(error)
            return
        self._count["flushes"] += 1
        for _ in range(len(self._waiting)):
            number, callback = self._waiting.popleft()
            if number <= self.synced:
                callback(None)
            else:
                self._waiting.append((number, callback))

    def _end(self, error: DynamoError) -> None:
        while self._waiting:
            self._waiting.popleft()[1](error)
