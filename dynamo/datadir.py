"""A node's data directory: its lock, its identity, its start number, its few small files.

Opening it proves that no other process uses it and that it is this node's of this cluster, and takes
a new start number with 64 new random bits, synced before anything is minted under them: so neither
a crash nor a wiped, cloned or restored disk can repeat a dot. Knows nothing of what the database
beside it holds, nor, but for `open`, of where the files really are.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec

from dynamo.errors import DataDirectoryError, Malformed, StorageCorrupt, StorageError
from dynamo.store.files import NEW_SUFFIX, read_sealed, sync_directory, write_sealed
from dynamo.version import RANDOM_BYTES

FORMAT: Final = 1
LOCK_FILE: Final = "lock"
IDENTITY_FILE: Final = "identity"
BLOB_SUFFIX: Final = ".blob"
#: What a directory may hold before its first identity is written.
_OF_NO_ONE: Final = frozenset((LOCK_FILE, IDENTITY_FILE + NEW_SUFFIX, "lost+found"))


class Identity(msgspec.Struct, frozen=True):
    """Whose directory it is. `random`: hex of the 64 bits drawn with `start`. `database`: one has been
    made here, so that one that is missing has been lost."""

    format: int
    cluster_id: str
    node_id: str
    start: int
    random: str
    database: bool


class Files(Protocol):
    """The small files of an open, locked directory, by name."""

    @property
    def place(self) -> str:
        """What people call the directory."""
        ...

    def read(self, name: str) -> bytes | None:
        """What was last written, or None. Raises Malformed if it is damaged, OSError."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Replace a file atomically, synced on return. Raises OSError. Other threads call it too."""
        ...

    def unknown(self) -> str | None:
        """The name of something that may not be in a new directory, if there is anything such."""
        ...

    def release(self) -> None:
        """Let others open the directory. May be called twice."""
        ...


class DataDirectory:
    """An open, locked data directory. Make one with `DataDirectory.open`."""

    def __init__(
        self, files: Files, *, cluster_id: str, node_id: str, entropy: Callable[[int], bytes]
    ) -> None:
        """Takes a new start number. Raises DataDirectoryError: of another node, cluster or format,
        damaged, not writable; then release the files."""
        self._files = files
        self._entropy = entropy
        #: Held while a small file is written, by the loop's thread or another.
        self._writing = threading.Lock()
        self._closed = False
        #: How often each small file was to be written.
        self._turns: dict[str, int] = {}
        #: The last of them that was written.
        self._on_disk: dict[str, int] = {}
        before = _read_identity(files)
        if before is None:
            _check_new(files)
            before = Identity(FORMAT, cluster_id, node_id, 0, "", database=False)
        _check_identity(files.place, before, cluster_id, node_id)
        self._identity = before
        self.raise_start(before.start)

    @classmethod
    def open(
        cls, path: Path, *, cluster_id: str, node_id: str, entropy: Callable[[int], bytes]
    ) -> DataDirectory:
        """Create or open the directory, locked, with a new start number on disk.

        `entropy(n)` gives n random bytes. Raises DataDirectoryError: in use, of another node, cluster
        or format, damaged, or not usable at all.
        """
        try:
            _make(path)
            files = _LockedFiles(path, _lock(path))
        except OSError as error:
            raise DataDirectoryError(f"cannot use the data directory {path}: {error}") from error
        try:
            return cls(files, cluster_id=cluster_id, node_id=node_id, entropy=entropy)
        except BaseException:
            files.release()
            raise

    @property
    def start(self) -> int:
        """This start's number, from 1; larger than that of any start before on this disk."""
        return self._identity.start

    @property
    def random(self) -> bytes:
        """The 8 random bytes that were drawn with the start number."""
        return bytes.fromhex(self._identity.random)

    @property
    def has_database(self) -> bool:
        """True if an earlier start has made a database here."""
        return self._identity.database

    def note_database(self) -> None:
        """Remember, synced, that there is a database here from now on. Raises DataDirectoryError."""
        if not self._identity.database:
            self._write(msgspec.structs.replace(self._identity, database=True))

    def raise_start(self, above: int) -> None:
        """Take a start number above `above`, and new random bits, synced on return.

        Raises DataDirectoryError if they cannot be written.
        """
        self._write(
            msgspec.structs.replace(
                self._identity,
                start=max(above, self._identity.start) + 1,
                random=self._entropy(RANDOM_BYTES).hex(),
            )
        )

    def read_blob(self, name: str) -> bytes | None:
        """The small file last written under this name, or None. Raises StorageCorrupt, StorageError."""
        try:
            return self._files.read(name + BLOB_SUFFIX)
        except Malformed as error:
            raise StorageCorrupt(f"{self._files.place}: {error.message}") from error
        except OSError as error:
            raise StorageError(f"{name} cannot be read: {error}") from error

    def write_blob(self, name: str, data: bytes) -> None:
        """Replace a small file atomically, synced on return. Raises StorageError."""
        self._write_blob(name, data, self._next_turn(name))

    async def keep_blob(self, name: str, data: bytes) -> None:
        """As `write_blob`, in a thread, so that the loop goes on. What is to be written later wins,
        though it be written first; a cancelled one is written all the same, or not at all."""
        await asyncio.to_thread(self._write_blob, name, data, self._next_turn(name))

    def close(self) -> None:
        """Release the lock, once nothing is being written. May be called twice."""
        with self._writing:
            self._closed = True
            self._files.release()

    def _next_turn(self, name: str) -> int:
        turn = self._turns[name] = self._turns.get(name, 0) + 1
        return turn

    def _write_blob(self, name: str, data: bytes, turn: int) -> None:
        with self._writing:
            if self._closed:
                raise StorageError(f"{name} cannot be written: the data directory was released")
            if turn < self._on_disk.get(name, 0):
                return  # not for one that is to come: it may fail, or a crash come before it
            try:
                self._files.write(name + BLOB_SUFFIX, data)
            except OSError as error:
                # No path: peers' and clients' replies may say why there is no ring yet.
                reason = error.strerror or type(error).__name__
                raise StorageError(f"{name} cannot be written: {reason}") from error
            self._on_disk[name] = turn

    def _write(self, identity: Identity) -> None:
        try:
            self._files.write(IDENTITY_FILE, msgspec.json.encode(identity))
        except OSError as error:
            raise DataDirectoryError(f"cannot write in {self._files.place}: {error}") from error
        self._identity = identity


def _make(path: Path) -> None:
    """Create the directory and those above it that are missing, private, their names synced."""
    if not path.is_dir():
        _make(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        sync_directory(path.parent)


def _lock(path: Path) -> int:
    lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise DataDirectoryError(f"{path} is in use by another running node") from None
    except BaseException:
        os.close(lock)
        raise
    sync_directory(path)
    return lock


class _LockedFiles:
    """The `Files` of a directory of this machine."""

    def __init__(self, path: Path, lock: int) -> None:
        self._path = path
        self._lock = lock
        self.place = str(path)

    def read(self, name: str) -> bytes | None:
        return read_sealed(self._path / name)

    def write(self, name: str, content: bytes) -> None:
        write_sealed(self._path / name, content)

    def unknown(self) -> str | None:
        names = sorted(entry.name for entry in self._path.iterdir())
        return next((name for name in names if name not in _OF_NO_ONE), None)

    def release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _read_identity(files: Files) -> Identity | None:
    try:
        content = files.read(IDENTITY_FILE)
        if content is None:
            return None
        found = msgspec.json.decode(content, type=dict[str, object])
        if found.get("format") != FORMAT:
            raise DataDirectoryError(
                f"{files.place} is of format {found.get('format')}, this program reads format {FORMAT}"
            )
        return msgspec.json.decode(content, type=Identity)
    except (Malformed, msgspec.DecodeError, OSError) as error:
        raise DataDirectoryError(
            f"{files.place}/{IDENTITY_FILE} cannot be read ({error}); without it the node could mint"
            " the same dot twice. Move the directory away to start with an empty one, which is refilled"
        ) from error


def _check_new(files: Files) -> None:
    """Raises DataDirectoryError if there is anything in a directory that has no identity."""
    unknown = files.unknown()
    if unknown is not None:
        raise DataDirectoryError(
            f"{files.place} is not empty ({unknown}) and has no {IDENTITY_FILE} file: either it is"
            " no data directory, or whose it was is lost. Choose or make an empty one"
        )


def _check_identity(place: str, found: Identity, cluster_id: str, node_id: str) -> None:
    if found.cluster_id != cluster_id:
        raise DataDirectoryError(
            f"{place} is of cluster {found.cluster_id}, this node is of {cluster_id}"
        )
    if found.node_id != node_id:
        raise DataDirectoryError(f"{place} is of node {found.node_id}, this node is {node_id}")
