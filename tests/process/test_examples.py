"""The examples, run as a user runs them, against real nodes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cluster_process import ClusterProcess

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_standard_library_goes_in_and_out_byte_for_byte() -> None:
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
        said = done.stdout.splitlines()[-1].split()
        same, files = int(said[0]), int(said[2])
        too_large = [line for line in done.stdout.splitlines() if line.startswith("413")]
        assert same + len(too_large) == files
        assert files > 500
