"""Deletes with real nodes: forgotten on proof, gone over kills, held up by whoever is away, and seen."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
from cluster_process import ClusterProcess
from cluster_waits import wait_connected, wait_until

KEYS = 50
AT_ONCE = ["--reap-after", "1"]


def tombstones(cluster: ClusterProcess, i: int) -> dict[str, Any]:
    return cluster.http(i, "GET", "/admin/tombstones").json()


def kept(cluster: ClusterProcess) -> int:
    running = [i for i in range(len(cluster)) if cluster.is_running(i)]
    told = [tombstones(cluster, i) for i in running]
    assert all(one["counted"] for one in told)
    return sum(one["tombstones"] for one in told)


def delete_all(cluster: ClusterProcess) -> None:
    for number in range(KEYS):
        assert cluster.put(number % 3, f"k{number}", b"old", query="w=3").status == 204
        assert cluster.delete(number % 3, f"k{number}", query="w=3").status == 204


def check_gone(cluster: ClusterProcess) -> None:
    """Absent, with no context: nothing is left to be covered."""
    for number in range(KEYS):
        found = cluster.get(number % 3, f"k{number}", query="r=3")
        assert (found.status, found.context) == (404, None)
        assert "X-Riak-Deleted" not in found.headers


def test_what_is_deleted_is_forgotten_and_stays_gone_after_a_kill_of_all() -> None:
    with ClusterProcess(partitions=8, extra_args=AT_ONCE) as cluster:
        delete_all(cluster)
        wait_until(lambda: kept(cluster) == 0, "all is reaped")
        check_gone(cluster)
        told = [tombstones(cluster, i) for i in range(3)]
        assert sum(one["reaped"] for one in told) == KEYS
        assert sum(one["dropped"] for one in told) == 3 * KEYS

        cluster.kill9_all()
        for i in range(3):
            cluster.start(i, ready=False)
        cluster.wait_ready()
        wait_connected(cluster)
        check_gone(cluster)
        assert kept(cluster) == 0

        # A key that is made anew has nothing to do with what it was.
        assert cluster.put(0, "k0", b"new", query="w=3").status == 204
        assert cluster.get(1, "k0", query="r=3").siblings == [b"new"]


def test_kills_in_the_midst_of_it_bring_nothing_back() -> None:
    with ClusterProcess(partitions=8, extra_args=AT_ONCE) as cluster:
        for turn in range(3):
            delete_all(cluster)
            wait_until(lambda: kept(cluster) < 3 * KEYS, "some of it is reaped")
            cluster.kill9(turn)
            for number in range(KEYS):
                assert cluster.get((turn + 1) % 3, f"k{number}").status == 404
            cluster.start(turn)
            wait_connected(cluster)
        wait_until(lambda: kept(cluster) == 0, "all is reaped")
        check_gone(cluster)


def test_a_node_that_is_away_holds_it_up_and_that_is_seen() -> None:
    with ClusterProcess(partitions=8, extra_args=AT_ONCE) as cluster:
        cluster.kill9(2)
        for number in range(KEYS):
            assert cluster.put(0, f"k{number}", b"old").status == 204
            assert cluster.delete(0, f"k{number}").status == 204

        def why() -> set[str]:
            return {one["why"] for i in (0, 1) for one in tombstones(cluster, i)["waiting"]}

        wait_until(lambda: why() == {"n3 cannot be reached"}, "it is said what is waited for")
        shown = subprocess.run(
            [
                *(sys.executable, "-m", "dynamo", "tombstones", "--json"),
                *("--node", cluster.url(0), "--node", cluster.url(2)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        told = msgspec.json.decode(shown.stdout)
        assert (shown.returncode, told["tombstones"]) == (3, KEYS)
        assert kept(cluster) == 2 * KEYS

        cluster.start(2)
        wait_until(lambda: kept(cluster) == 0, "all is reaped")
        check_gone(cluster)
