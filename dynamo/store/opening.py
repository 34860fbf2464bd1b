"""Opens a database whatever its state, and says what may have been lost.

The order: look at the files, write down what is wrong with them, and only then touch them. What was
found stays written down, and is found again at every open, until the caller has made its own
durable note of it and calls `settle`. Nothing damaged is ever deleted: it is kept in a directory
beside the database. Knows nothing of partitions or of who refills them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from dynamo.errors import StorageError
from dynamo.ports import Opening
from dynamo.store.alarm import Alarm
from dynamo.store.engine import Engine, Sizes, as_storage_error, is_damage
from dynamo.store.enginelog import Damage, check_database, cut_logs
from dynamo.store.files import sync_directory
from dynamo.store.note import Synced, SyncNote
from dynamo.store.salvage import discard, take_place

BASE_KEY: Final = b"\0write_number_base"
BASE_BYTES: Final = 8


class Opened(msgspec.Struct, frozen=True):
    """An open database with its note."""

    engine: Engine
    note: SyncNote
    base: int
    opening: Opening


def open_database(path: Path, *, existed: bool, synced_number: int, sizes: Sizes) -> Opened:
    """Open or create the database at `path`, whose parent exists.

    `existed`: the caller knows that there was one; `synced_number`: and that it was synced so far.
    Raises StorageError if the engine cannot open for another reason than damage, such as a lock or
    a full disk; nothing is moved then.
    """
    try:
        return _Opener(path, existed, synced_number, sizes).open()
    except OSError as error:
        raise StorageError(f"the storage cannot be opened: {error}") from error
    except Exception as error:
        raise as_storage_error(error) from error


def make_room(path: Path) -> Path:
    """Put a database that has been copied, at `path`, aside; its copy takes its place at the next
    open. What the note beside it says of it does not hold for the copy. Returns where it is now.
    Raises StorageError."""
    try:
        _note_path(path).unlink(missing_ok=True)
        sync_directory(path.parent)
        return _set_aside(path, Path.rename)
    except OSError as error:
        raise StorageError(f"the damaged database cannot be put aside: {error}") from error


class _Opener:
    def __init__(self, path: Path, existed: bool, synced_number: int, sizes: Sizes) -> None:
        self.path = path
        self.sizes = sizes
        self.note = SyncNote(_note_path(path))
        found = self.note.found
        self.synced_number = max(found.number if found else 0, synced_number)
        self.existed = existed or self.synced_number > 0

    def open(self) -> Opened:
        try:
            self.alarm = Alarm(self.path, synced_number=self.synced_number)
            engine = self._open_engine()
        except BaseException:
            self.note.close()
            raise
        try:
            base = self._read_base(engine)
            sequence = engine.db.latest_sequence_number()
            # Opening wrote what it replayed to table files, and synced them.
            self.note.create(Synced(sequence + base, sequence, base))
            sync_directory(self.path.parent)
        except BaseException:
            self.note.close()
            engine.close()
            raise
        loss = self.alarm.loss
        opening = Opening(loss.state, loss.why, sequence + base, loss.noted)
        return Opened(engine, self.note, base, opening)

    def _open_engine(self) -> Engine:
        take_place(self.path)
        discard(self.path)
        present = self.path.is_dir() and any(self.path.iterdir())
        if not present:
            return self._open_missing()
        found = self.note.found
        if found is None and self.existed:
            self.alarm.found("lost_tail", "the note of what was synced is missing or damaged")
        try:
            last = check_database(self.path, found.in_tables if found else None)
        except Damage as damage:
            if not self.existed and not (self.path / "CURRENT").exists():
                _set_aside(self.path, Path.rename)  # a creation that did not get to its first write
                return self._try(create=True, point_in_time=False)
            return self._open_damaged(str(damage), damage)
        number = last + (found.base if found else 0)
        if found is not None and number < self.synced_number:
            why = f"ends at write {number}, {self.synced_number} was synced"
            if self.alarm.found("lost_tail", why):
                _set_aside(self.path, _link_files)
        try:
            # Whoever crashed while creating it may not have got to the last family.
            return self._try(create=not self.existed, point_in_time=False)
        except Exception as error:
            if not is_damage(error):
                raise
            return self._open_damaged(str(error), None)

    def _open_missing(self) -> Engine:
        if self.existed:
            self.alarm.found("empty", f"the directory {self.path.name} is gone or empty")
        if self.note.found is None:
            self.note.create(Synced(0, 0, 0))
        return self._try(create=True, point_in_time=False)

    def _read_base(self, engine: Engine) -> int:
        try:
            return int.from_bytes(engine.get["facts"](BASE_KEY) or b"")
        except Exception as error:
            if not is_damage(error):
                raise
            self.alarm.found("point_in_time", str(error))
        base = self.note.found.base if self.note.found else 0
        engine.put["facts"](BASE_KEY, base.to_bytes(BASE_BYTES))
        return base

    def _open_damaged(self, why: str, damage: Damage | None) -> Engine:
        """`damage`: found before the engine has seen the files; None if the engine found it."""
        if damage is not None and damage.log is None:
            return self._begin_anew(why)
        self.alarm.found("point_in_time", why)
        # Recovery drops what lies behind the damage; links keep it for who wants to look.
        _set_aside(self.path, _link_files)
        if damage is not None:
            cut_logs(self.path, damage)
        try:
            return self._try(create=False, point_in_time=True)
        except Exception as error:
            if not is_damage(error):
                raise
            return self._begin_anew(f"{why}; then: {error}")

    def _begin_anew(self, why: str) -> Engine:
        self.alarm.found("empty", why)
        _set_aside(self.path, Path.rename)
        return self._try(create=True, point_in_time=False)

    def _try(self, *, create: bool, point_in_time: bool) -> Engine:
        return Engine(self.path, sizes=self.sizes, create=create, point_in_time=point_in_time)


def _set_aside(path: Path, how: Callable[[Path, Path], object]) -> Path:
    """Keep a damaged database under a name of its own, which is returned. Raises OSError."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    how(path, aside)
    sync_directory(path.parent)
    return aside


def _link_files(source: Path, target: Path) -> None:
    target.mkdir(0o700)
    for entry in source.iterdir():
        if entry.is_file():
            os.link(entry, target / entry.name)


def _note_path(path: Path) -> Path:
    return path.with_name(path.name + ".synced")
