"""`dynamo-bench`: what it offers is there."""

from __future__ import annotations

import pytest

from bench.cli import COMMANDS, main

#: Those that measure staleness, or tell of it.
OF_STALENESS = (
    *("analyze", "baseline", "check-report", "compare", "predict", "report", "run", "selftest"),
    "short",
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_measurement_can_be_asked_what_it_takes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_one_line_tells_that_it_was_interrupted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.predict.main", interrupt)
    assert main(["predict"]) == 130
    assert capsys.readouterr().err == "dynamo-bench predict: interrupted\n"


@pytest.mark.parametrize("arguments", [[], ["fly"], ["placement", "--fast"], ["hotpath", "x"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: " in capsys.readouterr().err


@pytest.mark.parametrize("name", OF_STALENESS)
def test_wrong_usage_of_what_measures_staleness_is_one_line_of_who_says_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "a", "b", "c", "--fast"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"dynamo-bench {name}: ")
    assert said.count("\n") == 1
