"""Reads RocksDB's log format to find the holes that RocksDB itself passes over in silence.

RocksDB verifies the checksum of every log record, but takes several kinds of damage for the end of
a log, or for padding, and opens with the writes behind it gone (measured: a zeroed page in mid-log,
a flipped length or type in the last block, a cut in a log that is not the last, a cut manifest). So
before it opens, this walks the same files strictly: every record must follow the one before, and
the sequence numbers must have no gap. Checksums are left to RocksDB. Knows nothing of options or of
what the writes mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from struct import Struct as Layout
from typing import Final, NamedTuple

from dynamo.errors import Malformed
from dynamo.varint import read_varint

_BLOCK_BYTES: Final = 32_768
_HEADER: Final = Layout("<IHB")  # checksum, length, type
_HEADER_BYTES: Final = _HEADER.size
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_BATCH_HEAD: Final = Layout("<QI")  # sequence number of the first entry, number of entries
_HEAD_BYTES_MAX: Final = 64

#: Fields of a manifest record (`version_edit.h`); these come before all others in each record.
_EDIT_COMPARATOR = 1
_EDIT_NUMBERS: Final = frozenset((2, 3, 4, 9, 10, 203))
_EDIT_LAST_SEQUENCE = 4
_EDIT_LOG_KEPT = 10

_LOG_NAME = re.compile(r"(\d+)\.log")
_CURRENT = re.compile(rb"(MANIFEST-\d+)\n")


class Damage(Exception):  # noqa: N818 - a finding, not an error of the program
    """The files cannot be what RocksDB wrote; the message says where and why."""


class _Torn(Exception):  # noqa: N818
    """A log ends in the middle of a record, as it may after a crash."""


class Manifest(NamedTuple):
    """What a manifest says about the logs: the last sequence number in table files, and the number
    of the oldest log that is still needed."""

    last_sequence: int
    log_kept: int


def check_database(path: Path) -> int:
    """Raise Damage if the logs in a database directory have a hole; otherwise the sequence number
    of the last write that is there.

    A last log that ends in the middle of a record is no hole. A database without CURRENT is Damage.
    Raises OSError.
    """
    manifest = _read_manifest(_current_manifest(path))
    logs = _logs(path)
    needed = [number for number in sorted(logs) if number >= manifest.log_kept]
    # `log_kept` need not be the number of a log: after a recovery it is one above those replayed. A
    # log that is missing shows as a gap in the sequence numbers, or at the end by the sync note.
    expected = None
    for number in needed:
        log = logs[number]
        last = number == needed[-1]
        expected = _check_log(log, expected, manifest.last_sequence + 1, last=last)
    return max(manifest.last_sequence, (expected or 1) - 1)


def _logs(path: Path) -> dict[int, Path]:
    found = {}
    for entry in path.iterdir():
        match = _LOG_NAME.fullmatch(entry.name)
        if match:
            found[int(match[1])] = entry
    return found


def _current_manifest(path: Path) -> Path:
    try:
        current = (path / "CURRENT").read_bytes()
    except FileNotFoundError:
        raise Damage("CURRENT is missing") from None
    match = _CURRENT.fullmatch(current)
    if not match:
        raise Damage("CURRENT names no manifest")
    manifest = path / match[1].decode()
    if not manifest.exists():
        raise Damage(f"{manifest.name} is missing")
    return manifest


def _read_manifest(path: Path) -> Manifest:
    last_sequence = log_kept = 0
    try:
        for _, head in _heads(path.read_bytes()):
            for field, number in _edit_numbers(head):
                if field == _EDIT_LAST_SEQUENCE:
                    last_sequence = max(last_sequence, number)
                elif field == _EDIT_LOG_KEPT:
                    log_kept = max(log_kept, number)
    except (_Torn, Damage, Malformed) as found:
        # A manifest is synced at every record before anything rests on it; a torn one may have
        # lost the record that names a table whose log is gone already.
        raise Damage(f"{path.name}: {found}") from found
    return Manifest(last_sequence, log_kept)


def _edit_numbers(head: bytes) -> Iterator[tuple[int, int]]:
    """The plain numbers at the start of a manifest record, up to its first field of another kind."""
    at = 0
    while at < len(head):
        field, at = read_varint(head, at)
        if field == _EDIT_COMPARATOR:
            size, at = read_varint(head, at)
            at += size
        elif field in _EDIT_NUMBERS:
            number, at = read_varint(head, at)
            yield field, number
        else:
            return


def _check_log(path: Path, expected: int | None, first_max: int, *, last: bool) -> int | None:
    """The sequence number after the log's last; None if no log had a write yet."""
    data = path.read_bytes()
    unpack = _BATCH_HEAD.unpack_from
    try:
        for at, head in _heads(data):
            if len(head) < _BATCH_HEAD.size:
                raise Damage(f"a batch of {len(head)} bytes at {at}")
            sequence, count = unpack(head)
            if expected is None:
                if sequence > first_max:
                    raise Damage(f"starts at write {sequence}, tables end at {first_max - 1}")
            elif sequence != expected:
                raise Damage(f"write {sequence} at {at} where {expected} is due")
            expected = sequence + count
    except _Torn as torn:
        if not last:
            raise Damage(f"{path.name}: {torn}, and is not the last log") from torn
    except Damage as damage:
        raise Damage(f"{path.name}: {damage}") from damage
    return expected


def _heads(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Offset and first bytes (at most 64, all if there are fewer) of every record of a log.

    Raises _Torn where the file ends inside a record, Damage where a record cannot stand.
    """
    at, end = 0, len(data)
    unpack = _HEADER.unpack_from
    first_at, head = -1, b""  # of the record whose fragments are being read
    while at < end:
        left = _BLOCK_BYTES - at % _BLOCK_BYTES
        if left < _HEADER_BYTES:
            if any(data[at : at + left]):
                raise Damage(f"bytes in the padding at {at}")
            at += left
            continue
        if end - at < _HEADER_BYTES:
            raise _Torn(f"ends in a header at {at}")
        _, length, kind = unpack(data, at)
        if length > left - _HEADER_BYTES:
            raise Damage(f"a fragment at {at} that leaves its block")
        body_at = at + _HEADER_BYTES
        if body_at + length > end:
            raise _Torn(f"ends in a record at {at}")
        if kind == _FULL and first_at < 0:
            yield at, data[body_at : body_at + min(length, _HEAD_BYTES_MAX)]
        elif kind == _FIRST and first_at < 0:
            first_at, head = at, data[body_at : body_at + min(length, _HEAD_BYTES_MAX)]
        elif kind in (_MIDDLE, _LAST) and first_at >= 0:
            if len(head) < _HEAD_BYTES_MAX:
                head += data[body_at : body_at + min(length, _HEAD_BYTES_MAX - len(head))]
            if kind == _LAST:
                yield first_at, head
                first_at = -1
        else:
            raise Damage(f"a fragment of type {kind} at {at} out of place")
        at = body_at + length
    if first_at >= 0:
        raise _Torn(f"ends in the record at {first_at}")
