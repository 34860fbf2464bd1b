"""The Makefile: each target sets itself up, and `make run` says to `dynamo cluster` what it was told."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


def make(*arguments: str, directory: Path = ROOT, **variables: str) -> str:
    """What a make of its own, with no variable but these, prints."""
    ours = {"PORT", "RPC_PORT", "NODES", "DATA_DIR", "MAKEFLAGS", "MAKELEVEL", "PYTHON"}
    ours |= {"SEED", "PLAN", "SECONDS", "FLAGS"}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        ["make", *arguments],
        cwd=directory,
        env={**inherited, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def cluster_command(*arguments: str) -> list[str]:
    commands = make("-n", "run", *arguments).replace("\\\n", " ").splitlines()
    (command,) = (line for line in commands if "dynamo cluster" in line)
    return shlex.split(command)[2:]


def test_run_keeps_its_data_in_the_clone_and_carries_on_with_what_is_there() -> None:
    assert cluster_command() == ["--http-port", "8098", "--data-dir", ".dynamo-run"]
    assert "/.dynamo-run/" in ("/" + line for line in (ROOT / ".gitignore").read_text().split())


def test_run_passes_on_what_it_is_told() -> None:
    told = ("NODES=5", "PORT=9098", "RPC_PORT=9400", "DATA_DIR=/a b/c")
    assert cluster_command(*told) == [
        *("--http-port", "9098", "--data-dir", "/a b/c"),
        *("--nodes", "5", "--rpc-port", "9400"),
    ]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("sim",), "search --seconds 60"),
        (("sim", "SECONDS=600"), "search --seconds 600"),
        (("sim", "SEED=7"), "run --seed 7"),
        (("sim", "PLAN=a b.json"), "run --plan 'a b.json'"),
        (("sim", "SEED=7", "PLAN=x"), "run --seed 7 --plan x"),
        (("sim-shrink", "SEED=7"), "shrink --seed 7"),
        (("sim-shrink", "PLAN=x"), "shrink --plan x"),
        (("sim-shrink",), "shrink"),
        (("sim-planted",), "planted"),
    ],
)
def test_the_simulator_is_told_what_make_is_told(arguments: tuple[str, ...], command: str) -> None:
    (line,) = (one for one in make("-n", *arguments).splitlines() if "dynamo.sim" in one)
    assert shlex.split(line) == [".venv/bin/python", "-m", "dynamo.sim", *shlex.split(command)]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [((), "floor"), (("FLAGS=--nodes 3 --rounds 9",), "floor --nodes 3 --rounds 9")],
)
def test_a_measurement_is_told_what_make_is_told(arguments: tuple[str, ...], command: str) -> None:
    (line,) = (one for one in make("-n", "bench-floor", *arguments).splitlines() if "bench" in one)
    assert shlex.split(line) == [".venv/bin/python", "-m", "bench", *shlex.split(command)]


def test_what_make_bench_leaves_is_ignored() -> None:
    (line,) = (one for one in make("-n", "bench").splitlines() if "-m bench" in one)
    assert shlex.split(line) == [".venv/bin/python", "-m", "bench", "short"]
    assert "/.dynamo-bench/" in ("/" + line for line in (ROOT / ".gitignore").read_text().split())


def test_help_tells_of_every_target_and_every_variable() -> None:
    makefile, told = (ROOT / "Makefile").read_text(), make("help")
    (targets,) = re.findall(r"^\.PHONY: help (.*)$", makefile, re.MULTILINE)
    assert [each for each in targets.split() if f"make {each}" not in told] == []
    variables = re.findall(r"^(\w+) \?=", makefile, re.MULTILINE)
    assert [each for each in (*variables, "PYTHON") if f"{each}=" not in told] == []


@pytest.mark.parametrize("has_ensurepip", [True, False])
def test_a_target_sets_itself_up_whether_or_not_venv_can_bring_pip(
    tmp_path: Path, has_ensurepip: bool
) -> None:
    """As on Debian without python3-venv; the interpreter is a stub that writes down its calls."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    python = tmp_path / "a python"
    python.write_text(
        f"""#!/bin/sh
echo "$0 $*" >> calls
case "$*" in
  "-c "*) exec {shlex.quote(sys.executable)} "$@" ;;
  "-m venv .venv") {"true" if has_ensurepip else "exit 1"} ;;
esac
case "$*" in "-m venv "*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;; esac
"""
    )
    python.chmod(0o755)
    make(".venv/.installed", directory=tmp_path, PYTHON=str(python))
    assert (tmp_path / ".venv/.installed").exists()
    last = (tmp_path / "calls").read_text().splitlines()[-1]
    pip = (
        ".venv/bin/python -m pip" if has_ensurepip else f"{python} -m pip --python .venv/bin/python"
    )
    assert last == f"{pip} install --quiet --disable-pip-version-check -e .[dev]"
