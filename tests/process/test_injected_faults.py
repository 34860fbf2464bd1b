"""Real nodes that were started to inject faults do it, say so, and are well again; others refuse."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cluster_process import ClusterProcess, Reply
from cluster_waits import wait_connected, wait_until

JSON = {"Content-Type": "application/json"}
#: A write at n1 that wants two waits for one Store, and for one Synced.
SLOW = [
    {"leg": "W", "delay": [[1, "constant", 150]]},
    {"leg": "A", "delay": [[1, "constant", 100]]},
]


@pytest.fixture(scope="module")
def three() -> Iterator[ClusterProcess]:
    with ClusterProcess(partitions=16, extra_args=("--fault-injection",)) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def healed(three: ClusterProcess) -> Iterator[None]:
    yield
    for node in range(3):
        three.http(node, "DELETE", "/admin/faults")
    wait_connected(three)


def inject(cluster: ClusterProcess, node: int, *rules: dict[str, Any]) -> Reply:
    body = json.dumps({"rules": list(rules)}).encode()
    return cluster.http(node, "PUT", "/admin/faults", headers=JSON, body=body)


def seconds_of_put(cluster: ClusterProcess, key: str, query: str) -> float:
    """At best: the machine may have something else to do."""
    found = []
    for _ in range(4):
        begun = time.monotonic()
        assert cluster.put(0, key, b"v", query=query).status == 204
        found.append(time.monotonic() - begun)
    return min(found)


def metric(cluster: ClusterProcess, node: int, name: str) -> float:
    page = cluster.http(node, "GET", "/metrics").body.decode()
    return float(next(line for line in page.splitlines() if line.startswith(f"{name} ")).split()[1])


def test_a_write_waits_for_the_delays_that_were_injected(three: ClusterProcess) -> None:
    assert seconds_of_put(three, "before", "w=3") < 0.15
    for node in range(3):
        assert inject(three, node, *SLOW).status == 200
    assert seconds_of_put(three, "slow", "w=1") < 0.15  # its own copy is enough
    assert 0.25 <= seconds_of_put(three, "slow", "w=2") < 0.45
    status = three.http(0, "GET", "/admin/status").json()["faults"]
    assert (status["rules"], status["delays"], status["cut"]) == (2, True, [])
    assert metric(three, 0, "dynamo_faults_delaying") == 1
    assert metric(three, 0, "dynamo_faults_messages_held_total") > 0
    for node in range(3):
        assert three.http(node, "DELETE", "/admin/faults").json()["rules"] == []
    assert seconds_of_put(three, "after", "w=3") < 0.15
    assert metric(three, 0, "dynamo_faults_delaying") == 0


def test_a_node_that_is_cut_off_misses_writes_and_gets_them_once_it_is_healed(
    three: ClusterProcess,
) -> None:
    inject(three, 0, {"peers": ["n3"], "drop": True})
    inject(three, 1, {"peers": ["n3"], "drop": True})
    inject(three, 2, {"drop": True})
    wait_until(lambda: not three.stats(2)["connected_nodes"], "n3 is alone")
    assert three.http(0, "GET", "/admin/status").json()["faults"]["cut"] == ["n3"]
    assert three.put(0, "cut", b"v", query="w=2").status == 204
    alone = three.put(2, "cut", b"w", query="w=2&timeout=2000")
    assert (alone.status, alone.json()["outcome"]) == (503, "none")
    assert three.get(2, "cut", query="r=1").status == 404
    for node in range(3):
        three.http(node, "DELETE", "/admin/faults")
    wait_connected(three)
    wait_until(lambda: three.get(2, "cut", query="r=1").body == b"v", "the hint is delivered")


def test_a_bad_rule_is_named_and_changes_nothing(three: ClusterProcess) -> None:
    inject(three, 0, SLOW[0])
    refused = inject(three, 0, SLOW[0], {"peers": ["n9"], "drop": True})
    assert (refused.status, refused.json()["field"]) == (400, "rules[1].peers")
    assert inject(three, 0, {"peers": ["n1"], "drop": True}).status == 400  # itself
    assert three.http(0, "PUT", "/admin/faults", headers=JSON, body=b"{}").status == 400
    assert three.http(0, "PUT", "/admin/faults", headers=JSON, body=b"[").status == 400
    assert len(three.http(0, "GET", "/admin/faults").json()["rules"]) == 1


def test_a_node_that_may_be_harmed_says_so_aloud(three: ClusterProcess) -> None:
    assert "FAULT INJECTION IS ON" in three.log(0)
    assert metric(three, 0, "dynamo_fault_injection") == 1


def test_any_other_node_refuses() -> None:
    with ClusterProcess(nodes=1, replicas=1, partitions=8) as one:
        for method in ("GET", "PUT", "DELETE"):
            refused = one.http(0, method, "/admin/faults", headers=JSON, body=b'{"rules": []}')
            assert refused.status == 403
            assert refused.json()["code"] == "fault_injection_off"
            assert "--fault-injection" in refused.json()["message"]
        assert one.http(0, "GET", "/admin/status").json()["faults"] is None
        assert metric(one, 0, "dynamo_fault_injection") == 0
        assert "FAULT" not in one.log(0)
