"""Bits that turn on a node's disk: what was there is never shown as absent, and comes back unasked."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable

from cluster_process import ClusterProcess
from cluster_waits import wait_connected, wait_stat

from dynamo.clock import SystemClock
from dynamo.keys import partition_prefix, routing_key
from dynamo.metrics import Metrics
from dynamo.store.rocks import RocksStorage
from ring.partition import partition_of, token

KEYS = 60


def test_records_that_fail_their_checksum_are_mended_though_nobody_reads_them() -> None:
    with ClusterProcess(partitions=8) as cluster:
        values = {f"k{number:02}": os.urandom(200) for number in range(KEYS)}
        for key, value in values.items():
            assert cluster.put(0, key, value, query="w=3").status == 204
        cluster.kill9(0)  # so that its hash trees are built anew
        turned = [f"k{number:02}" for number in range(0, KEYS, 3)]
        _turn(cluster, 0, turned)
        cluster.start(0)
        wait_stat(cluster, 0, "records_quarantined", len(turned))
        wait_stat(cluster, 0, "records_mended", len(turned))
        assert cluster.stats(0).get("gets", 0) == 0
        _check_alone(cluster, values)


def test_a_record_that_fails_its_checksum_is_never_taken_for_absent() -> None:
    with ClusterProcess(partitions=8) as cluster:
        values = {f"k{number:02}": os.urandom(200) for number in range(KEYS)}
        for key, value in values.items():
            assert cluster.put(0, key, value, query="w=3").status == 204
        assert cluster.stop(0) == 0
        cluster.kill9(1)
        _turn(cluster, 0, values)
        cluster.start(0, ready=False)
        seen = _watch(cluster, values, seconds=4.0, query="r=1&timeout=300")
        assert seen <= {200, 503}, seen
        # Nobody but the one that is down lacks an answer: as long as it has not said, nothing is served.
        listed = cluster.http(0, "GET", "/buckets/b/keys?keys=true&timeout=2000").json()
        assert not listed.get("complete") or len(listed["keys"]) == KEYS
        cluster.start(1)
        wait_stat(cluster, 0, "records_mended", KEYS)
        _check_alone(cluster, values)


def test_a_table_that_turns_under_a_running_node_costs_nothing() -> None:
    with ClusterProcess(partitions=8) as cluster:
        values = {f"k{number:02}": os.urandom(20_000) for number in range(KEYS)}
        for key, value in values.items():
            assert cluster.put(0, key, value, query="w=3").status == 204
        assert cluster.stop(0) == 0
        cluster.start(0)
        wait_connected(cluster)
        tables = (cluster.data_dir(0) / "db").glob("*.sst")
        table = max(tables, key=lambda path: path.stat().st_size)
        size = table.stat().st_size
        with table.open("r+b") as file:
            for part in (3, 4, 5, 6):
                file.seek(size * part // 8)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes((byte[0] ^ 1,)))
        seen = _watch(cluster, values, seconds=1.0, query="r=1&timeout=1000")
        assert seen <= {200, 503}, seen
        wait_stat(cluster, 0, "storage_reopened", 1)
        wait_stat(cluster, 0, "partitions_refilled", 8)
        cluster.wait_ready()
        assert _watch(cluster, values, seconds=0.1, query="r=3") == {200}
        _check_alone(cluster, values)


def _watch(
    cluster: ClusterProcess, values: dict[str, bytes], *, seconds: float, query: str
) -> set[int]:
    """The statuses that node 0 answers with, over and over; what it shows is right."""
    seen = set()
    until = time.monotonic() + seconds
    while True:
        for key, value in values.items():
            try:
                found = cluster.get(0, key, query=query)
            except OSError:
                continue  # it is starting
            seen.add(found.status)
            assert found.status != 200 or found.body == value, key
        if time.monotonic() >= until:
            return seen


def _check_alone(cluster: ClusterProcess, values: dict[str, bytes]) -> None:
    """Node 0 has all of it by itself."""
    cluster.kill9(1)
    cluster.kill9(2)
    for key, value in values.items():
        found = cluster.get(0, key, query="r=1")
        assert (found.status, found.body) == (200, value), key


def _turn(cluster: ClusterProcess, i: int, keys: Iterable[str]) -> None:
    """Flip a bit of these records on the disk of a node that is down."""
    asyncio.run(_turn_all(cluster, i, keys))


async def _turn_all(cluster: ClusterProcess, i: int, keys: Iterable[str]) -> None:
    storage = await RocksStorage.open(
        cluster.data_dir(i) / "db", clock=SystemClock(), metrics=Metrics(), existed=True
    )
    try:
        for key in keys:
            routing = routing_key(b"default", b"b", key.encode())
            at = token(routing, cluster.cluster.seed)
            partition = partition_of(at, cluster.cluster.partitions)
            storage_key = partition_prefix(0, partition) + routing
            data = storage.get("records", storage_key)
            assert data is not None, key
            turned = bytearray(data)
            turned[len(turned) // 2] ^= 1
            storage.put("records", storage_key, bytes(turned))
        await storage.flush()
    finally:
        await storage.close()
