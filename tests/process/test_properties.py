"""Properties of buckets on three real nodes: at all that are up, and at the others on their return."""

from __future__ import annotations

import json

from cluster_process import ClusterProcess, Reply
from cluster_waits import wait_connected, wait_until

PROPS = "/buckets/b/props"
TYPE = "/types/carts/props"
TYPED = "/types/carts/buckets/b/props"


def put_props(cluster: ClusterProcess, i: int, path: str, **props: object) -> Reply:
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"props": props}).encode()
    return cluster.http(i, "PUT", path, headers=headers, body=body)


def shown(cluster: ClusterProcess, path: str, name: str) -> list[object]:
    """The value of a property at each node that runs."""
    running = [i for i in range(len(cluster)) if cluster.is_running(i)]
    return [cluster.http(i, "GET", path).json()["props"][name] for i in running]


def test_properties_are_at_all_nodes_and_outlive_a_kill_of_all() -> None:
    with ClusterProcess(classes=[("carts", 2)]) as cluster:
        assert put_props(cluster, 0, PROPS, w="all", allow_mult=False).status == 204
        assert put_props(cluster, 1, TYPE, r=1).status == 204
        assert put_props(cluster, 2, TYPED, w=2).status == 204
        refused = put_props(cluster, 0, TYPED, w=3)
        assert (refused.status, refused.json()["field"]) == (400, "w")
        assert cluster.http(0, "GET", "/types/nope/props").status == 404

        cluster.kill9_all()
        for i in range(3):
            cluster.start(i, ready=False)
        cluster.wait_ready()
        assert shown(cluster, PROPS, "w") == ["all"] * 3
        assert shown(cluster, PROPS, "allow_mult") == [False] * 3
        assert shown(cluster, TYPED, "r") == [1] * 3
        assert shown(cluster, TYPED, "w") == [2] * 3
        assert shown(cluster, TYPED, "n_val") == [2] * 3
        assert cluster.http(1, "DELETE", PROPS).status == 204
        assert shown(cluster, PROPS, "w") == ["quorum"] * 3


def test_a_change_goes_on_without_a_dead_node_which_learns_it_before_it_serves_again() -> None:
    with ClusterProcess() as cluster:
        assert put_props(cluster, 0, PROPS, r=1, pw=1).status == 204
        cluster.kill9(2)
        assert put_props(cluster, 0, PROPS, w="all").status == 204
        # It is in force at those that are up.
        assert cluster.put(1, "k", b"v").status == 503
        assert cluster.put(1, "k", b"v", query="w=2").status == 204

        cluster.start(2, ready=False)
        # What it answers first is by the change that it missed.
        answers: list[Reply] = []
        wait_until(lambda: _answers(cluster, 2, answers), "n3 answers")
        assert answers[0].json()["props"]["w"] == "all"
        wait_connected(cluster)
        assert shown(cluster, PROPS, "w") == ["all"] * 3
        assert shown(cluster, PROPS, "r") == [1] * 3
        assert cluster.put(2, "k", b"v").status == 204
        assert put_props(cluster, 2, PROPS, w=2).status == 204
        assert shown(cluster, PROPS, "w") == [2] * 3


def test_a_frozen_node_that_holds_its_connections_is_named() -> None:
    with ClusterProcess() as cluster:
        cluster.pause(2)
        headers = {"Content-Type": "application/json"}
        body = json.dumps({"props": {"r": 1}}).encode()
        path = f"{PROPS}?timeout=300"
        missed = cluster.http(0, "PUT", path, headers=headers, body=body)
        assert missed.status == 503
        error = missed.json()
        assert (error["code"], error["outcome"]) == ("properties_uncertain", "unknown")
        assert (error["required"], error["received"], list(error["reasons"])) == (3, 2, ["n3"])
        cluster.resume(2)
        wait_until(lambda: shown(cluster, PROPS, "r") == [1] * 3, "n3 has learnt it")


def _answers(cluster: ClusterProcess, i: int, answers: list[Reply]) -> bool:
    """True once a node shows properties; its answer goes to the list."""
    try:
        reply = cluster.http(i, "GET", PROPS)
    except OSError:
        return False
    if reply.status == 200:
        answers.append(reply)
    return reply.status == 200


def test_a_node_whose_data_is_gone_has_the_properties_again() -> None:
    with ClusterProcess() as cluster:
        assert put_props(cluster, 0, PROPS, r=1).status == 204
        cluster.kill9(2)
        blob = cluster.data_dir(2) / "properties.blob"
        data = bytearray(blob.read_bytes())
        data[-1] ^= 1
        blob.write_bytes(data)
        cluster.restart(2)
        wait_until(lambda: shown(cluster, PROPS, "r") == [1] * 3, "n3 has learnt them")
        assert "ALARM the bucket properties on disk are damaged" in cluster.log(2)
