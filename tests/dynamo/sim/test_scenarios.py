"""Scenes from the field, as text in tests/scenarios: `--rewrite` writes what came out, the diff is the
review."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from dynamo.sim.script import run_script

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_comes_out_as_written(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    real = run_script(text, name=path.name)
    if request.config.getoption("--rewrite"):
        path.write_text(real)
        return
    difference = difflib.unified_diff(
        text.splitlines(), real.splitlines(), "as written", "what came out", lineterm="", n=8
    )
    assert real == text, "\n".join((path.name, *difference))


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 20


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_begins_with_what_it_is_about(path: Path) -> None:
    assert path.read_text().startswith("# ")
