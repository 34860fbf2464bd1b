"""The storage port on a simulated disk: as the storage on a real one behaves, refusal by refusal.

Follows `dynamo.store.rocks` and `dynamo.store.opening` in what is refused, when, and what is counted
and said of it; their thread is a queue here, and the time they take is the disk's. Knows nothing of
what its values are.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from typing import Final

from dynamo.errors import StorageCorrupt, StorageError, StorageRefusesWrites
from dynamo.metrics import Metrics
from dynamo.ports import PASSING_REFUSALS, Family, Opening, Write
from dynamo.sim.database import Block, Database, Table
from dynamo.sim.disk import Disk, Note

BASE_KEY: Final = b"\0write_number_base"
BASE_BYTES: Final = 8
#: A write of the reopening is tried again after so long (seconds), and so often.
_STALL_PAUSE: Final = 0.02
_STALLS_MAX: Final = 3000
_MAY_BE_GONE: Final = "the storage had to be reopened; writes of before may be gone"


class SimStorage:
    """`dynamo.world.NodeStorage` on a `Disk`. Make one with `await SimStorage.open(...)`."""

    def __init__(self, disk: Disk, *, metrics: Metrics) -> None:
        self._disk = disk
        self._count = metrics.count
        #: Held while the one thread of a real storage would be at work.
        self._worker = asyncio.Lock()
        self._closed = False
        self._stopped: str | None = None
        self._cause = ""
        self._stuck = False
        self._damaged = False
        self._owes_failure = False
        #: A damaged database has been rebuilt, and is to be opened.
        self._copied = False
        self._given = 0
        self._number = self._base = self._synced = 0
        self._families: dict[Family, Table] = {}
        self._blocks: list[Block] = []
        self.opening = Opening("clean", "", 0, 0)
        self._settled = True

    @classmethod
    async def open(cls, disk: Disk, *, metrics: Metrics, existed: bool) -> SimStorage:
        """Open or create the database on the disk; see `opening` for what was found. Raises
        StorageError: in use, or no room."""
        if disk.storage is not None:
            raise StorageError("the storage engine failed: IO error: lock hold by current process")
        storage = cls(disk, metrics=metrics)
        disk.storage = storage
        try:
            await asyncio.sleep(disk.open_takes())
            storage._check_alive()
            storage._install(*_open_database(disk, existed=existed, synced_number=0))
        except BaseException:
            storage._release(clean=False)
            raise
        storage._synced = storage.opening.recovered
        return storage

    def __repr__(self) -> str:
        return f"SimStorage({self._disk.name}, write {self._number}, {self.refusal() or 'well'})"

    def _install(self, base: int, opening: Opening) -> None:
        database = self._database
        self._base = base
        self._number = database.sequence + base
        self._families = database.families
        self._blocks = database.blocks
        self.opening = opening
        self._settled = opening.state == "clean"

    @property
    def write_number(self) -> int:
        """Number of the last write applied."""
        return self._number

    @property
    def synced_number(self) -> int:
        """Number of the last write known to be on disk."""
        return self._synced

    def refusal(self, *, reserve: bool = False) -> str | None:
        """Why writes are refused now, or None; as `RocksStorage.refusal`."""
        if self._stopped is not None:
            return self._stopped
        return "disk_full" if self._disk.is_low and not reserve else None

    def free_bytes(self) -> int | None:
        """None: a simulated disk is full or is not."""
        return None

    def get(self, family: Family, key: bytes) -> bytes | None:
        """The value, or None. Raises StorageCorrupt, StorageError."""
        try:
            value = self._families[family].get(key)
        except KeyError:
            raise _closed() from None
        if self._blocks and self._database.is_hidden(family, key):
            raise self._met_damage(family)
        return value

    def put(self, family: Family, key: bytes, value: bytes, *, reserve: bool = False) -> int:
        """Write one entry, unsynced; returns its write number. Raises StorageRefusesWrites (no
        effect) or StorageError (unknown effect, and writes are refused from then on)."""
        if self.refusal(reserve=reserve) is not None:
            raise self._refuse()
        return self._append((Write(family, key, value),))

    def write(self, writes: Sequence[Write], *, reserve: bool = False) -> int:
        """Write a batch of at least one entry atomically, unsynced; returns its write number.
        Raises as `put`."""
        if self.refusal(reserve=reserve) is not None:
            raise self._refuse()
        return self._append(writes)

    def scan(
        self, family: Family, start: bytes, end: bytes, *, count_max: int, bytes_max: int
    ) -> list[tuple[bytes, bytes]]:
        """Entries with start <= key < end in order, as `dynamo.ports.Storage.scan` bounds them.
        Raises StorageCorrupt, StorageError."""
        if start >= end:
            return []
        damage = self._database.damage_from(family, start, end) if self._blocks else None
        found: list[tuple[bytes, bytes]] = []
        bytes_left = bytes_max
        try:
            table = self._families[family]
        except KeyError:
            raise _closed() from None
        if count_max <= 0:
            return found
        for key in table.irange(start, end if damage is None else damage, inclusive=(True, False)):
            value = table[key]
            found.append((key, value))
            bytes_left -= len(key) + len(value)
            if bytes_left <= 0 or len(found) >= count_max:
                return found
        if damage is not None:
            raise self._met_damage(family)
        return found

    def raise_write_number(self, number: int) -> None:
        """Make `write_number` at least `number`, durably once flushed. Raises as `put`, except that
        it goes on below the free-space watermark."""
        if self._stopped is not None:
            raise self._refuse()
        if self._number < number:
            self._raise_base(number - (self._number - self._base))

    @property
    def settled(self) -> bool:
        """True unless `opening` reported a loss and nobody has called `settle` since."""
        return self._settled

    def settle(self) -> None:
        """Forget what `opening` reported, now that the caller has its own durable note of it."""
        if not self._settled:
            self._check_alive()
            self._disk.settle()
            self._settled = True

    async def flush(self) -> int:
        """Put on disk everything written before the call; returns the number it is synced up to.

        Raises StorageError; after a failed sync writes are refused for good (`sync_failed`). After
        a full disk it fails once more even if `recover` came between: writes of before may be gone.
        """
        self._check_flush()
        number, base = self._number, self._base
        if number > self._synced:
            async with self._worker:
                await self._sync(number, base)
        return number

    async def recover(self) -> bool:
        """Reopen an engine that met the end of the disk, if there is room again; rebuild a database
        of which a block is damaged. True if it did. Raises StorageError; try again later."""
        if not self._stuck or self._closed or self._disk.is_low:
            return False
        self._given = max(self._given, self._number, self._synced)
        async with self._worker:
            if not self._stuck or self._closed or self._stopped not in PASSING_REFUSALS:
                return False
            base, opening = await self._reopen()
            if self._closed:
                return False
            self._install(base, opening)
        self._stuck = self._damaged = self._copied = False
        self._stopped = None
        self._cause = ""
        self._count["storage_reopened"] += 1
        self._synced = max(self._synced, opening.recovered)
        return True

    async def close(self) -> None:
        """Flush and release the disk; may be called twice. Raises StorageError if something written
        may not be on disk; the disk is released all the same."""
        if self._closed:
            return
        self._closed = True
        stopped, self._stopped = self._stopped, "closed"
        try:
            async with self._worker:
                await self._close_down(stopped)
        finally:
            self._release(clean=False)

    def cut_off(self) -> None:
        """The process has crashed: refuse everything."""
        self._closed = True
        self._stopped = "closed"
        self._let_go()

    # Inside -------------------------------------------------------------------------------------

    @property
    def _database(self) -> Database:
        database = self._disk.database
        assert database is not None
        return database

    def _is_alive(self) -> bool:
        return self._disk.storage is self

    def _check_alive(self) -> None:
        if not self._is_alive():
            raise StorageError("the process of this storage is gone")

    def _let_go(self) -> None:
        self._families = {}
        self._blocks = []

    def _append(self, writes: Sequence[Write]) -> int:
        try:
            self._number = self._disk.append(writes) + self._base
        except OSError as error:
            raise self._write_error(error) from error
        return self._number

    def _raise_base(self, base: int) -> None:
        self._append((_base_entry(base),))
        self._number += base - self._base
        self._base = base

    def _stop(self, reason: str, cause: str) -> None:
        """Refuse writes from now on; a full disk and damage are the only reasons that may pass."""
        self._count["storage_stopped_" + reason] += 1
        if self._stopped is None or self._stopped in PASSING_REFUSALS:
            self._stopped = reason
            self._cause = cause

    def _refuse(self) -> StorageRefusesWrites:
        reason = self.refusal() or "storage_error"
        why = f": {self._cause}" if self._cause else ""
        return StorageRefusesWrites(f"the storage takes no writes ({reason}){why}", reason=reason)

    def _write_error(self, error: OSError) -> StorageError:
        if isinstance(error, BlockingIOError):
            self._count["storage_stalls"] += 1
            return StorageRefusesWrites(
                "the storage takes no writes now (storage_busy)", reason="storage_busy"
            )
        if error.errno == errno.ENOSPC:
            self._stuck = self._owes_failure = True
            self._stop("disk_full", str(error))
        else:
            self._stop("storage_error", str(error))
        return _as_storage_error(error)

    def _met_damage(self, family: Family) -> StorageCorrupt:
        self._count["storage_reads_failed"] += 1
        cause = f"Corruption: block checksum mismatch in {family}"
        if not self._stuck:
            self._stuck = self._damaged = self._owes_failure = True
            self._stop("damaged", cause)
        return StorageCorrupt(f"the storage engine failed: {cause}")

    def _check_flush(self) -> None:
        if self._owes_failure:
            self._owes_failure = False
            raise StorageError(_MAY_BE_GONE)
        if self._stopped is not None:
            raise StorageError(f"the storage cannot be synced ({self._stopped}): {self._cause}")

    async def _sync(self, number: int, base: int) -> None:
        if self._stuck or self._stopped in ("sync_failed", "storage_error"):
            raise StorageError(f"the storage cannot be synced: {self._cause}")
        self._disk.on_sync("before_sync")
        await asyncio.sleep(self._disk.sync_takes())
        self._check_alive()
        try:
            self._disk.sync(number - base)
            self._disk.on_sync("after_sync")
            self._check_alive()
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._stuck = True
                self._stop("disk_full", str(error))
            else:
                # A failed fsync may have dropped the pages it could not write: no second try.
                self._stop("sync_failed", str(error))
            raise _as_storage_error(error) from error
        self._synced = max(self._synced, number)
        self._disk.note = Note(number, base)

    async def _reopen(self) -> tuple[int, Opening]:
        disk = self._disk
        if self._damaged and not self._copied:
            disk.found("rebuilt", self._cause, self._given)
            await asyncio.sleep(disk.rebuild_takes())
            if self._closed:
                raise StorageError("the storage was closed while it was rebuilt")
            self._check_room()
            with disk.around_rebuild():
                self._database.rebuild()
            # Its sequence numbers begin anew, and write numbers never go back.
            self._database.append((_base_entry(self._given),))
            self._database.write_tables()
            disk.note = None
            self._copied = True
        elif self._families:
            disk.keep_any()
        self._let_go()
        await asyncio.sleep(disk.open_takes())
        self._check_alive()
        base, opening = _open_database(disk, existed=True, synced_number=self._synced)
        return await self._above_given(base), opening

    def _check_room(self) -> None:
        try:
            self._disk.check_room()
        except OSError as error:
            raise StorageError(f"the storage cannot be opened: {error}") from error

    async def _above_given(self, base: int) -> int:
        """What was lost keeps its numbers, so that no later write takes one that somebody waits for.
        Returns the base that this takes."""
        database = self._database
        if database.sequence + base >= self._given:
            return base
        for _ in range(_STALLS_MAX):
            if not self._disk.is_busy:
                break
            if self._closed:
                raise StorageError("the storage was closed while a write waited")
            await asyncio.sleep(_STALL_PAUSE)
        base = self._given - database.sequence
        try:
            self._disk.append((_base_entry(base),))
        except OSError as error:
            raise _as_storage_error(error) from error
        return base

    async def _close_down(self, stopped: str | None) -> None:
        if not self._is_alive():
            return
        if stopped is not None:
            raise StorageError(f"the storage had stopped ({stopped}): {self._cause}")
        if self._number > self._synced:
            await self._sync(self._number, self._base)
        self._release(clean=True)
        if self._owes_failure:
            raise StorageError(_MAY_BE_GONE)

    def _release(self, *, clean: bool) -> None:
        """The disk is nobody's. `clean`: all is in table files; or as chance has it."""
        self._let_go()
        if self._is_alive():
            if self._disk.database is not None:
                if clean:
                    self._disk.database.write_tables()
                else:
                    self._disk.keep_any()
            self._disk.release_storage()


def _open_database(disk: Disk, *, existed: bool, synced_number: int) -> tuple[int, Opening]:
    """Open or create the database; its base, and what was found. Raises StorageError."""
    try:
        disk.check_room()
    except OSError as error:
        raise StorageError(f"the storage cannot be opened: {error}") from error
    note = disk.note
    synced_number = max(note.number if note is not None else 0, synced_number)
    if disk.database is None:
        if existed or synced_number:
            disk.found("empty", "the directory db is gone or empty", synced_number)
        disk.database = Database()
    database = disk.database
    _look_for_loss(disk, note, existed, synced_number)
    # Opening writes what it replays to table files, and syncs them.
    database.forget_log()
    base = _read_base(disk, synced_number)
    number = database.sequence + base
    disk.note = Note(number, base)
    state, why, noted = disk.alarm
    return base, Opening(state, why, number, synced_number if state == "clean" else noted)


def _look_for_loss(disk: Disk, note: Note | None, existed: bool, synced_number: int) -> None:
    database = disk.database
    assert database is not None
    if note is None and existed:
        disk.found("lost_tail", "the note of what was synced is missing or damaged", synced_number)
    if database.hole not in (None, "lost_tail"):
        disk.found(database.hole, "a log record is damaged", synced_number)
    number = database.sequence + (note.base if note is not None else 0)
    if note is not None and number < synced_number:
        why = f"ends at write {number}, {synced_number} was synced"
        disk.found("lost_tail", why, synced_number)


def _read_base(disk: Disk, synced_number: int) -> int:
    database = disk.database
    assert database is not None
    if not database.is_hidden("facts", BASE_KEY):
        return int.from_bytes(database.families["facts"].get(BASE_KEY) or b"")
    disk.found("point_in_time", "Corruption: block checksum mismatch in facts", synced_number)
    base = disk.note.base if disk.note is not None else 0
    database.append((_base_entry(base),))
    return base


def _base_entry(base: int) -> Write:
    return Write("facts", BASE_KEY, base.to_bytes(BASE_BYTES))


def _as_storage_error(error: OSError) -> StorageError:
    return StorageError(f"the storage engine failed: IO error: {error}")


def _closed() -> StorageError:
    return StorageError("the storage is closed, or being reopened")
