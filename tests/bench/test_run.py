"""`dynamo-bench run`: a scenario is carried out, kept, and can be computed again to the same figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from bench import analyze, baseline, run, selftest
from bench.history import Op
from bench.processes import store
from bench.run_directory import NAMES, RunDirectory
from bench.staleness.keyed import is_register

MADE = {"analysis.json", "predictions.json", "summary.csv", "report.html", "latency.hlog"}
QUICK = ("--duration", "0.6", "--set", "load.warmup=0.1", "--rate", "150")
#: Exit code where this machine was too busy for the harness to keep time.
VOID = 1


def carry_out(*arguments: str | Path) -> int:
    return run.main([str(one) for one in arguments])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_run_leaves_a_history_and_every_figure_is_computed_again_from_it_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert carry_out("control-plus", "--target", "delay", "--out", out, *QUICK) in (0, VOID)
    names = {path.name for path in out.iterdir()}
    assert names >= MADE | {"manifest.json", "history.jsonl.zst", "live.jsonl"}
    assert names <= set(NAMES)
    manifest = read(out / "manifest.json")
    assert manifest["scenario"]["load"]["rate"] == 150
    assert manifest["clock"] == "CLOCK_MONOTONIC"
    assert str(out / "report.html") in capsys.readouterr().out
    before = {name: (out / name).read_bytes() for name in MADE}
    for name in MADE:
        (out / name).unlink()
    assert analyze.main([str(out)]) == 0
    assert {name: (out / name).read_bytes() for name in MADE} == before


def test_the_simulator_gives_the_same_figures_for_the_same_seed(tmp_path: Path) -> None:
    analyses = []
    for name in ("a", "b"):
        asked = ("--duration", "2", "--rate", "20", "--seed", "5", "--no-report")
        assert carry_out("healthy", "--target", "sim", "--out", tmp_path / name, *asked) == 0
        analysis = read(tmp_path / name / "analysis.json")
        analyses.append({k: v for k, v in analysis.items() if k not in ("run", "health")})
    assert analyses[0] == analyses[1]
    assert analyses[0]["curves"][0]["fresh"]["of"] > 40


def test_real_nodes_are_driven_and_none_is_left(tmp_path: Path) -> None:
    out, data = tmp_path / "run", tmp_path / "data"
    data.mkdir()
    asked = ("--target", "nodes", "--data-dir", data, "--duration", "1.5", "--rate", "20")
    carry_out("healthy", "--out", out, *asked, "--no-report")
    analysis = read(out / "analysis.json")
    assert {one["kind"] for one in analysis["availability"]} == {"read", "write"}
    assert all(one["ok"]["count"] > 10 for one in analysis["availability"])
    assert not (out / "report.html").exists()
    assert list(data.iterdir()) == []


def test_a_running_cluster_is_judged_by_the_properties_that_its_buckets_have(
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    with store(3, tmp_path) as cluster:
        address = f"http://{cluster.addresses[0]}/types/default/props"
        body = b'{"props": {"last_write_wins": true, "r": "all", "w": "all"}}'
        headers = {"Content-Type": "application/json"}
        with urlopen(Request(address, body, headers, method="PUT"), timeout=10):
            pass
        asked = ("--target", ",".join(cluster.addresses), "--duration", "1.5", "--rate", "20")
        carry_out("healthy", "--out", out, *asked, "--set", "cluster.properties={}", "--no-report")
    directory = RunDirectory.open(out)
    manifest = directory.manifest()
    shown = manifest.configuration["properties"]
    assert (shown["last_write_wins"], shown["r"], shown["n_val"]) == (True, "all", 3)
    assert manifest.scenario["cluster"]["properties"] == {}
    assert is_register(manifest)
    asked_of = {(op.r, op.w) for op in directory.lines() if isinstance(op, Op)}
    assert asked_of == {(3, 0), (0, 3)}


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("helthy", "--out", "OUT"), 2, "there are: "),
        (("healthy",), 2, "--out DIR"),
        (("--out", "OUT"), 2, "name a scenario"),
        (("healthy", "--out", "OUT", "--set", "load.rat=1"), 2, "rat"),
        (("healthy", "--out", "OUT", "--set", "options.kees=1"), 2, "'kees'"),
        (("healthy", "--out", "OUT", "--rate", "0"), 2, "rate"),
        (("healthy", "--out", "OUT", "--duration", "nan"), 2, "duration"),
        (("healthy", "--out", "OUT", "--seed", "-1"), 2, "seed"),
        (("healthy", "--out", "OUT", "--target", "moon"), 2, "there are: nodes, sim"),
        (("healthy", "--out", "OUT", "--target", "delay"), 2, "cannot be run on delay"),
        (("pauses", "--out", "OUT", "--target", "http://127.0.0.1:9"), 2, "cannot be run on http"),
        (("healthy", "--out", "OUT", "--target", "http://127.0.0.1:9"), 1, "127.0.0.1:9"),
        (("healthy", "--out", "OUT", "--target", "ftp://127.0.0.1:9"), 1, "ftp"),
        (("control-plus", "--out", "FULL"), 1, "neither empty nor a run"),
        (("control-plus", "--out", "FILE"), 1, "no directory"),
        (("control-plus", "--out", "FULL", "--force"), 1, "neither empty nor a run"),
    ],
)
def test_what_cannot_be_is_one_line_and_an_exit_code(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    why: str,
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("x")
    places = {"OUT": str(tmp_path / "out"), "FULL": str(full), "FILE": str(full / "thesis.tex")}
    with pytest.raises(SystemExit) as caught:
        carry_out(*(places.get(one, one) for one in arguments))
    assert caught.value.code == code
    told = capsys.readouterr().err
    assert why in told
    assert told.count("\n") == 1
    assert (full / "thesis.tex").read_text() == "x"


def test_a_fault_that_the_target_cannot_do_leaves_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "cut.toml", tmp_path / "run"
    scene = 'name = "cut"\ntold = "."\ntargets = ["null"]\nworkload = "ycsb-a"\n'
    file.write_text(f'{scene}[[faults]]\ndo = "partition"\nat = 0.1\nuntil = 0.2\nnodes = [0]\n')
    with pytest.raises(SystemExit) as caught:
        carry_out(file, "--out", out, *QUICK)
    assert caught.value.code == 2
    assert "start all nodes with --fault-injection" in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_a_run_that_is_there_is_written_over_only_if_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    asked = ("null-ceiling", "--out", out, "--no-report", *QUICK)
    carry_out(*asked)
    first = read(out / "manifest.json")["run"]
    with pytest.raises(SystemExit) as caught:
        carry_out(*asked)
    assert caught.value.code == 1
    assert "--force" in capsys.readouterr().err
    assert read(out / "manifest.json")["run"] == first
    carry_out(*asked, "--force")
    assert read(out / "manifest.json")["run"] != first


def test_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert carry_out("--list") == 0
    told = capsys.readouterr().out
    assert "partition-heal" in told
    assert "control-plus" in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_interrupted_is_kept_and_counts_for_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "run"
    command = (sys.executable, "-m", "bench", "run", "control-plus", "--out", str(out))
    with subprocess.Popen(
        (*command, "--duration", "60", "--no-report"),
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        deadline = time.monotonic() + 30
        while not (out / "live.jsonl").exists() or (out / "live.jsonl").stat().st_size < 300:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        told, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "cut short" in told
    assert "cut short" in read(out / "manifest.json")["void"]
    assert analyze.main([str(out)]) == 0


def test_a_register_that_is_less_late_than_it_says_fails_the_selftest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "_controls", lambda: ["control-plus"])
    selftest.main(["--duration", "1"])
    assert "pass    every read below 50 ms is stale" in capsys.readouterr().out
    monkeypatch.setattr("bench.target_choice.MS", 500_000)
    assert selftest.main(["--duration", "1"]) == 1
    told = capsys.readouterr().out
    assert "fail    every read below 50 ms is stale" in told
    assert "0 of 1 controls behave" in told


def test_a_baseline_is_kept_and_compared_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    asked = ("healthy", "--target", "sim", "--duration", "2", "--out")
    assert baseline.main([*asked, str(old)]) == 0
    kept = read(old / "baseline.json")["scenarios"]["healthy"]
    assert kept["figures"]["reads available"] == 1.0
    capsys.readouterr()
    assert baseline.main([*asked, str(new), "--against", str(old)]) == 0
    told = capsys.readouterr().out
    assert "0 of " in told
    assert f"dynamo-bench compare {new / 'healthy'} DIR" in told.replace("\n", "")
    with pytest.raises(SystemExit) as caught:
        baseline.main([*asked, str(tmp_path / "x"), "--against", str(tmp_path)])
    assert caught.value.code == 1
    assert "is no baseline" in capsys.readouterr().err
