"""Replicas of real processes converge by themselves: no hint, no client's read, nobody who helps."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest
from cluster_process import ClusterProcess
from cluster_waits import wait_agreed, wait_connected, wait_stat
from copies import Copies
from lost_partition import lose_partition
from many_writes import read_all, write_all
from quorum_load import QuorumLoad

#: No hints are taken, so that only exchanges can mend anything.
ONLY_EXCHANGES = ("--hint-window", "0", "--exchange-interval", "1", "--exchange-deadline", "1")
#: In which nothing is mended any more once all is equal: some exchanges with every peer.
QUIET_SECONDS = 6.0
LOST = 3
MOVED = ("repairs_stored", "deliveries_stored", "deliveries_by_exchange")


def moved(cluster: ClusterProcess) -> int:
    """Records that nodes took from others so far, whoever sent them and why."""
    stats = [cluster.stats(i) for i in range(len(cluster)) if cluster.is_running(i)]
    return sum(one.get(name, 0) for one in stats for name in MOVED)


def assert_quiet(cluster: ClusterProcess) -> None:
    """Nothing is mended any more, since there is nothing to mend."""
    before = moved(cluster)
    time.sleep(QUIET_SECONDS)
    assert moved(cluster) == before


def copies_of(cluster: ClusterProcess) -> Copies:
    return Copies(
        cluster.cluster, {node.node_id: cluster.data_dir(i) for i, node in enumerate(cluster.nodes)}
    )


def assert_alone_has_all(cluster: ClusterProcess, i: int, keys: Sequence[str]) -> None:
    """Every other node is killed; this one answers for every key."""
    for other in range(len(cluster)):
        if other != i:
            cluster.kill9(other)
    found = read_all(cluster.nodes[i].http, keys, query="r=1&pr=0")
    assert found == {key: (200, key.encode()) for key in keys}


@pytest.mark.long
def test_a_node_that_missed_ten_thousand_writes_has_them_all_with_no_read_and_no_hint() -> None:
    keys = [f"k{number:05}" for number in range(10_000)]
    with ClusterProcess(extra_args=ONLY_EXCHANGES) as cluster:
        wait_connected(cluster)
        write_all(cluster.addresses, keys[:100])
        assert cluster.stop(2) == 0
        write_all(cluster.addresses[:2], keys[100:])
        cluster.start(2)
        wait_agreed(cluster)
        assert_quiet(cluster)
        assert sum(cluster.stats(i).get("read_repairs", 0) for i in range(3)) == 0
        assert_alone_has_all(cluster, 2, keys)


@pytest.mark.long
def test_a_partition_whose_data_is_gone_comes_back_and_then_all_is_quiet() -> None:
    keys = [f"k{number:04}" for number in range(1_000)]
    with ClusterProcess(partitions=16, extra_args=ONLY_EXCHANGES) as cluster:
        wait_connected(cluster)
        write_all(cluster.addresses, keys, query="w=3")
        assert cluster.stop(0) == 0
        lost = lose_partition(cluster.data_dir(0), 0, LOST)
        assert lost > 0
        cluster.start(0)
        wait_agreed(cluster)
        assert moved(cluster) >= lost
        assert_quiet(cluster)
        assert copies_of(cluster).differing(keys) == []
        assert_alone_has_all(cluster, 0, keys)


def test_hash_trees_survive_a_clean_restart_and_are_built_anew_after_a_crash() -> None:
    with ClusterProcess(partitions=16) as cluster:
        write_all(cluster.addresses, [f"k{number}" for number in range(500)], query="w=3")
        assert cluster.stop(0) == 0
        cluster.start(0)
        assert cluster.stats(0).get("trees_rebuilt", 0) == 0
        cluster.kill9(0)
        cluster.start(0)
        wait_stat(cluster, 0, "trees_rebuilt", 16)


@pytest.mark.long
def test_nodes_that_are_killed_again_and_again_in_mid_write_are_equal_with_no_read() -> None:
    chance = random.Random()
    with ClusterProcess(extra_args=ONLY_EXCHANGES) as cluster:
        wait_connected(cluster)
        with QuorumLoad(cluster.addresses) as load:
            for _ in range(5):
                i = chance.randrange(3)
                time.sleep(chance.uniform(0.1, 0.8))
                cluster.kill9(i)
                time.sleep(chance.uniform(0.0, 1.5))
                cluster.start(i)
            load.has_acked(50)
        wait_connected(cluster)
        keys = [write.key for write in load.acked]
        wait_agreed(cluster)
        assert_quiet(cluster)
        copies = copies_of(cluster)
        assert copies.differing(keys) == []
        assert [w for w in load.acked if copies.without(w.key, w.value)] == []
