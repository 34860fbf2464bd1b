"""An old copy of a node's disk, put back after what is on it was deleted and reaped: nothing of that
comes back, at any node, and what was written since does."""

from __future__ import annotations

import shutil
from pathlib import Path

from cluster_process import ClusterProcess
from cluster_waits import wait_connected, wait_stat, wait_until

KEYS = 20
#: The node whose disk is put back.
OLD = 1


def test_an_old_copy_of_a_disk_brings_nothing_back_that_was_reaped(tmp_path: Path) -> None:
    with ClusterProcess(partitions=8, extra_args=("--reap-after", "0")) as cluster:
        wait_connected(cluster)
        for number in range(KEYS):
            for name in ("gone", "kept"):
                assert cluster.put(0, f"{name}{number}", b"old", query="w=3").status == 204
        cluster.stop(OLD)
        copy = tmp_path / "copy"
        shutil.copytree(cluster.data_dir(OLD), copy)
        cluster.start(OLD)
        wait_connected(cluster)
        for number in range(KEYS):
            assert cluster.delete(0, f"gone{number}", query="w=3").status == 204
            seen = cluster.get(2, f"kept{number}").context
            assert cluster.put(2, f"kept{number}", b"new", context=seen, query="w=3").status == 204
        for node in range(3):
            wait_stat(cluster, node, "tombstones_dropped", KEYS)
        cluster.stop(OLD)
        shutil.rmtree(cluster.data_dir(OLD))
        shutil.copytree(copy, cluster.data_dir(OLD))

        cluster.start(OLD)
        wait_until(lambda: _is_settled(cluster), "the disk that was put back is settled")
        cluster.wait_ready()
        _check(cluster, range(3))
        assert _refill(cluster)["aside"] == KEYS
        assert cluster.stats(OLD)["records_set_aside"] == KEYS
        assert cluster.stats(OLD).get("partitions_unpurged", 0) == 0

        # Also for who asks this node alone, and after it was started once more.
        cluster.stop(OLD)
        cluster.start(OLD)
        cluster.kill9(0)
        cluster.kill9(2)
        _check(cluster, (OLD,))
        wait_until(lambda: _refill(cluster)["aside"] == KEYS, "what was set aside is counted")


def _check(cluster: ClusterProcess, nodes: range | tuple[int, ...]) -> None:
    for node in nodes:
        for number in range(KEYS):
            gone = cluster.get(node, f"gone{number}", query="r=1")
            assert (gone.status, gone.context) == (404, None), f"gone{number} at {node}"
            kept = cluster.get(node, f"kept{number}", query="r=1")
            assert (kept.status, kept.siblings) == (200, [b"new"]), f"kept{number} at {node}"


def _is_settled(cluster: ClusterProcess) -> bool:
    return bool(cluster.stats(OLD).get("partitions_purged", 0) == 8)


def _refill(cluster: ClusterProcess) -> dict[str, int]:
    found: dict[str, int] = cluster.http(OLD, "GET", "/admin/status").json()["refill"]
    return found
