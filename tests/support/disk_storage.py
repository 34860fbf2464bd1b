"""A storage in memory that a test can crash, damage, fill up or slow down.

A crash keeps everything that was synced and any prefix of what was not, in the order of the writes.
Knows nothing of what its values are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from dynamo.errors import StorageError, StorageRefusesWrites
from dynamo.ports import Family, Write
from dynamo.store.memory import MemoryStorage

_Undo = tuple[Family, bytes, bytes | None]


class DiskStorage(MemoryStorage):
    """`sync_seconds()`: how long the next sync takes."""

    def __init__(self, *, sync_seconds: Callable[[], float] = lambda: 0.0) -> None:
        super().__init__()
        self.sync_seconds = sync_seconds
        #: Why writes are refused, or None.
        self.refuses: str | None = None
        #: The next sync fails, and writes are refused from then on.
        self.breaks = False
        #: The engine has met the end of the disk: it is to be reopened.
        self.stuck = False
        self._owes_failure = False
        self._opened = 0
        # Number of each unsynced write, and what was there before.
        self._unsynced: deque[tuple[int, tuple[_Undo, ...]]] = deque()

    @property
    def unsynced(self) -> int:
        """How many writes a crash may take back."""
        return len(self._unsynced)

    def refusal(self, *, reserve: bool = False) -> str | None:
        return None if reserve and self.refuses == "disk_full" and not self.stuck else self.refuses

    def put(self, family: Family, key: bytes, value: bytes, *, reserve: bool = False) -> int:
        return self._write((Write(family, key, value),), self.refusal(reserve=reserve))

    def write(self, writes: Sequence[Write]) -> int:
        return self._write(writes, self.refuses)

    def _write(self, writes: Sequence[Write], refusal: str | None) -> int:
        if refusal is not None:
            raise StorageRefusesWrites("the disk takes no writes", reason=refusal)
        families = self._open()
        before = tuple((family, key, families[family].get(key)) for family, key, _ in writes)
        number = super().write(writes)
        self._unsynced.append((number, before))
        return number

    async def flush(self) -> int:
        self._open()
        if self.stuck or self._owes_failure:
            self._owes_failure = False
            raise StorageError("the disk was full; writes of before may be gone")
        number, opened = self.write_number, self._opened
        if number > self._synced:
            await asyncio.sleep(self.sync_seconds())
            self._open()
            if opened != self._opened:
                raise StorageError("the disk was full; writes of before may be gone")
            if self.breaks or self.refuses == "sync_failed":
                self.refuses = "sync_failed"
                raise StorageError("the sync failed")
            self._synced = max(self._synced, number)
            while self._unsynced and self._unsynced[0][0] <= self._synced:
                self._unsynced.popleft()
        return number

    def crash(self, *, kept: int) -> DiskStorage:
        """What the next start finds: the first `kept` of the unsynced writes are there, synced.
        This one refuses everything from now on."""
        assert 0 <= kept <= len(self._unsynced)
        self._closed = True
        after = DiskStorage(sync_seconds=self.sync_seconds)
        after._families = self._families
        self._undo(len(self._unsynced) - kept)
        after._number = after._synced = self._unsynced[-1][0] if self._unsynced else self._synced
        return after

    def recover(self) -> None:
        """What a restart cures."""
        self.breaks = self.stuck = self._owes_failure = False
        self.refuses = None

    def fill_up(self) -> None:
        """The engine meets the end of the disk: no write, no sync until `reopen`."""
        self.stuck = True
        self._opened += 1
        self.refuses = self.refuses or "disk_full"

    def reopen(self, *, kept: int) -> None:
        """There is room again. The first `kept` of the unsynced writes are there; those that are
        lost keep their numbers, and the next flush says that some may be."""
        assert 0 <= kept <= len(self._unsynced)
        self._undo(len(self._unsynced) - kept)
        self._unsynced.clear()
        self.stuck = False
        self._owes_failure = True
        if self.refuses == "disk_full":
            self.refuses = None

    def _undo(self, count: int) -> None:
        for _ in range(count):
            _, entries = self._unsynced.pop()
            for family, key, value in reversed(entries):
                if value is None:
                    self._families[family].pop(key, None)
                else:
                    self._families[family][key] = value

    def damage(self, family: Family, key: bytes) -> None:
        """Flip a bit of what lies there, below every checksum."""
        value = self._families[family][key]
        self._families[family][key] = value[:-1] + bytes((value[-1] ^ 1,))
