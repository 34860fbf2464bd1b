"""Takes what can be read of a damaged database over into a new one that is put in its place.

A damaged block ends an engine's writing for good: compaction meets it, now and after every restart.
Reading goes on around it. So every family is read from its start up to the damage and from its end
down to it, and written anew; what lies between is lost here and refilled from the peers, since the
loss is written down first. A crash at any step leaves the old database or the new one, and that
note. Knows nothing of what the entries mean.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from rocksdict import ReadOptions, WriteBatch, WriteOptions

from dynamo.errors import StorageError
from dynamo.ports import Family
from dynamo.store.engine import FAMILIES, Engine, Sizes, as_storage_error, is_corruption
from dynamo.store.files import sync_directory

_BATCH_BYTES: Final = 1 << 20
#: Being written; a crash leaves rubbish.
_UNDONE: Final = ".rebuilding"
#: Whole and synced, and not yet in its place.
_DONE: Final = ".rebuilt"

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
    may_wait = WriteOptions()
    batch = WriteBatch(raw_mode=True)
    count = size = 0
    for family in FAMILIES:
        handle = copy.handles[family]
        for key, value in _readable(engine, family):
            batch.put(key, value, handle)
            count += 1
            size += len(key) + len(value)
            if size >= _BATCH_BYTES:
                if is_stopped():
                    raise StorageError("the storage was closed while it was rebuilt")
                copy.db.write(batch, may_wait)
                batch, size = WriteBatch(raw_mode=True), 0
    batch.put(*last, copy.handles["facts"])
    copy.db.write(batch, may_wait)
    return count


def _readable(engine: Engine, family: Family) -> Iterator[Entry]:
    """Entries from the start up to the first damage, and from the end down to the last."""
    last = b""
    entries = engine.iterate[family](ReadOptions())
    entries.seek_to_first()
    while entries.valid():
        last = entries.key()
        yield last, entries.value()
        entries.next()
    if not _is_damaged(entries.status):
        return
    entries = engine.iterate[family](ReadOptions())
    entries.seek_to_last()
    while entries.valid() and (key := entries.key()) > last:
        yield key, entries.value()
        entries.prev()
    _is_damaged(entries.status)


def _is_damaged(status: Callable[[], None]) -> bool:
    try:
        status()
    except Exception as error:
        if not is_corruption(error):
            raise
        return True
    return False
