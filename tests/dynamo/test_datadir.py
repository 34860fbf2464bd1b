"""A data directory is one node's at a time, knows whose it is, and never starts twice alike."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from dynamo.datadir import FORMAT, IDENTITY_FILE, DataDirectory
from dynamo.errors import DataDirectoryError, StorageCorrupt, StorageError
from dynamo.store.files import read_sealed, write_sealed


def counted() -> Callable[[int], bytes]:
    """Entropy that never repeats, and shows what was drawn."""
    numbers = itertools.count(1)
    return lambda count: next(numbers).to_bytes(count)


def open_directory(
    path: Path,
    *,
    cluster_id: str = "cluster",
    node_id: str = "n1",
    entropy: Callable[[int], bytes] = os.urandom,
) -> DataDirectory:
    return DataDirectory.open(path, cluster_id=cluster_id, node_id=node_id, entropy=entropy)


def test_a_new_directory_is_private_and_starts_at_one(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    directory = open_directory(path, entropy=counted())
    assert (directory.start, directory.random) == (1, (1).to_bytes(8))
    assert not directory.has_database
    assert path.stat().st_mode & 0o777 == 0o700
    assert {entry.stat().st_mode & 0o777 for entry in path.iterdir()} == {0o600}
    directory.close()


def test_every_start_has_a_higher_number_and_new_random_bytes(tmp_path: Path) -> None:
    seen = []
    for _ in range(5):
        directory = open_directory(tmp_path)
        seen.append((directory.start, directory.random))
        directory.close()
    assert [start for start, _ in seen] == [1, 2, 3, 4, 5]
    assert len({random for _, random in seen}) == 5


def test_a_start_is_on_disk_before_it_is_used(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    content = read_sealed(tmp_path / IDENTITY_FILE)
    assert content is not None
    assert msgspec.json.decode(content)["start"] == directory.start
    assert msgspec.json.decode(content)["random"] == directory.random.hex()
    directory.close()


def test_a_start_can_be_raised_above_what_a_peer_knows(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    before = directory.random
    directory.raise_start(41)
    assert directory.start == 42
    assert directory.random != before
    directory.raise_start(7)  # never down
    assert directory.start == 43
    directory.close()
    again = open_directory(tmp_path)
    assert again.start == 44
    again.close()


def test_a_start_that_cannot_be_written_is_not_taken(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    (tmp_path / (IDENTITY_FILE + ".new")).mkdir()
    with pytest.raises(DataDirectoryError, match="cannot write"):
        directory.raise_start(10)
    assert directory.start == 1
    directory.close()
    with pytest.raises(DataDirectoryError, match="cannot write"):
        open_directory(tmp_path)


def test_a_second_process_is_told_that_it_is_in_use(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    program = (
        "import os, sys; from pathlib import Path; from dynamo.datadir import DataDirectory\n"
        "from dynamo.errors import DataDirectoryError\n"
        "try: DataDirectory.open(Path(sys.argv[1]), cluster_id='cluster', node_id='n1',"
        " entropy=os.urandom)\n"
        "except DataDirectoryError as error: print(error.message)\n"
    )

    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, tmp_path],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert run() == f"{tmp_path} is in use by another running node\n"
    assert directory.start == 1
    directory.close()
    directory.close()
    assert run() == ""
    again = open_directory(tmp_path)
    assert again.start == 3
    again.close()


def test_a_directory_that_was_refused_is_not_kept_locked(tmp_path: Path) -> None:
    open_directory(tmp_path).close()
    with pytest.raises(DataDirectoryError):
        open_directory(tmp_path, node_id="n2")
    open_directory(tmp_path).close()


def test_another_cluster_or_node_is_refused_by_name_and_changes_nothing(tmp_path: Path) -> None:
    open_directory(tmp_path).close()
    before = (tmp_path / IDENTITY_FILE).read_bytes()
    with pytest.raises(DataDirectoryError, match=r"of cluster cluster, this node is of other"):
        open_directory(tmp_path, cluster_id="other")
    with pytest.raises(DataDirectoryError, match=r"of node n1, this node is n2"):
        open_directory(tmp_path, node_id="n2")
    assert (tmp_path / IDENTITY_FILE).read_bytes() == before


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    content = msgspec.json.encode({"format": FORMAT + 1, "unknown": [1, 2]})
    write_sealed(tmp_path / IDENTITY_FILE, content)
    with pytest.raises(DataDirectoryError, match=f"format {FORMAT + 1}"):
        open_directory(tmp_path)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "zeros"])
def test_a_damaged_identity_is_refused_and_never_begun_anew(tmp_path: Path, damage: str) -> None:
    open_directory(tmp_path).close()
    path = tmp_path / IDENTITY_FILE
    data = path.read_bytes()
    flipped = data[:40] + bytes([data[40] ^ 1]) + data[41:]
    wrong = {"flip": flipped, "cut": data[:-1], "empty": b"", "zeros": bytes(len(data))}[damage]
    path.write_bytes(wrong)
    for _ in range(2):
        with pytest.raises(DataDirectoryError, match="cannot be read"):
            open_directory(tmp_path)
    assert path.read_bytes() == wrong


def test_an_identity_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    for content in (b"[]", b"{}", b"nonsense", b'{"format": 1, "start": "x"}'):
        write_sealed(tmp_path / IDENTITY_FILE, content)
        with pytest.raises(DataDirectoryError):
            open_directory(tmp_path)


def test_data_without_an_identity_is_refused(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    directory.write_blob("ring", b"r")
    directory.close()
    (tmp_path / IDENTITY_FILE).unlink()
    with pytest.raises(DataDirectoryError, match=r"not empty \(ring.blob\)"):
        open_directory(tmp_path)


def test_what_an_empty_disk_or_a_first_start_cut_short_leaves_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lock").touch()
    (tmp_path / (IDENTITY_FILE + ".new")).write_bytes(b"half")
    directory = open_directory(tmp_path)
    assert directory.start == 1
    directory.close()


def test_a_path_that_cannot_be_a_directory_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataDirectoryError, match="cannot use the data directory"):
            open_directory(path)


def test_that_there_is_a_database_is_remembered(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    directory.note_database()
    directory.note_database()
    assert directory.has_database
    directory.close()
    again = open_directory(tmp_path)
    assert again.has_database
    again.raise_start(9)
    assert again.has_database
    again.close()


def test_blobs_are_read_back_and_damage_to_them_is_an_error(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    assert directory.read_blob("ring") is None
    for data in (b"one", b"two" * 10_000, b""):
        directory.write_blob("ring", data)
        directory.write_blob("peers", b"p")
        assert directory.read_blob("ring") == data
    directory.write_blob("ring", b"content")
    path = tmp_path / "ring.blob"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageCorrupt):
        directory.read_blob("ring")
    assert directory.read_blob("peers") == b"p"
    directory.close()


def test_a_start_number_is_never_taken_twice_by_processes_that_are_killed(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from dynamo.datadir import DataDirectory\n"
        "d = DataDirectory.open(Path(sys.argv[1]), cluster_id='c', node_id='n', entropy=os.urandom)\n"
        "os.write(1, b'%d %s' % (d.start, d.random.hex().encode()))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    seen = set()
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-c", program, tmp_path],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=False,
        )
        seen.add(tuple(done.stdout.split()))
    assert sorted(int(start) for start, _ in seen) == [1, 2, 3, 4]


async def test_a_small_file_that_is_kept_in_a_thread_never_replaces_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = open_directory(tmp_path)
    await directory.keep_blob("peers", b"0")
    assert directory.read_blob("peers") == b"0"
    late = threading.Event()
    write = DataDirectory._write_blob

    def written_late(self: DataDirectory, name: str, data: bytes, turn: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            late.wait(10)
        write(self, name, data, turn)

    monkeypatch.setattr(DataDirectory, "_write_blob", written_late)
    keeping = asyncio.create_task(directory.keep_blob("peers", b"1"))
    await asyncio.sleep(0)  # the loop goes on meanwhile
    directory.write_blob("peers", b"2")
    late.set()
    await keeping
    assert directory.read_blob("peers") == b"2"
    directory.close()
    with pytest.raises(StorageError, match="was released"):
        await directory.keep_blob("peers", b"3")
    assert read_sealed(tmp_path / "peers.blob") == b"2"


async def test_a_small_file_is_on_disk_once_kept_though_a_later_one_is_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = open_directory(tmp_path)
    write = DataDirectory._write_blob
    go_on = {b"1": threading.Event(), b"2": threading.Event()}

    def late(self: DataDirectory, name: str, data: bytes, turn: int) -> None:
        go_on[data].wait(10)
        write(self, name, data, turn)

    monkeypatch.setattr(DataDirectory, "_write_blob", late)
    first = asyncio.create_task(directory.keep_blob("peers", b"1"))
    second = asyncio.create_task(directory.keep_blob("peers", b"2"))
    await asyncio.sleep(0)
    go_on[b"1"].set()
    await first
    assert directory.read_blob("peers") == b"1"
    go_on[b"2"].set()
    await second
    assert directory.read_blob("peers") == b"2"
    directory.close()


def test_a_blob_that_cannot_be_written_is_told_without_its_path(tmp_path: Path) -> None:
    """Readiness says why there is no ring, to whoever asks."""
    directory = open_directory(tmp_path)
    (tmp_path / "ring.blob").mkdir()
    with pytest.raises(StorageError, match="ring cannot be written") as caught:
        directory.write_blob("ring", b"r")
    assert str(tmp_path) not in caught.value.message
    directory.close()
