"""A disk that is really full: what was acknowledged stays, and writing goes on once there is room."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from storages import HandClock, fill_disk, open_rocks, rocks

from dynamo.commit import GroupCommit
from dynamo.errors import DynamoError, StorageError, StorageRefusesWrites
from dynamo.metrics import Metrics
from dynamo.store.rocks import RocksStorage

DISK_BYTES = 4 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes. It has no name, so that it is gone however this ends."""
    options = f"size={DISK_BYTES}"
    mount = shutil.which("mount")
    made = mount is not None and subprocess.run(
        [mount, "-t", "tmpfs", "-o", options, "tmpfs", tmp_path], capture_output=True, check=False
    )
    if not made or made.returncode != 0:
        pytest.skip("a small file system cannot be mounted here: that takes root")
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    subprocess.run(["umount", "--lazy", tmp_path], check=True)
    try:
        yield Path(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


async def _fill(storage: RocksStorage) -> tuple[list[bytes], StorageError]:
    """Write until the engine meets the end; returns the keys that were synced, and the error."""
    synced: list[bytes] = []
    for number in range(10_000):
        key = b"%06d" % number
        try:
            storage.put("records", key, os.urandom(5000))
            await storage.flush()
        except StorageError as error:
            return synced, error
        synced.append(key)
    raise AssertionError("the disk took everything")


async def _recover_in_vain(storage: RocksStorage, disk: Path) -> None:
    """Until the engine is closed and cannot be opened: closing it may free some room."""
    for _ in range(20):
        _leave_no_room(disk)
        try:
            await storage.recover()
        except StorageError:
            _leave_no_room(disk)
            return
        await _fill(storage)
    raise AssertionError("there was always room")


def _leave_no_room(disk: Path) -> None:
    """Take what a compaction may have given back."""
    with (disk / "ballast").open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4096)):
            pass


def _all_there(storage: RocksStorage, keys: list[bytes]) -> bool:
    return all(storage.get("records", key) is not None for key in keys)


async def _stop_until_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES // 2))
    storage = await open_rocks(small_disk)
    synced, error = await _fill(storage)
    assert len(synced) > 50
    assert error.outcome == "unknown"
    assert "No space left" in error.message
    assert storage.refusal() == "disk_full"
    with pytest.raises(StorageRefusesWrites) as refused:
        storage.put("records", b"k", b"v")
    assert refused.value.outcome == "none"
    assert _all_there(storage, synced)

    # There is no room: reopening fails, again and again, and does no harm.
    await _recover_in_vain(storage, small_disk)
    for _ in range(3):
        _leave_no_room(small_disk)  # a failed attempt may have given some back
        with pytest.raises(StorageError):
            await storage.recover()
        assert storage.refusal() == "disk_full"
        assert storage.write_number >= storage.synced_number
        with pytest.raises(StorageError):
            storage.get("records", synced[0])  # an error, not absence
    number = storage.write_number

    ballast.unlink()
    assert await storage.recover() is True
    assert await storage.recover() is False
    assert storage.refusal() is None
    assert storage.opening.state == "clean"
    assert storage.write_number >= number
    assert _all_there(storage, synced)
    with pytest.raises(StorageError, match="may be gone"):
        await storage.flush()  # of what was in flight
    assert storage.put("records", b"after", b"1") > number
    assert await storage.flush() > number
    await storage.close()
    async with rocks(small_disk, existed=True) as again:
        assert again.opening.state == "clean"
        assert _all_there(again, [*synced, b"after"])


async def _come_back_with_all_that_was_acked(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES // 2))
    storage = await open_rocks(small_disk)
    synced, _ = await _fill(storage)
    with pytest.raises(StorageError):
        await storage.close()
    _leave_no_room(small_disk)
    # Not damage: nothing is moved or given up, whether or not an attempt finds enough room.
    with contextlib.suppress(StorageError):
        await (await open_rocks(small_disk, existed=True)).close()
    ballast.unlink()
    async with rocks(small_disk, existed=True) as again:
        assert again.opening.state == "clean"
        assert _all_there(again, synced)
    assert sorted(os.listdir(small_disk)) == ["db", "db.synced"]  # nothing was put aside


@pytest.mark.parametrize(
    "scene",
    [_stop_until_there_is_room, _come_back_with_all_that_was_acked],
    ids=["a full disk stops writes", "a stopped node comes back with all it acked"],
)
async def test_a_full_disk_loses_nothing(
    scene: Callable[[Path], Awaitable[None]], small_disk: Path
) -> None:
    """The engine gives back room in the background when it likes, and then the disk is not as full as
    the scene needs: it is staged again, on an empty disk, up to three times."""
    for attempt in range(3):
        for name in os.listdir(small_disk):
            path = small_disk / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        try:
            await scene(small_disk)
        except (AssertionError, StorageError, pytest.fail.Exception):
            if attempt == 2:
                raise
        else:
            return


async def test_the_watermark_refuses_before_the_engine_meets_the_end(small_disk: Path) -> None:
    clock = HandClock()
    storage = await open_rocks(small_disk, clock=clock, free_space_min=1 << 20)
    written: list[bytes] = []
    while storage.refusal() is None:
        written.append(b"%06d" % len(written))
        storage.put("records", written[-1], os.urandom(5000))
        clock.now += 0.3
    assert storage.refusal() == "disk_full"
    with pytest.raises(StorageRefusesWrites):
        storage.put("records", b"k", b"v")
    assert len(written) > 50
    await storage.flush()
    assert _all_there(storage, written)
    await storage.close()


async def test_writes_in_flight_when_the_disk_fills_are_all_told(tmp_path: Path) -> None:
    """Whoever waited hears of it, also when the engine is reopened before the next flush."""
    storage = await open_rocks(tmp_path)
    commit = GroupCommit(storage=storage, metrics=Metrics())
    told: list[DynamoError | None] = []
    commit.when_synced(storage.put("records", b"a", b"1"), told.append)
    undo = fill_disk(tmp_path)
    with pytest.raises(StorageError):
        storage.put("records", b"b", b"2")
    undo()
    assert await storage.recover() is True
    running = asyncio.create_task(commit.run())
    while not told:
        await asyncio.sleep(0.001)
    (error,) = told
    assert error is not None
    assert error.outcome == "unknown"
    assert storage.get("records", b"a") == b"1"  # unknown: here it lived on

    commit.when_synced(storage.put("records", b"c", b"3"), told.append)
    while len(told) < 2:
        await asyncio.sleep(0.001)
    assert told[1] is None
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await storage.close()


async def test_no_write_takes_a_number_that_was_lost_with_the_disk(tmp_path: Path) -> None:
    storage = await open_rocks(tmp_path)
    first = storage.put("records", b"a", b"1")
    await storage.flush()
    undo = fill_disk(tmp_path)
    for key in (b"b", b"c"):
        with pytest.raises(StorageError):
            storage.put("records", key, b"2")
    undo()
    before = storage.write_number
    await storage.recover()
    assert storage.write_number >= before >= first
    assert storage.put("records", b"d", b"4") > before
    with pytest.raises(StorageError, match="may be gone"):
        await storage.close()
    async with rocks(tmp_path, existed=True) as again:
        assert again.write_number > before
        assert again.get("records", b"d") == b"4"
