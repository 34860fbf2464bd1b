"""A small file beside the database that remembers how far it was synced.

The engine's log cannot tell that its end was cut off; this can. It is written after each sync and
not itself synced: a crash of the process leaves it exact, a power loss leaves it some seconds old,
and it never claims more than was true. Two slots are written in turn, so that one torn write leaves
the other. Knows nothing of the engine.
"""

from __future__ import annotations

import os
from pathlib import Path
from struct import Struct as Layout
from typing import Final
from zlib import crc32


_SLOT: Final = Layout("<QI")
_SLOT_STEP: Final = 512
_FILE_BYTES: Final = 2 * _SLOT_STEP
_NUMBER: Final = Layout("<Q")


class SyncNote:
    """The file, open. `number` is what it held when opened: the highest synced write number it
    knows of; None if it was not there or both slots were damaged."""

    __slots__ = ("_file", "_slot", "number")

    def __init__(self, path: Path) -> None:
        """Opens or creates the file. Raises OSError."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._slot = 0
        data = os.pread(self._file, _FILE_BYTES, 0)
        slots = [_read_slot(data, at) for at in (0, _SLOT_STEP)]
        known = [number for number in slots if number is not None]
        self.number = max(known) if known else None
        if known:
            # The lower or the damaged one is the next to be written.
            self._slot = 0 if slots[0] is None or slots[0] != self.number else 1

    def create(self, number: int) -> None:
        """Write both slots anew and sync them. Raises OSError."""
        self.number = number
        slot = _slot(number).ljust(_SLOT_STEP, b"\0")
        os.pwrite(self._file, slot + slot, 0)
        os.fsync(self._file)

    def write(self, number: int) -> None:
        """Note that all writes up to `number` are synced. Raises OSError."""
        os.pwrite(self._file, _slot(number), self._slot * _SLOT_STEP)
        self._slot ^= 1

    def sync(self) -> None:
        """Put the note on disk. Raises OSError."""
        os.fsync(self._file)

    def close(self) -> None:
        """Release the file. May be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _slot(number: int) -> bytes:
    return _SLOT.pack(number, crc32(_NUMBER.pack(number)) ^ 0xFFFF_FFFF)


def _read_slot(data: bytes, at: int) -> int | None:
    if len(data) < at + _SLOT.size:
        return None
    number, check = _SLOT.unpack_from(data, at)
    return int(number) if check == crc32(_NUMBER.pack(number)) ^ 0xFFFF_FFFF else None


