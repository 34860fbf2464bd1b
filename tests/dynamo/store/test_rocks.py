"""The storage on disk: what it keeps, when it refuses, and what it never does again."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from storages import SMALL, HandClock, break_syncs, break_writes, open_files, open_rocks, rocks

from dynamo.errors import StorageCorrupt, StorageError, StorageRefusesWrites
from dynamo.metrics import Metrics
from dynamo.ports import Write


async def test_everything_is_there_after_a_close(tmp_path: Path) -> None:
    async with rocks(tmp_path) as storage:
        assert storage.opening.state == "clean"
        number = storage.write([Write("records", b"a", b"1"), Write("hints", b"b", b"2")])
    async with rocks(tmp_path, existed=True) as storage:
        assert storage.opening.state == "clean"
        assert storage.write_number >= number
        assert storage.synced_number == storage.write_number
        assert storage.get("records", b"a") == b"1"
        assert storage.get("hints", b"b") == b"2"


async def test_a_raised_write_number_survives_a_restart(tmp_path: Path) -> None:
    async with rocks(tmp_path) as storage:
        storage.put("records", b"a", b"")
        storage.raise_write_number(10**15)
        raised = storage.write_number
    async with rocks(tmp_path) as storage:
        assert storage.write_number >= raised
        assert storage.put("records", b"a", b"") > raised


async def test_no_thread_and_no_file_is_left_after_a_close(tmp_path: Path) -> None:
    threads = threading.active_count()
    storage = await open_rocks(tmp_path)
    storage.put("records", b"a", b"")
    page = storage.scan("records", b"", b"z", count_max=1, bytes_max=1)
    await storage.close()
    assert len(page) == 1
    assert threading.active_count() == threads
    assert open_files(tmp_path) == []


async def test_an_open_that_is_cancelled_releases_what_it_opened(tmp_path: Path) -> None:
    opening = asyncio.ensure_future(open_rocks(tmp_path))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert open_files(tmp_path) == []
    async with rocks(tmp_path) as storage:
        assert storage.opening.state == "clean"


async def test_an_open_database_cannot_be_opened_twice(tmp_path: Path) -> None:
    async with rocks(tmp_path) as storage:
        storage.put("records", b"a", b"1")
        with pytest.raises(StorageError, match="lock"):
            await open_rocks(tmp_path, existed=True)
        assert storage.get("records", b"a") == b"1"
    assert sorted(os.listdir(tmp_path)) == ["db", "db.synced"]


async def test_the_loop_runs_on_during_a_sync(tmp_path: Path) -> None:
    async with rocks(tmp_path) as storage:
        turns = 0
        for number in range(20):
            storage.put("records", b"%d" % number, bytes(10_000))
            flush = asyncio.ensure_future(storage.flush())
            while not flush.done():
                turns += 1
                await asyncio.sleep(0)
        assert turns > 40


async def test_the_first_failed_sync_ends_writing_for_good(tmp_path: Path) -> None:
    metrics = Metrics()
    storage = await open_rocks(tmp_path, metrics=metrics)
    number = storage.put("records", b"synced", b"1")
    await storage.flush()
    storage.put("records", b"unsynced", b"2")
    undo = break_syncs(tmp_path)
    with pytest.raises(StorageError, match="Invalid argument"):
        await storage.flush()
    undo()
    # The disk is well again, and nothing is tried again.
    assert storage.refusal() == "sync_failed"
    for _ in range(2):
        with pytest.raises(StorageError):
            await storage.flush()
        with pytest.raises(StorageRefusesWrites) as refused:
            storage.put("records", b"k", b"v")
        assert refused.value.outcome == "none"
        assert refused.value.details["reason"] == "sync_failed"
    with pytest.raises(StorageRefusesWrites):
        storage.raise_write_number(10**6)
    assert await storage.recover() is False
    assert storage.synced_number == number
    assert storage.get("records", b"synced") == b"1"
    assert metrics.count["storage_stopped_sync_failed"] == 1
    with pytest.raises(StorageError):
        await storage.close()
    async with rocks(tmp_path, existed=True) as again:
        assert again.opening.state == "clean"
        assert again.get("records", b"synced") == b"1"
        assert again.get("records", b"k") is None


async def test_a_sync_that_waits_behind_a_failed_one_is_not_tried(tmp_path: Path) -> None:
    storage = await open_rocks(tmp_path)
    storage.put("records", b"a", b"1")
    undo = break_syncs(tmp_path)
    first = asyncio.ensure_future(storage.flush())
    second = asyncio.ensure_future(storage.flush())
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    undo()
    assert [type(outcome) for outcome in outcomes] == [StorageError, StorageError]
    with pytest.raises(StorageError):
        await storage.close()


class _SlowToFail:
    """An engine's database whose sync fails once `go_on` is set."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def flush_wal(self, sync: bool) -> None:
        self.begun.set()
        self.go_on.wait(10)
        raise Exception("IO error: While fsync: Input/output error")  # noqa: TRY002 - as rocksdict


async def test_a_recovery_that_waits_behind_a_failed_sync_does_not_undo_it(tmp_path: Path) -> None:
    """A read meets damage while a sync runs, and the database is to be rebuilt next."""
    storage = await open_rocks(tmp_path)
    storage.put("records", b"a", b"1")
    slow = _SlowToFail(storage._engine.db)
    storage._engine.db = slow  # type: ignore[assignment]
    flushing = asyncio.ensure_future(storage.flush())
    while not slow.begun.is_set():
        await asyncio.sleep(0.001)
    storage._read_error(Exception("Corruption: block checksum mismatch"))
    assert storage.refusal() == "damaged"
    recovering = asyncio.ensure_future(storage.recover())
    await asyncio.sleep(0.01)
    slow.go_on.set()
    assert await recovering is False
    with pytest.raises(StorageError, match="fsync"):
        await flushing
    assert storage.refusal() == "sync_failed"
    with pytest.raises(StorageRefusesWrites):
        storage.put("records", b"b", b"2")
    with pytest.raises(StorageError):
        await storage.close()
    assert open_files(tmp_path) == []


async def test_a_write_that_fails_is_unknown_and_the_last(tmp_path: Path) -> None:
    storage = await open_rocks(tmp_path)
    storage.put("records", b"a", b"1")
    await storage.flush()
    undo = break_writes(tmp_path)
    with pytest.raises(StorageError) as failed:
        storage.put("records", b"b", b"2")
    undo()
    assert failed.value.outcome == "unknown"
    assert storage.refusal() == "storage_error"
    with pytest.raises(StorageRefusesWrites):
        storage.put("records", b"b", b"2")
    with pytest.raises(StorageError):
        await storage.flush()
    assert storage.get("records", b"a") == b"1"
    with pytest.raises(StorageError):
        await storage.close()
    async with rocks(tmp_path, existed=True) as again:
        assert again.opening.state == "clean"
        assert again.get("records", b"a") == b"1"
        assert again.get("records", b"b") in (None, b"2")


async def test_a_directory_that_is_gone_ends_writing(tmp_path: Path) -> None:
    clock = HandClock()
    storage = await open_rocks(tmp_path, clock=clock)
    storage.put("records", b"a", b"1")
    (tmp_path / "db").rename(tmp_path / "away")
    clock.now = 1.0
    assert storage.refusal() == "storage_error"
    with pytest.raises(StorageRefusesWrites):
        storage.put("records", b"a", b"2")
    with pytest.raises(StorageError):  # it would be synced, and be found by nobody
        await storage.flush()
    with pytest.raises(StorageError):
        await storage.close()


class _Disk:
    """`statvfs` of a disk of a gigabyte whose free space a test sets; counts how often it is asked."""

    def __init__(self, *, size_mib: int = 1024) -> None:
        self.free_mib = size_mib
        self.size_mib = size_mib
        self.asked = 0

    def __call__(self, path: Path) -> os.statvfs_result:
        self.asked += 1
        mib = 1 << 20
        return os.statvfs_result((mib, mib, self.size_mib, 0, self.free_mib, 0, 0, 0, 0, 255))


@pytest.mark.parametrize(
    ("free_space_min", "size_mib", "below_mib", "above_mib"),
    [
        (None, 1024, 255, 288),  # 256 MiB is more than 2 %
        (None, 51_200, 1023, 1152),  # 2 % is more than 256 MiB
        (100 << 20, 51_200, 99, 113),
    ],
)
async def test_below_the_watermark_writes_are_refused_without_effect(
    tmp_path: Path, free_space_min: int | None, size_mib: int, below_mib: int, above_mib: int
) -> None:
    disk, clock = _Disk(size_mib=size_mib), HandClock()
    storage = await open_rocks(tmp_path, clock=clock, free_space_min=free_space_min, statvfs=disk)
    storage.put("records", b"a", b"1")
    disk.free_mib = below_mib + 1
    clock.now += 1
    assert storage.refusal() is None

    disk.free_mib = below_mib
    clock.now += 1
    number = storage.write_number
    assert storage.refusal() == "disk_full"
    with pytest.raises(StorageRefusesWrites) as refused:
        storage.put("records", b"a", b"2")
    assert (refused.value.details["reason"], refused.value.outcome) == ("disk_full", "none")
    with pytest.raises(StorageRefusesWrites):
        storage.write([Write("records", b"a", None)])
    assert storage.write_number == number
    assert storage.get("records", b"a") == b"1"
    assert storage.refusal(reserve=True) is None
    number = storage.put("records", b"b", b"gone", reserve=True)
    number += 1
    assert storage.write((Write("hints", b"b", None),), reserve=True) == number
    assert await storage.flush() == number  # what was taken is synced
    assert await storage.recover() is False  # nothing is wrong with the engine

    disk.free_mib = below_mib + 2  # no flapping around the mark
    clock.now += 1
    assert storage.refusal() == "disk_full"
    disk.free_mib = above_mib
    clock.now += 1
    assert storage.refusal() is None
    storage.put("records", b"a", b"3")
    await storage.close()


async def test_the_disk_is_asked_every_quarter_of_a_second_not_at_every_write(
    tmp_path: Path,
) -> None:
    disk, clock = _Disk(), HandClock()
    storage = await open_rocks(tmp_path, clock=clock, free_space_min=None, statvfs=disk)
    for number in range(1000):
        clock.now = number / 1000
        storage.put("records", b"%d" % number, b"")
    assert disk.asked == 4
    await storage.close()


async def test_a_flipped_bit_in_a_table_is_an_error_and_never_absent(tmp_path: Path) -> None:
    async with rocks(tmp_path) as storage:
        for number in range(300):
            storage.put("records", b"%03d" % number, os.urandom(200))
    (table,) = (tmp_path / "db").glob("*.sst")
    data = bytearray(table.read_bytes())
    data[len(data) // 3] ^= 1
    table.write_bytes(data)
    metrics = Metrics()
    storage = await open_rocks(tmp_path, existed=True, metrics=metrics)
    damaged = 0
    for number in range(300):
        try:
            assert storage.get("records", b"%03d" % number) is not None
        except StorageCorrupt:
            damaged += 1
    assert 0 < damaged < 300
    assert metrics.count["storage_reads_failed"] == damaged
    with pytest.raises(StorageCorrupt):
        storage.scan("records", b"", b"9", count_max=1000, bytes_max=1 << 20)
    assert storage.refusal() == "damaged"  # until it is rebuilt
    with pytest.raises(StorageRefusesWrites):
        storage.put("records", b"k", b"1")
    with pytest.raises(StorageError, match="damaged"):
        await storage.close()


async def test_many_writes_from_many_flushes_keep_their_order(tmp_path: Path) -> None:
    storage = await open_rocks(tmp_path)

    async def write(name: int) -> None:
        for number in range(20):
            reached = storage.put("records", b"%d" % name, b"%d" % number)
            assert await storage.flush() >= reached

    await asyncio.gather(*(write(name) for name in range(10)))
    assert storage.synced_number == storage.write_number
    await storage.close()
    await _check_values(tmp_path)


async def _check_values(directory: Path) -> None:
    async with rocks(directory, existed=True) as storage:
        assert [storage.get("records", b"%d" % name) for name in range(10)] == [b"19"] * 10


async def test_a_write_that_would_have_to_wait_for_the_engine_is_refused_at_once(
    tmp_path: Path,
) -> None:
    """The engine would wait in the event loop's thread, for ever where its background work is stuck."""
    metrics = Metrics()
    storage = await open_rocks(tmp_path, metrics=metrics)
    value = os.urandom(SMALL.buffer_bytes)  # each fills a write buffer
    taken: list[bytes] = []
    refused: list[bytes] = []
    reasons: list[object] = []
    for number in range(5_000):
        key = b"%06d" % number
        before = storage.write_number
        try:
            assert storage.put("records", key, value) > before
        except StorageRefusesWrites as error:
            reasons.append((error.details["reason"], error.outcome))
            assert storage.write_number == before
            refused.append(key)
            if len(refused) == 20:
                break
            await asyncio.sleep(0.001)
        else:
            taken.append(key)
    assert reasons == [("storage_busy", "none")] * 20
    assert metrics.count["storage_stalls"] == 20
    assert storage.refusal() is None
    deadline = time.monotonic() + 30
    while True:  # it passes by itself, for batches too
        try:
            storage.write([Write("records", b"after", b"1"), Write("hints", b"h", b"2")])
        except StorageRefusesWrites:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)
        else:
            break
    await storage.close()
    async with rocks(tmp_path, existed=True) as again:
        assert all(again.get("records", key) == value for key in taken)
        assert not any(again.get("records", key) for key in refused)
        assert again.get("records", b"after") == b"1"
