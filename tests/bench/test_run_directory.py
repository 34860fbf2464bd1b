"""A run's directory: what is written is read again, cut short anywhere, and never written over."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from bench.history import BadHistory, Event, Line, Machine, Manifest, Op, decode_lines
from bench.history_file import HistoryReader, HistoryWriter
from bench.run_directory import BadDirectory, RunDirectory
from bench.scenario import BadScenario
from bench.scene_files import find


def op(n: int) -> Op:
    return Op(n=n, session=0, kind="read", key="k", intended=n, start=n, end=n + 1, outcome="ok")


def manifest() -> Manifest:
    return Manifest(
        run="r",
        scenario_name="s",
        target="null",
        seed=1,
        commit="",
        versions={},
        machine=Machine(system="", cores=1, python="", load_before=0.0),
        clock="CLOCK_MONOTONIC",
        began_at=0,
        began_wall="",
        measured=(0, 1),
        nodes=("a",),
        replicas=1,
        scenario={},
    )


def written(path: Path, lines: int, *, pieces: int = 1) -> list[Line]:
    """A history of so many lines in so many frames: what several writers wrote one after the other."""
    every: list[Line] = [op(n) for n in range(1, lines + 1)]
    each = lines // pieces
    data = b""
    for number in range(pieces):
        part = path.with_suffix(f".{number}")
        with HistoryWriter(part) as writer:
            for line in every[number * each : (number + 1) * each]:
                writer.add(line)
        data += part.read_bytes()
    path.write_bytes(data)
    return every


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "a" / "run")
    lines: list[Line] = [op(1), Event(kind="heal", at=3), *(op(n) for n in range(2, 1000))]
    with directory.history_writer() as writer:
        for line in lines:
            writer.add(line)
    directory.write_manifest(manifest())
    again = RunDirectory.open(tmp_path / "a" / "run")
    assert list(again.lines()) == lines
    assert again.cut == ""
    assert again.manifest() == manifest()
    assert (again.analysis(), again.predictions(), again.wars()) == (None, (), ())


def test_zstd_itself_reads_a_history(tmp_path: Path) -> None:
    written(tmp_path / "h.zst", 300, pieces=3)
    done = subprocess.run(["zstdcat", tmp_path / "h.zst"], capture_output=True)
    assert done.returncode == 0
    assert done.stdout.count(b"\n") == 300


def test_a_history_cut_anywhere_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "h.zst"
    every = written(path, 40, pieces=4)
    whole = path.read_bytes()
    frames = 0
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        reader = HistoryReader(path)
        lines = list(reader.lines())
        if reader.cut:
            last = lines.pop()
            assert isinstance(last, Event)
            assert last.told == reader.cut
        else:
            frames += 1  # at the end of a frame nothing shows that there was more
        assert lines == every[: len(lines)]
    assert frames == 4


def test_damage_is_said_and_what_is_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "h.zst"
    every = written(path, 40, pieces=4)
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 5] ^= 0x10
    path.write_bytes(data)
    reader = HistoryReader(path)
    lines = list(reader.lines())
    assert "damaged" in reader.cut or "cut short" in reader.cut
    assert lines[:-1] == every[: len(lines) - 1]


@pytest.mark.parametrize("data", [b"hello, this is text", b"\x00" * 100])
def test_what_is_no_history_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "h.zst"
    path.write_bytes(data)
    with pytest.raises(BadHistory):
        list(HistoryReader(path).lines())


def test_what_could_not_be_written_is_told(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "h.zst")
    with Path("/dev/full").open("wb", buffering=0) as full:
        os.dup2(full.fileno(), writer._file.fileno())
    writer.add(op(1))
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    with pytest.raises(FileExistsError):
        HistoryWriter(tmp_path / "h.zst")


def test_a_run_is_not_written_over_unless_forced(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path)
    directory.write_manifest(manifest())
    directory.write_text("report.html", "<p>")
    with pytest.raises(BadDirectory, match="--force"):
        RunDirectory.create(tmp_path)
    assert directory.has("report.html")
    RunDirectory.create(tmp_path, force=True)
    assert not list(tmp_path.iterdir())


def test_no_other_directory_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BadDirectory, match=r"thesis\.tex"):
        RunDirectory.create(tmp_path, force=True)
    RunDirectory(tmp_path).write_manifest(manifest())
    with pytest.raises(BadDirectory, match=r"thesis\.tex"):
        RunDirectory.create(tmp_path, force=True)
    with pytest.raises(BadDirectory, match="no directory"):
        RunDirectory.create(tmp_path / "thesis.tex")


def test_what_is_no_run_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(BadDirectory, match="no run"):
        RunDirectory.open(tmp_path)
    with pytest.raises(BadDirectory, match="no "):
        RunDirectory.open(tmp_path / "nowhere")


def test_a_broken_part_of_a_run_is_named(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path)
    directory.write_text("analysis.json", "{")
    with pytest.raises(BadHistory, match=r"analysis\.json"):
        directory.analysis()
    directory.write_text("manifest.json", "[]")
    with pytest.raises(BadHistory, match="manifest"):
        directory.manifest()


def test_a_history_that_ends_between_two_of_its_pieces_is_not_taken_for_whole(
    tmp_path: Path,
) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    every = written(tmp_path / "run" / "history.jsonl.zst", 20, pieces=2)
    for number in range(2):
        (tmp_path / "run" / f"history.jsonl.{number}").unlink()
    directory.write_manifest(msgspec.structs.replace(manifest(), operations=40))
    *lines, last = directory.lines()
    assert lines == every
    assert isinstance(last, Event)
    assert last.told == directory.cut == "the history has 20 of the run's 40 operations"


def test_what_a_killed_process_left_half_written_is_taken_away_by_force(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path).write_manifest(manifest())
    (tmp_path / "report.html.part").write_text("<p>")
    RunDirectory.create(tmp_path, force=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"\xff", b'"\xff"', b'{"run": "\xff"}', b"[" * 100_000])
def test_what_is_not_even_text_is_one_clear_error(tmp_path: Path, data: bytes) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    for name in ("analysis.json", "wars.json", "manifest.json"):
        (directory.path / name).write_bytes(data)
    for read in (directory.analysis, directory.wars, directory.manifest):
        with pytest.raises(BadHistory):
            read()
    with pytest.raises(BadHistory, match="line 1"):
        list(decode_lines([b'{"t":"event","at":1,"x":' + data + b"}"]))


def test_a_scenario_that_nests_too_deeply_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "deep.toml"
    path.write_text(f"x = {'[' * 100_000}")
    with pytest.raises(BadScenario, match=r"deep\.toml"):
        find(str(path))
