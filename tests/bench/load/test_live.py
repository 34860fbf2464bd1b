"""The live line: JSON lines where nobody looks, one line drawn anew on a terminal, both kept."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from bench.history import Kind, Op
from bench.load.live import LiveLine, told
from bench.load.progress import Progress, Tally


def op(
    n: int, kind: Kind, *, start: int, end: int, seen: tuple[int, ...] = (), write: int = 0
) -> Op:
    return Op(
        n=n,
        session=0,
        kind=kind,
        key="k",
        intended=start,
        start=start,
        end=end,
        outcome="ok",
        seen=seen,
        write=write,
    )


def progress(tally: Tally) -> Progress:
    return tally.progress(second=1.0, phase="measure", in_flight=2, dropped=3, faults=("pause",))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_read_that_misses_the_last_acknowledged_write_is_behind() -> None:
    tally = Tally()
    tally.note(op(1, "write", start=0, end=10, write=1))
    tally.note(op(2, "read", start=5, end=20))  # overlaps: not looked at
    tally.note(op(3, "read", start=11, end=20))
    tally.note(op(4, "read", start=11, end=20, seen=(1,)))
    found = progress(tally)
    assert (found.behind, found.of, found.ok) == (1, 2, 4)
    again = progress(tally)
    assert (again.behind, again.behind_total, again.ok) == (0, 1, 0)


def test_where_nobody_looks_there_are_json_lines(tmp_path: Path) -> None:
    out = io.StringIO()
    with LiveLine(out, tmp_path / "live.jsonl") as live:
        live(progress(Tally()))
        live(progress(Tally()))
    assert (tmp_path / "live.jsonl").read_text() == out.getvalue()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["phase"] for line in lines] == ["measure", "measure"]


def test_who_listens_no_more_does_not_end_the_run(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as out:
        with LiveLine(out, tmp_path / "live.jsonl") as live:
            live(progress(Tally()))
            live(progress(Tally()))
        with pytest.raises(BrokenPipeError):
            out.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
    assert len((tmp_path / "live.jsonl").read_text().splitlines()) == 2


def test_on_a_terminal_a_line_says_all(tmp_path: Path) -> None:
    tally = Tally()
    tally.note(op(1, "write", start=0, end=10_000_000, write=1))
    out = Terminal()
    with LiveLine(out, tmp_path / "live.jsonl") as live:
        live(progress(tally))
    line = told(progress(Tally()))
    assert "+1 s measure" in line
    assert "2 in flight" in line
    assert "dropped 3" in line
    assert "faults: pause" in line
    assert "1 ops/s" in out.getvalue()
    assert "p50 10.0" in out.getvalue()
    assert json.loads((tmp_path / "live.jsonl").read_text())["p50_ms"] == 10.0
