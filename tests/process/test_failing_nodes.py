"""Nodes are killed, stopped, emptied; clients go on, and nothing that they were told is lost."""

from __future__ import annotations

import collections
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cluster_process import ClusterProcess, request, target
from cluster_waits import wait_connected, wait_until
from copies import Copies
from free_ports import HeldPorts
from quorum_load import Answer, QuorumLoad, Written

from dynamo.cli import main
from dynamo.cluster_disk import read_cluster_file

#: A request in flight may take so long without anybody calling it slow.
SLOW_SECONDS = 1.0
DRAIN_SECONDS = 10.0


# What is asked of what clients saw ------------------------------------------------------------------


def assert_only_inside(load: QuorumLoad, node: int, since: float) -> None:
    """No client saw an error, but for what was inside this node, with an unknown outcome: not more than
    a client had under way, to the node itself and through another one."""
    name = f"n{node + 1}"
    inside = [error for error in load.errors if error.ended >= since and is_inside(error, node)]
    assert [error for error in load.errors if error not in inside] == []
    for error in inside:
        assert error.outcome == "unknown" or error.method == "GET", error
    through = collections.Counter(error.node for error in inside)
    print(f"requests inside {name}: {dict(through)}")
    assert len(inside) <= 2 * load.clients, inside


def is_inside(error: Answer, node: int) -> bool:
    """True if the connection to the node ended, or the answer says that it minted and is gone."""
    return error.node == node if error.status == 0 else error.blamed == {f"n{node + 1}"}


def assert_at_all_owners(
    copies: Copies, acked: Sequence[Written], *, but_of: int, at: float
) -> None:
    """Every owner has every acknowledged write. `but_of`, `at`: what this node acknowledged in the last
    moment before it was killed then may not have left it for the last owner."""
    behind = [write for write in acked if copies.without(write.key, write.value)]
    left = [
        write for write in behind if not (write.node == but_of and at - 1 < write.at <= at + 0.1)
    ]
    assert [(write, copies.without(write.key, write.value)) for write in left] == []


def assert_equal_once_read(addresses: Sequence[str], acked: Sequence[Written]) -> None:
    """Read every key once, at all its owners."""
    for write, address in zip(acked, itertools.cycle(addresses), strict=False):
        found = request(address, "GET", target(write.key, query="r=all"))
        assert (found.status, found.body) == (200, write.value), write


def hints_of(addresses: Sequence[str]) -> int:
    """How many these nodes keep, counted to the end."""
    told = [request(address, "GET", "/admin/hints").json() for address in addresses]
    assert all(one["counted"] for one in told)
    return sum(one["hints"] for one in told)


# As a user does it ----------------------------------------------------------------------------------


class Commanded:
    """`dynamo cluster --nodes 5 --json` as it comes, and nodes started again as it says."""

    def __init__(self, directory: Path) -> None:
        self._ports = HeldPorts(10)
        self._restarted: list[subprocess.Popen[bytes]] = []
        ports = ("--http-port", str(self._ports.first), "--rpc-port", str(self._ports.first + 5))
        command = (sys.executable, "-m", "dynamo", "cluster", "--nodes", "5", "--json")
        self.process = subprocess.Popen(
            (*command, "--data-dir", str(directory), *ports),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline() or b"{}")
        assert told, "it did not start"
        self.nodes: list[dict[str, Any]] = told["nodes"]
        self.cluster = read_cluster_file(Path(told["cluster_file"]))

    @property
    def addresses(self) -> list[str]:
        return [node["http"].removeprefix("http://") for node in self.nodes]

    def kill9(self, i: int) -> None:
        os.kill(self.nodes[i]["pid"], signal.SIGKILL)

    def restart(self, i: int) -> None:
        """As it was told to; ready."""
        with Path(self.nodes[i]["log"]).open("ab") as log:
            self._restarted.append(
                subprocess.Popen(self.nodes[i]["restart"], stdout=log, stderr=log)
            )
        wait_until(lambda: _is_ready(self.addresses[i]), "ready")

    def copies(self) -> Copies:
        return Copies(self.cluster, {node["node"]: Path(node["data_dir"]) for node in self.nodes})

    def end(self) -> None:
        for process in self._restarted:
            process.kill()
            process.wait()
        self.process.terminate()
        self.process.communicate(timeout=30)
        self._ports.release()


def _is_ready(address: str) -> bool:
    try:
        return request(address, "GET", "/health/ready", timeout=2.0).status == 200
    except OSError:
        return False


@pytest.fixture
def commanded(tmp_path: Path) -> Iterator[Commanded]:
    cluster = Commanded(tmp_path / "c")
    try:
        yield cluster
    finally:
        cluster.end()


def dynamo_hints(
    capsys: pytest.CaptureFixture[str], addresses: Sequence[str], *flags: str
) -> tuple[int, dict[str, Any]]:
    """Exit code of `dynamo hints` and what it prints as JSON."""
    capsys.readouterr()
    nodes = [part for address in addresses for part in ("--node", f"http://{address}")]
    code = main(["hints", "--json", *nodes, *flags])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, told


def test_a_killed_node_is_no_error_to_clients_and_gets_all_that_it_missed(
    commanded: Commanded, capsys: pytest.CaptureFixture[str]
) -> None:
    addresses = commanded.addresses
    with QuorumLoad(addresses) as load:
        load.has_acked(100)
        killed_at = time.monotonic()
        commanded.kill9(3)
        load.has_acked(300)
        code, told = dynamo_hints(capsys, addresses[:3])
        assert code == 0
        assert told["hints"] > 0
        assert dynamo_hints(capsys, addresses)[0] == 3  # one of them is down
        assert dynamo_hints(capsys, addresses[:3], "--sync", "--timeout", "0.2")[0] == 3
        commanded.restart(3)
        returned_at = time.monotonic()
        wait_until(lambda: hints_of(addresses) == 0, "no hints")
        assert time.monotonic() - returned_at < DRAIN_SECONDS
        load.has_acked(50)
    assert_only_inside(load, 3, killed_at)
    acks = load.acks_since(killed_at)
    assert any("fallback=1" in said or "fallback=2" in said for said in acks), acks
    code, told = dynamo_hints(capsys, addresses, "--sync", "--timeout", "10")
    assert (code, told["synced"]) == (0, True)
    code, told = dynamo_hints(capsys, addresses)
    assert (code, told["hints"], told["bytes"]) == (0, 0, 0)

    assert_at_all_owners(commanded.copies(), load.acked, but_of=3, at=killed_at)
    assert_equal_once_read(addresses, load.acked)
    keys = [write.key for write in load.acked]
    wait_until(lambda: commanded.copies().differing(keys) == [], "all copies are equal")


# One after the other --------------------------------------------------------------------------------


def addresses_of(cluster: ClusterProcess) -> list[str]:
    return [node.http for node in cluster.nodes]


def copies_of(cluster: ClusterProcess) -> Copies:
    return Copies(cluster.cluster, {node.node_id: node.data_dir for node in cluster.nodes})


def wait_drained(cluster: ClusterProcess) -> None:
    """No node that runs keeps any hint."""
    up = [node.http for i, node in enumerate(cluster.nodes) if cluster.is_running(i)]
    wait_until(lambda: hints_of(up) == 0, "no hints")


def owned_by(cluster: ClusterProcess, nodes: set[str], count: int) -> list[str]:
    """Keys, so many, with all these nodes among their owners."""
    names = (f"o{number}" for number in itertools.count())
    owners = (
        (key, {one["node"] for one in preflist(cluster, key) if one["primary"]}) for key in names
    )
    return [key for key, _ in itertools.islice((o for o in owners if nodes <= o[1]), count)]


def preflist(cluster: ClusterProcess, key: str) -> list[dict[str, Any]]:
    answer = cluster.http(0, "GET", f"{target(key)}/preflist").json()["preflist"]
    assert isinstance(answer, list)
    return answer


def test_of_three_nodes_two_owe_the_third_what_it_missed() -> None:
    with ClusterProcess() as cluster:
        wait_connected(cluster)
        with QuorumLoad(addresses_of(cluster)) as load:
            load.has_acked(50)
            killed_at = time.monotonic()
            cluster.kill9(2)
            load.has_acked(200)
            assert hints_of(addresses_of(cluster)[:2]) > 0
            cluster.restart(2)
            returned_at = time.monotonic()
            wait_drained(cluster)
            assert time.monotonic() - returned_at < DRAIN_SECONDS
            load.has_acked(50)
        assert_only_inside(load, 2, killed_at)
        wait_drained(cluster)
        assert all("fallback=0" in acks for acks in load.acks_since(0.0))
        assert_at_all_owners(copies_of(cluster), load.acked, but_of=2, at=killed_at)
        assert_equal_once_read(addresses_of(cluster), load.acked)
        keys = [write.key for write in load.acked]
        wait_until(lambda: copies_of(cluster).differing(keys) == [], "all copies are equal")
