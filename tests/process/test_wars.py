"""What real nodes measure of their requests, and say of them to who asks."""

from __future__ import annotations

import time

import msgspec
from cluster_process import ClusterProcess
from cluster_waits import wait_connected

from dynamo.wars_status import WarsStatus

#: Enough that one in 32 is many.
KEYS = 400
LOCAL = {"X-Dynamo-Local": "1", "X-Dynamo-Stamps": "1"}


def wars(cluster: ClusterProcess, i: int) -> WarsStatus:
    reply = cluster.http(i, "GET", "/admin/wars")
    assert reply.status == 200
    return msgspec.json.decode(reply.body, type=WarsStatus)


def test_nodes_measure_their_ways_to_each_other() -> None:
    with ClusterProcess() as cluster:
        wait_connected(cluster)
        for number in range(KEYS):
            assert cluster.put(0, f"k{number}", b"v", query="w=3").status == 204
            assert cluster.get(0, f"k{number}", query="r=3").status == 200
        found = wars(cluster, 0)
        assert (found.node, found.n, found.sampled) == ("n1", 3, 32)
        assert set(found.peers) == {"n1", "n2", "n3"}
        assert 1 <= len(found.writes) <= KEYS / 4
        assert 1 <= len(found.reads) <= KEYS / 4
        for name, peer in found.peers.items():
            assert len(peer.w) == len(peer.a) == peer.writes >= 1
            assert len(peer.r) == len(peer.s) == peer.reads >= 1
            # One host has one clock: nothing is to be corrected, and each way took some time.
            assert peer.clock_offset_ms == 0
            assert all(0 <= leg < 5000 for leg in (*peer.w, *peer.a, *peer.r, *peer.s))
            if name == "n1":
                assert min(peer.w) < 1
                assert min(peer.r) < 1
        for write in found.writes:
            assert write.minter == "n1"
            assert set(write.legs) == {"n1", "n2", "n3"}
        assert all(read.body == "n1" and set(read.legs) == set(found.peers) for read in found.reads)
        assert wars(cluster, 1).peers == {}


def stamped(cluster: ClusterProcess, i: int, method: str, target: str, status: int) -> list[int]:
    """[the client's time before, when it began, when it had enough, the client's time after]."""
    headers = {"X-Dynamo-Stamps": "1", "Content-Type": "text/plain"}
    before = time.monotonic_ns()
    body = b"v" if method in ("PUT", "POST") else None
    reply = cluster.http(i, method, target, headers=headers, body=body)
    after = time.monotonic_ns()
    assert reply.status == status
    assert reply.headers["X-Dynamo-Coordinator"] == f"n{i + 1}"
    return [
        before,
        int(reply.headers["X-Dynamo-Began"]),
        int(reply.headers["X-Dynamo-Committed"]),
        after,
    ]


def test_stamps_are_of_the_clock_that_all_processes_of_a_host_share() -> None:
    with ClusterProcess() as cluster:
        wait_connected(cluster)
        for i in range(3):
            key = f"/buckets/b/keys/k{i}"
            for method, target, status in (
                ("PUT", f"{key}?w=3", 204),
                ("POST", key, 204),
                ("GET", f"{key}?r=3", 300),
                ("HEAD", key, 300),
                ("DELETE", key, 204),
                ("DELETE", key, 404),
                ("GET", key, 404),
            ):
                stamps = stamped(cluster, i, method, target, status)
                assert stamps == sorted(stamps), (method, target)
        cluster.stop(2)
        asked = {"X-Dynamo-Stamps": "1", "Content-Type": "text/plain"}
        late = cluster.put(0, "l", b"v", query="pw=3&timeout=500", headers=asked)
        assert late.status == 503
        assert late.headers["X-Dynamo-Began"]
        assert late.headers["X-Dynamo-Committed"] is None


def test_a_local_read_shows_one_copy_and_heals_nobody() -> None:
    with ClusterProcess(nodes=4) as cluster:
        wait_connected(cluster)
        owners = [
            one["node"]
            for one in cluster.http(0, "GET", "/buckets/b/keys/k/preflist").json()["preflist"]
        ]
        here = [int(name[1:]) - 1 for name in owners]
        (outside,) = {0, 1, 2, 3} - set(here)
        cluster.pause(here[2])
        # It is paused, not down: nobody stands in for it, and it misses the write for a while.
        assert cluster.put(here[0], "k", b"v", query="w=2&timeout=1000").status == 204
        before = [cluster.stats(i).get("read_repairs", 0) for i in here[:2]]
        for i in here[:2]:
            found = cluster.get(i, "k", query="timeout=2000", headers=LOCAL)
            assert (found.status, found.body) == (200, b"v")
            assert int(found.headers["X-Dynamo-Began"]) < int(found.headers["X-Dynamo-Committed"])
            assert cluster.get(i, "nothing", headers=LOCAL).status in (404, 421)
        assert [cluster.stats(i).get("read_repairs", 0) for i in here[:2]] == before
        cluster.resume(here[2])
        refused = cluster.get(outside, "k", headers=LOCAL)
        assert refused.status == 421
        assert refused.json()["code"] == "not_an_owner"
        assert refused.json()["owners"] == {"default": owners}


def test_a_node_may_be_told_to_measure_all() -> None:
    with ClusterProcess(extra_args=("--measure-one-in", "1")) as cluster:
        wait_connected(cluster)
        for number in range(10):
            assert cluster.put(0, f"k{number}", b"v", query="w=3").status == 204
            assert cluster.get(0, f"k{number}", query="r=3").status == 200
        found = wars(cluster, 0)
        assert found.sampled == 1
        assert [len(found.writes), len(found.reads)] == [10, 10]
        assert [found.peers["n2"].writes, found.peers["n2"].reads] == [10, 10]
