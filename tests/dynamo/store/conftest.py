"""A directory in memory, for tests that open many copies of a storage: each open syncs often."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="module")
def memory_path() -> Iterator[Path]:
    """As `tmp_path`, in memory where the system has such a place; one for the module's tests."""
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="dynamo-test-", dir=place) as name:
        yield Path(name)
