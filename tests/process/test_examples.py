"""The examples, run as a user runs them, against real nodes."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

from cluster_process import ClusterProcess

EXAMPLES = Path(__file__).parents[2] / "examples"
VALUE_BYTES_MAX = 1 << 20


def test_the_standard_library_goes_in_and_out_byte_for_byte() -> None:
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "__pycache__"}
    files = [p for p in root.rglob("*") if p.is_file() and not left_out & set(p.parts)]
    too_large = {
        path.relative_to(root).as_posix() for path in files if path.stat().st_size > VALUE_BYTES_MAX
    }
    with ClusterProcess() as cluster:
        urls = [cluster.url(i) for i in range(len(cluster))]
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "load_stdlib.py"), *urls],
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    *listed, said = done.stdout.splitlines()
    refused = {line.removeprefix("413, over the value limit: ") for line in listed}
    assert refused == too_large
    assert said.startswith(f"{len(files) - len(too_large)} of {len(files)} files")
    assert len(files) > 500


def test_a_cluster_is_simulated_in_a_script() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "simulate.py")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "at c: 1 of 2 replicas answered",
        "c has (b'bread', b'milk') after 62 s",
    ]
