"""Cut, flip and blank out the files of a crashed storage at many offsets, and open what is left.

Recovery gives a prefix of the writes that has every synced one, or the storage says that it may
have lost some; nothing is invented, and what cannot be read is an error, never absent (I11, I12).
`DYNAMO_DAMAGE_OFFSETS` sets how many offsets of each file are tried: 12 take some seconds, a thousand
some minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from storage_history import apply, check_nothing_invented, check_prefix, dump
from storages import open_rocks, rocks

from dynamo.errors import StorageCorrupt, StorageError
from dynamo.store.enginelog import _heads
from dynamo.store.rocks import RocksStorage

WRITES = 450
TYPE_AT = 6  # of a record's header
OFFSETS = int(os.environ.get("DYNAMO_DAMAGE_OFFSETS", "12"))

Damage = Callable[[bytearray, int], None]


class Image(NamedTuple):
    """A storage as a crash left it. `synced`: writes that must be there."""

    directory: Path
    synced: int
    scratch: Path


@pytest.fixture(scope="module")
def image(memory_path: Path) -> Image:
    """Tables that were written by opening, and a log of several blocks."""
    return asyncio.run(_lay(memory_path / "small", writes=390))


@pytest.fixture(scope="module")
def flushed(memory_path: Path) -> Image:
    """As `image`; later the buffers were full, so that the manifest has had to change."""
    return asyncio.run(_lay(memory_path / "large", writes=450))


async def _lay(place: Path, *, writes: int) -> Image:
    live = place / "live"
    live.mkdir(parents=True)
    synced = 0
    storage = await open_rocks(live)
    for number in range(writes):
        apply(storage, number)
        if number % 7 == 0:
            await storage.flush()
            synced = number + 1
        if number == 200:
            await storage.close()
            storage = await open_rocks(live, existed=True)
    # So that no file goes while it is copied.
    families = storage._engine._maps.values()
    while any(
        family.property_int_value(f"rocksdb.{work}")
        for family in families
        for work in ("mem-table-flush-pending", "num-running-flushes", "num-running-compactions")
    ):
        await asyncio.sleep(0.01)
    shutil.copytree(live, place / "image")
    await storage.close()
    return Image(place / "image", synced, place / "scratch")


def cut(data: bytearray, at: int) -> None:
    del data[at:]


def flip(data: bytearray, at: int) -> None:
    data[at] ^= 1 << at % 8


def blank(data: bytearray, at: int) -> None:
    end = min(at + 512, len(data))
    data[at:end] = bytes(end - at)


DAMAGES = pytest.mark.parametrize("damage", [cut, flip, blank])


@DAMAGES
async def test_a_damaged_log_costs_a_suffix_and_is_reported(flushed: Image, damage: Damage) -> None:
    found: Counter[str] = Counter()
    for copy in _damaged(flushed, "*.log", damage):
        async with rocks(copy, existed=True) as storage:
            count = check_prefix(dump(storage), WRITES)
            assert storage.opening.state != "clean" or count >= flushed.synced
            found[storage.opening.state] += 1
    assert set(found) <= {"clean", "lost_tail", "point_in_time"}
    assert found["clean"] < found.total()


@DAMAGES
async def test_a_damaged_manifest_never_hides_a_loss(flushed: Image, damage: Damage) -> None:
    found: Counter[str] = Counter()
    for copy in _damaged(flushed, "MANIFEST-*", damage):
        async with rocks(copy, existed=True) as storage:
            if storage.opening.state == "clean":
                assert check_prefix(dump(storage), WRITES) >= flushed.synced
            check_nothing_invented(storage, WRITES)
            found[storage.opening.state] += 1
    assert found["clean"] < found.total()


async def test_a_manifest_of_which_any_record_is_the_last_never_hides_a_loss(
    tmp_path: Path,
) -> None:
    """The families are made one after the other, when a node first starts or begins anew."""
    (tmp_path / "live").mkdir()
    storage = await open_rocks(tmp_path / "live")
    storage.put("records", b"k", b"v")
    await storage.flush()
    shutil.copytree(tmp_path / "live", tmp_path / "image")
    await storage.close()
    (manifest,) = (tmp_path / "image" / "db").glob("MANIFEST-*")
    data = manifest.read_bytes()
    for at, _ in _heads(data, len_max=0):
        manifest.write_bytes(data[:at])
        shutil.copytree(tmp_path / "image", tmp_path / "copy")
        async with rocks(tmp_path / "copy", existed=True) as again:
            assert again.opening.state == "empty", at
            assert again.get("records", b"k") is None
            assert again.put("records", b"k", b"w")
        shutil.rmtree(tmp_path / "copy")


@DAMAGES
async def test_a_damaged_table_is_reported_or_read_as_an_error(
    image: Image, damage: Damage
) -> None:
    found: Counter[str] = Counter()
    for copy in _damaged(image, "*.sst", damage):
        storage = await open_rocks(copy, existed=True)
        found[storage.opening.state] += 1
        try:
            if storage.opening.state == "clean":
                found["errors"] += _check_tables(storage, image)
            else:
                check_nothing_invented(storage, WRITES)
        finally:
            await _close_damaged(storage)
    assert found["errors"] or damage is not flip
    assert found["empty"]


def _check_tables(storage: RocksStorage, image: Image) -> int:
    """Everything is there, or an error in its place; returns the number of errors."""
    try:
        assert check_prefix(dump(storage), WRITES) >= image.synced
    except StorageCorrupt:
        return 1 + check_nothing_invented(storage, WRITES, count_min=image.synced)
    return 0


async def _close_damaged(storage: RocksStorage) -> None:
    """Where a read or a compaction has met the damage, it is rebuilt first."""
    if storage.refusal() is not None:
        assert storage.refusal() == "damaged"
        assert await storage.recover() is True
        assert storage.opening.state == "rebuilt"
        check_nothing_invented(storage, WRITES)
    with contextlib.suppress(StorageError):  # "writes of before may be gone", or it is met just now
        await storage.close()


@pytest.mark.parametrize("name", ["*.log", "MANIFEST-*"])
async def test_no_type_of_a_record_keeps_the_engine_busy_for_ever(
    flushed: Image, name: str
) -> None:
    """RocksDB alone opens for ever where a flipped bit makes a type that of a recycled log."""
    for path in (flushed.directory / "db").glob(name):
        starts = [at for at, _ in _heads(path.read_bytes(), len_max=0)]
        for at in (starts[0], starts[len(starts) // 2], starts[-1]):
            for bit in range(8):
                data = bytearray(path.read_bytes())
                data[at + TYPE_AT] ^= 1 << bit
                shutil.copytree(flushed.directory, flushed.scratch)
                (flushed.scratch / "db" / path.name).write_bytes(data)
                async with rocks(flushed.scratch, existed=True) as storage:
                    assert storage.opening.state != "clean"
                    check_prefix(dump(storage), WRITES)
                shutil.rmtree(flushed.scratch)


async def test_of_a_damaged_log_the_writes_before_are_kept_and_those_behind_put_aside(
    flushed: Image,
) -> None:
    shutil.copytree(flushed.directory, flushed.scratch)
    (log,) = (flushed.scratch / "db").glob("*.log")
    data = bytearray(log.read_bytes())
    starts = [at for at, _ in _heads(bytes(data), len_max=0)]
    data[starts[10] + TYPE_AT] = 5
    log.write_bytes(data)
    async with rocks(flushed.scratch, existed=True) as storage:
        count = check_prefix(dump(storage), WRITES)
        assert WRITES - count == len(starts) - 10
    assert (flushed.scratch / "db.damaged-1" / log.name).read_bytes() == data
    shutil.rmtree(flushed.scratch)


@DAMAGES
@pytest.mark.parametrize("name", ["CURRENT", "IDENTITY", "OPTIONS-*", "*.json", "LOCK"])
async def test_damage_to_the_small_files_never_hides_a_loss(
    image: Image, name: str, damage: Damage
) -> None:
    for copy in _damaged(image, name, damage):
        async with rocks(copy, existed=True) as storage:
            if storage.opening.state == "clean":
                assert check_prefix(dump(storage), WRITES) >= image.synced
            check_nothing_invented(storage, WRITES)


@DAMAGES
async def test_a_damaged_note_is_still_right_or_is_reported(image: Image, damage: Damage) -> None:
    for copy in _damaged(image, "../db.synced", damage):
        async with rocks(copy, existed=True) as storage:
            assert storage.opening.state in ("clean", "lost_tail")
            assert check_prefix(dump(storage), WRITES) >= image.synced


@pytest.mark.parametrize("name", ["*.log", "MANIFEST-*", "*.sst", "CURRENT"])
async def test_a_missing_file_is_reported(flushed: Image, name: str) -> None:
    for path in sorted((flushed.directory / "db").glob(name)):
        shutil.copytree(flushed.directory, flushed.scratch)
        (flushed.scratch / "db" / path.name).unlink()
        async with rocks(flushed.scratch, existed=True) as storage:
            check_nothing_invented(storage, WRITES)
            assert storage.opening.state != "clean"
        shutil.rmtree(flushed.scratch)


def _damaged(image: Image, name: str, damage: Damage) -> Iterator[Path]:
    """Copies of the image with one of the files of that name damaged, at offsets all over it."""
    chance = random.Random(7)
    for path in sorted((image.directory / "db").glob(name)):
        size = path.stat().st_size
        step = max(1, size // OFFSETS)
        for start in range(0, size, step):
            data = bytearray(path.read_bytes())
            damage(data, min(size - 1, start + chance.randrange(step)))
            if data == path.read_bytes():
                continue
            shutil.copytree(image.directory, image.scratch)
            (image.scratch / "db" / name).parent.joinpath(path.name).write_bytes(data)
            yield image.scratch
            shutil.rmtree(image.scratch)
