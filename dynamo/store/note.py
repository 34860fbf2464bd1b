"""A small file beside the database that remembers how far it was synced.

The engine's log cannot tell that its end was cut off; this can. It is written after each sync and
not itself synced: a crash of the process leaves it exact, a power loss leaves it some seconds old,
and it never claims more than was true. Two slots are written in turn, so that one torn write leaves
the other. Knows nothing of the engine.

    slot = synced u64, in tables u64, base u64, crc32 u32     little-endian, at 0 and 512
"""

from __future__ import annotations

import os
from pathlib import Path
from struct import Struct as Layout
from typing import Final, NamedTuple
from zlib import crc32

_NUMBERS: Final = Layout("<QQQ")
_CHECK: Final = Layout("<I")
_SLOT_BYTES: Final = _NUMBERS.size + _CHECK.size
_SLOT_STEP: Final = 512
_FILE_BYTES: Final = 2 * _SLOT_STEP
# So that a page of zeros is no valid slot, whatever the checksum of zeros is.
_SALT: Final = b"synced"


class Synced(NamedTuple):
    """`number`: the last write known to be synced. `in_tables`: the engine's sequence number up to
    which nothing needs the log any more, since its last open. `base`: what a write number has above
    the engine's sequence number."""

    number: int
    in_tables: int
    base: int


class SyncNote:
    """The file, open. `found` is what it held when opened; None if it was not there or both slots
    were damaged."""

    __slots__ = ("_file", "_in_tables", "_slot", "found")

    def __init__(self, path: Path) -> None:
        """Opens or creates the file. Raises OSError."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._slot = self._in_tables = 0
        data = os.pread(self._file, _FILE_BYTES, 0)
        known = [slot for at in (0, _SLOT_STEP) if (slot := _read_slot(data, at)) is not None]
        self.found: Synced | None = max(known) if known else None

    def create(self, synced: Synced) -> None:
        """Write both slots anew and sync them. Raises OSError."""
        self._in_tables = synced.in_tables
        slot = _slot(synced).ljust(_SLOT_STEP, b"\0")
        os.pwrite(self._file, slot + slot, 0)
        os.fsync(self._file)

    def write(self, number: int, base: int) -> None:
        """Note that all writes up to `number` are synced, after a `create`. Raises OSError."""
        synced = Synced(number, self._in_tables, base)
        os.pwrite(self._file, _slot(synced), self._slot * _SLOT_STEP)
        self._slot ^= 1

    def sync(self) -> None:
        """Put the note on disk. Raises OSError."""
        os.fsync(self._file)

    def close(self) -> None:
        """Release the file. May be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _slot(synced: Synced) -> bytes:
    numbers = _NUMBERS.pack(*synced)
    return numbers + _CHECK.pack(crc32(_SALT + numbers))


def _read_slot(data: bytes, at: int) -> Synced | None:
    slot = data[at : at + _SLOT_BYTES]
    if len(slot) < _SLOT_BYTES:
        return None
    synced = Synced(*_NUMBERS.unpack_from(slot))
    return synced if slot == _slot(synced) else None
