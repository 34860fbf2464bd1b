"""The simulated storage behaves as the one on disk does, in what it refuses, recovers and reports."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from storage_history import apply, check_prefix, dump
from storages import fill_disk, open_rocks, open_sim, quick_disk

from dynamo.commit import GroupCommit
from dynamo.errors import DynamoError, StorageCorrupt, StorageError, StorageRefusesWrites
from dynamo.metrics import Metrics
from dynamo.ports import Opening, Write
from dynamo.sim.disk import Disk, SmallFile
from dynamo.sim.loop import run_virtual
from dynamo.sim.storage import SimStorage
from dynamo.store.rocks import RocksStorage


async def _filled(disk: Disk, *, writes: int = 10, metrics: Metrics | None = None) -> SimStorage:
    """A storage that has synced "0" to "9"."""
    storage = await open_sim(disk, metrics=metrics)
    for number in range(writes):
        storage.put("records", b"%d" % number, b"v%d" % number)
    await storage.flush()
    return storage


def _keys(storage: SimStorage) -> list[bytes]:
    return [
        key for key, _ in storage.scan("records", b"", b"\xff", count_max=999, bytes_max=1 << 30)
    ]


# Crashes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", range(11))
async def test_a_crash_keeps_a_prefix_that_has_all_that_was_synced(kept: int) -> None:
    disk = quick_disk()
    storage = await open_sim(disk)
    for number in range(50):
        apply(storage, number)
        if number == 39:
            await storage.flush()
    assert disk.unsynced == 10
    assert disk.crash(kept) == kept
    again = await open_sim(disk, existed=True)
    assert again.opening.state == "clean"
    assert check_prefix(dump(again), 50) == 40 + kept
    assert disk.unsynced == 0
    assert again.synced_number == again.write_number == again.opening.recovered


async def test_without_being_told_a_crash_keeps_any_number() -> None:
    kept = set()
    for seed in range(40):
        disk = quick_disk(seed=seed)
        storage = await open_sim(disk)
        for number in range(4):
            apply(storage, number)
        kept.add(disk.crash())
    assert kept == {0, 1, 2, 3, 4}


async def test_a_storage_whose_process_crashed_refuses_everything() -> None:
    disk = quick_disk()
    storage = await _filled(disk)
    storage.put("records", b"x", b"1")
    flushing = asyncio.ensure_future(storage.flush())
    await asyncio.sleep(0)
    disk.crash(0)
    again = await open_sim(disk, existed=True)
    with pytest.raises(StorageError):
        await flushing
    with pytest.raises(StorageError):
        storage.get("records", b"0")
    with pytest.raises(StorageError):
        storage.put("records", b"x", b"2")
    with pytest.raises(StorageError):
        await storage.flush()
    assert await storage.recover() is False
    await storage.close()
    assert again.get("records", b"0") == b"v0"
    assert again.get("records", b"x") is None
    assert disk.in_use


async def test_a_crash_while_it_opens_leaves_it_to_the_next() -> None:
    disk = quick_disk()
    disk.open_seconds = (0.001, 0.001)
    opening = asyncio.ensure_future(open_sim(disk))
    await asyncio.sleep(0)
    with pytest.raises(StorageError, match="lock"):
        await open_sim(disk)
    disk.crash()
    again = await open_sim(disk)
    with pytest.raises(StorageError, match="gone"):
        await opening
    assert again.put("records", b"a", b"1")


async def test_an_open_that_is_cancelled_leaves_nothing_open() -> None:
    disk = quick_disk()
    opening = asyncio.ensure_future(open_sim(disk))
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait((opening,))
    assert not disk.in_use


# Time ---------------------------------------------------------------------------------------------


def test_a_flush_takes_as_long_as_the_disk_and_covers_what_came_before_it() -> None:
    async def scene() -> None:
        disk = Disk(name="a", seed=1)
        storage = await open_sim(disk)
        loop = asyncio.get_running_loop()
        first = storage.put("records", b"a", b"1")
        start = loop.time()
        flushing = asyncio.ensure_future(storage.flush())
        await asyncio.sleep(0)
        second = storage.put("records", b"b", b"2")
        assert await flushing == first
        least, most = disk.sync_seconds
        assert least <= loop.time() - start <= most
        assert storage.synced_number == first
        assert disk.durable("records", b"a") == b"1"
        assert disk.durable("records", b"b") is None
        assert disk.current("records", b"b") == b"2"
        disk.slow(100.0)
        start = loop.time()
        assert await storage.flush() == second
        assert loop.time() - start >= 100 * least
        assert disk.durable_items("records") == [(b"a", b"1"), (b"b", b"2")]

    run_virtual(scene(), random=random.Random(1))


# Refusals -----------------------------------------------------------------------------------------


async def test_the_first_failed_sync_ends_writing_until_the_next_start() -> None:
    disk, metrics = quick_disk(), Metrics()
    storage = await _filled(disk, metrics=metrics)
    storage.put("records", b"x", b"1")
    disk.fail_sync()
    with pytest.raises(StorageError, match="Input/output"):
        await storage.flush()
    assert disk.sync_failed
    assert storage.refusal(reserve=True) == "sync_failed"
    for _ in range(2):
        with pytest.raises(StorageError):
            await storage.flush()
        with pytest.raises(StorageRefusesWrites) as refused:
            storage.put("records", b"k", b"v")
        assert refused.value.details["reason"] == "sync_failed"
    with pytest.raises(StorageRefusesWrites):
        storage.raise_write_number(10**6)
    assert await storage.recover() is False
    assert metrics.count["storage_stopped_sync_failed"] == 1
    assert disk.durable("records", b"x") is None
    with pytest.raises(StorageError):
        await storage.close()
    assert disk.breaches == []
    again = await open_sim(disk, existed=True)
    assert again.refusal() is None
    assert again.opening.state == "clean"
    assert _keys(again)[:10] == [b"%d" % number for number in range(10)]


async def test_a_sync_that_waits_behind_a_failed_one_is_not_tried() -> None:
    disk = quick_disk()
    storage = await open_sim(disk)
    storage.put("records", b"a", b"1")
    disk.fail_sync()
    outcomes = await asyncio.gather(storage.flush(), storage.flush(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StorageError, StorageError]
    assert disk.breaches == []


async def test_a_recovery_that_waits_behind_a_failed_sync_does_not_undo_it() -> None:
    disk = quick_disk()
    storage = await _filled(disk)
    storage.put("records", b"x", b"1")
    disk.rot_block("records", b"3", b"5")
    disk.fail_sync()
    flushing = asyncio.ensure_future(storage.flush())
    await asyncio.sleep(0)
    with pytest.raises(StorageCorrupt):
        storage.get("records", b"3")
    assert await storage.recover() is False
    with pytest.raises(StorageError):
        await flushing
    assert storage.refusal() == "sync_failed"


async def test_the_disk_notes_what_no_process_may_do() -> None:
    disk = quick_disk()
    storage = await _filled(disk)
    storage.put("records", b"x", b"1")
    disk.fail_sync()
    with pytest.raises(StorageError):
        await storage.flush()
    storage._stopped = None  # as a storage would that makes light of it
    storage.put("records", b"y", b"2")
    await storage.flush()
    assert [breach.partition(": ")[2] for breach in disk.breaches] == [
        "a write was accepted after a failed sync",
        "a sync was tried again after a failed one",
    ]
    assert disk.durable("records", b"x") is None  # it succeeded, and saved nothing


async def test_below_the_watermark_deletes_alone_go_on() -> None:
    disk = quick_disk()
    storage = await _filled(disk)
    number = storage.write_number
    disk.fill()
    assert storage.refusal() == "disk_full"
    assert storage.refusal(reserve=True) is None
    with pytest.raises(StorageRefusesWrites):
        storage.put("records", b"a", b"2")
    with pytest.raises(StorageRefusesWrites):
        storage.write([Write("records", b"a", None)])
    assert storage.write_number == number
    assert storage.put("records", b"a", b"gone", reserve=True) == number + 1
    assert storage.write([Write("hints", b"a", None)], reserve=True) == number + 2
    storage.raise_write_number(number + 10)
    assert await storage.flush() > number + 10
    assert await storage.recover() is False  # nothing is wrong with the engine
    disk.free()
    assert storage.refusal() is None


async def test_an_engine_that_met_the_end_is_stuck_until_it_is_reopened() -> None:
    disk, metrics = quick_disk(), Metrics()
    storage = await _filled(disk, metrics=metrics)
    disk.meet_end()
    with pytest.raises(StorageError, match="No space left") as failed:
        storage.put("records", b"x", b"1")
    assert failed.value.outcome == "unknown"
    assert storage.refusal(reserve=True) == "disk_full"
    number = storage.write_number
    assert storage.get("records", b"0") == b"v0"
    assert await storage.recover() is False
    disk.free()
    assert storage.refusal() == "disk_full"
    assert await storage.recover() is True
    assert await storage.recover() is False
    assert storage.refusal() is None
    assert storage.opening.state == "clean"
    assert storage.write_number >= number
    with pytest.raises(StorageError, match="may be gone"):
        await storage.flush()
    assert storage.put("records", b"after", b"1") > number
    await storage.flush()
    assert metrics.count["storage_reopened"] == 1
    await storage.close()
    assert disk.durable("records", b"9") == b"v9"


async def test_writes_in_flight_when_it_is_reopened_are_all_told() -> None:
    survived = set()
    for seed in range(20):
        disk = quick_disk(seed=seed)
        storage = await _filled(disk)
        commit = GroupCommit(storage=storage, metrics=Metrics())
        told: list[DynamoError | None] = []
        commit.when_synced(storage.put("records", b"a", b"1"), told.append)
        disk.meet_end()
        with pytest.raises(StorageError):
            storage.put("records", b"b", b"2")
        disk.free()
        before = storage.write_number
        assert await storage.recover() is True
        assert storage.put("records", b"c", b"3") > before
        running = asyncio.create_task(commit.run())
        while not told:
            await asyncio.sleep(0)
        assert told[0] is not None
        survived.add((storage.get("records", b"a"), storage.get("records", b"b")))
        running.cancel()
        await asyncio.wait((running,))
    assert survived == {(None, None), (b"1", None), (b"1", b"2")}


async def test_a_reopening_that_finds_no_room_leaves_reads_refused_until_one_does() -> None:
    disk = quick_disk()
    storage = await _filled(disk)
    disk.meet_end()
    with pytest.raises(StorageError):
        await _put_and_flush(storage)
    disk.free()
    recovering = asyncio.ensure_future(storage.recover())
    await asyncio.sleep(0)
    disk.meet_end()
    with pytest.raises(StorageError, match="cannot be opened"):
        await recovering
    with pytest.raises(StorageError):
        storage.get("records", b"0")  # an error, not absence
    disk.free()
    assert await storage.recover() is True
    assert storage.get("records", b"0") == b"v0"


async def _put_and_flush(storage: SimStorage) -> None:
    storage.put("records", b"x", b"1", reserve=True)
    await storage.flush()


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("turns", range(6))
async def test_a_close_at_any_step_of_a_reopening_leaves_nothing_open(
    turns: int, cancelled: bool
) -> None:
    disk = quick_disk()
    storage = await _filled(disk)
    disk.rot_block("records", b"3", b"5")
    with pytest.raises(StorageCorrupt):
        storage.get("records", b"3")
    recovering = asyncio.ensure_future(storage.recover())
    for _ in range(turns):
        await asyncio.sleep(0)
    if cancelled:
        recovering.cancel()
    with contextlib.suppress(StorageError):
        await storage.close()
    await asyncio.wait((recovering,))
    assert not disk.in_use
    again = await open_sim(disk, existed=True)
    assert again.opening.state in ("clean", "rebuilt")
    assert again.get("records", b"9") == b"v9"


@pytest.mark.parametrize("turns", range(6))
async def test_a_reopening_that_was_cancelled_is_taken_up_by_the_next(turns: int) -> None:
    disk = quick_disk()
    storage = await _filled(disk)
    before = storage.write_number
    disk.rot_block("records", b"3", b"5")
    with pytest.raises(StorageCorrupt):
        storage.get("records", b"3")
    recovering = asyncio.ensure_future(storage.recover())
    for _ in range(turns):
        await asyncio.sleep(0)
    recovering.cancel()
    await asyncio.wait((recovering,))
    answers = await asyncio.gather(storage.recover(), storage.recover())
    assert sum(answers) == (1 if recovering.cancelled() else 0)
    assert storage.put("records", b"c", b"3") > before
    assert _keys(storage) == [b"0", b"1", b"2", b"5", b"6", b"7", b"8", b"9", b"c"]


async def test_an_engine_that_is_behind_takes_nothing_and_forgets_nothing() -> None:
    disk, metrics = quick_disk(), Metrics()
    storage = await _filled(disk, metrics=metrics)
    number = storage.write_number
    disk.busy(True)
    assert storage.refusal() is None
    with pytest.raises(StorageRefusesWrites) as refused:
        storage.put("records", b"x", b"1")
    assert refused.value.details["reason"] == "storage_busy"
    assert (storage.write_number, storage.get("records", b"x")) == (number, None)
    assert metrics.count["storage_stalls"] == 1
    disk.busy(False)
    assert storage.put("records", b"x", b"1") == number + 1


async def test_a_write_that_fails_is_unknown_and_the_last() -> None:
    found = set()
    for seed in range(20):
        disk = quick_disk(seed=seed)
        storage = await _filled(disk)
        disk.fail_write()
        with pytest.raises(StorageError) as failed:
            storage.put("records", b"x", b"1")
        assert failed.value.outcome == "unknown"
        assert storage.refusal() == "storage_error"
        with pytest.raises(StorageRefusesWrites):
            storage.put("records", b"x", b"2")
        with pytest.raises(StorageError):
            await storage.close()
        found.add((await open_sim(disk, existed=True)).get("records", b"x"))
    assert found == {None, b"1"}


# Damage -------------------------------------------------------------------------------------------


async def test_a_flipped_bit_is_below_every_checksum_of_the_engine() -> None:
    disk = quick_disk()
    storage = await _filled(disk)
    assert disk.rot("records", b"3")
    rotten = storage.get("records", b"3")
    assert rotten is not None
    assert bin(int.from_bytes(rotten) ^ int.from_bytes(b"v3")).count("1") == 1
    assert disk.durable("records", b"3") == rotten
    assert not disk.rot("records", b"absent")
    storage.put("records", b"4", b"new")
    assert disk.rot("records", b"4")  # what is on disk, not what is about to take its place
    assert storage.get("records", b"4") == b"new"


async def test_a_damaged_block_is_met_by_a_read_and_ends_writing_until_it_is_rebuilt() -> None:
    disk, metrics = quick_disk(), Metrics()
    storage = await _filled(disk, metrics=metrics)
    storage.put("records", b"x", b"1")
    number = storage.write_number
    assert disk.rot_block("records", b"3", b"5") == [b"3", b"4"]
    assert storage.refusal() is None  # nobody has met it
    assert disk.durable("records", b"3") is None
    assert [disk.is_unreadable("records", key) for key in (b"2", b"3", b"5")] == [
        False,
        True,
        False,
    ]
    page = storage.scan("records", b"", b"\xff", count_max=3, bytes_max=1000)
    assert [key for key, _ in page] == [b"0", b"1", b"2"]
    with pytest.raises(StorageCorrupt):
        storage.scan("records", b"", b"\xff", count_max=4, bytes_max=1000)
    assert storage.refusal() == "damaged"
    assert storage.get("records", b"5") == b"v5"
    with pytest.raises(StorageCorrupt):
        storage.get("records", b"4")
    assert metrics.count["storage_reads_failed"] == 2
    with pytest.raises(StorageRefusesWrites):
        storage.put("records", b"y", b"2")
    assert await storage.recover() is True
    assert storage.refusal() is None
    assert not disk.is_unreadable("records", b"3")
    assert storage.opening.state == "rebuilt"
    assert "Corruption" in storage.opening.why
    assert storage.opening.noted == number
    assert storage.write_number > number
    assert _keys(storage) == [b"0", b"1", b"2", b"5", b"6", b"7", b"8", b"9", b"x"]
    assert disk.durable("records", b"x") == b"1"  # the new database is synced
    with pytest.raises(StorageError, match="may be gone"):
        await storage.flush()
    await storage.close()
    again = await open_sim(disk, existed=True)
    assert (again.opening.state, again.settled) == ("rebuilt", False)
    again.settle()
    await again.close()
    assert (await open_sim(disk, existed=True)).opening.state == "clean"


async def test_what_is_written_over_a_damaged_block_is_read_and_lost_by_a_crash_alone() -> None:
    disk = quick_disk()
    storage = await _filled(disk)
    disk.rot_block("records", b"3", b"5")
    storage.put("records", b"3", b"new")
    assert storage.get("records", b"3") == b"new"
    assert disk.durable("records", b"3") is None
    await storage.flush()
    assert disk.durable("records", b"3") == b"new"
    storage.put("records", b"4", b"new")
    disk.crash(0)
    again = await open_sim(disk, existed=True)
    assert again.get("records", b"3") == b"new"
    with pytest.raises(StorageCorrupt):
        again.get("records", b"4")


async def test_a_crash_in_the_midst_of_a_rebuild_leaves_the_note_of_the_loss() -> None:
    disk = quick_disk()
    storage = await _filled(disk)
    disk.rot_block("records", b"3", b"5")
    with pytest.raises(StorageCorrupt):
        storage.get("records", b"3")
    recovering = asyncio.ensure_future(storage.recover())
    await asyncio.sleep(0)
    assert storage.get("records", b"9") == b"v9"  # reads go on
    disk.crash()
    with pytest.raises(StorageError):
        await recovering
    again = await open_sim(disk, existed=True)
    assert again.opening.state == "rebuilt"
    with pytest.raises(StorageCorrupt):
        again.get("records", b"3")  # it is the old one still


@pytest.mark.parametrize("found", ["lost_tail", "point_in_time"])
async def test_a_log_that_lost_its_end_is_found_so_until_it_is_settled(found: str) -> None:
    disk = quick_disk()
    storage = await _filled(disk)
    number = storage.synced_number
    assert disk.lose_log(3, found=found) == 3  # type: ignore[arg-type]
    assert disk.durable("records", b"7") is None
    assert storage.get("records", b"7") == b"v7"  # its process does not know
    storage.put("records", b"x", b"1")
    assert await storage.flush() == number + 1
    assert disk.durable("records", b"x") is None  # it lies behind the damage
    disk.crash(1)
    for _ in range(2):
        again = await open_sim(disk, existed=True)
        assert _keys(again) == [b"%d" % number for number in range(7)]
        opening = again.opening
        assert (opening.state, opening.recovered, opening.noted) == (found, 7, number + 1)
        assert not again.settled
        disk.crash()
    again = await open_sim(disk, existed=True)
    again.settle()
    assert again.settled
    assert again.put("records", b"x", b"1") == 8  # numbers go on from what is there
    disk.crash()
    assert (await open_sim(disk, existed=True)).opening.state == "clean"


async def test_a_clean_close_writes_tables_and_needs_no_log() -> None:
    disk = quick_disk()
    storage = await _filled(disk)
    assert disk.lose_log(3) == 3
    await storage.close()
    assert disk.lose_log(3) == 0
    again = await open_sim(disk, existed=True)
    assert again.opening == Opening("clean", "", 10, 10)
    assert len(_keys(again)) == 10
    assert disk.lose_log(3) == 0


async def test_a_database_that_is_gone_is_noticed_and_a_worse_loss_is_said_over_an_earlier() -> (
    None
):
    disk = quick_disk()
    await _filled(disk)
    disk.lose_log(1)
    disk.crash()
    assert (await open_sim(disk, existed=True)).opening.state == "point_in_time"
    disk.crash()
    disk.lose_database()
    again = await open_sim(disk, existed=True)
    assert again.opening.state == "empty"
    assert again.opening.noted == 10
    assert _keys(again) == []


# Disks --------------------------------------------------------------------------------------------


async def test_an_old_copy_of_a_disk_comes_back_whole_and_clean() -> None:
    disk = quick_disk()
    storage = await _filled(disk)
    disk.small_files["a"] = SmallFile(b"1", damaged=False)
    storage.put("records", b"unsynced", b"1")
    image = disk.image()
    storage.put("records", b"0", b"new")
    await storage.flush()
    with pytest.raises(RuntimeError, match="in use"):
        disk.restore(image)
    disk.crash()
    for _ in range(2):  # it can be put back more than once
        disk.restore(image)
        again = await open_sim(disk, existed=True)
        assert again.opening == Opening("clean", "", 10, 10)
        assert again.get("records", b"0") == b"v0"
        assert again.get("records", b"unsynced") is None
        assert disk.small_files["a"].content == b"1"
        again.put("records", b"0", b"newer")
        disk.crash()
    disk.wipe()
    assert list(disk.keys("records")) == []
    assert disk.small_files == {}
    new = await open_sim(disk, existed=False)
    assert new.opening == Opening("clean", "", 0, 0)


async def test_a_disk_can_be_calmed_at_once() -> None:
    disk = quick_disk()
    storage = await _filled(disk)
    disk.fail_sync()
    disk.fail_write()
    disk.busy(True)
    disk.slow(1000.0)
    disk.meet_end()
    assert repr(disk).startswith("Disk(a, full, busy, slow, Database(10 records,")
    disk.calm()
    storage.put("records", b"x", b"1")
    await storage.flush()
    assert repr(disk).startswith("Disk(a, well, ")


# Beside the real one ------------------------------------------------------------------------------


class _Both:
    """A real and a simulated storage to which the same happens, neither losing what it need not."""

    def __init__(self, directory: Path) -> None:
        self._places = (directory / str(number) for number in range(10**6))
        self._place = self._next_place()
        self.disk = quick_disk()
        # The real one keeps all that reached its log, and nothing of a write that failed.
        self.disk._draw_kept = lambda: self.disk.unsynced  # type: ignore[method-assign]
        self.disk._crashes.random = lambda: 1.0  # type: ignore[method-assign]
        self.existed = False

    def _next_place(self) -> Path:
        place = next(self._places)
        place.mkdir()
        return place

    async def open(self) -> None:
        self.rocks = await open_rocks(self._place, existed=self.existed)
        self.sim = await open_sim(self.disk, existed=self.existed)
        self.existed = True

    async def close(self) -> None:
        outcomes = []
        for storage in (self.rocks, self.sim):
            try:
                await storage.close()
                outcomes.append("closed")
            except StorageError:
                outcomes.append("failed")
        assert outcomes[0] == outcomes[1]

    async def do(self, step: tuple[str, int]) -> None:
        name, number = step
        key = b"%d" % (number % 7)
        for storage in (self.rocks, self.sim):
            if name == "put":
                storage.put("records", key, b"%d" % number)
            elif name == "batch":
                storage.write([Write("records", key, None), Write("hints", key, b"%d" % number)])
            elif name == "flush":
                with contextlib.suppress(StorageError):  # once after a recovery
                    await storage.flush()
            elif name == "raise":
                storage.raise_write_number(number * 3)
            elif name == "settle":
                storage.settle()
            elif name == "damage":
                if isinstance(storage, RocksStorage):
                    storage._read_error(Exception("Corruption: block checksum mismatch in records"))
                else:
                    storage._met_damage("records")
                assert storage.refusal() == "damaged"
                assert await storage.recover()
            elif name == "full":
                await self._fill(storage)
                assert await storage.recover()
        if name == "reopen":
            await self.close()
            await self.open()
        elif name == "crash":
            left, self._place = self._place, self._next_place()
            shutil.copytree(left, self._place, dirs_exist_ok=True)
            with contextlib.suppress(StorageError):
                await self.rocks.close()
            self.disk.crash()
            await self.open()

    async def _fill(self, storage: RocksStorage | SimStorage) -> None:
        undo = fill_disk(self._place) if storage is self.rocks else self.disk.free
        if storage is self.sim:
            self.disk.meet_end()
        with pytest.raises(StorageError):
            storage.put("records", b"full", b"")
        undo()

    def compare(self, step: object) -> None:
        states = []
        for storage in (self.rocks, self.sim):
            numbers = storage.write_number, storage.synced_number, storage.refusal()
            opening = storage.opening
            states.append((numbers, opening.state, opening.recovered, opening.noted))
            states[-1] += (storage.settled, dump(storage))  # type: ignore[assignment]
        assert states[0] == states[1], step


STEPS = st.tuples(
    st.sampled_from(
        ["put", "batch", "flush", "raise", "settle", "damage", "full", "reopen", "crash"]
    ),
    st.integers(0, 30),
)


@settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(steps=st.lists(STEPS, max_size=12))
async def test_after_every_step_it_says_what_the_real_one_says(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    both = _Both(tmp_path_factory.mktemp("both"))
    await both.open()
    for step in steps:
        await both.do(step)
        both.compare(step)
    await both.close()
