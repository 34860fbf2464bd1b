"""Nodes without read repair, hints and exchanges leave replicas behind, and say so; what clients are
promised holds all the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from cluster_process import ClusterProcess
from cluster_waits import wait_connected, wait_until

OFF = ("--no-read-repair", "--no-hints", "--exchange-interval", "0")


@pytest.fixture
def four() -> Iterator[ClusterProcess]:
    with ClusterProcess(nodes=4, partitions=16, extra_args=OFF) as cluster:
        yield cluster


def primaries(cluster: ClusterProcess, key: str) -> list[int]:
    told = cluster.http(0, "GET", f"/buckets/b/keys/{key}/preflist").json()["preflist"]
    return [int(entry["node"][1:]) - 1 for entry in told if entry["primary"]]


def own_copy(cluster: ClusterProcess, node: int, key: str) -> list[bytes]:
    return cluster.get(node, key, headers={"X-Dynamo-Local": "1"}).siblings


def test_who_missed_a_write_stays_behind_until_a_client_waits_for_its_repair(
    four: ClusterProcess,
) -> None:
    first, second, missing = primaries(four, "k")
    assert four.put(first, "k", b"old", query="w=3").status == 204
    context = four.get(first, "k").context
    four.kill9(missing)
    wait_until(lambda: f"n{missing + 1}" not in four.stats(first)["connected_nodes"], "it is gone")
    written = four.put(first, "k", b"new", context=context, query="w=2")
    assert written.headers["X-Dynamo-Acks"] == "primary=2,fallback=0"  # nobody stands in
    refused = four.put(first, "k", b"never", query="w=3")
    assert (refused.status, refused.json()["outcome"]) == (503, "none")
    four.start(missing)
    wait_connected(four)
    for node in (first, second, missing):
        assert four.get(node, "k", query="r=3").siblings == [b"new"]
    time.sleep(1.0)  # whatever would be sent after an answer
    assert own_copy(four, missing, "k") == [b"old"]
    for node in range(4):
        assert four.http(node, "GET", "/admin/hints").json()["hints"] == 0
    stats = [four.stats(node) for node in range(4)]
    assert sum(one.get("read_repairs_left_out", 0) for one in stats) >= 1
    assert sum(one.get("hints_left_out", 0) for one in stats) >= 1
    assert sum(one.get("read_repairs", 0) for one in stats) == 0
    # At r=1 all three have to hold what is answered.
    assert four.get(first, "k", query="r=1&read_repair=blocking").siblings == [b"new"]
    assert own_copy(four, missing, "k") == [b"new"]


def test_hints_of_before_stay_and_are_not_delivered(four: ClusterProcess) -> None:
    first, _, missing = primaries(four, "k")
    four.stop(first)
    with_hints = [part for part in four.nodes[first].command if part != "--no-hints"]
    without = four.nodes[first].command
    four.nodes[first].command = tuple(with_hints)
    four.start(first)
    wait_connected(four)
    four.kill9(missing)
    wait_until(lambda: f"n{missing + 1}" not in four.stats(first)["connected_nodes"], "it is gone")
    assert four.put(first, "k", b"v", query="w=2").status == 204
    kept = four.http(first, "GET", "/admin/hints").json()
    wait_until(
        lambda: four.http(first, "GET", "/admin/hints").json()["hints"] == 1, "it keeps a hint"
    )
    four.stop(first)
    four.nodes[first].command = without
    four.start(first)
    four.start(missing)
    wait_connected(four)
    time.sleep(1.5)
    kept = four.http(first, "GET", "/admin/hints").json()
    (target,) = kept["targets"]
    assert (kept["hints"], kept["window_s"], target["state"]) == (1, 0, "waiting")
    assert "--no-hints" in target["reason"]
    undelivered = four.http(first, "POST", "/admin/hints/sync?timeout=300")
    assert undelivered.status == 503
    assert own_copy(four, missing, "k") == []
