"""The small files beside a database: replaced whole, or two slots in turn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dynamo.errors import Malformed
from dynamo.store.files import read_sealed, write_sealed
from dynamo.store.note import Synced, SyncNote


def test_a_sealed_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert read_sealed(path) is None
    for content in (b"", b"one", bytes(100_000)):
        write_sealed(path, content)
        assert read_sealed(path) == content
    assert os.listdir(tmp_path) == ["f"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_sealed_file_with_any_damage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_sealed(path, b"content")
    data = path.read_bytes()
    damaged = [data[:size] for size in range(len(data))]
    damaged += [_flip(data, bit) for bit in range(8 * len(data))]
    damaged += [data + b"x", bytes(len(data))]
    for wrong in damaged:
        path.write_bytes(wrong)
        with pytest.raises(Malformed):
            read_sealed(path)


def test_a_write_that_was_cut_short_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_sealed(path, b"old")
    (tmp_path / "f.new").write_bytes(b"half of the n")
    assert read_sealed(path) == b"old"
    write_sealed(path, b"new")
    assert read_sealed(path) == b"new"
    assert os.listdir(tmp_path) == ["f"]


def test_a_note_is_what_was_noted_last(tmp_path: Path) -> None:
    path = tmp_path / "n"
    note = SyncNote(path)
    assert note.found is None
    note.create(Synced(5, 3, 2))
    for number in (6, 9, 12):
        note.write(number, 4)
        assert _found(path) == Synced(number, 3, 4)
    note.sync()
    note.close()
    note.close()


def test_one_damaged_slot_leaves_the_note_before(tmp_path: Path) -> None:
    path = tmp_path / "n"
    note = SyncNote(path)
    note.create(Synced(1, 0, 0))
    note.write(2, 0)
    note.write(3, 0)
    note.close()
    data = path.read_bytes()
    found = set()
    for at in range(len(data)):
        path.write_bytes(_flip(data, 8 * at))
        found.add(_found(path))
    assert found == {Synced(2, 0, 0), Synced(3, 0, 0)}
    for size in range(512):
        path.write_bytes(data[:size])
        assert _found(path) in (None, Synced(2, 0, 0))


def test_a_note_of_zeros_is_none(tmp_path: Path) -> None:
    path = tmp_path / "n"
    path.write_bytes(bytes(1024))
    assert _found(path) is None


def _found(path: Path) -> Synced | None:
    note = SyncNote(path)
    note.close()
    return note.found


def _flip(data: bytes, bit: int) -> bytes:
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)
