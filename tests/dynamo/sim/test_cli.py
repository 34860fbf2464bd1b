"""`python -m dynamo.sim`: what it prints, how it ends, and what it says to wrong usage."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crew_work
import msgspec
import pytest

import dynamo.sim.search
from dynamo.sim.checks import Finding
from dynamo.sim.cli import main
from dynamo.sim.crew import Died, Told
from dynamo.sim.draw import draw_plan
from dynamo.sim.kinds import Kind
from dynamo.sim.plan import read_plan, write_plan
from dynamo.sim.run import run_plan
from dynamo.sim.search import Hunt, Outcome

ROOT = Path(__file__).parents[3]
#: A seed of little trouble.
SEED = 7
REPLAY = "replay: python -m dynamo.sim run"


class Printed:
    """What a command printed, and its exit code."""

    def __init__(self, *argv: str) -> None:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                self.code: Any = main(argv)
            except SystemExit as end:
                self.code = end.code
        self.out, self.err = out.getvalue(), err.getvalue()

    @property
    def trace(self) -> str:
        """The hash in it."""
        (hash,) = re.findall(r"^trace (\w{16})$", self.out, re.MULTILINE)
        return str(hash)


@pytest.fixture(scope="module")
def ran() -> Printed:
    return Printed("run", "--seed", str(SEED))


# run ----------------------------------------------------------------------------------------------


def test_a_run_prints_its_plan_and_what_came_of_it(ran: Printed) -> None:
    plan, result = draw_plan(SEED), run_plan(draw_plan(SEED))
    assert ran.code == 0
    assert ran.out.startswith(f"{plan}\n\n{result.operations} operations: ")
    assert f"{result.messages} messages, {result.virtual_seconds:.1f} virtual seconds in" in ran.out
    assert f"get ok {result.outcomes['get ok']}" in ran.out
    assert "faults that came to something: " in ran.out
    assert ran.trace == result.trace
    assert ran.out.endswith("findings: none\n")


def test_a_plan_that_was_written_is_the_same_run(
    ran: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "plan.json"
    assert Printed("run", "--seed", str(SEED), "--write-plan", str(file)).trace == ran.trace
    assert Printed("run", "--plan", str(file)).trace == ran.trace
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    assert Printed("run", "--plan", "-").trace == ran.trace


def test_the_trace_can_be_printed_or_written(ran: Printed, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    written = Printed("run", "--seed", str(SEED), "--trace", str(file))
    lines = file.read_text().splitlines()
    assert (written.trace, len(lines) > 1000) == (ran.trace, True)
    assert lines[0] == "0.000000 start a"
    printed = Printed("run", "--seed", str(SEED), "--trace")
    assert printed.out.splitlines()[-len(lines) - 5 : -5] == lines


def test_the_story_of_a_key_has_its_operations_in_order() -> None:
    # In the run of this seed the last write wins at all keys, which are called so.
    lines = Printed("run", "--seed", str(SEED), "--key", "lww1").out.splitlines()
    start = lines.index("key lww1, kept by " + next(filter(None, _kept_by(lines))))
    told = lines[start + 1 : lines.index("", start)]
    assert len(told) > 10
    assert all(
        line.startswith("  at rest ") or "b'lww1'" in line or "lost" in line for line in told
    )
    assert told[-1].startswith("  at rest ")


def _kept_by(lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield line.removeprefix("key lww1, kept by ") if line.startswith("key lww1") else ""


def test_findings_are_told_with_the_commands_to_go_on() -> None:
    with crew_work.planted("one_ack_too_few"):
        printed = Printed("run", "--seed", "0")
    assert printed.code == 1
    assert re.search(r"^findings: \d+\nI1: \[put ", printed.out, re.MULTILINE)
    assert printed.out.endswith(
        f"\n\n{REPLAY} --seed 0\nshrink: python -m dynamo.sim shrink --seed 0\n"
    )


# shrink -------------------------------------------------------------------------------------------


def test_shrinking_writes_a_plan_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with crew_work.planted("one_ack_too_few"):
        printed = Printed("shrink", "--seed", "0")
        again = Printed("run", "--plan", "shrunk-0.json")
    assert (printed.code, again.code) == (0, 1)
    assert printed.out.startswith("shrinking what shows I1: ")
    assert "runs: 0 faults, " in printed.out
    assert printed.out.endswith(f"\n{REPLAY} --plan shrunk-0.json\n")
    assert read_plan((tmp_path / "shrunk-0.json").read_bytes()).faults == ()


def test_shrinking_keeps_the_invariant_that_is_asked_for(tmp_path: Path) -> None:
    out = str(tmp_path / "out.json")
    with crew_work.planted("one_ack_too_few"):
        asked = Printed("shrink", "--seed", "0", "--invariant", "I1", "--out", out, "--runs", "1")
        other = Printed("shrink", "--seed", "0", "--invariant", "I3", "--out", out)
    assert (asked.code, other.code) == (0, 2)
    assert asked.out.startswith("shrinking what shows I1: ")
    assert "no finding is of I3; there are I1" in other.err


def test_there_is_nothing_to_shrink_where_nothing_is_found(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    printed = Printed("shrink", "--seed", str(SEED), "--out", str(out))
    assert printed.code == 1
    assert "nothing to shrink" in printed.out
    assert not out.exists()


# Wrong usage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("run", "--seed", "x"), "'x' is no seed"),
        (("run", "--seed", "-1"), "'-1' is no seed"),
        (("run", "--seed", "1" * 19), "is no seed"),
        (("run", "--seed", "1", "--plan", "f"), "not allowed with argument"),
        (("run",), "one of the arguments --seed --plan is required"),
        (("run", "--plan", "nowhere.json"), "nowhere.json: No such file"),
        (("run", "--plan", str(ROOT)), "directory"),
        (("run", "--plan", str(ROOT / "Makefile")), "Makefile: not a plan of faults: "),
        (("run", "--seed", "7", "--key", "k77"), "no key 'k77', but lww0 lww1"),
        (("run", "--seed", "7", "--write-plan", "/nowhere/x"), "/nowhere/x: No such file"),
        (("shrink",), "is required"),
        (("search", "--seconds", "0"), "'0' is no number of seconds"),
        (("search", "--seconds", "nan"), "'nan' is no number of seconds"),
        (("search", "--jobs", "0"), "'0' is no whole number"),
        (
            ("planted", "--module", "crew_work", "x"),
            "no bug is called x; there are one_ack_too_few",
        ),
        (("planted", "--module", "crew_walk"), "no bugs are planted"),
        (("nonsense",), "nonsense"),
        ((), "required"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(argv: tuple[str, ...], said: str) -> None:
    printed = Printed(*argv)
    assert (printed.code, printed.out) == (2, "")
    assert printed.err.count("\n") == 1
    assert said in printed.err


_BURST = {"number": 0, "at": 1.0, "seconds": 0.1, "clients": 1, "operations": 1, "keys": [0]}
_CRASH = {"at": 1.0, "kind": "crash", "nodes": ["a"]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"replicas": 9}, "9 replicas on "),
        ({"nodes": ["a", "a", "b"]}, "each another name"),
        ({"dead": ["x"]}, "too many stay dead, or none of these nodes: x"),
        ({"dead": ["a", "b"]}, "too many stay dead"),
        ({"nodes": ["a:b", "b", "c", "d", "e"]}, "each another name"),
        ({"partitions": 3}, "3 partitions"),
        ({"latency_ms": -1.0}, "messages take -1.0 ms"),
        ({"sync_ms": 1e12}, "syncs 1000000000000.0 ms"),
        ({"keys": 100_000}, "100000 keys"),
        ({"lww": [9]}, "the last write wins at keys (9,)"),
        ({"lww": [0, 0]}, "each once"),
        ({"apart": 1e9}, "start within"),
        ({"bursts": [{**_BURST, "at": 1e9}]}, "it is not within 20 s"),
        ({"bursts": [{**_BURST, "operations": 10**9}]}, "10000 operations"),
        ({"faults": [{**_CRASH, "at": 1e6}]}, "it is not within 20 s"),
        ({"faults": [{**_CRASH, "kind": "flip", "nodes": ["a", "b"], "number": 10**8}]}, "1..30"),
        ({"faults": [{**_CRASH, "kind": "jump", "number": -(10**14)}]}, "its number is over"),
        ({"sead": 1}, "unknown field `sead`"),
        ({"keys": 0}, "0 keys"),
        ({"bursts": [{**_BURST, "keys": [9]}]}, "whose numbers are below"),
        ({"faults": [{**_CRASH, "nodes": ["x"]}]}, "no such nodes"),
        ({"faults": [{**_CRASH, "nodes": ["a", "b"]}]}, "it befalls 1 nodes"),
        ({"faults": [{**_CRASH, "kind": "bridge"}]}, "it befalls 2 nodes or more"),
        ({"faults": [{**_CRASH, "kind": "crush"}]}, "Invalid enum value 'crush'"),
        ({"faults": [{**_CRASH, "kind": "crash_at"}]}, "a point, nothing else has"),
        ({"faults": [{**_CRASH, "second": 1}]}, "unknown field `second`"),
        ({"faults": [{**_CRASH, "seconds": -1.0}]}, "lasts over 600 s"),
        ({"faults": [{**_CRASH, "kind": "slow_node"}]}, "its number is not in 1..1000"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "plan.json"
    plan = msgspec.json.decode(write_plan(draw_plan(SEED)))
    file.write_bytes(msgspec.json.encode({**plan, **changes}))
    printed = Printed("run", "--plan", str(file))
    assert (printed.code, printed.out) == (2, "")
    assert f"{file}: " in printed.err
    assert said in printed.err


@pytest.mark.parametrize("seed", range(0, 400, 8))
def test_every_plan_that_is_drawn_can_be_read(seed: int) -> None:
    plan = draw_plan(seed)
    assert read_plan(write_plan(plan)) == plan


# search -------------------------------------------------------------------------------------------


def outcome(seed: int, *findings: str) -> Told:
    said = tuple(Finding(text, f"{text} is broken") for text in findings)
    injected: Counter[Kind] = Counter({"crash": 2, "wipe": 1})
    return Told(0, Outcome(seed, said, 400, 5000, 36.0, injected, 0.5))


def with_events(patch: pytest.MonkeyPatch, *events: Told | Died | BaseException) -> None:
    """Let the workers tell this."""

    def run_tasks(*_: object, **__: object) -> Iterator[Told | Died]:
        for event in events:
            if isinstance(event, BaseException):
                raise event
            yield event

    patch.setattr(dynamo.sim.search, "run_tasks", run_tasks)


def test_a_search_tries_seeds_in_worker_processes() -> None:
    printed = Printed("search", "--first", "10", "--count", "3", "--jobs", "2")
    assert (printed.code, printed.err) == (0, "")
    assert printed.out.startswith("seeds from 10 on, 3 of them, in 2 processes\n3 seeds, ")
    results = [run_plan(draw_plan(seed)) for seed in (10, 11, 12)]
    assert f" {sum(result.messages for result in results)} messages, " in printed.out
    assert f"\n{sum(result.injected.total() for result in results)} faults: " in printed.out


def test_a_search_sums_up_and_tells_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with_events(monkeypatch, outcome(9), outcome(8, "I1", *["I2"] * 8), outcome(3, "I7"))
    printed = Printed("search", "--first", "3", "--jobs", "1", "--seconds", "1")
    assert printed.code == 1
    summary, third, eighth = printed.out.split("\n\n")
    head, *at_once, counts, speed, faults = summary.splitlines()
    assert head == "seeds from 3 on for 1 s, in 1 processes"
    assert at_once == ["seed 8: I1 I2", "seed 3: I7"]
    assert counts.startswith("3 seeds, 1200 operations, 15000 messages, 0.03 virtual hours in ")
    assert re.match(r"2\.00 seeds a second a core, \d+ messages a second, \d+ times real", speed)
    assert faults == "9 faults: crash 6, wipe 3"
    assert third == "seed 3: python -m dynamo.sim run --seed 3\n  I7: I7 is broken"
    first, *told = eighth.splitlines()
    assert first == "seed 8: python -m dynamo.sim run --seed 8"
    assert told == ["  I1: I1 is broken", *["  I2: I2 is broken"] * 4, "  and 4 more"]


def test_a_search_until_something_is_found_stops_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with_events(monkeypatch, outcome(1), outcome(2, "I1"), AssertionError("went on"))
    printed = Printed("search", "--until-found")
    assert printed.code == 1
    assert "\n2 seeds, " in printed.out


def test_a_worker_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with_events(monkeypatch, outcome(1), Told(0, 5), Died(0, "ended with exit code -9"))
    printed = Printed("search")
    assert printed.code == 1
    assert printed.out.endswith("\nerror: a worker ended with exit code -9, at seed 5\n")


def test_what_a_search_has_is_printed_when_it_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_events(monkeypatch, outcome(1), KeyboardInterrupt())
    printed = Printed("search")
    assert printed.code == 130
    assert "\ninterrupted\n1 seeds, " in printed.out


@contextlib.contextmanager
def long_search() -> Iterator[subprocess.Popen[str]]:
    """A search in a process group of its own, under way."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dynamo.sim", "search", "--seconds", "200", "--jobs", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("seeds from ")
        time.sleep(2.0)
        yield process
        deadline = time.monotonic() + 30
        while _has_members(process.pid):
            assert time.monotonic() < deadline, "a worker was left behind"
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_ends_a_search_and_its_workers() -> None:
    with long_search() as process:
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    assert out.startswith("interrupted\n")


def test_the_workers_of_a_search_that_is_killed_end_by_themselves() -> None:
    with long_search() as process:
        process.kill()
        process.wait()


# planted ------------------------------------------------------------------------------------------


def test_a_planted_bug_is_found_and_its_absence_is_not() -> None:
    told: list[Hunt | str] = []
    dynamo.sim.search.hunt(
        ["one_ack_too_few", "none_at_all"], module="crew_work", jobs=2, seeds=2, told=told.append
    )
    found, missed = sorted(one for one in told if isinstance(one, Hunt))[::-1]
    assert (found.name, found.seeds, found.tried) == ("one_ack_too_few", (0, 1), 2)
    assert found.invariants["I1"] == 2
    assert missed == Hunt("none_at_all", (), Counter(), 2)


def test_a_bug_that_is_not_found_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    caught = Hunt("one_ack_too_few", (4, 6), Counter(I1=2, I7=1), 25)
    missed = Hunt("none_at_all", (), Counter(), 200)
    with_events(monkeypatch, Told(0, 4), Told(0, caught), Told(1, missed))
    printed = Printed("planted", "--module", "crew_work")
    assert printed.code == 1
    first, second, last = printed.out.splitlines()
    assert re.match(r"one_ack_too_few +seed 4: I1 2, I7 1 in 2 of 25 seeds \(writes ", first)
    assert re.match(r"none_at_all +NOT FOUND in 200 seeds \(nothing is wrong\)", second)
    assert last == "1 of 2 planted bugs found"
    with_events(monkeypatch, Told(0, caught))
    assert Printed("planted", "--module", "crew_work", "one_ack_too_few").code == 0
    with_events(monkeypatch, Died(0, "ended with exit code 1"))
    printed = Printed("planted", "--module", "crew_work", "one_ack_too_few")
    assert printed.code == 1
    assert "error: the worker that looked for one_ack_too_few ended" in printed.out
