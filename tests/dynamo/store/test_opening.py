"""Opening a database that is not as it was left: what is noticed, kept and reported (I11)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from storages import open_rocks, rocks

from dynamo.store.rocks import RocksStorage


async def _lay(directory: Path, *, writes: int = 50) -> int:
    """A closed database; returns its write number."""
    async with rocks(directory) as storage:
        for number in range(writes):
            storage.put("records", b"%04d" % number, bytes(100))
        return storage.write_number


async def _crash(directory: Path, *, writes: int = 50) -> Path:
    """A database as a crash leaves it, everything synced, all of it in the log."""
    storage = await open_rocks(directory)
    for number in range(writes):
        storage.put("records", b"%04d" % number, bytes(100))
    await storage.flush()
    image = directory / "image"
    image.mkdir()
    _copy(directory, image)
    await storage.close()
    return image


def _copy(directory: Path, image: Path) -> None:
    shutil.copytree(directory / "db", image / "db")
    shutil.copy(directory / "db.synced", image / "db.synced")


def _count(storage: RocksStorage) -> int:
    return len(storage.scan("records", b"", b"z", count_max=10_000, bytes_max=1 << 30))


async def test_a_crash_loses_nothing_that_was_synced(tmp_path: Path) -> None:
    image = await _crash(tmp_path)
    async with rocks(image, existed=True) as storage:
        assert storage.opening.state == "clean"
        assert storage.opening.why == ""
        assert storage.settled
        assert _count(storage) == 50


@pytest.mark.parametrize("loss", ["gone", "emptied", "without CURRENT"])
async def test_a_database_that_is_gone_is_noticed(tmp_path: Path, loss: str) -> None:
    number = await _lay(tmp_path)
    if loss == "without CURRENT":
        (tmp_path / "db" / "CURRENT").unlink()
    else:
        shutil.rmtree(tmp_path / "db")
    if loss == "emptied":
        (tmp_path / "db").mkdir()
    async with rocks(tmp_path, existed=True) as storage:
        assert storage.opening.state == "empty"
        assert storage.opening.noted == number
        assert _count(storage) == 0
        storage.put("records", b"new", b"1")
    if loss == "without CURRENT":
        assert list((tmp_path / "db.damaged-1").glob("*.sst"))


async def test_a_database_that_is_gone_with_its_note_is_noticed_by_who_knows(
    tmp_path: Path,
) -> None:
    await _lay(tmp_path)
    shutil.rmtree(tmp_path / "db")
    (tmp_path / "db.synced").unlink()
    async with rocks(tmp_path, existed=True) as storage:
        assert storage.opening.state == "empty"


async def test_a_new_database_is_clean(tmp_path: Path) -> None:
    async with rocks(tmp_path, existed=False) as storage:
        assert storage.opening.state == "clean"
        assert (storage.write_number, storage.synced_number) == (0, 0)


async def test_a_creation_that_was_cut_short_is_begun_again(tmp_path: Path) -> None:
    await _lay(tmp_path, writes=0)
    (tmp_path / "db" / "CURRENT").unlink()
    async with rocks(tmp_path, existed=False) as storage:
        assert storage.opening.state == "clean"


async def test_a_log_cut_short_of_what_was_synced_is_a_lost_tail(tmp_path: Path) -> None:
    image = await _crash(tmp_path)
    (log,) = (image / "db").glob("*.log")
    cut = log.read_bytes()[:-300]
    log.write_bytes(cut)
    async with rocks(image, existed=True) as storage:
        assert storage.opening.state == "lost_tail"
        assert storage.opening.why.startswith("ends at write 4")
        assert 40 <= _count(storage) < 50
        assert not storage.settled
    (kept,) = (image / "db.damaged-1").glob("*.log")
    assert kept.read_bytes() == cut


async def test_a_log_that_is_gone_is_a_loss_though_the_engine_cannot_tell(tmp_path: Path) -> None:
    image = await _crash(tmp_path)
    (log,) = (image / "db").glob("*.log")
    log.unlink()
    async with rocks(image, existed=True) as storage:
        assert storage.opening.state == "lost_tail"
        assert _count(storage) == 0


async def test_a_flipped_bit_in_the_log_opens_at_the_point_before_it(tmp_path: Path) -> None:
    image = await _crash(tmp_path)
    (log,) = (image / "db").glob("*.log")
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    async with rocks(image, existed=True) as storage:
        assert storage.opening.state == "point_in_time"
        assert 20 <= _count(storage) < 30
    (kept,) = (image / "db.damaged-1").glob("*.log")
    assert kept.read_bytes() == data


async def test_a_lost_note_is_reported(tmp_path: Path) -> None:
    await _lay(tmp_path)
    (tmp_path / "db.synced").unlink()
    async with rocks(tmp_path, existed=True) as storage:
        assert storage.opening.state == "lost_tail"
        assert _count(storage) == 50


async def test_an_older_copy_of_the_database_is_a_loss(tmp_path: Path) -> None:
    await _lay(tmp_path, writes=20)
    shutil.copytree(tmp_path / "db", tmp_path / "copy")
    for _ in range(2):  # the second open knows that all is in tables
        await _lay(tmp_path, writes=50)
    shutil.rmtree(tmp_path / "db")
    (tmp_path / "copy").rename(tmp_path / "db")
    async with rocks(tmp_path, existed=True) as storage:
        assert storage.opening.state == "lost_tail"


async def test_a_loss_is_reported_at_every_open_until_it_is_settled(tmp_path: Path) -> None:
    number = await _lay(tmp_path)
    shutil.rmtree(tmp_path / "db")
    async with rocks(tmp_path, existed=True) as storage:
        assert storage.opening.state == "empty"
    async with rocks(tmp_path, existed=True) as storage:
        assert (storage.opening.state, storage.opening.noted) == ("empty", number)
        assert not storage.settled
        storage.settle()
        storage.settle()
        assert storage.settled
    async with rocks(tmp_path, existed=True) as storage:
        assert storage.opening.state == "clean"
        assert storage.settled


async def test_a_worse_loss_is_reported_over_an_earlier_one(tmp_path: Path) -> None:
    image = await _crash(tmp_path)
    (log,) = (image / "db").glob("*.log")
    log.write_bytes(log.read_bytes()[:-300])
    async with rocks(image, existed=True):
        pass
    shutil.rmtree(image / "db")
    async with rocks(image, existed=True) as storage:
        assert storage.opening.state == "empty"
    assert (image / "db.alarm").exists()


async def test_a_damaged_alarm_is_an_alarm(tmp_path: Path) -> None:
    await _lay(tmp_path)
    (tmp_path / "db.alarm").write_bytes(b"nonsense")
    async with rocks(tmp_path, existed=True) as storage:
        assert storage.opening.state == "lost_tail"
        storage.settle()


async def test_losses_set_aside_are_kept_beside_each_other(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        await _lay(tmp_path)
        (tmp_path / "db" / "CURRENT").write_bytes(b"nothing")
        async with rocks(tmp_path, existed=True) as storage:
            storage.settle()
        assert (tmp_path / f"db.damaged-{number}").is_dir()


async def test_a_damaged_write_number_is_not_taken_for_none(tmp_path: Path) -> None:
    async with rocks(tmp_path) as storage:
        storage.raise_write_number(1_000_000)
    (table,) = [
        table for table in (tmp_path / "db").glob("*.sst") if b"write_number" in table.read_bytes()
    ]
    data = bytearray(table.read_bytes())
    data[data.index(b"write_number")] ^= 1
    table.write_bytes(data)
    async with rocks(tmp_path, existed=True) as storage:
        assert storage.opening.state == "point_in_time"
        assert storage.write_number >= 1_000_000
