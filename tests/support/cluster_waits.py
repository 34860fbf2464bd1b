"""Waiting for what a cluster of processes does by itself."""

from __future__ import annotations

import time
from collections.abc import Callable

from cluster_process import ClusterProcess

SECONDS = 60.0


def wait_connected(cluster: ClusterProcess) -> None:
    """Until every running node is connected to every other running one."""
    running = [i for i in range(len(cluster)) if cluster.is_running(i)]
    names = {f"n{i + 1}" for i in running}
    until = time.monotonic() + SECONDS
    for i in running:
        while not names - {f"n{i + 1}"} <= set(cluster.stats(i)["connected_nodes"]):
            assert time.monotonic() < until, cluster.stats(i)
            time.sleep(0.02)


def wait_stat(cluster: ClusterProcess, i: int, name: str, least: int) -> None:
    """Until a counter of node i has reached `least`."""
    until = time.monotonic() + SECONDS
    while cluster.stats(i).get(name, 0) < least:
        assert time.monotonic() < until, cluster.stats(i)
        time.sleep(0.02)


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Until that is so."""
    until = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < until, f"not within {SECONDS} s: {what}"
        time.sleep(0.02)


def wait_agreed(cluster: ClusterProcess) -> None:
    """Until every running node has found, by exchanges that began from now on, that it has all that
    every other running one has."""
    running = [i for i in range(len(cluster)) if cluster.is_running(i)]
    names = {f"n{i + 1}" for i in running}
    began = time.monotonic()

    def agreed(i: int) -> bool:
        asked = time.monotonic()
        told = cluster.http(i, "GET", "/admin/antientropy?limit=1").json()
        ages = [peer["oldest_clean_s"] for peer in told["peers"] if peer["peer"] in names]
        return all(age is not None and asked - age > began for age in ages)

    wait_until(lambda: all(agreed(i) for i in running), "all agree")
