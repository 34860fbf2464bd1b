"""Takes what can be read of a damaged database over into a new one that is put in its place.

A damaged block ends an engine's writing for good: compaction meets it, now and after every restart.
Reading goes on around it. So every family is read up to the damage from its start, and down to it
from its end, and written anew; what the damaged blocks hide is lost here and refilled from the
peers, since the loss is written down first. A crash at any step leaves the old database or the new
one, and that note. Knows nothing of what the entries mean.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from rocksdict import ReadOptions

from dynamo.errors import StorageError
from dynamo.ports import Family
from dynamo.store.engine import (
    FAMILIES,
    Engine,
    Sizes,
    as_storage_error,
    is_corruption,
    write_in_thread,
)
from dynamo.store.files import sync_directory

_BATCH_BYTES: Final = 1 << 20
#: Being written; a crash leaves rubbish.
_UNDONE: Final = ".rebuilding"
#: Whole and synced, and not yet in its place.
_DONE: Final = ".rebuilt"

#: So often a range between damage is halved without finding anything before it is given up.
_PROBES_IN_VAIN_MAX: Final = 4
#: Above every key: routing keys are below 2 KiB, and a partition's number is never 2^32 - 1.
_ABOVE_ALL: Final = b"\xff" * 64

Entry = tuple[bytes, bytes]


def rebuild(
    engine: Engine,
    path: Path,
    *,
    sizes: Sizes,
    last: Entry,
    is_stopped: Callable[[], bool],
) -> int:
    """A whole copy beside the database at `path` of all that `engine` can still read of it; returns
    how many entries it has. `engine` is left open. `last`: a fact that is written after all others.

    Raises StorageError: no room, another failure of the disk, or `is_stopped`; nothing is left then.
    """
    undone = path.with_name(path.name + _UNDONE)
    try:
        discard(path)
        copy = Engine(undone, sizes=sizes, create=True, point_in_time=False)
        try:
            count = _copy(engine, copy, last, is_stopped)
            copy.db.flush_wal(True)
        finally:
            copy.close()
        undone.rename(path.with_name(path.name + _DONE))
        sync_directory(path.parent)
    except Exception as error:
        with contextlib.suppress(OSError):
            discard(path)
        if isinstance(error, OSError):
            raise StorageError(f"the storage cannot be rebuilt: {error}") from error
        raise as_storage_error(error) from error
    return count


def take_place(path: Path) -> bool:
    """Put a whole copy, if there is one, where nothing is at `path`; True if it was. Raises OSError."""
    done = path.with_name(path.name + _DONE)
    if path.exists() or not done.is_dir():
        return False
    done.rename(path)
    sync_directory(path.parent)
    return True


def discard(path: Path) -> None:
    """Remove copies of the database at `path` that have not taken its place. Raises OSError."""
    for suffix in (_UNDONE, _DONE):
        left = path.with_name(path.name + suffix)
        if left.is_dir():
            shutil.rmtree(left)


def _copy(
    engine: Engine,
    copy: Engine,
    last: Entry,
    is_stopped: Callable[[], bool],
) -> int:
    count = 0
    for family in FAMILIES:
        for entries in _batches(_readable(engine, family), is_stopped):
            write_in_thread(copy, family, entries, is_stopped=is_stopped)
            count += len(entries)
    write_in_thread(copy, "facts", (last,), is_stopped=is_stopped)
    return count


def _batches(entries: Iterator[Entry], is_stopped: Callable[[], bool]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for key, value in entries:
        batch.append((key, value))
        size += len(key) + len(value)
        if size >= _BATCH_BYTES:
            if is_stopped():
                raise StorageError("the storage was closed while it was rebuilt")
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _readable(engine: Engine, family: Family) -> Iterator[Entry]:
    """Every entry that can be reached from one side or the other of the damage."""
    return _between(engine, family, b"", _ABOVE_ALL, _PROBES_IN_VAIN_MAX)


def _between(
    engine: Engine, family: Family, low: bytes, high: bytes, probes: int
) -> Iterator[Entry]:
    """Entries with low <= key < high: from the low end up to damage, from the high end down to it,
    and, where there is more than one, what lies between, halved again and again. `probes`: how many
    halvings more may find nothing."""
    options = ReadOptions()
    options.set_iterate_upper_bound(high)
    entries = engine.iterate[family](options)
    entries.seek(low)
    start = low
    while entries.valid():
        key = entries.key()
        yield key, entries.value()
        low = key + b"\0"
        entries.next()
    if not _is_damaged(entries.status):
        return
    options = ReadOptions()
    options.set_iterate_upper_bound(high)
    entries = engine.iterate[family](options)
    entries.seek_for_prev(high)
    end = high
    while entries.valid() and (key := entries.key()) >= low:
        if key < high:
            yield key, entries.value()
            high = key
        entries.prev()
    _is_damaged(entries.status)
    probes = _PROBES_IN_VAIN_MAX if low > start or high < end else probes - 1
    middle = _middle(low, high)
    if probes and low < middle < high:
        yield from _between(engine, family, low, middle, probes)
        yield from _between(engine, family, middle, high, probes)


def _middle(low: bytes, high: bytes) -> bytes:
    """A key about half way between two."""
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    width = shared + 8
    ends = (int.from_bytes(key[:width].ljust(width, b"\0")) for key in (low, high))
    return (sum(ends) // 2).to_bytes(width)


def _is_damaged(status: Callable[[], None]) -> bool:
    try:
        status()
    except Exception as error:
        if not is_corruption(error):
            raise
        return True
    return False
