"""`dynamo serve`: flags and files in process, and the life of a real node process."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

import msgspec
import pytest
from cluster_process import ClusterProcess, request
from free_ports import LOOPBACK, HeldPorts

from dynamo.cli import build_parser, main
from dynamo.cli.serve import load_config
from dynamo.config import NodeConfig, Settings
from dynamo.errors import ConfigError

SECONDS = 30.0


def load(*arguments: str) -> NodeConfig:
    return load_config(build_parser().parse_args(["serve", *arguments]))


def test_every_flag_arrives() -> None:
    node = load(
        *("--node-id", "x", "--data-dir", "d", "--http", "127.0.0.1:1", "--rpc", "127.0.0.1:2"),
        *("--peers", "127.0.0.1:3", "127.0.0.1:4", "--datacenter", "east", "--rack", "r"),
        *("--host", "box", "--weight", "2", "--class", "default=2", "--class", "wide=3"),
        *("--free-space-min", "1GiB", "--value-bytes-max", "2MiB", "--log-level", "error"),
        *("--log-format", "json", "--access-log"),
    )
    assert (node.node_id, node.data_dir, node.http, node.rpc) == (
        *("x", "d", "127.0.0.1:1", "127.0.0.1:2"),
    )
    assert node.peers == ("127.0.0.1:3", "127.0.0.1:4")
    assert (node.datacenter, node.rack, node.host, node.weight) == ("east", "r", "box", 2)
    assert node.cluster.classes == (("default", 2), ("wide", 3))
    assert (node.free_space_min, node.value_bytes_max) == (1 << 30, 2 << 20)
    assert (node.log_level, node.log_format, node.access_log) == ("error", "json", True)


def test_paths_in_a_file_are_beside_it_and_flags_win(tmp_path: Path) -> None:
    assert main(["init", "--cluster", str(tmp_path / "c.toml")]) == 0
    file = tmp_path / "node.toml"
    file.write_text('data-dir = "data"\ncluster = "c.toml"\nrack = "r1"\nrpc = "10.0.0.1:1"\n')
    node = load("--config", str(file), "--rack", "r2")
    assert (node.data_dir, node.rack) == (str(tmp_path / "data"), "r2")
    assert not node.development


def test_an_access_log_of_the_file_can_be_switched_off(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('data-dir = "d"\naccess-log = true\nlog-format = "json"')
    assert load("--config", str(file)).access_log
    assert not load("--config", str(file), "--no-access-log").access_log
    assert not load("--data-dir", "d").access_log


def test_a_file_is_named_in_its_complaint(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("wait = 1")
    with pytest.raises(ConfigError) as caught:
        load("--config", str(file))
    assert caught.value.message == f"{file}: there is an unknown field wait"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('data-dir = "a\\u0000b"', "data-dir: it holds a NUL character"),
        ('data-dir = "a"\ncluster = "a\\u0000b"', "cluster: it holds a NUL character"),
        ('data-dir = ""', "there is no data directory"),
    ],
)
def test_a_path_in_a_file_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load("--config", str(file))


def test_a_secret_that_others_may_read_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    assert main(["init", "--cluster", str(path)]) == 0
    arguments = ("--cluster", str(path), "--data-dir", "d", "--rpc", "10.0.0.1:1")
    load(*arguments)
    assert "chmod" not in capsys.readouterr().err
    path.chmod(0o644)
    load(*arguments)
    assert "chmod 600" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--http", "0.0.0.0:1"], ["--class", "x=1", "--class", "x=2"]]
)
def test_wrong_flags_are_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--data-dir", "d", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


class Nodes:
    """Node processes without a cluster file, on held ports; killed at the end."""

    def __init__(self, directory: Path, ports: HeldPorts, stack: ExitStack) -> None:
        self._directory = directory
        self._first = ports.first
        self._stack = stack

    def rpc(self, i: int) -> str:
        return f"{LOOPBACK}:{self._first + 2 * i}"

    def http(self, i: int) -> str:
        return f"{LOOPBACK}:{self._first + 2 * i + 1}"

    def data(self, i: int) -> str:
        return str(self._directory / f"n{i}")

    def start(
        self, i: int, *arguments: str, open_files: int | None = None
    ) -> subprocess.Popen[str]:
        places = ("--data-dir", self.data(i), "--rpc", self.rpc(i), "--http", self.http(i))
        command = [sys.executable, "-m", "dynamo", "serve", "--exit-with-parent"]
        if open_files is not None:
            command = ["sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh", *command]
        with (self._directory / f"n{i}.log").open("a") as log:
            process = subprocess.Popen(
                [*command, *places, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._stack.callback(_end, process)
        return process

    def log(self, i: int) -> str:
        return (self._directory / f"n{i}.log").read_text()

    def reasons(self, i: int) -> str:
        """Why node i is not ready; "" if it is."""
        reply = request(self.http(i), "GET", "/health/ready")
        return "" if reply.status == 200 else "; ".join(reply.json()["reasons"])


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with HeldPorts(6) as ports, ExitStack() as stack:
        yield Nodes(tmp_path, ports, stack)


def started(process: subprocess.Popen[str]) -> str:
    """The line that a node prints once it serves."""
    assert process.stdout is not None
    return process.stdout.readline()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ctrl_c_before_the_command_has_begun_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dynamo.cli.build_parser", interrupted)
    assert main(["serve"]) == 130


def test_a_node_says_where_it_is_and_stops_cleanly_on_sigterm(nodes: Nodes) -> None:
    process = nodes.start(0)
    assert started(process) == (
        f"node {nodes.rpc(0)}: http://{nodes.http(0)} rpc {nodes.rpc(0)} data {nodes.data(0)}\n"
    )
    assert nodes.reasons(0) == ""
    process.terminate()
    assert process.wait(SECONDS) == 0
    assert "development identity" in nodes.log(0)
    assert "Traceback" not in nodes.log(0)


def test_clients_cannot_use_up_the_files_that_storage_needs(nodes: Nodes) -> None:
    process = nodes.start(0, "--class", "default=1", open_files=100)
    assert started(process)
    host, _, port = nodes.http(0).rpartition(":")
    with ExitStack() as stack:
        early = stack.enter_context(closing(HTTPConnection(host, int(port), timeout=SECONDS)))
        early.request("GET", "/ping")
        assert early.getresponse().read() == b"OK"
        for _ in range(150):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=SECONDS))
        # Enough for the engine to begin new logs and tables several times over.
        for number in range(40):
            path = f"/buckets/b/keys/{number}"
            early.request("PUT", path, b"x" * 1_000_000, {"Content-Type": "a/b"})
            reply = early.getresponse()
            assert (reply.status, reply.read()) == (204, b"")
        # Those that are kept for questions about the node itself are not kept by who asks nothing.
        until(lambda: request(nodes.http(0), "GET", "/ping").status == 200)
        turned_away = request(nodes.http(0), "GET", "/buckets/b/keys/1")
        assert (turned_away.status, turned_away.json()["code"]) == (503, "too_many_connections")
    until(lambda: request(nodes.http(0), "GET", "/ping").status == 200)


def test_a_node_stops_when_its_parent_is_gone(nodes: Nodes) -> None:
    process = nodes.start(0)
    started(process)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(SECONDS) == 0


def test_a_parent_that_cannot_be_watched_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert main(["serve", "--data-dir", str(tmp_path / "d"), "--exit-with-parent"]) == 2
    assert "standard input is not a pipe" in capsys.readouterr().err


@pytest.mark.parametrize("taken", ["rpc", "http"])
def test_a_port_in_use_is_one_line(nodes: Nodes, taken: str) -> None:
    host, _, port = getattr(nodes, taken)(0).rpartition(":")
    with socket.create_server((host, int(port))):
        assert nodes.start(0, "--log-level", "error").wait(SECONDS) == 1
    said = nodes.log(0).splitlines()
    assert len(said) == 2
    assert "development identity" in said[0]
    assert "address already in use" in said[1]
    assert port in said[1]


def test_a_data_directory_has_one_node_at_a_time_and_for_ever_the_same(nodes: Nodes) -> None:
    first = nodes.start(0)
    started(first)
    assert nodes.start(1, "--data-dir", nodes.data(0)).wait(SECONDS) == 1
    assert "in use by another running node" in nodes.log(1)
    first.terminate()
    assert first.wait(SECONDS) == 0
    assert nodes.start(1, "--data-dir", nodes.data(0)).wait(SECONDS) == 1
    assert f"is of node {nodes.rpc(0)}, this node is {nodes.rpc(1)}" in nodes.log(1)


def test_what_is_wrong_with_the_ring_on_disk_is_one_line(nodes: Nodes, tmp_path: Path) -> None:
    cluster = tmp_path / "cluster.toml"
    member = f"a={nodes.rpc(0)},dc1,rack1"
    asked = ("--cluster", str(cluster), "--class", "default=1", "--member", member)
    assert main(["init", *asked]) == 0
    arguments = ("--cluster", str(cluster), "--node-id", "a")
    process = nodes.start(0, *arguments)
    started(process)
    process.kill()
    process.wait()

    cluster.write_text(cluster.read_text().replace("rack1", "rack2"))
    assert nodes.start(0, *arguments).wait(SECONDS) == 2
    assert nodes.log(0).endswith("Nothing in it can be changed; give the node the old one\n")

    cluster.write_text(cluster.read_text().replace("rack2", "rack1"))
    ring = Path(nodes.data(0), "ring.blob")
    ring.write_bytes(ring.read_bytes()[:-1])
    assert nodes.start(0, *arguments).wait(SECONDS) == 1
    said = nodes.log(0).splitlines()
    assert len(said) == 2
    assert nodes.data(0) in said[1]
    ring.unlink()
    started(nodes.start(0, *arguments))
    assert nodes.reasons(0) == ""


def test_a_node_stays_in_the_datacenter_where_the_ring_has_it(nodes: Nodes) -> None:
    process = nodes.start(0, "--class", "default=1", "--datacenter", "east")
    started(process)
    process.kill()
    process.wait()
    started(nodes.start(0, "--class", "default=1"))
    assert nodes.reasons(0) == ""
    assert request(nodes.http(0), "GET", "/buckets/b/keys/k").status == 404
    assert "the ring has" in nodes.log(0)


def test_a_first_start_waits_for_all_peers_and_later_ones_for_nobody(nodes: Nodes) -> None:
    first = nodes.start(0, "--peers", nodes.rpc(0), nodes.rpc(1))
    started(first)
    assert nodes.reasons(0) == f"the ring is not formed; waiting for {nodes.rpc(1)}"
    target = "/buckets/b/keys/k"
    assert request(nodes.http(0), "GET", target).status == 503

    second = nodes.start(1, "--peers", nodes.rpc(0))
    started(second)
    until(lambda: nodes.reasons(0) == nodes.reasons(1) == "")
    text = {"Content-Type": "text/plain"}
    assert request(nodes.http(0), "PUT", target, headers=text, body=b"v").status == 204

    for process in (first, second):
        process.kill()
        process.wait()
    started(nodes.start(0))
    until(lambda: nodes.reasons(0) == "")
    assert request(nodes.http(0), "GET", f"{target}?r=1").body == b"v"


def test_nodes_with_different_rings_refuse_each_other_by_name(nodes: Nodes) -> None:
    started(nodes.start(0, "--peers", nodes.rpc(1), "--class", "default=1"))
    started(nodes.start(1, "--peers", nodes.rpc(0), "--class", "default=2"))
    refusals = [
        f"refusing {nodes.rpc(1 - i)}: its ring differs from that of {nodes.rpc(i)}" for i in (0, 1)
    ]
    until(lambda: any(words in nodes.log(i) for i, words in enumerate(refusals)))
    until(lambda: not _connected(nodes, 0) and not _connected(nodes, 1))
    met = [f"the ring of {nodes.rpc(i)} differs from that of {nodes.rpc(1 - i)}" for i in (0, 1)]
    until(lambda: any(words in nodes.log(i) for i in (0, 1) for words in met))
    assert not _connected(nodes, 0)


def test_a_node_that_is_in_nobodys_ring_is_told_so(nodes: Nodes) -> None:
    started(nodes.start(0))
    started(nodes.start(1, "--peers", nodes.rpc(0)))
    words = f"{nodes.rpc(1)} is not a member of the ring of {nodes.rpc(0)}"
    until(lambda: words in nodes.reasons(1))


def _connected(nodes: Nodes, i: int) -> list[str]:
    stats = request(nodes.http(i), "GET", "/stats").json()
    return [node for node in stats["connected_nodes"] if node != stats["node"]]


def test_nodes_of_other_clusters_do_not_meet(tmp_path: Path) -> None:
    with ClusterProcess(tmp_path / "a", nodes=1, replicas=1) as one, HeldPorts(2) as ports:
        assert (
            main(["init", "--cluster", str(tmp_path / "other.toml"), "--class", "default=1"]) == 0
        )
        rpc, http = (f"{LOOPBACK}:{ports.first + i}" for i in range(2))
        arguments = ("--rpc", rpc, "--http", http, "--peers", one.nodes[0].rpc)
        with subprocess.Popen(
            [
                *(sys.executable, "-m", "dynamo", "serve", "--data-dir", str(tmp_path / "b")),
                *("--cluster", str(tmp_path / "other.toml"), "--exit-with-parent", *arguments),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                started(process)
                time.sleep(0.5)
                reply = request(http, "GET", "/health/ready")
                assert reply.status == 503
                assert f"waiting for {one.nodes[0].rpc}" in reply.json()["reasons"][0]
            finally:
                process.kill()


def test_the_page_for_operators_has_every_setting() -> None:
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    table = page[page.index("## Settings") : page.index("## Logs")]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `--")]
    told = {flag for row in rows for flag in re.findall(r"--[a-z-]+", row)}
    passed_on = {flag for row in rows if "†" in row for flag in re.findall(r"--[a-z-]+", row)}
    serve, cluster = (
        {f"--{name.replace('_', '-')}" for name in vars(build_parser().parse_args(arguments))}
        for arguments in (["serve"], ["cluster", "--data-dir", "d"])
    )
    settings = {f"--{field.encode_name}" for field in msgspec.structs.fields(Settings)}
    assert told == (settings - {"--classes"}) | {"--class"}
    assert passed_on == told & serve & cluster - {"--data-dir"}
