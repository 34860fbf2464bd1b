"""Makes storages for tests: small ones, under a clock that is set by hand, and their log's file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rocksdict import WriteBatch

from dynamo.metrics import Metrics
from dynamo.ports import Timer
from dynamo.sim.disk import Disk
from dynamo.sim.storage import SimStorage
from dynamo.store.engine import Engine, Sizes
from dynamo.store.rocks import RocksStorage

#: So small that a few hundred writes reach table files and are compacted.
SMALL = Sizes(cache_bytes=1 << 20, buffer_bytes=128 << 10, log_bytes=1 << 20)


class HandClock:
    """A `Clock` that stands still until `now` is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return int(self.now * 1000)

    def wall_ns(self) -> int:
        return int(self.now * 1e9)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        raise NotImplementedError


async def open_rocks(
    directory: Path,
    *,
    existed: bool = False,
    clock: HandClock | None = None,
    metrics: Metrics | None = None,
    free_space_min: int | None = 0,
    statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
    sizes: Sizes = SMALL,
) -> RocksStorage:
    """The storage in `directory`/db."""
    return await RocksStorage.open(
        directory / "db",
        clock=clock or HandClock(),
        metrics=metrics or Metrics(),
        existed=existed,
        free_space_min=free_space_min,
        sizes=sizes,
        statvfs=statvfs,
    )


@asynccontextmanager
async def rocks(directory: Path, *, existed: bool = False) -> AsyncIterator[RocksStorage]:
    """As `open_rocks`, closed at the end."""
    storage = await open_rocks(directory, existed=existed)
    try:
        yield storage
    finally:
        await storage.close()


def quick_disk(*, seed: int = 1) -> Disk:
    """A simulated disk on which nothing takes time."""
    disk = Disk(name="a", seed=seed)
    disk.sync_seconds = disk.open_seconds = disk.rebuild_seconds = (0.0, 0.0)
    return disk


async def open_sim(
    disk: Disk, *, existed: bool = False, metrics: Metrics | None = None
) -> SimStorage:
    """The storage on a simulated disk."""
    return await SimStorage.open(disk, metrics=metrics or Metrics(), existed=existed)


class Stalling:
    """An engine's database that is behind: it takes a batch only at every third try, or never."""

    def __init__(self, database: Any, *, for_ever: bool = False) -> None:
        self._database = database
        self._for_ever = for_ever
        self.tries = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def write(self, batch: WriteBatch) -> None:
        """As the engine does where a write may not wait."""
        self.tries += 1
        if self._for_ever or self.tries % 3:
            raise Exception("Result incomplete: Write stall")  # noqa: TRY002 - as rocksdict does
        self._database.write(batch)


def stall_new_engines(monkeypatch: pytest.MonkeyPatch, *, for_ever: bool = False) -> list[Stalling]:
    """Every engine that is opened from now on is `Stalling`."""
    made: list[Stalling] = []
    opened = Engine.__init__

    def open_stalling(engine: Engine, *args: Any, **named: Any) -> None:
        opened(engine, *args, **named)
        made.append(Stalling(engine.db, for_ever=for_ever))
        engine.db = made[-1]  # type: ignore[assignment]

    monkeypatch.setattr(Engine, "__init__", open_stalling)
    return made


def fill_disk(directory: Path) -> Callable[[], None]:
    """Let the open log meet the end of the disk at its next write; returns what undoes it.

    The operating system's own error: the log's handle is `/dev/full` for a while.
    """
    return _redirect_log(directory, os.open("/dev/full", os.O_WRONLY))


def break_writes(directory: Path) -> Callable[[], None]:
    """Let the next write to the log fail; returns what undoes it."""
    return _redirect_log(directory, os.open(os.devnull, os.O_RDONLY))


def break_syncs(directory: Path) -> Callable[[], None]:
    """Let the next sync of the log fail, as that of a pipe does; returns what undoes it."""
    reader, writer = os.pipe()
    os.close(reader)
    return _redirect_log(directory, writer)


def _redirect_log(directory: Path, replacement: int) -> Callable[[], None]:
    handle = _log_handle(directory / "db")
    kept = os.dup(handle)
    os.dup2(replacement, handle, inheritable=False)
    os.close(replacement)

    def undo() -> None:
        os.dup2(kept, handle, inheritable=False)
        os.close(kept)

    return undo


def open_files(directory: Path) -> list[str]:
    """Names of the files in the directory that this process has open."""
    names = [_target(entry) for entry in os.listdir("/proc/self/fd")]
    return [name for name in names if name.startswith(f"{directory}/")]


def _log_handle(database: Path) -> int:
    (handle,) = (
        int(entry)
        for entry in os.listdir("/proc/self/fd")
        if _target(entry).startswith(f"{database}/") and _target(entry).endswith(".log")
    )
    return handle


def _target(entry: str) -> str:
    with contextlib.suppress(FileNotFoundError):  # the handle of the listing itself
        return os.readlink(f"/proc/self/fd/{entry}")
    return ""
