"""Hints between real processes: what a node missed gets there, whoever is killed or stops meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cluster_process import ClusterProcess
from cluster_waits import wait_connected, wait_until

from dynamo.cli import main

HOLDER, TARGET = 0, 1
HINTS = 20_000


def fill(cluster: ClusterProcess, hints: int, run: str) -> None:
    """The holder, which does not run, holds so many more hints for the target."""
    command = [sys.executable, "-m", "bench.hint_filler", "--cluster", str(cluster.cluster_path)]
    command += ["--node-id", "n1", "--data-dir", str(cluster.data_dir(HOLDER))]
    command += ["--target", "n2", "--hints", str(hints), "--run", run]
    subprocess.run(command, check=True, timeout=120)


def hints(cluster: ClusterProcess, i: int) -> dict[str, Any]:
    return cluster.http(i, "GET", "/admin/hints").json()


def of_target(cluster: ClusterProcess) -> dict[str, Any]:
    targets = hints(cluster, HOLDER)["targets"]
    return next((one for one in targets if one["target"] == "n2"), {"hints": 0, "delivered": 0})


def held(cluster: ClusterProcess, i: int) -> int:
    told = hints(cluster, i)
    return int(told["hints"]) if told["counted"] else -1


@pytest.fixture
def cluster() -> Iterator[ClusterProcess]:
    """Three nodes, n = 2; the target is down, and the holder owes it much."""
    with ClusterProcess(nodes=3, replicas=2) as cluster:
        assert cluster.stop(TARGET) == 0
        assert cluster.stop(HOLDER) == 0
        fill(cluster, HINTS, "first")
        cluster.start(HOLDER)
        wait_until(lambda: held(cluster, HOLDER) == HINTS, "all hints are counted")
        yield cluster


def test_a_node_that_returns_gets_what_it_missed_though_its_holder_was_killed_before(
    cluster: ClusterProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    url = ["--node", cluster.url(HOLDER)]
    assert main(["hints", *url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{HINTS} hints")
    assert lines[3].split()[:3] == ["n1", "n2", str(HINTS)]
    assert "down" in lines[3]
    assert main(["hints", "--sync", "--timeout", "0.5", *url]) == 3
    assert f"{HINTS} left for n2, down (not connected)" in capsys.readouterr().out
    cluster.kill9(HOLDER)
    cluster.start(HOLDER)
    cluster.start(TARGET)
    assert main(["hints", "--sync", "--json", *url]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["synced"]
    assert cluster.stats(TARGET)["deliveries_stored"] >= HINTS
    assert main(["hints", *url]) == 0
    assert capsys.readouterr().out.startswith("no hints")


@pytest.mark.long
def test_whoever_is_killed_in_mid_delivery_no_hint_is_lost(cluster: ClusterProcess) -> None:
    for victim in (TARGET, HOLDER, TARGET):
        if not cluster.is_running(TARGET):
            cluster.start(TARGET, ready=False)
        before = of_target(cluster)["delivered"]
        wait_until(
            lambda before=before: (
                of_target(cluster)["delivered"] > before  # type: ignore[misc]
                or not of_target(cluster)["hints"]
            ),
            "some are delivered",
        )
        cluster.kill9(victim)
        if victim == HOLDER:
            cluster.start(HOLDER)
    cluster.start(TARGET)
    assert cluster.http(HOLDER, "POST", "/admin/hints/sync").status == 200
    records = listed(cluster)
    assert len(records) == HINTS


def test_a_target_that_stands_still_is_not_stormed_and_gets_the_rest_once_it_goes_on(
    cluster: ClusterProcess,
) -> None:
    cluster.start(TARGET, ready=False)
    wait_until(lambda: of_target(cluster)["delivered"] > 0, "some are delivered")
    cluster.pause(TARGET)
    time.sleep(0.5)
    sent = cluster.stats(HOLDER)["rpc_bytes_sent"]
    left = of_target(cluster)["hints"]
    time.sleep(3.0)
    assert cluster.stats(HOLDER)["rpc_bytes_sent"] - sent < 1 << 20
    assert of_target(cluster)["hints"] == left
    cluster.resume(TARGET)
    assert cluster.http(HOLDER, "POST", "/admin/hints/sync").status == 200
    assert held(cluster, HOLDER) == 0


def listed(cluster: ClusterProcess) -> list[str]:
    """All keys that were handed over, as the target lists them."""
    reply = cluster.http(TARGET, "GET", "/buckets/handoff/keys?keys=true")
    told = reply.json()
    assert (reply.status, told["complete"]) == (200, True)
    return list(told["keys"])


def test_writes_go_on_while_a_node_is_dead_and_it_gets_them_within_ten_seconds_of_its_return() -> (
    None
):
    keys = [f"k{number}" for number in range(2000)]
    with ClusterProcess(nodes=4, replicas=3) as cluster, ThreadPoolExecutor(8) as pool:
        wait_connected(cluster)

        def put(key: str) -> int:
            return cluster.put(int(key[1:]) % 3, key, key.encode(), query="w=2").status

        assert set(pool.map(put, keys[:500])) == {204}
        cluster.kill9(3)
        time.sleep(1.0)  # a refused connection is known within a second
        assert set(pool.map(put, keys[500:])) == {204}
        assert sum(held(cluster, i) for i in range(3)) > 0
        cluster.start(3)
        until = time.monotonic() + 10
        while any(held(cluster, i) for i in range(3)):
            assert time.monotonic() < until, [hints(cluster, i) for i in range(3)]
            time.sleep(0.05)
        # A read of all replicas repairs whoever is behind: nobody is.
        for key in keys:
            assert cluster.get(3, key, query="r=3&pr=3").body == key.encode()
        assert sum(cluster.stats(i).get("read_repairs", 0) for i in range(4)) == 0
