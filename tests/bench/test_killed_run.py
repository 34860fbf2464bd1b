"""A harness that is killed leaves a run behind that can be analysed, and counts for nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench.analysis import analyse
from bench.run_directory import HISTORY, RunDirectory


def test_a_killed_run_can_be_analysed_and_is_void(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ("-m", "bench", "run", "control-plus", "--set", "load.warmup=0", "--out", str(out))
    with subprocess.Popen((sys.executable, *command), stdout=subprocess.DEVNULL) as harness:
        history, until = out / HISTORY, time.monotonic() + 30
        while not (history.exists() and history.stat().st_size > 2_000):
            assert time.monotonic() < until
            time.sleep(0.05)
        harness.kill()
    directory = RunDirectory.open(out)
    analysis = analyse(directory.manifest(), directory.lines())
    assert analysis.health.void == "the run did not come to its end"
    assert analysis.curves[0].reads > 0
