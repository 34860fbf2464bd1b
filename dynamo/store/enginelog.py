"""Reads RocksDB's log format to find the holes that RocksDB itself passes over in silence.

RocksDB verifies the checksum of every log record, but takes several kinds of damage for the end of
a log, or for padding, and opens with the writes behind it gone (measured: a zeroed page in mid-log,
a flipped length or type in the last block, a cut in a log that is not the last, a cut manifest). So
before it opens, this walks the same files strictly: every record must follow the one before, and
the sequence numbers must have no gap, from the table files to the end of the last log. Checksums
are left to RocksDB. What this calls damaged must not be shown to RocksDB at all: it opens for ever
where a flipped bit makes a record's type that of a recycled log. Knows nothing of options or of
what the writes mean.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from struct import Struct as Layout
from typing import Final, NamedTuple

from dynamo.errors import Malformed
from dynamo.store.files import sync_directory
from dynamo.varint import read_varint

_BLOCK_BYTES: Final = 32_768
_HEADER: Final = Layout("<IHB")  # checksum, length, type
_HEADER_BYTES: Final = _HEADER.size
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_BATCH_HEAD: Final = Layout("<QI")  # sequence number of the first entry, number of entries

# Fields of a manifest record (`version_edit.h`), in the order in which they are written.
_EDIT_COMPARATOR = 1
_EDIT_LAST_SEQUENCE = 4
_EDIT_LOG_KEPT = 10
_EDIT_CURSOR = 5
_EDIT_TABLE_GONE = 6
_EDIT_TABLE_NEW = 103
_EDIT_TABLE_END = 1
_EDIT_FAMILY = 200
_EDIT_FAMILY_NEW = 201
_EDIT_FAMILY_GONE = 202
_EDIT_GROUP = 300
_EDIT_NUMBERS: Final = frozenset((2, 3, 4, 9, 10, 203, _EDIT_FAMILY, _EDIT_GROUP))
#: Fields from here on may be skipped by who does not know them: each is its length and its bytes.
_EDIT_SKIPPABLE_MIN = 1 << 13

_LOG_NAME = re.compile(r"(\d+)\.log")
_CURRENT = re.compile(rb"(MANIFEST-\d+)\n")


class Damage(Exception):
    """The files cannot be what RocksDB wrote; the message says where and why.

    `log`: the log it is in, sound up to offset `at`; None for CURRENT and the manifest.
    """

    def __init__(self, why: str, *, at: int = 0, log: Path | None = None) -> None:
        super().__init__(why)
        self.at = at
        self.log = log


class _Torn(Exception):
    """A log ends in the middle of the record at `at`, as it may after a crash."""

    def __init__(self, at: int) -> None:
        super().__init__(f"ends in the record at {at}")
        self.at = at


class _Manifest(NamedTuple):
    """What a manifest says: the highest sequence number of any table file it ever named, that of
    any write there was when it was written, and the number of the oldest log still needed."""

    in_tables: int
    last_sequence: int
    log_kept: int


def check_database(path: Path, in_tables: int | None) -> int:
    """The sequence number of the last write that is there; Damage if one before it is not.

    `in_tables`: the number up to which writes are known to be in table files; None if nobody knows,
    and then a hole between tables and logs is not seen. (The manifest does not know: compaction
    resets the numbers in table files to 0, and the last number that an edit names is that of the
    logs.) A last log that ends in the middle of a record is no hole, nor is such a manifest: the
    logs are still there for what the torn edit would have said. A database without CURRENT is
    Damage. Raises OSError.
    """
    manifest = _read_manifest(_current_manifest(path))
    logs = _logs(path)
    # An older copy of the database knows of fewer writes than are said to be in its tables.
    covered = max(manifest.in_tables, min(in_tables or 0, manifest.last_sequence))
    first_max = None if in_tables is None else covered + 1
    # `log_kept` need not be the number of a log: after a recovery it is one above those replayed. A
    # log that is missing shows as a gap in the sequence numbers, or as an early end.
    needed = [number for number in sorted(logs) if number >= manifest.log_kept]
    expected = None
    for number in needed:
        expected = _check_log(logs[number], expected, first_max, last=number == needed[-1])
    return covered if expected is None else max(covered, expected - 1)


def cut_logs(path: Path, damage: Damage) -> None:
    """Leave of the logs in a database directory what comes before a damage to one of them.

    Files are replaced or removed, never changed: links to them keep all that was there. Raises
    OSError.
    """
    assert damage.log is not None
    sound = damage.log.read_bytes()[: damage.at]
    cut = damage.log.with_suffix(".cut")
    with cut.open("wb") as file:
        file.write(sound)
        file.flush()
        os.fsync(file.fileno())
    logs = _logs(path)
    # From the last on: what is there at any moment has no hole that was not there before.
    for number in sorted(logs, reverse=True):
        if logs[number] == damage.log:
            cut.replace(damage.log)
            break
        logs[number].unlink()
    sync_directory(path)


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


def _read_manifest(path: Path) -> _Manifest:
    found = group = _Manifest(0, 0, 0)
    try:
        for _, edit in _heads(path.read_bytes(), len_max=None):
            group, left = _apply_edit(group, edit)
            if not left:
                found = group  # edits of a group count all together or not at all
    except _Torn:
        pass
    except (Damage, Malformed) as damage:
        raise Damage(f"{path.name}: {damage}") from damage
    return found


def _apply_edit(before: _Manifest, edit: bytes) -> tuple[_Manifest, int]:
    """What the manifest says after one more record, and how many records of its group follow."""
    in_tables, last_sequence, log_kept = before
    left = 0
    for field, number in _edit_fields(edit):
        if field == _EDIT_TABLE_NEW:
            in_tables = max(in_tables, number)
        elif field == _EDIT_LAST_SEQUENCE:
            last_sequence = max(last_sequence, number)
        elif field == _EDIT_LOG_KEPT:
            log_kept = max(log_kept, number)
        elif field == _EDIT_GROUP:
            left = number
    return _Manifest(in_tables, last_sequence, log_kept), left


def _edit_fields(edit: bytes) -> Iterator[tuple[int, int]]:
    """The plain numbers and the new tables' highest sequence numbers of one manifest record.

    Ends at its first field of another kind: those come after. Raises Malformed.
    """
    at = 0
    while at < len(edit):
        field, at = read_varint(edit, at)
        if field in _EDIT_NUMBERS:
            number, at = read_varint(edit, at)
            yield field, number
        elif field == _EDIT_TABLE_NEW:
            number, at = _read_table(edit, at)
            yield field, number
        elif field == _EDIT_TABLE_GONE:
            _, at = _read_numbers(edit, at, 2)  # level, file number
        elif field == _EDIT_CURSOR:
            _, at = read_varint(edit, at)
            at = _skip_bytes(edit, at)
        elif field in (_EDIT_COMPARATOR, _EDIT_FAMILY_NEW) or field >= _EDIT_SKIPPABLE_MIN:
            at = _skip_bytes(edit, at)
        elif field != _EDIT_FAMILY_GONE:
            return


def _read_table(edit: bytes, at: int) -> tuple[int, int]:
    """The highest sequence number of a new table, and the offset after its description."""
    _, at = _read_numbers(edit, at, 3)  # level, file number, file size
    at = _skip_bytes(edit, _skip_bytes(edit, at))  # smallest and largest key
    (_, largest), at = _read_numbers(edit, at, 2)
    while True:
        field, at = read_varint(edit, at)
        if field == _EDIT_TABLE_END:
            return largest, at
        at = _skip_bytes(edit, at)


def _read_numbers(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    numbers = []
    for _ in range(count):
        number, at = read_varint(data, at)
        numbers.append(number)
    return numbers, at


def _skip_bytes(data: bytes, at: int) -> int:
    size, at = read_varint(data, at)
    return at + size


def _check_log(
    path: Path, expected: int | None, first_max: int | None, *, last: bool
) -> int | None:
    """The sequence number after the log's last; `expected` if it has no write."""
    data = path.read_bytes()
    unpack = _BATCH_HEAD.unpack_from
    try:
        for at, head in _heads(data, len_max=_BATCH_HEAD.size):
            if len(head) < _BATCH_HEAD.size:
                raise Damage(f"a batch of {len(head)} bytes at {at}", at=at)
            sequence, count = unpack(head)
            if expected is None:
                if first_max is not None and sequence > first_max:
                    why = f"starts at write {sequence}, tables end at {first_max - 1}"
                    raise Damage(why, at=at)
            elif sequence != expected:
                raise Damage(f"write {sequence} at {at} where {expected} is due", at=at)
            expected = sequence + count
    except _Torn as torn:
        if not last:
            why = f"{path.name}: {torn}, and is not the last log"
            raise Damage(why, at=torn.at, log=path) from torn
    except Damage as damage:
        raise Damage(f"{path.name}: {damage}", at=damage.at, log=path) from damage
    return expected


def _heads(data: bytes, *, len_max: int | None) -> Iterator[tuple[int, bytes]]:
    """Offset and first bytes (`len_max`, all if there are fewer or for None) of every record.

    Raises _Torn where the file ends inside a record, Damage where a record cannot stand.
    """
    at, end = 0, len(data)
    unpack = _HEADER.unpack_from
    first_at, head = -1, b""  # of the record whose fragments are being read
    wanted = end if len_max is None else len_max
    while at < end:
        record_at = at if first_at < 0 else first_at
        left = _BLOCK_BYTES - at % _BLOCK_BYTES
        if left < _HEADER_BYTES:
            if any(data[at : at + left]):
                raise Damage(f"bytes in the padding at {at}", at=record_at)
            at += left
            continue
        if end - at < _HEADER_BYTES:
            raise _Torn(record_at)
        _, length, kind = unpack(data, at)
        if kind not in ((_FULL, _FIRST) if first_at < 0 else (_MIDDLE, _LAST)):
            raise Damage(f"a fragment of type {kind} at {at} out of place", at=record_at)
        if length > left - _HEADER_BYTES:
            raise Damage(f"a fragment at {at} that leaves its block", at=record_at)
        body_at = at + _HEADER_BYTES
        if body_at + length > end:
            raise _Torn(record_at)
        if kind == _FULL:
            yield at, data[body_at : body_at + min(length, wanted)]
        elif kind == _FIRST:
            first_at, head = at, data[body_at : body_at + min(length, wanted)]
        else:
            if len(head) < wanted:
                head += data[body_at : body_at + min(length, wanted - len(head))]
            if kind == _LAST:
                yield first_at, head
                first_at = -1
        at = body_at + length
    if first_at >= 0:
        raise _Torn(first_at)
