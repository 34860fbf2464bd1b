"""`dynamo status` and `dynamo top` against real nodes, one of which goes away."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest
from cluster_process import ClusterProcess

from dynamo.cli import main

SECONDS = 30.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterProcess]:
    with ClusterProcess(nodes=3, partitions=16) as cluster:
        yield cluster


def flags(cluster: ClusterProcess, *nodes: int) -> list[str]:
    return [part for i in nodes for part in ("--node", cluster.url(i))]


def live(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dynamo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=SECONDS)
    return process.returncode, error


def test_one_node_is_asked_and_tells_of_all(
    cluster: ClusterProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", *flags(cluster, 0)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("epoch 1, 3 members, 16 partitions: 3 of 3 nodes well")
    cells = [line.split() for line in lines[3:]]
    assert [row[0] for row in cells] == ["n1", "n2", "n3"]
    assert [row[3:5] for row in cells] == [["ready", "itself"], ["up", "n1"], ["up", "n1"]]
    assert cells[0][5:7] == ["16", "2/2"]
    assert cells[1][1] == cluster.nodes[1].rpc


def test_the_json_has_what_each_node_knows(
    cluster: ClusterProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--json", *flags(cluster, 0, 1, 2)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["well"]
    assert [node["state"] for node in shown["nodes"]] == ["ready"] * 3
    status = shown["asked"][2]["status"]
    assert (status["node"], status["storage"]["opened"], status["start"]) == ("n3", "clean", 1)
    assert status["storage"]["free_bytes"] > 0
    assert [(peer["id"], peer["connected"]) for peer in status["peers"]] == [
        ("n1", True),
        ("n2", True),
    ]
    text = json.dumps(shown)
    assert cluster.cluster.secret.hex() not in text
    assert str(cluster.directory) not in text


@pytest.mark.parametrize(
    "arguments",
    [("--node", "ftp://x"), ("--node", ""), ("--watch", "0"), ("--watch", "x"), ("--watch", "nan")],
)
def test_wrong_flags_are_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_stranger_is_no_node(cluster: ClusterProcess, capsys: pytest.CaptureFixture[str]) -> None:
    rpc = f"http://{cluster.nodes[0].rpc}"
    assert main(["status", "--node", rpc]) == 3
    assert "unreachable" in capsys.readouterr().out


def test_a_watch_goes_on_while_a_node_goes_away_and_comes_back(cluster: ClusterProcess) -> None:
    watch = live("status", "--json", "--watch", "0.2", *flags(cluster, 0, 2))
    states: dict[str, dict[str, object]] = {}

    def until(state: str) -> None:
        assert watch.stdout is not None
        deadline = time.monotonic() + SECONDS
        while states.get("n3", {}).get("state") != state:
            assert time.monotonic() < deadline, states
            line = watch.stdout.readline()
            if line.strip():
                states.update({node["node"]: node for node in json.loads(line)["nodes"]})

    try:
        until("ready")
        for i in range(20):
            cluster.put(0, f"k{i}", b"v")
        cluster.kill9(2)
        until("unreachable")
        assert set(states) == {"n1", "n2", "n3"}
        assert states["n1"]["puts"] is not None
        assert main(["status", *flags(cluster, 0)]) == 3
        cluster.restart(2)
        until("ready")
    finally:
        code, error = interrupted(watch)
    assert (code, error) == (130, "")


def test_a_terminal_is_redrawn_within_its_size_and_ctrl_c_ends_it(cluster: ClusterProcess) -> None:
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 60, 0, 0))
    command = ("status", "--watch", "0.1", *flags(cluster, 0, 1, 2))
    process = subprocess.Popen(
        [sys.executable, "-m", "dynamo", *command],
        stdin=there,
        stdout=there,
        stderr=there,
        env={name: os.environ[name] for name in os.environ if name not in ("COLUMNS", "LINES")},
        start_new_session=True,
    )
    drawn = b""
    try:
        while drawn.count(b"\x1b[H") < 4:
            assert select.select([here], [], [], SECONDS)[0]
            drawn += os.read(here, 65_536)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130
    finally:
        process.kill()
        process.wait()
        os.close(here)
        os.close(there)
    _, first, *_ = drawn.decode().split("\x1b[H")
    lines = first.replace("\x1b[K", "").replace("\x1b[J", "").splitlines()
    assert len(lines) < 12
    assert all(len(line) <= 60 for line in lines)
    assert [line.split()[:2] for line in lines if line.startswith("n3")] == [["n3", "ready"]]


def test_top_shows_rates_until_it_is_interrupted(cluster: ClusterProcess) -> None:
    top = live("top", "--every", "0.2", *flags(cluster, 0, 1))
    assert top.stdout is not None
    found = ""
    deadline = time.monotonic() + SECONDS
    while not found.startswith("puts "):
        assert time.monotonic() < deadline
        cluster.put(0, "k", b"v")
        found = top.stdout.readline()
    assert "Writes that this node coordinated." in found
    assert interrupted(top) == (130, "")


def test_prometheus_reads_what_a_real_node_says(cluster: ClusterProcess) -> None:
    cluster.put(0, "k", b"v")
    text = cluster.http(0, "GET", "/metrics").body.decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values["dynamo_ring_members"] == "3"
    assert values['dynamo_partitions_owned{class="default"}'] == "16"
    assert float(values["dynamo_puts_total"]) > 0
    assert float(values["dynamo_storage_free_bytes"]) > 0
    stats = cluster.stats(0)
    assert (stats["ring_num_partitions"], stats["riak_kv_vnodes_running"]) == (16, 16)
    assert stats["nodename"] == "n1"
