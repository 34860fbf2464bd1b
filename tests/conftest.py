"""For all tests: Hypothesis is given its examples, not a time; the machine may be busy. `--rewrite`
puts what really came out into the scenarios, instead of comparing. Where Python is told to keep no
bytecode, it keeps some outside of the clone while the tests run: they start hundreds of nodes and
commands, and half of what each costs is to compile the same modules again."""

from __future__ import annotations

import os
import tempfile

import pytest
from hypothesis import settings

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
