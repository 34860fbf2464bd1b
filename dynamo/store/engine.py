"""RocksDB as this store wants it: its options, and opening and closing one database.

Knows nothing of write numbers, of disks that fill up, or of what a failed open means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    ColumnFamily,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from dynamo.errors import StorageCorrupt, StorageError
from dynamo.ports import Family

FAMILIES: Final[tuple[Family, ...]] = ("records", "hints", "facts")
_MIB: Final = 1024 * 1024
_BLOOM_BITS_PER_KEY: Final = 10
_BLOCK_BYTES: Final = 8 * 1024

#: Write buffers that may wait for their way to table files, and table files for their first
#: compaction, before writes are refused. The engine would rather let a write wait, in the event loop's
#: own thread and holding the interpreter lock, without end where a full disk stops its background work.
_BUFFERS_MAX: Final = 6
_TABLES_SLOW: Final = 32
_TABLES_MAX: Final = 40

#: A write that is waited for in a thread is tried again after so long, and given up after so long
#: (seconds).
_STALL_PAUSE: Final = 0.02
_STALL_MAX: Final = 60.0

_NO_SPACE: Final = ("No space left on device", "Disk quota exceeded")
_DAMAGE: Final = (
    "Corruption",
    "IO error: No such file or directory",
    "does not exist (create_if_missing is false)",
    # The manifest ends before they were made: cut off, or the making was.
    "Column family not found",
)


class Sizes:
    """Bounds of what one database takes. `cache_bytes`: blocks, indexes and filters of table files.
    `buffer_bytes`: writes not yet in table files, twice that most of the time and up to six times
    where the disk is too slow for what is written. `log_bytes`: log replayed at a start after a
    crash. `recent_bytes`: values read lately, which are not read from the engine again."""

    __slots__ = ("buffer_bytes", "cache_bytes", "log_bytes", "recent_bytes")

    def __init__(
        self,
        *,
        cache_bytes: int = 32 * _MIB,
        buffer_bytes: int = 16 * _MIB,
        log_bytes: int = 64 * _MIB,
        recent_bytes: int = 8 * _MIB,
    ) -> None:
        self.cache_bytes = cache_bytes
        self.buffer_bytes = buffer_bytes
        self.log_bytes = log_bytes
        self.recent_bytes = recent_bytes


class Engine:
    """One open database."""

    __slots__ = ("_maps", "db", "get", "handles", "iterate", "put")

    def __init__(self, path: Path, *, sizes: Sizes, create: bool, point_in_time: bool) -> None:
        """Opens it. Raises what rocksdict raises: see `is_damage` and `is_no_space`."""
        cache = Cache(sizes.cache_bytes)
        families: dict[str, Options] = {name: _family_options(sizes, cache) for name in FAMILIES}
        options = _family_options(sizes, cache)
        _set_database_options(options, sizes, create=create, point_in_time=point_in_time)
        self.db = Rdict(str(path), options, column_families=families)
        self._maps: dict[Family, Rdict] = {
            name: self.db.get_column_family(name) for name in FAMILIES
        }
        refuse_to_wait = WriteOptions()
        refuse_to_wait.no_slowdown = True
        for written in (self.db, *self._maps.values()):
            written.set_write_options(refuse_to_wait)
        self.get: dict[Family, Callable[[bytes], bytes | None]] = {
            name: family.get for name, family in self._maps.items()
        }
        self.put: dict[Family, Callable[[bytes, bytes], None]] = {
            name: family.put for name, family in self._maps.items()
        }
        self.iterate: dict[Family, Callable[[ReadOptions], RdictIter]] = {
            name: family.iter for name, family in self._maps.items()
        }
        self.handles: dict[Family, ColumnFamily] = {
            name: self.db.get_column_family_handle(name) for name in FAMILIES
        }

    def close(self) -> None:
        """Write what is buffered to table files and release the files, whatever fails on the way.

        May be called twice. Raises StorageError for the last thing that failed.
        """
        if not self._maps:
            return
        failed: StorageError | None = None
        families = [*self._maps.values(), self.db]
        # The files are released when the last reference is gone, so none may stay in a traceback.
        for table in (self._maps, self.get, self.put, self.iterate, self.handles):
            table.clear()
        del self.db
        while families:
            failed = _close(families.pop(0)) or failed
        if failed is not None:
            raise failed


def write_in_thread(
    engine: Engine,
    family: Family,
    entries: Sequence[tuple[bytes, bytes]],
    *,
    is_stopped: Callable[[], bool],
) -> None:
    """Write a batch, waiting for an engine that is behind; not for the event loop's thread.

    It waits out here: inside the engine a write that waits holds the interpreter's lock, and with it
    every other thread. Raises what rocksdict raises, and StorageError if it `is_stopped` meanwhile.
    """
    give_up_at = time.monotonic() + _STALL_MAX
    while True:
        batch = WriteBatch(raw_mode=True)  # each try uses one up
        for key, value in entries:
            batch.put(key, value, engine.handles[family])
        try:
            engine.db.write(batch)
        except Exception as error:
            if not is_stall(error) or time.monotonic() >= give_up_at:
                raise
        else:
            return
        if is_stopped():
            raise StorageError("the storage was closed while a write waited")
        time.sleep(_STALL_PAUSE)


def _close(family: Rdict) -> StorageError | None:
    try:
        family.close()
    except Exception as error:  # noqa: BLE001 - rocksdict raises plain Exception
        return as_storage_error(error)
    return None


def is_damage(error: Exception) -> bool:
    """True if an engine's error says that its files are damaged or missing."""
    text = str(error)
    return any(sign in text for sign in _DAMAGE)


def is_no_space(error: Exception) -> bool:
    """True if an engine's error says that the disk is full."""
    text = str(error)
    return any(sign in text for sign in _NO_SPACE)


def is_corruption(error: Exception) -> bool:
    """True if an engine's error says that it read what it had not written."""
    return isinstance(error, StorageCorrupt) or str(error).startswith("Corruption")


def is_stall(error: Exception) -> bool:
    """True if an engine's error says that a write would have had to wait; it had no effect."""
    return str(error).startswith("Result incomplete: Write stall")


def as_storage_error(error: Exception) -> StorageError:
    """The error of this store for an engine's error."""
    if isinstance(error, StorageError):
        return error
    kind = StorageCorrupt if is_corruption(error) else StorageError
    return kind(f"the storage engine failed: {error}")


def _set_database_options(
    options: Options, sizes: Sizes, *, create: bool, point_in_time: bool
) -> None:
    options.create_if_missing(create)
    options.create_missing_column_families(create)
    options.set_paranoid_checks(True)
    # The default mode stops silently at the first flipped bit and drops every write after it.
    options.set_wal_recovery_mode(
        DBRecoveryMode.point_in_time()
        if point_in_time
        else DBRecoveryMode.tolerate_corrupted_tail_records()
    )
    # All families reach table files together: the log is never older than any of them, so that a
    # damaged log costs a suffix of the writes, in order, across families alike.
    options.set_atomic_flush(True)
    options.set_db_write_buffer_size(2 * sizes.buffer_bytes)
    options.set_max_total_wal_size(sizes.log_bytes)
    # Every table is opened, and its footer and index checked, before the first read.
    options.set_max_open_files(-1)
    options.set_max_background_jobs(2)
    options.set_max_manifest_file_size(16 * _MIB)
    options.set_keep_log_file_num(4)
    options.set_max_log_file_size(_MIB)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_skip_stats_update_on_db_open(True)


def _family_options(sizes: Sizes, cache: Cache) -> Options:
    options = Options(raw_mode=True)
    options.set_write_buffer_size(sizes.buffer_bytes)
    options.set_max_write_buffer_number(_BUFFERS_MAX)
    options.set_level_zero_slowdown_writes_trigger(_TABLES_SLOW)
    options.set_level_zero_stop_writes_trigger(_TABLES_MAX)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_level_compaction_dynamic_level_bytes(True)
    tables = BlockBasedOptions()
    tables.set_block_cache(cache)
    tables.set_cache_index_and_filter_blocks(True)
    tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
    tables.set_bloom_filter(_BLOOM_BITS_PER_KEY, block_based=False)
    # One filter a table is half a megabyte, does not stay in a cache of this size, and was read
    # anew for every get: 57 us each with a million records, 7 us in parts.
    tables.set_index_type(BlockBasedIndexType.two_level_index_search())
    tables.set_partition_filters(True)
    tables.set_pin_top_level_index_and_filter(True)
    tables.set_block_size(_BLOCK_BYTES)
    tables.set_format_version(5)
    options.set_block_based_table_factory(tables)
    return options
