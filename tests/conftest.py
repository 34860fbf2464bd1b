"""For all tests: Hypothesis is given its examples, not a time; the machine may be busy. `--rewrite`
puts what really came out into the scenarios, instead of comparing."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("store", deadline=None)
settings.load_profile("store")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite", action="store_true", help="write the outputs of tests/scenarios anew"
    )
