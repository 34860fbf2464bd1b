"""A virtual environment for a client of PyPI, made once and kept: nothing of ours is in it.

What is in tests/clients/*.txt is installed by pip with its hashes checked, and nothing else. The
environment lies in the user's own folder below the system's temporary one, under a name that holds
the hash of the requirements and of the interpreter, and is made under a lock, so that several test
processes make one. Where no interpreter fits, or no package index is reached, the test is skipped
and says why; a package that is not the pinned one fails it. Knows nothing of what a client does.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest

CLIENTS = Path(__file__).parents[1] / "clients"
INSTALL_SECONDS = 240.0
RUN_SECONDS = 120.0
PIP_INSTALL = (
    *("-m", "pip", "install", "--require-hashes", "--no-deps", "--no-build-isolation"),
    *("--disable-pip-version-check", "--no-input", "--retries", "2", "--timeout", "20"),
)


def client_python(name: str, *, at_least: tuple[int, int], before: Sequence[str] = ()) -> Path:
    """The interpreter of an environment with all that tests/clients/`name`.txt pins.

    `before`: requirements, by name, that are installed first, since others are built with them.
    Skips the test without an interpreter of `at_least` or without a package index.
    """
    interpreter = find_python(at_least)
    if interpreter is None:
        pytest.skip(f"no Python of {at_least[0]}.{at_least[1]} or later with venv and pip is found")
    files = [CLIENTS / f"{each}.txt" for each in (*before, name)]
    digest = hashlib.sha256(_identity(interpreter).encode())
    for file in files:
        digest.update(file.read_bytes())
    directory = _own_folder() / f"{name}-{digest.hexdigest()[:16]}"
    with Path(f"{directory}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = directory / "complete"
        if not complete.exists():
            shutil.rmtree(directory, ignore_errors=True)
            _make(interpreter, directory, files)
            complete.touch()
    return directory / "bin" / "python"


def run_client(python: Path, script: str, *arguments: str) -> str:
    """What tests/clients/`script` prints, run by that interpreter; fails the test if it fails."""
    done = subprocess.run(
        [str(python), "-W", "ignore", str(CLIENTS / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
        env=_clean_environment(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def find_python(at_least: tuple[int, int]) -> Path | None:
    """The first interpreter that runs, is of `at_least`, and can make an environment with pip.

    A shim of pyenv may be on PATH and yet run nothing: each one is tried.
    """
    ask = f"import ensurepip, sys, venv; sys.exit(sys.version_info < {at_least})"
    for candidate in _candidates(at_least):
        try:
            tried = subprocess.run(
                [candidate, "-c", ask], capture_output=True, check=False, timeout=30
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if tried.returncode == 0:
            return Path(candidate)
    return None


def why_pip_failed(output: str) -> Literal["no index", "other"]:
    """`no index` only if pip could not reach one at all: nothing then says a package is wrong."""
    unreached = ("connection broken by", "Connection to ", "Failed to establish a new connection")
    if "DO NOT MATCH THE HASHES" not in output and any(sign in output for sign in unreached):
        return "no index"
    return "other"


def _candidates(at_least: tuple[int, int]) -> Iterator[str]:
    yield sys.executable
    minors = range(at_least[1], at_least[1] + 8)
    for minor in minors:
        found = shutil.which(f"python3.{minor}")
        if found is not None:
            yield found
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in minors:
        yield from sorted(str(path) for path in versions.glob(f"3.{minor}.*/bin/python3"))
    found = shutil.which("python3")
    if found is not None:
        yield found


def _identity(interpreter: Path) -> str:
    ask = "import sys; print(sys.version, sys.base_prefix)"
    return subprocess.run(
        [str(interpreter), "-c", ask], capture_output=True, text=True, check=True, timeout=30
    ).stdout


def _own_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"dynamo-clients-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # The temporary folder is everybody's: what another user put there is not run.
    assert not folder.is_symlink(), folder
    assert folder.stat().st_uid == os.getuid(), folder
    return folder


def _make(interpreter: Path, directory: Path, files: Iterable[Path]) -> None:
    _run([str(interpreter), "-m", "venv", str(directory)])
    for file in files:
        _run([str(directory / "bin" / "python"), *PIP_INSTALL, "-r", str(file)])


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_SECONDS,
        env=_clean_environment(),
    )
    if done.returncode == 0:
        return
    output = done.stdout + done.stderr
    if why_pip_failed(output) == "no index":
        pytest.skip(f"pip reaches no package index: {output.strip().splitlines()[-1]}")
    pytest.fail(f"{' '.join(command)}\n{output}")


def _clean_environment() -> dict[str, str]:
    # A PYTHONPATH that leads to this repository would lend the client what it does not bring.
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
