"""`dynamo-bench analyze`: a run's figures again, and clear words for what is no run."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_history import Made, manifest

from bench.analyze import main
from bench.run_directory import HISTORY, RunDirectory


def made_run(path: Path, **setup: object) -> RunDirectory:
    made = Made()
    for number in range(50):
        made.write(number + 1, number * 10, number * 10 + 1, key=f"k{number}")
        made.read(
            number + 1 if number % 5 else 0, number * 10 + 2, number * 10 + 3, key=f"k{number}"
        )
    directory = RunDirectory.create(path)
    scenario = {
        "name": "made",
        "told": "",
        "targets": ["nodes"],
        "workload": "visibility",
        "expect": [{"figure": "fresh", "at_least": 0.9}],
    }
    directory.write_manifest(manifest(scenario=scenario, **setup))  # type: ignore[arg-type]
    with directory.history_writer() as writer:
        for line in made.lines:
            writer.add(line)
    return directory


def test_it_writes_the_analysis_and_says_what_came_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = made_run(tmp_path / "run")
    assert main([str(directory.path)]) == 0
    out = capsys.readouterr().out
    assert "fresh r=2 w=2 since client commit: 40 of 50 (66.96 to 88.76 %)" in out
    assert "fail: fresh at least 0.9: 40 of 50 reads" in out
    first = directory.analysis()
    assert first is not None
    assert first.judged[0].verdict == "fail"
    assert main([str(directory.path), "--seed", "1", "--budget", "2"]) == 0
    assert directory.analysis() is not None
    assert main([str(directory.path)]) == 0
    assert directory.analysis() == first


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run", "--seed", "-1"],
        ["run", "--seed", "x"],
        ["run", "--seed", "10000000000000000000000"],
        ["run", "--budget", "0"],
        ["run", "--budget", "nan"],
        ["run", "--budget", "inf"],
        ["run", "--budget", "1e9"],
        ["run", "more"],
        ["run", "--see", "1"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_what_is_no_run_fails_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    no_history = tmp_path / "no-history"
    made_run(no_history)
    (no_history / HISTORY).unlink()
    bad = tmp_path / "bad"
    made_run(bad)
    (bad / "manifest.json").write_text("{}")
    for path in (tmp_path, tmp_path / "none", tmp_path / "file", no_history, bad):
        assert main([str(path)]) == 1
        err = capsys.readouterr().err
        assert err.startswith("dynamo-bench analyze: ")
        assert err.count("\n") == 1


def test_a_history_that_was_cut_is_read_up_to_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = made_run(tmp_path / "run")
    whole = (directory.path / HISTORY).read_bytes()
    (directory.path / HISTORY).write_bytes(whole[:-7])
    assert main([str(directory.path)]) == 0
    assert "cut short" in capsys.readouterr().out


def test_a_history_that_contradicts_itself_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made()
    made.write(1, 0, 1)
    made.write(1, 2, 3)
    directory = RunDirectory.create(tmp_path / "run")
    scenario = {"name": "m", "told": "", "targets": ["nodes"], "workload": "visibility"}
    directory.write_manifest(manifest(scenario=scenario))
    with directory.history_writer() as writer:
        for line in made.lines:
            writer.add(line)
    assert main([str(directory.path)]) == 1
    assert "operations 1 and 2 both wrote 1" in capsys.readouterr().err
