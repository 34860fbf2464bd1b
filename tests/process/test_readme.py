"""What the README tells a newcomer to type, word for word, against real nodes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_process import ClusterProcess

README = (Path(__file__).parents[2] / "README.md").read_text()

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


def commands(first_line: str, *, until: str) -> str:
    """The indented lines between two sentences, as a shell script."""
    text = README[README.index(first_line) : README.index(until)]
    return "".join(f"{line[4:]}\n" for line in text.splitlines() if line.startswith("    "))


def sh(cluster: ClusterProcess, script: str) -> str:
    """What the script prints, with the status of every curl in brackets."""
    for index in range(len(cluster)):
        script = script.replace(f"http://127.0.0.1:{8098 + index}", cluster.url(index))
    assert "127.0.0.1:80" not in script
    script = script.replace("curl ", "curl -sS -w '\\n[%{http_code}]\\n' ")
    done = subprocess.run(
        ["sh", "-euc", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def statuses(printed: str) -> list[str]:
    return re.findall(r"^\[(\d{3})\]$", printed, re.MULTILINE)


def test_ten_minutes_with_curl() -> None:
    with ClusterProcess() as cluster:
        printed = sh(cluster, commands("Store at one node", until="Or with the command line"))
        assert statuses(printed) == ["204", "200", "204", "300", "204", "200", "204", "404"]
        assert "\nbread and milk\n" in printed
        assert "X-Riak-Deleted: true" in printed

        cluster.kill9(2)
        script = commands("Kill a node", until="The 503 names").replace("kill -9 PID\n", "")
        printed = sh(cluster, script)
        assert statuses(printed) == ["204", "503"]
        assert '"required":3' in printed
        assert '"received":2' in printed
        assert '"n3":' in printed
        assert '"outcome":"unknown"' in printed

        cluster.start(2)
        assert cluster.get(0, "k", bucket="b", query="r=3").status in (200, 300)


def test_the_command_line_beside_it() -> None:
    sentence = README[README.index("Or with the command line") : README.index("`dynamo put` reads")]
    lines = re.findall(r"`(?:\.venv/bin/)?dynamo ((?:put|get|delete) [^`]*)`", sentence)
    assert [line.split()[0] for line in lines] == ["put", "get", "delete"]
    with ClusterProcess(nodes=1, replicas=1) as cluster:
        script = "".join(
            f"{sys.executable} -m dynamo {line} --node {cluster.url(0)} 2>&1\n" for line in lines
        )
        assert sh(cluster, script) == "stored (primary=1,fallback=0)\neggsdeleted\n"
