"""A disk that gives back what was not written: a node mends itself, and nobody has to help."""

from __future__ import annotations

import os

from cluster_process import ClusterProcess
from cluster_waits import wait_connected, wait_stat

KEYS = 60


def test_a_node_with_a_damaged_table_is_whole_again_by_itself() -> None:
    with ClusterProcess(partitions=8) as cluster:
        values = {f"k{number:02}": os.urandom(2000) for number in range(KEYS)}
        for key, value in values.items():
            assert cluster.put(0, key, value, query="w=3").status == 204
        cluster.stop(0)
        _damage_largest_table(cluster)
        for _ in range(8):  # every stop writes one more table, until there are enough to compact
            cluster.start(0)
            for key in ("k00", "k30", "k59"):
                seen = cluster.get(1, key)
                values[key] += b"."
                reply = cluster.put(1, key, values[key], context=seen.context)
                assert reply.status == 204
            if cluster.stats(0).get("storage_stopped_damaged"):
                break
            cluster.stop(0)
        wait_stat(cluster, 0, "storage_reopened", 1)
        wait_stat(cluster, 0, "partitions_refilled", 8)
        cluster.wait_ready()
        assert cluster.stats(0)["storage_opened"] == "rebuilt"
        wait_connected(cluster)
        for number, (key, value) in enumerate(values.items()):
            found = cluster.get(number % 3, key, query="r=3")
            assert (found.status, found.siblings) == (200, [value]), key
            assert cluster.put(0, f"new-{key}", value, query="w=3").status == 204
        cluster.kill9(1)
        cluster.kill9(2)
        for key, value in values.items():
            assert cluster.get(0, key, query="r=1").body == value
            assert cluster.get(0, f"new-{key}", query="r=1").body == value


def _damage_largest_table(cluster: ClusterProcess) -> None:
    tables = (cluster.data_dir(0) / "db").glob("*.sst")
    table = max(tables, key=lambda path: path.stat().st_size)
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 1
    table.write_bytes(data)
