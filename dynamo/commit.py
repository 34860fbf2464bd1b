"""Group commit: one sync at a time serves all who wait.

Writes go to the storage unsynced; whoever needs one on disk leaves a callback with its number. The
one task flushes while anyone waits: whoever comes during a flush is served by the next. It must be
the only caller of `Storage.flush`, since a failure is told once and belongs to all who wait. Knows
nothing of records or replies.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from dynamo.errors import DynamoError, StorageError
from dynamo.metrics import Metrics
from dynamo.ports import PASSING_REFUSALS, Storage

Callback = Callable[[DynamoError | None], None]


class GroupCommit:
    """Who waits for which write number. Bounded by the requests in flight, each of which waits for
    at most one write."""

    def __init__(self, *, storage: Storage, metrics: Metrics) -> None:
        self._storage = storage
        self._count = metrics.count
        self._waiting: deque[tuple[int, Callback]] = deque()
        self._wake = asyncio.Event()
        #: Flush once though nobody waits.
        self._owed = False
        #: Number of the last write known to be on disk.
        self.synced = storage.synced_number
        #: Flushes that have failed: what was written before one, and waited for after it, may be gone.
        self.failures = 0
        #: Why nothing will be synced any more; None most of the time.
        self.failed: DynamoError | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def when_synced(self, number: int, callback: Callback) -> None:
        """Call `callback` once: with None when the write is on disk, or with why it may not be (an
        indefinite error). At once, before this returns, where that is known already."""
        if number <= self.synced:
            callback(None)
        elif self.failed is not None:
            callback(self.failed)
        else:
            self._waiting.append((number, callback))
            self._wake.set()

    def reopened(self) -> None:
        """The storage was reopened, and its next flush fails, for those who wrote before: let it fail
        now, and not for the first who writes after."""
        self._owed = True
        self._wake.set()

    async def run(self) -> None:
        """Flush while anyone waits; owned and cancelled by the node, which stops if this ends.

        Raises what a callback raised, after all the others were called. At the end, however it
        comes, whoever still waits is told that the write may not be on disk.
        """
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting or self._owed:
                    self._owed = False
                    await self._flush()
        finally:
            self.failed = self.failed or StorageError("the node stopped before a write was synced")
            self._tell(None, self.failed)

    async def _flush(self) -> None:
        try:
            self.synced = await self._storage.flush()
        except StorageError as error:
            self._count["flushes_failed"] += 1
            self.failures += 1
            if self._storage.refusal() not in (None, *PASSING_REFUSALS):
                self.failed = error  # nothing will be synced until the node is started anew
            self._tell(None, error)
            return
        self._count["flushes"] += 1
        self._tell(self.synced, None)

    def _tell(self, number: int | None, error: DynamoError | None) -> None:
        """Call whoever waits now for a write up to `number`, or for any.

        Raises the first that a callback raised, once all were called.
        """
        waiting = self._waiting
        raised: Exception | None = None
        for _ in range(len(waiting)):
            waits_for, callback = waiting.popleft()
            if number is not None and waits_for > number:
                waiting.append((waits_for, callback))
                continue
            try:
                callback(error)
            except Exception as problem:  # noqa: BLE001 - raised below
                raised = raised or problem
        if raised is not None:
            raise raised
