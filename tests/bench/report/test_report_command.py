"""`dynamo-bench report DIR`: a file, or one line that says why there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_directory import write_run
from made_run import made_material

from bench.cli import main
from bench.report.render import render


def test_the_report_of_a_directory_is_that_of_what_it_holds(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert page == render(made_material()._replace(directory=str(tmp_path / "run")))
    assert "write 900 at n1" in page  # out of the history


def test_it_goes_where_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run")
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "a.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a.html'}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "run"]


def _no_directory(path: Path) -> None:
    assert not path.exists()


def _empty(path: Path) -> None:
    path.mkdir()


def _not_analysed(path: Path) -> None:
    write_run(path, analysed=False)


def _damaged(path: Path) -> None:
    write_run(path)
    (path / "analysis.json").write_text('{"run": 1')


def _odd_agreement(path: Path) -> None:
    write_run(path)
    text = (path / "predictions.json").read_text()
    (path / "predictions.json").write_text(
        text.replace('"rmse_points": 0.62', '"rmse_points": "x"')
    )


@pytest.mark.parametrize(
    ("command", "make"),
    [
        (command, make)
        for command in ("report", "compare", "check-report")
        for make in (_no_directory, _empty, _not_analysed, _damaged, _odd_agreement)
        if (command, make) != ("compare", _odd_agreement)  # predictions are not compared
    ],
)
def test_what_is_no_analysed_run_is_one_line_and_exit_code_1(
    command: str, make: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run"
    make(path)
    assert main([command, str(path), *([str(path)] if command == "compare" else [])]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"dynamo-bench {command}: ")
    assert not (path / "report.html").exists()


def test_a_history_that_is_gone_costs_the_evidence_alone(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run" / "history.jsonl.zst").unlink()
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "The evidence of anomalies could not be read" in page
    assert "operations of its evidence not shown" in page.replace("\N{NO-BREAK SPACE}", " ")
