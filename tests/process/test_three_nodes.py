"""Three real nodes: what a user does with curl, a node killed, all killed under load."""

from __future__ import annotations

import base64
import http.client
import itertools
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from cluster_process import ClusterProcess
from cluster_waits import wait_connected, wait_until

from dynamo.cli.supervisor import stop_all


def test_the_first_ten_minutes() -> None:
    with ClusterProcess() as cluster:
        assert cluster.put(0, "alice", b"bread").status == 204
        found = cluster.get(1, "alice")
        assert (found.status, found.body) == (200, b"bread")

        assert cluster.put(2, "alice", b"milk").status == 204
        both = cluster.get(0, "alice", headers={"Accept": "multipart/mixed"})
        assert both.status == 300
        assert sorted(both.siblings) == [b"bread", b"milk"]

        resolved = cluster.put(1, "alice", b"both", context=both.context)
        assert resolved.status == 204
        assert cluster.get(2, "alice").body == b"both"

        other = cluster.put(0, "bob", b"x", context=both.context)
        assert other.status == 400
        assert other.json()["code"] == "bad_context"
        assert both.context is not None
        token = bytearray(base64.b64decode(both.context))
        for at in range(len(token)):
            flipped = bytes(token[:at]) + bytes([token[at] ^ 1]) + bytes(token[at + 1 :])
            refused = cluster.put(0, "alice", b"x", context=base64.b64encode(flipped).decode())
            assert refused.status == 400, at

        assert cluster.delete(1, "alice").status == 204
        gone = cluster.get(0, "alice")
        assert gone.status == 404
        assert gone.headers["X-Riak-Deleted"] == "true"
        assert gone.context
        assert cluster.put(2, "alice", b"again", context=gone.context).status == 204
        assert cluster.get(1, "alice").body == b"again"


def test_one_dead_node_is_not_noticed_at_quorum_and_named_at_three() -> None:
    with ClusterProcess() as cluster:
        assert cluster.put(0, "before", b"1").status == 204
        cluster.kill9(2)
        for number in range(50):
            assert cluster.put(number % 2, f"k{number}", b"%d" % number).status == 204
            assert cluster.get(1 - number % 2, f"k{number}").body == b"%d" % number
        for refused in (
            cluster.put(0, "w3", b"x", query="w=3"),
            cluster.get(1, "before", query="r=3"),
        ):
            assert refused.status == 503
            assert (refused.json()["required"], refused.json()["received"]) == (3, 2)
            assert list(refused.json()["reasons"]) == ["n3"]
            assert refused.json()["outcome"] == "none"

        cluster.restart(2)
        wait_connected(cluster)
        for number in range(50):
            assert cluster.get(2, f"k{number}", query="r=3").body == b"%d" % number
        # Repaired by those reads, or delivered: now the node that was down has it alone.
        wait_until(lambda: _brought(cluster, 2) >= 50, "n3 has what it missed")
        cluster.kill9(0)
        cluster.kill9(1)
        for number in range(50):
            assert cluster.get(2, f"k{number}", query="r=1").body == b"%d" % number


def _brought(cluster: ClusterProcess, node: int) -> int:
    stats = cluster.stats(node)
    return int(stats.get("repairs_stored", 0)) + int(stats.get("deliveries_stored", 0))


class Loader:
    """Writes unique values to its own keys for as long as the cluster lives; remembers the acks."""

    def __init__(self, cluster: ClusterProcess, name: str) -> None:
        self.acked: dict[str, bytes] = {}
        self._cluster = cluster
        self._name = name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for number in itertools.count():
            if self._stop.is_set():
                return
            key, value = f"{self._name}-{number % 200}", f"{self._name}={number}".encode()
            try:
                before = self._cluster.get(number % 3, key)
                if before.status not in (200, 300, 404):
                    continue
                reply = self._cluster.put(number % 3, key, value, context=before.context)
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)
                continue
            if reply.status == 204:
                self.acked[key] = value

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def assert_kept(cluster: ClusterProcess, acked: Mapping[str, bytes]) -> None:
    """Each of these writes is there, or one that came after it."""
    for index, (key, value) in enumerate(acked.items()):
        reply = cluster.get(index % 3, key, headers={"Accept": "multipart/mixed"})
        assert reply.status in (200, 300), (key, reply)
        number = int(value.rpartition(b"=")[2])
        # A later write of the same key may live on unacknowledged, in place of this one.
        later = [int(v.rpartition(b"=")[2]) >= number for v in reply.siblings]
        assert value in reply.siblings or any(later), (key, value, reply.siblings)


@pytest.mark.long
def test_what_was_acknowledged_survives_kill_9_of_all_nodes_again_and_again() -> None:
    with ClusterProcess() as cluster:
        acked: dict[str, bytes] = {}
        for round_number in range(4):
            loaders = [Loader(cluster, f"r{round_number}-{index}") for index in range(3)]
            time.sleep(1.0 + 0.37 * round_number)
            cluster.kill9_all()
            for loader in loaders:
                loader.stop()
            for node in range(3):
                cluster.start(node, ready=False)
            cluster.wait_ready()
            wait_connected(cluster)
            new = {key: value for loader in loaders for key, value in loader.acked.items()}
            assert_kept(cluster, new)
            acked.update(new)
        assert_kept(cluster, acked)  # nobody has written these keys since
        assert len(acked) > 100
        stats = cluster.stats(0)
        assert stats["start"] == 5
        assert stats["storage_opened"] == "clean"


def test_five_nodes_with_two_dead_are_not_noticed_at_three() -> None:
    with ClusterProcess(nodes=5, replicas=5) as cluster:
        for number in range(30):
            assert cluster.put(number % 5, f"a{number}", b"1", query="w=3").status == 204
        cluster.kill9(1)
        cluster.kill9(3)
        live = (0, 2, 4)
        for number in range(30):
            node, other = live[number % 3], live[(number + 1) % 3]
            assert cluster.get(node, f"a{number}", query="r=3").body == b"1"
            assert cluster.put(node, f"b{number}", b"2", query="w=3").status == 204
            assert cluster.get(other, f"b{number}", query="r=3").body == b"2"
            assert cluster.delete(node, f"a{number}").status == 204
            assert cluster.get(other, f"a{number}", query="r=3").status == 404


def test_a_node_whose_disk_is_gone_refills_before_it_counts() -> None:
    with ClusterProcess() as cluster:
        for number in range(300):
            assert cluster.put(0, f"k{number}", b"%d" % number, query="w=3").status == 204
        cluster.kill9(2)
        shutil.rmtree(cluster.data_dir(2))
        cluster.restart(2)
        wait_connected(cluster)
        stats = cluster.stats(2)
        assert stats["start"] > 1
        assert stats["partitions_refilled"] == stats["ring_num_partitions"]
        cluster.kill9(0)
        cluster.kill9(1)
        for number in range(300):
            assert cluster.get(2, f"k{number}", query="r=1").body == b"%d" % number


def test_a_node_with_an_old_copy_of_its_disk_is_found_out_and_refills(tmp_path: Path) -> None:
    with ClusterProcess() as cluster:
        assert cluster.put(0, "old", b"1", query="w=3").status == 204
        cluster.stop(2)
        shutil.copytree(cluster.data_dir(2), tmp_path / "copy")
        cluster.restart(2)
        wait_connected(cluster)
        for number in range(100):
            assert cluster.put(0, f"new{number}", b"2", query="w=3").status == 204
        cluster.kill9(2)
        shutil.rmtree(cluster.data_dir(2))
        shutil.copytree(tmp_path / "copy", cluster.data_dir(2))
        cluster.restart(2)
        wait_connected(cluster)
        assert cluster.stats(2)["partitions_refilled"] > 0
        cluster.kill9(0)
        cluster.kill9(1)
        for number in range(100):
            assert cluster.get(2, f"new{number}", query="r=1").body == b"2"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterProcess]:
    """For tests that leave all its nodes up."""
    with ClusterProcess() as cluster:
        yield cluster


@pytest.mark.parametrize("blocking", ["async", "blocking"])
def test_every_node_reads_what_any_node_wrote_while_one_is_frozen(
    cluster: ClusterProcess, blocking: str
) -> None:
    last = f"{blocking} three"
    wait_connected(cluster)
    cluster.pause(2)
    try:
        for number in range(20):
            key = f"{blocking} {number}"
            assert cluster.put(number % 2, key, b"v").status == 204
            found = cluster.get(1 - number % 2, key, query=f"read_repair={blocking}")
            assert found.body == b"v"
        slow = cluster.put(0, last, b"v", query="w=3&timeout=500")
        assert slow.status == 503
        assert slow.json()["received"] == 2
    finally:
        cluster.resume(2)
    wait_connected(cluster)
    assert cluster.get(2, last, query="r=3").body == b"v"


def test_an_upload_that_does_not_end_keeps_no_node_from_stopping_by_itself() -> None:
    with ClusterProcess() as cluster, socket.create_connection(("127.0.0.1", cluster.port(0))) as c:
        head = "PUT /buckets/b/keys/k HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\n"
        c.sendall(f"{head}Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n".encode())
        assert c.recv(100).startswith(b"HTTP/1.1 100 ")
        threading.Thread(target=_trickle, args=(c,), daemon=True).start()
        stop_all(cluster.nodes, hurry=lambda: False)
        assert [node.exit_code() for node in cluster.nodes] == [0, 0, 0]


def _trickle(connection: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection.sendall(bytes(1000))
            time.sleep(0.2)
