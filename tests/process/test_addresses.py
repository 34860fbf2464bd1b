"""Real nodes that are not where the cluster file says, or are told one address: all find all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster_process import ClusterProcess
from cluster_waits import wait_connected, wait_stat, wait_until
from free_ports import LOOPBACK, HeldPorts

from dynamo.cli.supervisor import NodeProcess


def moved(node: NodeProcess, rpc: str, peers: Sequence[str]) -> NodeProcess:
    """The same node, listening elsewhere and told other peers."""
    arguments = (*node.command[4:], "--rpc", rpc, "--peers", ",".join(peers))
    return NodeProcess(
        node_id=node.node_id,
        http=node.http,
        rpc=rpc,
        data_dir=node.data_dir,
        log=node.log,
        arguments=arguments,
    )


def peers_of(cluster: ClusterProcess, i: int) -> dict[str, Any]:
    """What node i knows of each other one, by id."""
    found = cluster.http(i, "GET", "/admin/status").json()["peers"]
    return {peer["id"]: peer for peer in found}


def test_one_address_is_enough_to_find_members_that_are_not_where_the_file_says() -> None:
    with HeldPorts(4) as ports:
        first, second, third, fourth = (f"{LOOPBACK}:{ports.first + i}" for i in range(4))
        cluster = ClusterProcess()
        listed = cluster.nodes[2].rpc
        cluster.nodes[0] = moved(cluster.nodes[0], first, [first])
        cluster.nodes[1] = moved(cluster.nodes[1], second, [first])
        cluster.nodes[2] = moved(cluster.nodes[2], listed, [first])
        with cluster:
            wait_connected(cluster)
            assert peers_of(cluster, 2)["n2"]["address"] == second
            assert cluster.put(2, "k", b"v", query="w=3").status == 204

            # One comes back elsewhere, knows the others, and is known to them.
            cluster.kill9(1)
            cluster.nodes[1] = moved(cluster.nodes[1], third, [fourth])
            cluster.restart(1)
            wait_connected(cluster)
            for i in (0, 2):
                wait_until(lambda: peers_of(cluster, i)["n2"]["address"] == third, "it has moved")  # noqa: B023
                assert peers_of(cluster, i)["n2"]["start"] == 2

            blob = cluster.data_dir(2) / "addresses.blob"
            wait_until(
                lambda: blob.exists() and third.encode() in blob.read_bytes(), "it is written down"
            )

            # All that was learnt is on disk: one that is told nobody finds them after a restart.
            cluster.kill9(2)
            cluster.nodes[2] = moved(cluster.nodes[2], listed, [listed])
            cluster.restart(2)
            wait_connected(cluster)
            assert cluster.get(2, "k", query="r=3").body == b"v"

            # A connection once made is not looked for where the file says.
            dials = cluster.stats(2)["rpc_dials"]
            rounds = cluster.stats(2).get("gossip_rounds", 0)
            wait_stat(cluster, 2, "gossip_rounds", rounds + 3)
            assert cluster.stats(2)["rpc_dials"] <= dials + 2


def test_members_that_are_told_one_address_and_are_where_the_file_says_find_each_other() -> None:
    cluster = ClusterProcess()
    first = cluster.nodes[0].rpc
    cluster.nodes = [moved(node, node.rpc, [first]) for node in cluster.nodes]
    with cluster:
        wait_connected(cluster)
        wait_until(
            lambda: all(peer["heartbeat"] > 1 for peer in peers_of(cluster, 1).values()),
            "heartbeats are heard",
        )
        assert {peer["start"] for peer in peers_of(cluster, 1).values()} == {1}
        assert not (cluster.data_dir(1) / "addresses.blob").exists()
