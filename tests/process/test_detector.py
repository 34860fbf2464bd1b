"""Real processes that stop, pause and die, and what the others think of them meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cluster_process import ClusterProcess
from cluster_waits import wait_connected


def peer(cluster: ClusterProcess, i: int, name: str) -> dict[str, Any]:
    """What node i thinks of a peer."""
    status = cluster.http(i, "GET", "/admin/status").json()
    found: dict[str, Any] = next(peer for peer in status["peers"] if peer["id"] == name)
    return found


def seconds_until(true: Callable[[], bool], most: float) -> float:
    """Until that is so: at most `most`."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + most, f"not within {most} s"
        time.sleep(0.02)
    return time.monotonic() - began


def think(cluster: ClusterProcess, state: str, of: str, *who: int) -> bool:
    return all(peer(cluster, i, of)["state"] == state for i in who)


@contextmanager
def load(cluster: ClusterProcess, *nodes: int) -> Iterator[list[int]]:
    """Clients that write and read at quorum through these nodes; yields their statuses."""
    answers: list[int] = []
    over = threading.Event()

    def run(i: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            key = f"n{i} key {number}"
            answers.append(cluster.put(i, key, b"v", query="w=2").status)
            answers.append(cluster.get(i, key, query="r=2").status)

    threads = [threading.Thread(target=run, args=(i,)) for i in nodes]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.long
def test_a_stopped_process_is_found_down_while_requests_go_on_and_up_once_it_continues() -> None:
    with ClusterProcess() as cluster:
        wait_connected(cluster)
        with load(cluster, 0, 1) as answers:
            time.sleep(2)
            cluster.pause(2)
            seconds_until(lambda: think(cluster, "doubted", "n3", 0, 1), 1.5)
            seconds_until(lambda: think(cluster, "down", "n3", 0, 1), 8.0)
            assert all(cluster.stats(i)["peers_convicted"] == 1 for i in (0, 1))
            time.sleep(1)
            cluster.resume(2)
            seconds_until(lambda: think(cluster, "up", "n3", 0, 1), 8.0)
            time.sleep(1)
        assert set(answers) <= {200, 204}
        assert len(answers) > 100
        assert all(cluster.stats(i)["peers_convicted"] == 1 for i in (0, 1))
        assert peer(cluster, 0, "n3")["phi"] < 1.0
        assert cluster.get(2, "n0 key 1", query="r=3").body == b"v"


@pytest.mark.long
def test_a_process_that_pauses_300_ms_again_and_again_keeps_its_connections() -> None:
    with ClusterProcess() as cluster:
        wait_connected(cluster)
        with load(cluster, 0, 1) as answers:
            for _ in range(5):
                cluster.pause(2)
                time.sleep(0.3)
                cluster.resume(2)
                until = time.monotonic() + 1.7
                while time.monotonic() < until:
                    assert peer(cluster, 0, "n3")["state"] != "down"
                    time.sleep(0.1)
        for i in (0, 1, 2):
            stats = cluster.stats(i)
            assert (stats.get("peers_convicted", 0), stats.get("peers_lost", 0)) == (0, 0), stats
        assert set(answers) <= {200, 204}


def test_a_killed_process_is_down_within_a_second() -> None:
    with ClusterProcess() as cluster:
        wait_connected(cluster)
        assert think(cluster, "up", "n3", 0, 1)
        cluster.kill9(2)
        assert seconds_until(lambda: think(cluster, "down", "n3", 0, 1), 1.0) < 1.0
        assert peer(cluster, 0, "n3")["phi"] is None
        assert cluster.stats(0).get("peers_convicted", 0) == 0
        cluster.start(2)
        seconds_until(lambda: think(cluster, "up", "n3", 0, 1), 5.0)
        assert think(cluster, "up", "n1", 2)


@pytest.mark.long
def test_a_process_that_was_stopped_itself_convicts_nobody_on_waking() -> None:
    with ClusterProcess() as cluster:
        wait_connected(cluster)
        cluster.pause(2)
        time.sleep(8)
        cluster.resume(2)
        seconds_until(lambda: think(cluster, "up", "n3", 0, 1), 8.0)
        seconds_until(lambda: think(cluster, "up", "n1", 2) and think(cluster, "up", "n2", 2), 8.0)
        time.sleep(6)
        stats = cluster.stats(2)
        assert stats["own_pauses"] >= 1
        assert stats.get("peers_convicted", 0) == 0
        assert all(cluster.stats(i)["peers_convicted"] == 1 for i in (0, 1))


def test_a_short_stop_of_its_own_costs_a_process_no_connection() -> None:
    with ClusterProcess() as cluster:
        wait_connected(cluster)
        time.sleep(3)
        cluster.pause(2)
        time.sleep(2)
        cluster.resume(2)
        time.sleep(2)
        for i in (0, 1, 2):
            assert cluster.stats(i).get("peers_lost", 0) == 0
        assert cluster.stats(2)["own_pauses"] >= 1
        assert think(cluster, "up", "n1", 2)
        seconds_until(lambda: think(cluster, "up", "n3", 0, 1), 8.0)
