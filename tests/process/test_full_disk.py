"""A disk that is really full, under a real node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_process import ClusterProcess
from cluster_waits import wait_connected, wait_until
from small_disk import SmallDisk, small_disk

from dynamo.cli.supervisor import NodeProcess

MIB = 1 << 20
DISK_BYTES = 96 * MIB
VALUE = os.urandom(200_000)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", DISK_BYTES) as made:
        yield made


def cluster_on(disk: SmallDisk, nodes: int, *arguments: str) -> ClusterProcess:
    """A cluster whose first node has its data on this disk."""
    cluster = ClusterProcess(nodes=nodes, replicas=nodes, partitions=8, extra_args=arguments)
    first = cluster.nodes[0]
    given = tuple(first.command[first.command.index("serve") + 1 :])
    at = given.index("--data-dir") + 1
    data_dir = disk.path / "n1"
    cluster.nodes[0] = NodeProcess(
        node_id=first.node_id,
        http=first.http,
        rpc=first.rpc,
        data_dir=data_dir,
        log=first.log,
        arguments=(*given[:at], str(data_dir), *given[at + 1 :]),
    )
    return cluster


def test_below_the_watermark_writes_are_507_and_reads_and_deletes_go_on(disk: SmallDisk) -> None:
    with cluster_on(disk, 1, "--free-space-min", "16MiB") as cluster:
        for key in ("kept", "deleted"):
            assert cluster.put(0, key, VALUE).status == 204
        context = cluster.get(0, "kept").context
        disk.leave(8 * MIB)
        wait_until(lambda: cluster.put(0, "new", b"v").status != 204, "a refusal")
        for refused in (
            cluster.put(0, "new2", b"v"),
            cluster.put(0, "kept", b"v", context=context),
        ):
            body = refused.json()
            assert (refused.status, body["outcome"]) == (507, "none")
        assert cluster.http(0, "GET", "/health/live").status == 200
        assert cluster.get(0, "kept").body == VALUE
        assert cluster.delete(0, "deleted").status == 204
        assert cluster.get(0, "deleted").status == 404
        assert cluster.get(0, "new2").status == 404
        disk.make_room()
        wait_until(lambda: cluster.put(0, "new2", b"v").status == 204, "room is noticed")
        assert cluster.put(0, "kept", b"w", context=context).status == 204
        assert cluster.get(0, "kept").body == b"w"


def test_where_the_engine_meets_the_end_nothing_acknowledged_is_lost(disk: SmallDisk) -> None:
    with cluster_on(disk, 1, "--free-space-min", "0") as cluster:
        process = cluster.pid(0)
        acked, unknown = _write_until_full(cluster, disk)
        assert len(acked) >= 3
        refused = cluster.put(0, "refused", b"v")
        assert (refused.status, refused.json()["outcome"]) in ((507, "none"), (503, "unknown"))
        disk.make_room()
        wait_until(lambda: cluster.put(0, "after", b"v").status == 204, "it takes writes again")
        assert cluster.pid(0) == process
        assert cluster.is_running(0)
        for key in acked:
            assert cluster.get(0, key).body == VALUE, key
        for key in unknown:
            assert cluster.get(0, key).status in (200, 404)
        cluster.kill9(0)
        cluster.start(0)
        for key in acked:
            assert cluster.get(0, key).body == VALUE, key
        assert set(cluster.get(0, "after").siblings) == {
            b"v"
        }  # what was unknown may live beside it
        assert cluster.stats(0)["storage_opened"] == "clean"


def test_beside_a_node_with_a_full_disk_the_others_take_writes(disk: SmallDisk) -> None:
    with cluster_on(disk, 3, "--free-space-min", "0") as cluster:
        assert cluster.put(1, "before", VALUE, query="w=3").status == 204
        disk.leave(0)
        keys = [f"k{number}" for number in range(40)]
        for number, key in enumerate(keys):
            # A write that was inside the node as its disk filled may be unknown: it is not repeated.
            reply = cluster.put(1 + number % 2, key, VALUE)
            assert reply.status == 204 or reply.json()["outcome"] == "unknown", reply.body
            if reply.status != 204:
                keys[number] = "before"
        assert keys.count("before") <= 5
        disk.make_room()
        wait_until(lambda: cluster.put(0, "after", b"v", query="w=3").status == 204, "room")
        wait_connected(cluster)
        for node in range(3):
            for key in keys:
                assert cluster.get(node, key, query="r=3").body == VALUE, (node, key)


def test_below_the_watermark_a_node_delivers_what_it_keeps_for_others(disk: SmallDisk) -> None:
    with cluster_on(disk, 3, "--free-space-min", "16MiB") as cluster:
        wait_connected(cluster)
        cluster.kill9(2)
        wait_until(
            lambda: "n3" not in cluster.stats(0)["connected_nodes"], "n3 is known to be down"
        )
        for number in range(40):
            assert cluster.put(0, f"k{number}", b"v").status == 204
        assert _hints(cluster, 0)["n3"]["hints"] == 40
        disk.leave(8 * MIB)
        wait_until(lambda: cluster.put(0, "full", b"v", query="w=3").status != 204, "a refusal")
        cluster.start(2)
        wait_until(lambda: _hints(cluster, 0)["n3"]["hints"] == 0, "they are delivered")
        assert cluster.stats(0)["hints_delivered"] >= 40
        assert cluster.stats(0).get("hints_not_removed", 0) == 0
        cluster.kill9(0)
        cluster.kill9(1)
        for number in range(40):
            assert cluster.get(2, f"k{number}", query="r=1").body == b"v", number


def test_what_a_full_disk_has_missed_is_kept_for_it_until_there_is_room(disk: SmallDisk) -> None:
    with cluster_on(disk, 3, "--free-space-min", "16MiB") as cluster:
        wait_connected(cluster)
        disk.leave(8 * MIB)
        wait_until(lambda: cluster.put(1, "full", b"v", query="w=3").status != 204, "a refusal")
        for number in range(40):
            assert cluster.put(1 + number % 2, f"k{number}", b"v").status == 204
        owed = [_hints(cluster, i).get("n1", {"hints": 0}) for i in (1, 2)]
        assert sum(one["hints"] for one in owed) >= 40
        wait_until(
            lambda: "disk_full" in _hints(cluster, 1)["n1"]["reason"],
            "that it is full is shown",
        )
        disk.make_room()
        for node in (1, 2):
            synced = cluster.http(node, "POST", "/admin/hints/sync?timeout=30000")
            assert synced.status == 200, synced.body
        cluster.kill9(1)
        cluster.kill9(2)
        for number in range(40):
            assert cluster.get(0, f"k{number}", query="r=1").body == b"v", number


def _hints(cluster: ClusterProcess, i: int) -> dict[str, dict[str, Any]]:
    """What node i keeps for others, by target."""
    told = cluster.http(i, "GET", "/admin/hints").json()
    return {target["target"]: target for target in told["targets"]}


def _write_until_full(cluster: ClusterProcess, disk: SmallDisk) -> tuple[list[str], list[str]]:
    """Write until the engine has met the end of the disk: what was acknowledged, what is unknown."""
    acked: list[str] = []
    unknown: list[str] = []
    disk.leave(2 * MIB)
    for number in range(1000):
        key = f"k{number}"
        reply = cluster.put(0, key, VALUE)
        if reply.status == 204:
            acked.append(key)
            continue
        outcome = reply.json()["outcome"]
        assert (reply.status, outcome) in ((503, "unknown"), (507, "none"), (503, "none"))
        if outcome == "unknown":
            unknown.append(key)
        if len(unknown) and reply.status == 507:
            return acked, unknown
        if disk.free_bytes > MIB:
            disk.leave(0)  # a compaction gave some back
    raise AssertionError("the disk took everything")
