"""A damaged table that compaction meets: what can be read is kept, and writing goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from storages import open_files, open_rocks, rocks, stall_new_engines

from dynamo.errors import StorageCorrupt, StorageError, StorageRefusesWrites
from dynamo.ports import Family, Write
from dynamo.store import salvage
from dynamo.store.engine import Engine
from dynamo.store.rocks import RocksStorage

COUNT = 300
Kept = dict[bytes, bytes]
#: What it has come to, and what it does next.
STEPS = {
    "noted": "dynamo.store.rocks.rebuild",
    "copying": "dynamo.store.salvage._readable",
    "copied": "dynamo.store.rocks.make_room",
    "put aside": "dynamo.store.rocks.open_database",
    "put in its place": "dynamo.store.opening.discard",
}


class Crash(Exception):
    """The node is gone."""


async def _damaged(
    directory: Path, *, flips: tuple[float, ...] = (0.4,)
) -> tuple[RocksStorage, Kept]:
    """A storage that has met a damaged table, and what was synced before."""
    kept = {b"%03d" % number: os.urandom(200) for number in range(COUNT)}
    async with rocks(directory) as storage:
        for key, value in kept.items():
            storage.put("records", key, value)
        storage.write([Write("hints", b"h", b"1"), Write("facts", b"f", b"2")])
    _flip(directory, flips)
    for _ in range(20):  # every close writes one more table, until there are enough to compact
        storage = await open_rocks(directory, existed=True)
        for number in range(20):
            key, value = (b"000", b"299")[number % 2], b"%d" % number
            try:
                storage.put("records", key, value)
            except StorageError:
                return storage, kept
            kept[key] = value
            await asyncio.sleep(0.005)
        with contextlib.suppress(StorageError):
            await storage.close()
    raise AssertionError("compaction did not meet the damage")


def _flip(directory: Path, flips: tuple[float, ...]) -> None:
    table = max((directory / "db").glob("*.sst"), key=lambda path: path.stat().st_size)
    data = bytearray(table.read_bytes())
    for flip in flips:
        data[int(len(data) * flip)] ^= 1
    table.write_bytes(data)


def _found(storage: RocksStorage, kept: Kept) -> int:
    """How many are there; none may be there with another value."""
    found = {key: storage.get("records", key) for key in kept}
    assert all(value in (None, kept[key]) for key, value in found.items())
    return sum(value is not None for value in found.values())


async def test_what_can_be_read_is_kept_and_writing_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage, kept = await _damaged(tmp_path)
    assert storage.refusal() == "damaged"
    number = storage.write_number
    assert storage.get("records", b"299") == kept[b"299"]
    assert await storage.recover() is True
    assert await storage.recover() is False
    assert storage.refusal() is None
    assert storage.opening.state == "rebuilt"
    assert "Corruption" in storage.opening.why
    assert f"is kept in {tmp_path}/db.damaged-1" in caplog.text
    assert storage.write_number >= number
    assert COUNT - 60 < _found(storage, kept) < COUNT  # all but a block
    assert storage.get("records", b"299") == kept[b"299"]
    assert (storage.get("hints", b"h"), storage.get("facts", b"f")) == (b"1", b"2")
    with pytest.raises(StorageError, match="may be gone"):
        await storage.flush()  # of what was in flight
    assert storage.put("records", b"after", b"1") > number
    await storage.flush()
    left = _found(storage, kept)
    await storage.close()
    assert open_files(tmp_path) == []

    async with rocks(tmp_path, existed=True) as again:
        assert again.opening.state == "rebuilt"  # until somebody has settled it
        assert _found(again, kept) == left
        assert again.get("records", b"after") == b"1"
        assert again.write_number > number
        again.settle()
    async with rocks(tmp_path, existed=True) as settled:
        assert settled.opening.state == "clean"
    assert sorted(os.listdir(tmp_path)) == ["db", "db.damaged-1", "db.synced"]


async def test_damage_in_several_places_costs_a_block_each(tmp_path: Path) -> None:
    storage, kept = await _damaged(tmp_path, flips=(0.2, 0.5, 0.8))
    assert await storage.recover() is True
    assert storage.opening.state == "rebuilt"
    assert COUNT - 3 * 60 < _found(storage, kept) < COUNT - 30
    with pytest.raises(StorageError, match="may be gone"):
        await storage.close()


async def test_damage_that_a_read_meets_is_mended_without_waiting_for_compaction(
    tmp_path: Path,
) -> None:
    kept = {b"%03d" % number: os.urandom(200) for number in range(COUNT)}
    async with rocks(tmp_path) as storage:
        for key, value in kept.items():
            storage.put("records", key, value)
    _flip(tmp_path, (0.4,))
    storage = await open_rocks(tmp_path, existed=True)
    assert storage.refusal() is None
    with pytest.raises(StorageCorrupt):
        storage.scan("records", b"", b"z", count_max=COUNT, bytes_max=1 << 20)
    assert storage.refusal() == "damaged"
    assert await storage.recover() is True
    page = storage.scan("records", b"", b"z", count_max=COUNT, bytes_max=1 << 20)
    assert COUNT - 60 < len(page) < COUNT
    with contextlib.suppress(StorageError):
        await storage.close()


@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_at_any_step_of_a_rebuild_leaves_one_database_and_the_note_of_its_loss(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*args: object, **named: object) -> None:
        raise Crash

    storage, kept = await _damaged(tmp_path)
    if step == "copying":  # what it has written so far stays, as after a power loss
        monkeypatch.setattr("dynamo.store.salvage.discard", lambda path: None)
    monkeypatch.setattr(STEPS[step], crash)
    with pytest.raises((Crash, StorageError)):
        await storage.recover()
    with contextlib.suppress(StorageError):
        await storage.close()
    monkeypatch.undo()

    again = await open_rocks(tmp_path, existed=True)
    assert again.opening.state == "rebuilt"
    assert again.get("records", b"299") == kept[b"299"]
    assert again.get("hints", b"h") == b"1"
    with contextlib.suppress(StorageError):  # it is still the damaged one, perhaps
        await again.close()
    left = {name for name in os.listdir(tmp_path) if "rebuil" in name}
    assert left == set()


async def test_a_rebuild_without_room_for_it_changes_nothing(tmp_path: Path) -> None:
    storage, kept = await _damaged(tmp_path)
    real = os.statvfs(tmp_path)
    fields = list(real)
    fields[3] = fields[4] = 1  # blocks that are free
    storage._space._statvfs = lambda path: os.statvfs_result(fields)
    with pytest.raises(StorageError, match="are free"):
        await storage.recover()
    assert storage.refusal() == "damaged"
    assert storage.get("records", b"299") == kept[b"299"]
    storage._space._statvfs = os.statvfs
    assert await storage.recover() is True
    with contextlib.suppress(StorageError):
        await storage.close()


@pytest.mark.parametrize("milliseconds", [0, 2, 5, 20])
async def test_a_close_while_it_is_rebuilt_leaves_nothing_open(
    tmp_path: Path, milliseconds: int
) -> None:
    storage, kept = await _damaged(tmp_path)
    recovering = asyncio.create_task(storage.recover())
    await asyncio.sleep(milliseconds / 1000)
    with pytest.raises(StorageError):
        await storage.close()
    await asyncio.wait((recovering,), timeout=10)
    assert recovering.done()
    assert open_files(tmp_path) == []
    async with rocks(tmp_path, existed=True) as again:
        assert again.opening.state in ("clean", "rebuilt")
        assert again.get("records", b"299") == kept[b"299"]


async def test_reads_go_on_while_it_is_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, kept = await _damaged(tmp_path)
    begun, go_on = threading.Event(), threading.Event()
    readable = salvage._readable

    def waiting(engine: Engine, family: Family) -> Iterator[salvage.Entry]:
        begun.set()
        go_on.wait(10)
        return readable(engine, family)

    monkeypatch.setattr(salvage, "_readable", waiting)
    recovering = asyncio.create_task(storage.recover())
    while not begun.is_set():
        await asyncio.sleep(0.001)
    assert storage.get("records", b"000") == kept[b"000"]
    with pytest.raises(StorageRefusesWrites) as refused:
        storage.put("records", b"x", b"1")
    assert refused.value.details["reason"] == "damaged"
    go_on.set()
    assert await recovering is True
    with contextlib.suppress(StorageError):
        await storage.close()


async def test_a_copy_that_is_behind_is_waited_for_outside_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that waits inside it holds the interpreter's lock: nothing else would go on."""
    storage, kept = await _damaged(tmp_path)
    made = stall_new_engines(monkeypatch)
    assert await storage.recover() is True
    assert made[0].tries >= 4 * 3  # three families and the last fact
    assert COUNT - 60 < _found(storage, kept) < COUNT
    with contextlib.suppress(StorageError):
        await storage.close()


async def test_a_copy_that_stays_behind_does_not_keep_the_storage_from_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, _ = await _damaged(tmp_path)
    made = stall_new_engines(monkeypatch, for_ever=True)
    recovering = asyncio.create_task(storage.recover())
    async with asyncio.timeout(10):
        while not made or made[0].tries < 3:
            await asyncio.sleep(0.001)
        with pytest.raises(StorageError, match="damaged"):
            await storage.close()
        with pytest.raises(StorageError):
            await recovering
    assert open_files(tmp_path) == []
