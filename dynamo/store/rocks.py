"""The storage on disk: RocksDB, written unsynced and synced by one thread for all who wait.

Write numbers are the engine's sequence numbers plus a base that is kept among the facts. The first
failed sync ends writing for good; a full disk ends it until `recover` reopens the engine, a damaged
file until `recover` has rebuilt the database. Knows nothing of records: values are bytes, and carry
their own checksum.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from rocksdict import ReadOptions, WriteBatch

from dynamo.errors import StorageError, StorageRefusesWrites
from dynamo.metrics import Metrics
from dynamo.ports import PASSING_REFUSALS, Clock, Family, Opening, Write
from dynamo.store.alarm import Alarm, settle
from dynamo.store.engine import (
    Sizes,
    as_storage_error,
    is_corruption,
    is_no_space,
    is_stall,
    write_in_thread,
)
from dynamo.store.gaps import Gaps
from dynamo.store.opening import (
    BASE_BYTES,
    BASE_KEY,
    Opened,
    make_room,
    open_database,
)
from dynamo.store.recent import RecentValues
from dynamo.store.salvage import rebuild
from dynamo.store.space import SpaceWatch
from dynamo.store.worker import Worker

log = logging.getLogger(__name__)

#: A scan whose first entry takes longer to find (seconds) has stepped over thousands of deleted ones.
SLOW_SEEK: Final = 0.002

_MAY_BE_GONE: Final = "the storage had to be reopened; writes of before may be gone"


class RocksStorage:
    """`dynamo.ports.Storage` on RocksDB. Make one with `await RocksStorage.open(...)`."""

    def __init__(
        self,
        path: Path,
        opened: Opened,
        *,
        worker: Worker,
        space: SpaceWatch,
        sizes: Sizes,
        metrics: Metrics,
    ) -> None:
        self._path = path
        self._worker = worker
        self._space = space
        self._sizes = sizes
        self._recent = RecentValues(bytes_max=sizes.recent_bytes)
        #: Of the families with queues.
        self._gaps: dict[Family, Gaps] = {"hints": Gaps(), "facts": Gaps()}
        self._count = metrics.count
        self._closed = False
        #: Why writes are refused until something is done about it; None most of the time.
        self._stopped: str | None = None
        self._cause = ""
        #: The engine takes no write until it is reopened: it met the end of the disk, or damage.
        self._stuck = False
        #: The files it met are damaged: reopened as they are, it would meet them again.
        self._damaged = False
        #: Writes of before that may be gone: the next flush must say so, whatever it syncs.
        self._owes_failure = False
        #: What the worker has reopened and nobody has gone on with yet.
        self._reopened: Opened | None = None
        #: The last number given before the engine met the end of the disk.
        self._given = 0
        #: What could be read of a damaged database is in a copy that waits to take its place.
        self._copied = False
        self._install(opened)
        self._synced = opened.opening.recovered

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Clock,
        metrics: Metrics,
        existed: bool,
        synced_number: int = 0,
        free_space_min: int | None = None,
        sizes: Sizes | None = None,
        statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
    ) -> RocksStorage:
        """Open or create the database at `path`; see `opening` for what was found.

        `existed`, `synced_number`: what the caller knows of its past. `free_space_min`: bytes that
        must stay free for writes to be taken; None for the larger of 256 MiB and 2 %. Raises
        StorageError (a lock, a full disk); damage is no error but an `opening` that says so.
        """
        sizes = sizes or Sizes()
        worker = Worker("storage")
        done: list[Opened] = []

        def work() -> None:
            done.append(
                open_database(path, existed=existed, synced_number=synced_number, sizes=sizes)
            )

        try:
            await worker.run(work)
        except BaseException:
            # Cancelled, perhaps: the worker opens it all the same.
            worker.stop()
            for opened in done:
                opened.engine.close()
                opened.note.close()
            raise
        opened = done[0]
        space = SpaceWatch(path, free_bytes_min=free_space_min, clock=clock, statvfs=statvfs)
        return cls(path, opened, worker=worker, space=space, sizes=sizes, metrics=metrics)

    def _install(self, opened: Opened) -> None:
        engine = opened.engine
        self._recent.clear()
        for gaps in self._gaps.values():
            gaps.clear()
        self._engine = engine
        self._note = opened.note
        self._base = opened.base
        self._get = engine.get
        self._put = engine.put
        self._sequence = engine.db.latest_sequence_number
        #: What the last open of the engine found; anything but "clean" is reported again at every
        #: open until `settle`.
        self.opening: Opening = opened.opening
        self._settled = self.opening.state == "clean"

    @property
    def write_number(self) -> int:
        """Number of the last write applied."""
        return self._sequence() + self._base

    @property
    def synced_number(self) -> int:
        """Number of the last write known to be on disk."""
        return self._synced

    def refusal(self, *, reserve: bool = False) -> str | None:
        """Why writes are refused now, or None: disk_full, damaged, sync_failed, storage_error (the
        engine failed, or its directory is gone) or closed; the first two are cured by `recover`.
        Looks at the disk at most every 250 ms. With `reserve` the free-space watermark is no reason."""
        if self._stopped is not None:
            return self._stopped
        try:
            return "disk_full" if self._space.is_low() and not reserve else None
        except OSError as error:
            # The log may be unlinked: a sync of it would succeed and save nothing.
            self._stop("storage_error", str(error))
            return self._stopped

    def free_bytes(self) -> int | None:
        """What is free on the disk now; None if the directory cannot be asked about."""
        try:
            return self._space.free_bytes()
        except OSError:
            return None

    def get(self, family: Family, key: bytes) -> bytes | None:
        """The value, or None. Raises StorageCorrupt, StorageError."""
        # Not once some of it may be lost: then only what the engine has is there.
        if family == "records" and not self._stuck:
            recent = self._recent.get(key)
            if recent is not None:
                return recent
        try:
            value = self._get[family](key)
        except Exception as error:
            raise self._read_error(error) from error
        if value is not None and family == "records":
            self._recent.keep(key, value)
        return value

    def put(self, family: Family, key: bytes, value: bytes, *, reserve: bool = False) -> int:
        """Write one entry, unsynced; returns its write number. Raises StorageRefusesWrites (no
        effect; storage_busy, besides what `refusal` says, where the engine is too far behind to take
        it at once) or StorageError (unknown effect, and writes are refused from then on)."""
        if self.refusal(reserve=reserve) is not None:
            raise self._refuse()
        is_read = family == "records" and self._recent.get(key) is not None
        if is_read:
            self._recent.drop(key)
        elif family != "records":
            self._gaps[family].written(key)
        try:
            self._put[family](key, value)
        except Exception as error:
            raise self._write_error(error) from error
        if is_read:
            self._recent.keep(key, value)
        return self._sequence() + self._base

    def write(self, writes: Sequence[Write], *, reserve: bool = False) -> int:
        """Write a batch of at least one entry atomically, unsynced; returns its write number.
        Raises as `put`."""
        if self.refusal(reserve=reserve) is not None:
            raise self._refuse()
        return self._write(writes)

    def scan(
        self, family: Family, start: bytes, end: bytes, *, count_max: int, bytes_max: int
    ) -> list[tuple[bytes, bytes]]:
        """Entries with start <= key < end in order, as `dynamo.ports.Storage.scan` bounds them.
        Raises StorageCorrupt, StorageError."""
        gaps = self._gaps.get(family)
        begin = start if gaps is None else gaps.after(start)
        if begin >= end:
            return []
        found: list[tuple[bytes, bytes]] = []
        bytes_left = bytes_max
        try:
            options = ReadOptions()
            options.set_iterate_upper_bound(end)
            entries = self._engine.iterate[family](options)
            began = time.perf_counter()
            entries.seek(begin)
            took = time.perf_counter() - began
            while entries.valid() and len(found) < count_max:
                key, value = entries.key(), entries.value()
                found.append((key, value))
                bytes_left -= len(key) + len(value)
                if bytes_left <= 0:
                    break
                entries.next()
            entries.status()
        except Exception as error:
            raise self._read_error(error) from error
        if took > SLOW_SEEK and gaps is not None:
            self._count["storage_seeks_slow"] += 1
            gaps.note(start, found[0][0] if found else end)
        return found

    def raise_write_number(self, number: int) -> None:
        """Make `write_number` at least `number`, durably once flushed. Raises as `put`, except that
        it goes on below the free-space watermark."""
        if self._stopped is not None:
            raise self._refuse()
        if self.write_number < number:
            base = number - self._sequence()
            self._write((Write("facts", BASE_KEY, base.to_bytes(BASE_BYTES)),))
            self._base = base

    @property
    def settled(self) -> bool:
        """True unless `opening` reported a loss and nobody has called `settle` since."""
        return self._settled

    def settle(self) -> None:
        """Forget what `opening` reported, now that the caller has its own durable note of it.
        Raises StorageError."""
        if self._settled:
            return
        try:
            settle(self._path)
        except OSError as error:
            raise StorageError(f"the alarm file cannot be removed: {error}") from error
        self._settled = True

    async def flush(self) -> int:
        """Put on disk everything written before the call; returns the number it is synced up to.

        Raises StorageError; after a failed sync writes are refused for good (`sync_failed`). After
        a full disk it fails once more even if `recover` came between: writes of before may be gone.
        """
        self._check_flush()
        number, base = self._sequence() + self._base, self._base
        if number > self._synced:
            await self._worker.run(partial(self._sync, number, base))
        return number

    async def recover(self) -> bool:
        """Reopen an engine that met the end of the disk, if there is room again; rebuild a database
        of which a file is damaged (`dynamo.store.salvage`). True if it did.

        Call it now and then while `refusal` is disk_full or damaged. Writes of before may be gone:
        see `opening` afterwards. A rebuild reads and writes all there is, and needs the room for it;
        reads go on meanwhile. Raises StorageError if it fails; try again later. May be cancelled, or
        overtaken by `close`.
        """
        if not self._stuck or self._closed or self._is_low():
            return False
        self._given = max(self._given, self.write_number, self._synced)
        await self._worker.run(self._reopen)
        if self._closed or self._reopened is None:
            return False  # `close` has it, or another call went on with it
        self._install(self._reopened)
        self._stuck = self._damaged = False
        self._reopened = None
        self._stopped = None
        self._cause = ""
        self._count["storage_reopened"] += 1
        self._synced = max(self._synced, self.opening.recovered)
        return True

    async def close(self) -> None:
        """Flush and release the files; may be called twice. Raises StorageError if something
        written may not be on disk; the files are released all the same."""
        if self._closed:
            return
        self._closed = True
        stopped, self._stopped = self._stopped, "closed"
        self._recent.clear()
        try:
            await self._worker.run(partial(self._close_down, stopped))
        finally:
            self._worker.stop()

    # Inside -------------------------------------------------------------------------------------

    def _write(self, writes: Sequence[Write]) -> int:
        handles = self._engine.handles
        batch = WriteBatch(raw_mode=True)
        for family, key, value in writes:
            if family == "records":
                self._recent.drop(key)
            elif value is not None:
                self._gaps[family].written(key)
            if value is None:
                batch.delete(key, handles[family])
            else:
                batch.put(key, value, handles[family])
        try:
            self._engine.db.write(batch)
        except Exception as error:
            raise self._write_error(error) from error
        return self._sequence() + self._base

    def _stop(self, reason: str, cause: str) -> None:
        """Refuse writes from now on; a full disk and damage are the only reasons that may pass."""
        self._count["storage_stopped_" + reason] += 1
        if self._stopped is None or self._stopped in PASSING_REFUSALS:
            self._stopped = reason
            self._cause = " ".join(cause.split())
            log.error("ALARM this node takes no more writes, %s: %s", reason, self._cause)

    def _refuse(self) -> StorageRefusesWrites:
        reason = self.refusal() or "storage_error"
        why = f": {self._cause}" if self._cause else ""
        return StorageRefusesWrites(f"the storage takes no writes ({reason}){why}", reason=reason)

    def _write_error(self, error: Exception) -> StorageError:
        """Note that a write failed. But for a stall it may or may not be in the log."""
        if is_stall(error):
            return self._stalled()
        if is_no_space(error):
            self._stuck = self._owes_failure = True
            self._stop("disk_full", str(error))
        elif is_corruption(error):
            self._stop_damaged(error)
        else:
            self._stop("storage_error", str(error))
        return as_storage_error(error)

    def _stalled(self) -> StorageError:
        """The engine takes no write now and will again by itself: once its background work has
        caught up, or has found room."""
        self._count["storage_stalls"] += 1
        try:
            full = self._space.free_bytes() < self._sizes.buffer_bytes
        except OSError:
            full = False
        reason = "disk_full" if full else "storage_busy"
        return StorageRefusesWrites(f"the storage takes no writes now ({reason})", reason=reason)

    def _read_error(self, error: Exception) -> StorageError:
        if isinstance(error, KeyError):  # of an engine that has let go of its families
            return StorageError("the storage is closed, or being reopened")
        self._count["storage_reads_failed"] += 1
        if is_corruption(error) and not self._stuck:
            # Compaction would meet it sooner or later, and nobody can read past it until then.
            self._stop_damaged(error)
        return as_storage_error(error)

    def _stop_damaged(self, error: Exception) -> None:
        self._stuck = self._damaged = self._owes_failure = True
        self._stop("damaged", str(error))

    def _check_flush(self) -> None:
        if self._owes_failure:
            self._owes_failure = False
            raise StorageError(_MAY_BE_GONE)
        if self._stopped is not None:
            raise StorageError(f"the storage cannot be synced ({self._stopped}): {self._cause}")

    def _sync(self, number: int, base: int) -> None:
        """In the worker: sync the log, then note it."""
        if self._stuck or self._stopped in ("sync_failed", "storage_error"):
            raise StorageError(f"the storage cannot be synced: {self._cause}")
        try:
            self._engine.db.flush_wal(True)
        except Exception as error:
            if is_no_space(error):
                self._stuck = True
                self._stop("disk_full", str(error))
            else:
                # A failed fsync may have dropped the pages it could not write: no second try.
                self._stop("sync_failed", str(error))
            raise as_storage_error(error) from error
        self._synced = max(self._synced, number)
        try:
            self._note.write(number, base)
        except OSError:
            # The data is on disk; only the note of it is not, which then claims less than is true.
            self._count["storage_notes_failed"] += 1

    def _is_low(self) -> bool:
        try:
            return self._space.look()
        except OSError as error:
            raise StorageError(f"the data directory cannot be asked: {error}") from error

    def _reopen(self) -> None:
        """In the worker: release the files of an engine that takes no more writes, whose close may
        fail, and open them anew; those of a damaged one once what can be read of them is copied."""
        if self._reopened is not None or not self._stuck:
            return  # by another call, or one that was cancelled
        if self._stopped in ("sync_failed", "storage_error"):
            return  # a sync that was before this in the queue has failed: that is for good
        if self._damaged and not self._copied:
            self._copy()
        last = self._sequence()
        self._sequence = lambda: last
        try:
            self._engine.close()
        except StorageError:
            self._count["storage_closes_failed"] += 1
        self._note.close()
        if self._copied:
            kept = make_room(self._path)
            log.warning("the damaged database is kept in %s until somebody removes it", kept)
            self._copied = self._damaged = False
        opened = open_database(
            self._path, existed=True, synced_number=self._synced, sizes=self._sizes
        )
        try:
            self._reopened = self._above_given(opened)
        except BaseException:
            opened.note.close()
            opened.engine.close()
            raise

    def _above_given(self, opened: Opened) -> Opened:
        """In the worker. What was lost keeps its numbers, so that no later write takes one that
        somebody waits for. Done before anybody goes on with it: nothing may fail after that."""
        sequence = opened.engine.db.latest_sequence_number()
        if sequence + opened.base >= self._given:
            return opened
        base = self._given - sequence
        entry = (BASE_KEY, base.to_bytes(BASE_BYTES))
        try:
            write_in_thread(opened.engine, "facts", (entry,), is_stopped=lambda: self._closed)
        except Exception as error:
            raise as_storage_error(error) from error
        return msgspec.structs.replace(opened, base=base)

    def _copy(self) -> None:
        """In the worker, while reads go on."""
        try:
            size = sum(entry.stat().st_size for entry in os.scandir(self._path))
            free = self._space.free_bytes()
            if free < size:
                raise StorageError(
                    f"to rebuild the damaged database takes {size} bytes; {free} are free"
                )
            Alarm(self._path, synced_number=self._given).found("rebuilt", self._cause)
        except OSError as error:
            raise StorageError(f"the damaged database cannot be rebuilt: {error}") from error
        count = rebuild(
            self._engine,
            self._path,
            sizes=self._sizes,
            # Its sequence numbers begin anew, and write numbers never go back.
            last=(BASE_KEY, self._given.to_bytes(BASE_BYTES)),
            is_stopped=lambda: self._closed,
        )
        log.warning("%s entries could be read of the damaged database, and are kept", count)
        self._copied = True

    def _close_down(self, stopped: str | None) -> None:
        """In the worker. `stopped`: why writes were refused before the close, if they were."""
        failed: StorageError | None = None
        number = self.write_number
        if self._owes_failure:
            failed = StorageError(_MAY_BE_GONE)
        if stopped is not None:
            failed = StorageError(f"the storage had stopped ({stopped}): {self._cause}")
        elif number > self._synced:
            try:
                self._sync(number, self._base)
            except StorageError as error:
                failed = error
        self._sequence = lambda: number - self._base
        if self._reopened is not None:  # what was before is released already
            self._engine, self._note = self._reopened.engine, self._reopened.note
        try:
            self._engine.close()
            if stopped is None:
                self._note.sync()
        except StorageError as error:
            failed = failed or error
        except OSError as error:
            failed = failed or StorageError(str(error))
        finally:
            self._note.close()
        if failed is not None:
            raise failed
