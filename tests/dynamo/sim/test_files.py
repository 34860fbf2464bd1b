"""The small files on a simulated disk: a data directory is on it as on a real one."""

from __future__ import annotations

import itertools

import pytest
from storages import open_sim, quick_disk

from dynamo.datadir import IDENTITY_FILE, DataDirectory
from dynamo.errors import DataDirectoryError, Malformed, StorageCorrupt, StorageError
from dynamo.sim.disk import Disk
from dynamo.sim.files import SimFiles


def _directory(disk: Disk, *, node_id: str = "n1") -> DataDirectory:
    draws = itertools.count(1)
    return DataDirectory(
        SimFiles.open(disk),
        cluster_id="cluster",
        node_id=node_id,
        entropy=lambda size: next(draws).to_bytes(size),
    )


def test_what_was_written_outlives_a_crash() -> None:
    disk = quick_disk()
    files = SimFiles.open(disk)
    assert files.read("a") is None
    files.write("a", b"1")
    disk.crash()
    assert SimFiles.open(disk).read("a") == b"1"


def test_who_has_crashed_can_do_nothing() -> None:
    disk = quick_disk()
    files = SimFiles.open(disk)
    disk.crash()
    again = SimFiles.open(disk)
    with pytest.raises(OSError, match="descriptor"):
        files.write("a", b"1")
    with pytest.raises(OSError, match="descriptor"):
        files.read("a")
    files.release()
    with pytest.raises(DataDirectoryError, match="in use"):
        SimFiles.open(disk)
    assert again.read("a") is None


def test_one_process_has_them_at_a_time() -> None:
    disk = quick_disk()
    files = SimFiles.open(disk)
    with pytest.raises(DataDirectoryError, match="in use"):
        SimFiles.open(disk)
    files.release()
    files.release()
    SimFiles.open(disk)


def test_a_damaged_file_is_told_from_none() -> None:
    disk = quick_disk()
    files = SimFiles.open(disk)
    assert not disk.damage_file("a")
    files.write("a", b"1")
    assert disk.damage_file("a")
    with pytest.raises(Malformed):
        files.read("a")
    files.write("a", b"2")
    assert files.read("a") == b"2"


def test_a_disk_without_space_takes_no_file_and_keeps_the_old() -> None:
    disk = quick_disk()
    files = SimFiles.open(disk)
    files.write("a", b"1")
    disk.fill()
    files.write("a", b"2")  # below the watermark there is still room
    disk.meet_end()
    with pytest.raises(OSError, match="No space"):
        files.write("a", b"3")
    assert files.read("a") == b"2"
    disk.free()
    files.write("a", b"4")


def test_every_start_of_a_data_directory_has_a_number_of_its_own() -> None:
    disk = quick_disk()
    for start in (1, 2, 3):
        directory = _directory(disk)
        assert directory.start == start
        directory.write_blob("ring", b"%d" % start)
        if start == 2:
            directory.close()
        else:
            disk.crash()
    directory = _directory(disk)
    assert directory.read_blob("ring") == b"3"
    disk.damage_file("ring.blob")
    with pytest.raises(StorageCorrupt):
        directory.read_blob("ring")
    disk.crash()
    with pytest.raises(StorageError):
        directory.write_blob("ring", b"4")


def test_an_identity_that_is_damaged_or_of_another_node_is_refused() -> None:
    disk = quick_disk()
    _directory(disk).close()
    with pytest.raises(DataDirectoryError, match="this node is n2"):
        _directory(disk, node_id="n2")
    disk.crash()
    disk.damage_file(IDENTITY_FILE)
    with pytest.raises(DataDirectoryError, match="cannot be read"):
        _directory(disk)


async def test_a_database_of_nobody_is_not_a_new_directory() -> None:
    disk = quick_disk()
    await (await open_sim(disk)).close()
    with pytest.raises(DataDirectoryError, match="not empty"):
        _directory(disk)
    disk.crash()
    disk.wipe()
    assert _directory(disk).start == 1
