"""A disk that is really full: what was acknowledged stays, and writing goes on once there is room."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from storages import (
    SMALL,
    HandClock,
    fill_disk,
    open_files,
    open_rocks,
    rocks,
    stall_new_engines,
)

from dynamo.commit import GroupCommit
from dynamo.errors import DynamoError, StorageError, StorageRefusesWrites
from dynamo.metrics import Metrics
from dynamo.store.engine import Sizes
from dynamo.store.rocks import RocksStorage

DISK_BYTES = 4 << 20
#: The log meets the end of the disk before anything is written to table files.
LOG_ONLY = Sizes(cache_bytes=1 << 20, buffer_bytes=DISK_BYTES, log_bytes=2 * DISK_BYTES)


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


async def _fail_to_reopen(storage: RocksStorage, disk: Path) -> None:
    """Until the engine is closed and cannot be opened. Closing it gives back some room, and so does
    a deletion in the background: then the disk is filled anew, and reopening is tried again."""
    for _ in range(100):
        _leave_no_room(disk)
        try:
            recovered = await storage.recover()
        except StorageError:
            return
        if recovered:
            with contextlib.suppress(StorageError):
                await storage.flush()  # of what was in flight
        await _fill(storage)
    raise AssertionError("there was always room")


def _leave_no_room(disk: Path) -> None:
    """Take what a compaction may have given back."""
    with (disk / "ballast").open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4096)):
            pass


def _all_there(storage: RocksStorage, keys: list[bytes]) -> bool:
    return all(storage.get("records", key) is not None for key in keys)


async def test_a_full_disk_stops_writes_until_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES // 2))
    storage = await open_rocks(small_disk, sizes=LOG_ONLY)
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
    for _ in range(3):
        await _fail_to_reopen(storage, small_disk)
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


async def test_a_stopped_node_comes_back_with_all_it_acked(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(3 * DISK_BYTES // 4))
    storage = await open_rocks(small_disk, sizes=LOG_ONLY)
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


@pytest.mark.parametrize("room", [1_000_000, 1_300_000, 1_600_000, 1_900_000])
async def test_a_disk_that_fills_under_a_flush_does_not_stop_the_node(
    small_disk: Path, room: int
) -> None:
    """Where background work finds no room, the engine would let the next write wait for ever."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES - room))
    storage = await open_rocks(small_disk)
    refused = 0
    for number in range(500):  # faster than they can be flushed, until nothing is taken any more
        try:
            storage.put("records", b"%06d" % number, os.urandom(SMALL.buffer_bytes))
        except StorageError:
            refused += 1
            if refused == 20:
                break
            await asyncio.sleep(0.001)
    assert refused == 20
    ballast.unlink()
    async with asyncio.timeout(60):
        while True:  # by itself, or by being reopened
            with contextlib.suppress(StorageError):
                await storage.recover()
                storage.put("records", b"after", b"1")
                await storage.flush()
                break
            await asyncio.sleep(0.05)
    with contextlib.suppress(StorageError):
        await storage.close()
    async with rocks(small_disk, existed=True) as again:
        assert again.opening.state == "clean"
        assert again.get("records", b"after") == b"1"


async def test_the_watermark_refuses_before_the_engine_meets_the_end(small_disk: Path) -> None:
    clock = HandClock()
    storage = await open_rocks(small_disk, clock=clock, free_space_min=1 << 20)
    written: list[bytes] = []
    while storage.refusal() is None:
        key = b"%06d" % len(written)
        with contextlib.suppress(StorageRefusesWrites):  # faster than the engine takes them
            storage.put("records", key, os.urandom(5000))
            written.append(key)
        await storage.flush()
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


@pytest.mark.parametrize("for_ever", [False, True])
async def test_an_engine_that_is_behind_when_it_is_reopened_is_gone_on_with_whole_or_not_at_all(
    tmp_path: Path, for_ever: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is told that it was not reopened does not know that writes may be gone."""
    storage = await _stuck_with_room(tmp_path)
    storage._given = before = storage.write_number + 5  # as of writes that were lost
    stall_new_engines(monkeypatch, for_ever=for_ever)
    monkeypatch.setattr("dynamo.store.engine._STALL_MAX", 0.05 if for_ever else 60.0)
    if for_ever:
        with pytest.raises(StorageError):
            await storage.recover()
        assert storage.refusal() == "disk_full"
        with pytest.raises(StorageError):
            storage.get("records", b"a")
        monkeypatch.undo()
    assert await storage.recover() is True
    assert storage.write_number >= before
    assert storage.get("records", b"a") == b"1"
    with contextlib.suppress(StorageError):
        await storage.close()
    assert open_files(tmp_path) == []


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("milliseconds", [0, 1, 3, 6, 10, 30])
async def test_a_close_while_the_engine_is_reopened_leaves_nothing_open(
    tmp_path: Path, milliseconds: int, cancelled: bool
) -> None:
    storage = await _stuck_with_room(tmp_path)
    recovering = asyncio.create_task(storage.recover())
    await asyncio.sleep(milliseconds / 1000)
    if cancelled:
        recovering.cancel()
    with pytest.raises(StorageError):
        await storage.close()
    await asyncio.wait((recovering,), timeout=10)
    assert recovering.done()
    assert open_files(tmp_path) == []
    async with rocks(tmp_path, existed=True) as again:
        assert again.opening.state == "clean"
        assert again.get("records", b"a") == b"1"


@pytest.mark.parametrize("milliseconds", [0, 1, 3, 6, 10])
async def test_a_reopening_that_was_cancelled_is_taken_up_by_the_next(
    tmp_path: Path, milliseconds: int
) -> None:
    storage = await _stuck_with_room(tmp_path)
    before = storage.write_number
    recovering = asyncio.create_task(storage.recover())
    await asyncio.sleep(milliseconds / 1000)
    recovering.cancel()
    await asyncio.wait((recovering,))
    answers = await asyncio.gather(storage.recover(), storage.recover())
    assert sum(answers) == (0 if not recovering.cancelled() else 1)
    assert storage.put("records", b"c", b"3") > before
    with contextlib.suppress(StorageError):
        await storage.flush()  # what was in flight may be gone
    await storage.close()
    assert open_files(tmp_path) == []
    async with rocks(tmp_path, existed=True) as again:
        assert again.get("records", b"a") == b"1"
        assert again.get("records", b"c") == b"3"


async def test_a_storage_that_cannot_be_reopened_still_closes(tmp_path: Path) -> None:
    storage = await _stuck_with_room(tmp_path)
    blocked = tmp_path / "db.synced"
    blocked.rename(tmp_path / "kept")
    blocked.mkdir()
    with pytest.raises(StorageError, match="cannot be opened"):
        await storage.recover()
    with pytest.raises(StorageError, match="had stopped"):
        await storage.close()
    assert open_files(tmp_path) == []


async def _stuck_with_room(directory: Path) -> RocksStorage:
    """A storage that has met the end of a disk that has room again; "a" is synced in it."""
    storage = await open_rocks(directory)
    storage.put("records", b"a", b"1")
    await storage.flush()
    undo = fill_disk(directory)
    with pytest.raises(StorageError):
        storage.put("records", b"b", b"2")
    undo()
    return storage
