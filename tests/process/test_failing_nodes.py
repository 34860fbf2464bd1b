"""Nodes are killed, stopped, emptied; clients go on, and nothing that they were told is lost."""

from __future__ import annotations

import collections
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
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
    copies: Callable[[], Copies], acked: Sequence[Written], *, but_of: int, at: float
) -> None:
    """Every owner has every acknowledged write, once the last of them have arrived. `but_of`, `at`: what
    this node acknowledged in the last moment before it was killed then may not have left it for the
    last owner."""
    until = time.monotonic() + DRAIN_SECONDS
    known = [
        write for write in acked if not (write.node == but_of and at - 1 < write.at < at + 0.1)
    ]
    while True:
        found = copies()
        behind = {
            write: owners for write in known if (owners := found.without(write.key, write.value))
        }
        if not behind:
            return
        assert time.monotonic() < until, behind


def assert_equal_once_read(addresses: Sequence[str], acked: Sequence[Written]) -> None:
    """Read every key once, at all its owners."""
    for write, address in zip(acked, itertools.cycle(addresses), strict=False):
        found = request(address, "GET", target(write.key, query="r=all"))
        assert (found.status, found.body) == (200, write.value), write


def hints_of(addresses: Sequence[str]) -> int:
    """How many these nodes keep; more as long as one has not counted them."""
    told = [request(address, "GET", "/admin/hints").json() for address in addresses]
    # Of an earlier start they are counted in a moment.
    return sum(one["hints"] + (not one["counted"]) for one in told)


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


@pytest.mark.long
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

    assert_at_all_owners(commanded.copies, load.acked, but_of=3, at=killed_at)
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


def owned_by(cluster: ClusterProcess, wanted: set[str], count: int) -> list[str]:
    """So many keys with all these nodes among their owners."""
    found = []
    for number in itertools.count():
        listed = cluster.http(0, "GET", f"{target(f'o{number}')}/preflist").json()["preflist"]
        if wanted <= {one["node"] for one in listed if one["primary"]}:
            found.append(f"o{number}")
        if len(found) == count:
            break
    return found


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
        assert_at_all_owners(partial(copies_of, cluster), load.acked, but_of=2, at=killed_at)
        assert_equal_once_read(addresses_of(cluster), load.acked)
        keys = [write.key for write in load.acked]
        wait_until(lambda: copies_of(cluster).differing(keys) == [], "all copies are equal")


def test_with_an_owner_down_stand_ins_make_w_3_and_pw_3_is_refused_untouched() -> None:
    with ClusterProcess(nodes=5) as cluster:
        wait_connected(cluster)
        keys = owned_by(cluster, {"n3"}, 20)
        cluster.kill9(2)
        wait_until(
            lambda: "n3" not in cluster.stats(0)["connected_nodes"], "n3 is known to be down"
        )
        for key in keys[:10]:
            refused = cluster.put(0, key, b"v", query="w=3&pw=3")
            body = refused.json()
            assert (refused.status, body["code"], body["outcome"]) == (503, "unavailable", "none")
            counts = (
                "required",
                "received",
                "primaries",
                "fallbacks",
                "primaries_required",
                "alive",
            )
            assert [body[name] for name in counts] == [3, 3, 2, 1, 3, 2], body
            assert body["reasons"] == {"n3": "down"}
        for key in keys[10:]:
            made = cluster.put(0, key, b"v", query="w=3")
            assert (made.status, made.headers["X-Dynamo-Acks"]) == (204, "primary=2,fallback=1")
            assert cluster.put(0, key, b"v", query="node_confirms=3&w=1").status == 204
            assert cluster.get(0, key, query="r=3&node_confirms=3").status == 300
        cluster.restart(2)
        wait_connected(cluster)
        wait_drained(cluster)
        copies = copies_of(cluster)
        for key in keys[:10]:
            assert set(copies.of(key).values()) == {b""}
            assert cluster.get(0, key, query="r=3").status == 404
        assert copies.differing(keys) == []


def test_a_hint_outlives_the_kill_of_who_keeps_it() -> None:
    """Scene 5 of what is re-enacted from the field, and the target is gone all the while."""
    with ClusterProcess(nodes=5) as cluster:
        wait_connected(cluster)
        keys = owned_by(cluster, {"n3"}, 30)
        cluster.kill9(2)
        wait_until(
            lambda: "n3" not in cluster.stats(0)["connected_nodes"], "n3 is known to be down"
        )
        for key in keys:
            assert cluster.put(0, key, key.encode(), query="w=3").headers["X-Dynamo-Acks"] == (
                "primary=2,fallback=1"
            )
        kept = {i: hints_of([cluster.nodes[i].http]) for i in (0, 1, 3, 4)}
        assert sum(kept.values()) == len(keys)
        keeper = max(kept, key=kept.__getitem__)
        cluster.kill9(keeper)
        cluster.restart(keeper)
        address = cluster.nodes[keeper].http
        wait_until(lambda: hints_of([address]) == kept[keeper], "its hints are there again")
        cluster.restart(2)
        wait_drained(cluster)
        copies = copies_of(cluster)
        assert [key for key in keys if copies.without(key, key.encode())] == []


def test_a_stopped_node_costs_others_time_only_while_they_wait_for_it() -> None:
    with ClusterProcess(nodes=5) as cluster:
        wait_connected(cluster)
        *others, stopped = addresses_of(cluster)
        inside = QuorumLoad([stopped], clients=2, name="inside")
        with QuorumLoad(others, clients=6) as load, inside as own:
            load.has_acked(100)
            stopped_at = time.monotonic()
            cluster.pause(4)
            time.sleep(7)
            resumed_at = time.monotonic()
            cluster.resume(4)
            load.has_acked(100)
            own.has_acked(20)
        # Each client may have met it once as the node that mints, which nobody else may then do.
        met = [e for e in load.errors if is_inside(e, 4) and e.outcome == "unknown"]
        assert [error for error in load.errors if error not in met] == []
        assert len(met) <= load.clients, met
        times = sorted(load.times(stopped_at, resumed_at))
        print(f"{len(times)} answers of others, the longest took {times[-10:]}")
        assert len(times) > 300
        assert len([took for took in times if took > SLOW_SECONDS]) <= load.clients
        # What waited in its sockets it refuses until it knows what was agreed on meanwhile; what it was
        # at work on is unknown.
        assert all(error.status == 503 for error in own.errors), own.errors
        assert len([error for error in own.errors if error.outcome == "unknown"]) <= own.clients
        wait_drained(cluster)
        acked = [*load.acked, *own.acked]
        assert_at_all_owners(partial(copies_of, cluster), acked, but_of=4, at=stopped_at)
        assert_equal_once_read(addresses_of(cluster), acked)


def test_a_node_whose_data_is_removed_fills_up_again_and_gets_its_hints() -> None:
    with ClusterProcess(nodes=5) as cluster:
        wait_connected(cluster)
        with QuorumLoad(addresses_of(cluster)) as load:
            load.has_acked(150)
            killed_at = time.monotonic()
            cluster.kill9(4)
            load.has_acked(100)
            shutil.rmtree(cluster.data_dir(4))
            cluster.restart(4)
            load.has_acked(100)
        assert_only_inside(load, 4, killed_at)
        wait_drained(cluster)
        wait_until(lambda: cluster.stats(4)["partitions_refilling"] == 0, "it is filled up")
        assert_at_all_owners(partial(copies_of, cluster), load.acked, but_of=4, at=killed_at)
        assert_equal_once_read(addresses_of(cluster), load.acked)
        keys = [write.key for write in load.acked]
        wait_until(lambda: copies_of(cluster).differing(keys) == [], "all copies are equal")
