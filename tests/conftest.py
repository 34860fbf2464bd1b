"""For all tests: Hypothesis is given its examples, not a time; the machine may be busy. `--rewrite`
puts what really came out into the scenarios, instead of comparing. Where Python is told to keep no
bytecode, it keeps some outside of the clone while the tests run: they start hundreds of nodes and
commands, and half of what each costs is to compile the same modules again. What takes long is begun
first, and there is one worker more than cores, since tests of processes mostly wait."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

PROCESS = Path(__file__).parent / "process"

settings.register_profile("store", deadline=None)
settings.load_profile("store")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite", action="store_true", help="write the outputs of tests/scenarios anew"
    )


def pytest_configure(config: pytest.Config) -> None:
    # Workers of pytest-xdist are started later and see an environment that is in order.
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        kept = tempfile.TemporaryDirectory(prefix="dynamo-bytecode-", ignore_cleanup_errors=True)
        config.add_cleanup(kept.cleanup)
        del os.environ["PYTHONDONTWRITEBYTECODE"]
        os.environ["PYTHONPYCACHEPREFIX"] = kept.name


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Of `-n auto`."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A worker begins with its part from the front, and others that have done theirs take from its end:
    so tests of processes run beside those that keep a core busy, and none is left for last alone."""
    items.sort(key=lambda item: (item.get_closest_marker("long") is None, not _waits(item)))


def _waits(item: pytest.Item) -> bool:
    return item.path.is_relative_to(PROCESS)
