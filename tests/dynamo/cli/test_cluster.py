"""`dynamo cluster` with real processes: what it prints works, and it leaves nobody behind."""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_process import request
from free_ports import LOOPBACK, HeldPorts

from dynamo.cli import build_parser, main
from dynamo.cli.cluster import make_cluster, plan_nodes, render_text
from dynamo.cluster_disk import read_cluster_file

SECONDS = 30.0


class Supervised:
    """`dynamo cluster` on held ports, which are kept for its next run."""

    def __init__(self, directory: Path, ports: HeldPorts) -> None:
        self.directory = directory
        self.http_port, self.rpc_port = ports.first, ports.first + 4
        self._processes: list[subprocess.Popen[str]] = []
        self.pids: list[int] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        ports = ("--http-port", str(self.http_port), "--rpc-port", str(self.rpc_port))
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "dynamo", "cluster", "--data-dir", str(self.directory)),
                *(*ports, *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def ready(self, *arguments: str) -> tuple[subprocess.Popen[str], list[dict[str, Any]]]:
        """Start it; the process, and its nodes as `--json` tells them."""
        process = self.start("--json", *arguments)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()
        nodes: list[dict[str, Any]] = json.loads(line)["nodes"]
        self.pids += [node["pid"] for node in nodes]
        return process, nodes

    def refused(self, *arguments: str) -> str:
        """Start it where that cannot be; what it says, in one line."""
        _, error = (process := self.start(*arguments)).communicate(timeout=SECONDS)
        assert process.returncode in (1, 2)
        assert error.startswith("dynamo: ")
        assert error.count("\n") == 1
        return error

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
        until(lambda: not any(map(is_alive, self.pids)))


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    with HeldPorts(8) as ports:
        supervised = Supervised(tmp_path / "c", ports)
        try:
            yield supervised
        finally:
            supervised.end()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        if not Path("/proc/self/stat").exists():
            return True
        # A process that ended is there until whoever inherited it has looked.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_nodes_are_ready_when_they_are_told_and_gone_after_sigint(supervised: Supervised) -> None:
    process, nodes = supervised.ready()
    assert [node["node"] for node in nodes] == ["n1", "n2", "n3"]
    assert [node["http"] for node in nodes] == [
        f"http://{LOOPBACK}:{supervised.http_port + i}" for i in range(3)
    ]
    for i, node in enumerate(nodes):
        address = node["http"].removeprefix("http://")
        target = f"/buckets/b/keys/{i}?w=3"
        until(functools.partial(_is_stored, address, target))
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == 0
    assert not any(is_alive(node["pid"]) for node in nodes)


def _is_stored(address: str, target: str) -> bool:
    headers = {"Content-Type": "text/plain"}
    return request(address, "PUT", target, headers=headers, body=b"v").status == 204


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_every_way_to_ask_stops_it(supervised: Supervised, number: signal.Signals) -> None:
    process, nodes = supervised.ready("--nodes", "1")
    process.send_signal(number)
    assert process.wait(SECONDS) == 0
    assert not any(is_alive(node["pid"]) for node in nodes)


def test_nobody_is_left_when_it_is_killed_itself(supervised: Supervised) -> None:
    process, nodes = supervised.ready("--nodes", "2")
    process.kill()
    until(lambda: not any(is_alive(node["pid"]) for node in nodes))


def test_a_frozen_node_is_killed_when_asked_twice(supervised: Supervised) -> None:
    process, nodes = supervised.ready("--nodes", "2")
    os.kill(nodes[0]["pid"], signal.SIGSTOP)
    process.terminate()
    until(lambda: not is_alive(nodes[1]["pid"]))
    assert process.poll() is None
    process.terminate()
    assert process.wait(5.0) == 0
    assert not is_alive(nodes[0]["pid"])


def test_a_node_that_dies_is_named_with_the_command_that_starts_it_again(
    supervised: Supervised,
) -> None:
    process, nodes = supervised.ready()
    os.kill(nodes[1]["pid"], signal.SIGKILL)
    assert process.stderr is not None
    assert "n2 was killed by SIGKILL" in process.stderr.readline()
    command = shlex.split(process.stderr.readline())
    assert command == nodes[1]["restart"]
    again = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert again.stdout is not None
        assert again.stdout.readline().startswith("node n2: ")
    finally:
        again.terminate()
        again.communicate()
    assert again.returncode == 0


def test_the_next_run_carries_on(supervised: Supervised) -> None:
    process, nodes = supervised.ready("--nodes", "2")
    address = nodes[0]["http"].removeprefix("http://")
    text = {"Content-Type": "text/plain"}
    put = request(address, "PUT", "/buckets/b/keys/k", headers=text, body=b"v")
    assert put.status == 204
    process.terminate()
    assert process.wait(SECONDS) == 0

    cluster = read_cluster_file(supervised.directory / "cluster.toml")
    assert cluster.classes == (("default", 2),)
    for flag, other, agreed in (
        ("--nodes", "3", "2"),
        ("--replicas", "1", "2"),
        ("--partitions", "64", "256"),
        ("--rpc-port", "1", str(supervised.rpc_port)),
    ):
        said = supervised.refused(flag, other)
        assert f"{flag}: {other} was asked for" in said
        assert f"was made with {agreed}" in said

    supervised.ready()
    assert request(address, "GET", "/buckets/b/keys/k").body == b"v"


def test_ports_that_are_taken_are_named_before_anything_is_made(supervised: Supervised) -> None:
    taken = supervised.rpc_port + 2
    with socket.create_server((LOOPBACK, taken)):
        assert f"in use: {LOOPBACK}:{taken}. " in supervised.refused()
    assert not supervised.directory.exists()
    supervised.ready()


def test_a_directory_has_one_cluster_at_a_time(supervised: Supervised) -> None:
    """Also of those that start at the same moment, when the ports are still free."""
    both = [supervised.start("--json") for _ in range(2)]
    until(lambda: any(process.poll() is not None for process in both))
    (other,) = (process for process in both if process.poll() is None)
    both.remove(other)
    assert both[0].returncode == 1
    assert other.stdout is not None
    nodes = json.loads(other.stdout.readline())["nodes"]
    supervised.pids += [node["pid"] for node in nodes]
    assert all(map(is_alive, supervised.pids))
    said = both[0].communicate()[1]
    assert f"is running in {supervised.directory}\n" in said or "in use: " in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--nodes", "0"), "--nodes: 0 is not in 1..64"),
        (("--replicas", "4"), "--replicas: 4 is not in 1..3"),
        (("--replicas", "0"), "--replicas: 0 is not in 1..3"),
        (("--partitions", "7"), "7 is not a power of two"),
        (("--http-port", "65534"), "3 ports from 65534 on"),
        (("--http-port", "7000", "--rpc-port", "7002"), "overlap"),
    ],
)
def test_what_cannot_work_leaves_nothing(
    supervised: Supervised, arguments: tuple[str, ...], message: str
) -> None:
    assert message in supervised.refused(*arguments)
    assert not supervised.directory.exists()


def test_no_directory_is_not_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["cluster", "--data-dir", ""]) == 2
    assert capsys.readouterr().err == "dynamo: --data-dir is empty\n"
    assert not list(tmp_path.iterdir())


def test_a_node_that_cannot_start_is_named_with_its_log(supervised: Supervised) -> None:
    process = supervised.start("--nodes", "2", "--free-space-min", "lots")
    _, error = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "exited with code 2 before it was ready" in error
    assert "free-space-min: 'lots' is not a number of bytes" in error


def test_the_lines_it_prints_to_try_work_as_they_are(supervised: Supervised) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    process = supervised.start()
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or not lines[-1].startswith("Logs: "):
        lines.append(process.stdout.readline())
        assert lines[-1], process.communicate()
    supervised.pids += [int(line.split()[1]) for line in lines[1:4]]
    script = [line for line in lines if line.startswith(("  curl", "  context="))]
    assert len(script) == 8
    shell = "set -eu\n" + "".join(script).replace("curl ", "curl -sS -w '\\n[%{http_code}]\\n' ")
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    codes = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert codes == ["[204]", "[200]", "[204]", "[300]", "[204]", "[204]", "[404]"]
    assert "X-Riak-Deleted: true" in done.stdout

    losing = lines[next(i for i, line in enumerate(lines) if line.startswith("  kill -9")) :]
    shell = "set -eu\n" + "".join(losing[: losing.index("\n")])
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("X-Dynamo-Acks: primary=2,fallback=0") == 9
    assert "n1 for n3: not connected" in done.stdout


def test_what_serve_takes_and_cluster_too_is_passed_on(tmp_path: Path) -> None:
    said = {
        "free_space_min": "1MiB",
        "value_bytes_max": "2MiB",
        "hint_window": 60,
        "hint_bytes_max": "3MiB",
        "handoff_rate": "4MiB",
        "exchange_interval": 7,
        "exchange_interval_remote": 8,
        "exchange_deadline": 3,
        "exchange_keys": 900,
        "exchange_rate": "7MiB",
        "exchange_window": "22:00-06:00",
        "reap_after": 10,
        "measure_one_in": 4,
        "requests_max": 5,
        "request_bytes_max": "6MiB",
        "log_level": "warning",
        "log_format": "json",
        "access_log": True,
        "fault_injection": True,
        "read_repair": False,
        "hints": False,
    }
    flags = [
        f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
        + ("" if isinstance(value, bool) else f"={value}")
        for name, value in said.items()
    ]
    arguments = build_parser().parse_args(["cluster", "--data-dir", str(tmp_path), *flags])
    serve = vars(build_parser().parse_args(["serve"]))
    assert set(said) == (set(vars(arguments)) & set(serve)) - {
        "run",
        "data_dir",
        "command",
        "failure",
    }
    for node in plan_nodes(make_cluster(arguments), tmp_path, tmp_path / "c.toml", arguments):
        config = vars(build_parser().parse_args(node.command[3:]))
        assert {name: config[name] for name in said} == said


def test_status_asks_every_node(tmp_path: Path) -> None:
    arguments = build_parser().parse_args(["cluster", "--data-dir", str(tmp_path)])
    nodes = plan_nodes(make_cluster(arguments), tmp_path, tmp_path / "c.toml", arguments)
    assert all(f"--node http://{node.http}" in render_text(nodes) for node in nodes)


def test_losing_a_node_is_to_be_tried_where_another_goes_on(tmp_path: Path) -> None:
    for count, tried in (("1", False), ("2", True)):
        arguments = build_parser().parse_args(
            ["cluster", "--data-dir", str(tmp_path), "--nodes", count]
        )
        nodes = plan_nodes(make_cluster(arguments), tmp_path, tmp_path / "c.toml", arguments)
        assert ("kill -9" in render_text(nodes)) is tried
        assert (f"  {nodes[-1].restart}\n" in render_text(nodes)) is tried
