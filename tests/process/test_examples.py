"""The examples, run as a user runs them, against real nodes."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from cluster_process import ClusterProcess
from free_ports import HeldPorts

EXAMPLES = Path(__file__).parents[2] / "examples"
VALUE_BYTES_MAX = 1 << 20


@pytest.mark.long
def test_the_standard_library_goes_in_and_out_byte_for_byte() -> None:
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "__pycache__", "test"}
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
    refused = {line.removeprefix("413: ") for line in listed}
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
        "at c: 1 of 2 nodes answered",
        "c has (b'bread', b'milk') after 62 s",
    ]


def test_writes_survive_a_dead_node() -> None:
    with HeldPorts(10) as ports:
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "dead_node.py"), str(ports.first)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert (done.returncode, done.stderr) == (0, "")
    writes, synced, reads = done.stdout.splitlines()
    assert re.findall(r"'(.*?)'", writes) in (
        ["204 primary=2,fallback=1", "204 primary=3,fallback=0"],
        ["204 primary=3,fallback=0", "204 primary=2,fallback=1"],
    )
    assert synced == "Counter({'200': 4})"
    assert reads == "Counter({'200 figs': 100})"


def test_a_node_gets_what_it_has_missed_by_itself() -> None:
    with HeldPorts(6) as ports:
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "converge.py"), str(ports.first)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Counter({'204': 100})\nCounter({'200 figs': 100})\n"


def test_a_bucket_is_copied_to_another_cluster() -> None:
    keys: list[str | bytes] = ["plain", "a/b ü", "..", "+%", b"\xff\0"]
    with ClusterProcess() as old, ClusterProcess(nodes=1, replicas=1) as new:
        props = b'{"props": {"w": "all", "notfound_ok": false}}'
        json_type = {"Content-Type": "application/json"}
        old.http(0, "PUT", "/buckets/a%20b/props", headers=json_type, body=props)
        for number, key in enumerate(keys):
            kept = {"Content-Type": "text/x", "Content-Encoding": "y", "X-Riak-Meta-Z": str(number)}
            assert old.put(0, key, b"%d" % number, bucket="a b", headers=kept).status == 204
        old.put(1, "both", b"milk", bucket="a b")
        old.put(2, "both", b"", bucket="a b")
        old.put(1, "gone", b"x", bucket="a b")
        old.delete(1, "gone", bucket="a b")
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "copy_bucket.py"), old.url(0), new.url(0), "a b"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "6 keys copied\n")
        for number, key in enumerate(keys):
            found = new.get(0, key, bucket="a b")
            assert (found.status, found.body) == (200, b"%d" % number)
            assert found.headers["X-Riak-Meta-Z"] == str(number)
            assert (found.headers["Content-Type"], found.headers["Content-Encoding"]) == (
                "text/x",
                "y",
            )
        assert new.get(0, "both", bucket="a b").siblings == [b"", b"milk"]
        assert new.get(0, "gone", bucket="a b").headers["X-Riak-Deleted"] is None
        copied = new.http(0, "GET", "/buckets/a%20b/props").json()["props"]
        assert (copied["w"], copied["notfound_ok"], copied["n_val"]) == ("all", False, 1)
