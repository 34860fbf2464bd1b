"""The storage in memory: one sorted map per family. Everything is gone when the process ends.

Every write counts as synced once `flush` was called. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Sequence

from sortedcontainers import SortedDict

from dynamo.errors import StorageError
from dynamo.ports import Family, Write


class MemoryStorage:
    """`dynamo.ports.Storage` without a disk: it never refuses and never fails until closed."""

    def __init__(self) -> None:
        self._families: dict[Family, SortedDict[bytes, bytes]] = {
            "records": SortedDict(),
            "hints": SortedDict(),
            "facts": SortedDict(),
        }
        self._number = 0
        self._synced = 0
        self._closed = False

    @property
    def write_number(self) -> int:
        """Number of the last write applied."""
        return self._number

    @property
    def synced_number(self) -> int:
        """Number of the last write that a flush covered."""
        return self._synced

    def refusal(self, *, reserve: bool = False) -> str | None:
        """None: memory takes every write."""
        return None

    def get(self, family: Family, key: bytes) -> bytes | None:
        """The value, or None. Raises StorageError once closed."""
        return self._open()[family].get(key)

    def put(self, family: Family, key: bytes, value: bytes, *, reserve: bool = False) -> int:
        """Write one entry; returns its write number. Raises StorageError once closed."""
        self._open()[family][key] = value
        self._number += 1
        return self._number

    def write(self, writes: Sequence[Write], *, reserve: bool = False) -> int:
        """Write a batch; returns its write number. Raises StorageError once closed."""
        families = self._open()
        for family, key, value in writes:
            if value is None:
                families[family].pop(key, None)
            else:
                families[family][key] = value
        self._number += len(writes)
        return self._number

    def scan(
        self, family: Family, start: bytes, end: bytes, *, count_max: int, bytes_max: int
    ) -> list[tuple[bytes, bytes]]:
        """Entries with start <= key < end in order, as `dynamo.ports.Storage.scan` bounds them."""
        entries = self._open()[family]
        found: list[tuple[bytes, bytes]] = []
        bytes_left = bytes_max
        for key in entries.irange(start, end, inclusive=(True, False)):
            if len(found) >= count_max or (found and bytes_left <= 0):
                break
            value = entries[key]
            found.append((key, value))
            bytes_left -= len(key) + len(value)
        return found

    def raise_write_number(self, number: int) -> None:
        """Make `write_number` at least `number`."""
        self._number = max(self._number, number)

    async def flush(self) -> int:
        """Count everything written as synced; returns the number it is synced up to."""
        self._open()
        self._synced = self._number
        return self._synced

    async def close(self) -> None:
        """Refuse everything from now on. May be called twice."""
        self._closed = True

    def _open(self) -> dict[Family, SortedDict[bytes, bytes]]:
        if self._closed:
            raise StorageError("the storage is closed")
        return self._families
