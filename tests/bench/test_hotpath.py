"""What a request costs in calls and blocks stays within what is recorded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.hotpath import over, recorded, version


def test_the_hot_path_costs_no_more_than_is_recorded() -> None:
    """In a process of its own: pytest's own calls are not the store's."""
    if version() not in recorded():
        pytest.skip(f"no counts for Python {version()} yet: python -m bench.hotpath --write")
    command = [sys.executable, "-m", "bench.hotpath", "--compare"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_count_of_more_than_a_tenth_above_is_named() -> None:
    allowed = {"get": {"calls": 100.0, "blocks": 200.0}}
    assert over({"get": {"calls": 109.0, "blocks": 150.0}}, allowed) == []
    (line,) = over({"get": {"calls": 111.0, "blocks": 150.0}}, allowed)
    assert line.startswith("get calls: 111.0 is over 100.0")
