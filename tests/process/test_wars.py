"""What real nodes measure of their requests, and say of them to who asks."""

from __future__ import annotations

import msgspec
from cluster_process import ClusterProcess
from cluster_waits import wait_connected

from bench.pbs.prediction import Wars

#: Enough that one in 32 is many.
KEYS = 400


def wars(cluster: ClusterProcess, i: int) -> Wars:
    reply = cluster.http(i, "GET", "/admin/wars")
    assert reply.status == 200
    return msgspec.json.decode(reply.body, type=Wars)


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
