"""The floor, and the run that measures the store against it, with real processes."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from bench.driver import drive, send
from bench.processes import LOOPBACK, floor, free_addresses
from bench.versus import main
from bench.workload import WORKLOADS, Exchange, loading, sample, value_of

VALUE = value_of(random.Random(3))
MIXED = WORKLOADS[2]._replace(value=VALUE, keys=200)


@pytest.mark.parametrize(("nodes", "synced"), [(3, True), (5, False)])
def test_the_floor_answers_with_what_was_written(tmp_path: Path, nodes: int, synced: bool) -> None:
    """Also at nodes that are no replica of the key."""
    missing = Exchange(b"GET /buckets/b/keys/nix HTTP/1.1\r\nHost: x\r\n\r\n", 404, b"")
    with floor(nodes, tmp_path, synced=synced) as cluster:
        assert send(loading(MIXED), cluster.addresses, connections=8).errors == {}
        result = drive(MIXED, cluster.addresses, connections=8, seconds=0.3, seed=1, wrk=None)
        assert (result.requests > 50, result.errors) == (True, {})
        chance = random.Random(1)
        found = send(
            iter([*sample(MIXED, chance, 200), *[missing] * nodes]),
            cluster.addresses,
            connections=1,
        )
        assert (found.requests, found.errors) == (200 + nodes, {})
        assert cluster.cpu_seconds() > 0
    assert list(tmp_path.iterdir()) == []
    assert all(node.exit_code() == 0 for node in cluster.nodes), cluster.nodes
    for address in (one for node in cluster.nodes for one in (node.http, node.rpc)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", int(address.rpartition(":")[2])))


def test_a_short_run_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--quick --no-wrk --rounds 1 --seconds 0.2 --writes synced --keys 500"
    assert main(flags.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("nodes")) + 2 :]
    assert [line.split()[:3] for line in table] == [
        ["3", "synced", "GET"],
        ["3", "synced", "PUT"],
        ["3", "synced", "50/50"],
    ]
    assert all(0 < float(line.split()[3]) < 2 for line in table)


@pytest.mark.parametrize(
    "flags",
    [
        "--nodes 2",
        "--rounds 0",
        "--seconds 0",
        "--seconds nan",
        "--seconds inf",
        "--keys 0",
        "--connections 0",
        "--puts x",
    ],
)
def test_what_cannot_be_measured_is_wrong_usage(
    flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(flags.split())
    assert caught.value.code == 2
    assert "usage: " in capsys.readouterr().err


def test_free_addresses_are_all_different_and_nobody_elses_meanwhile() -> None:
    with free_addresses(20) as addresses, free_addresses(20) as others:
        assert len({*addresses, *others}) == 40
        for address in addresses:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, pytest.raises(OSError):  # noqa: PT011
                one.bind((LOOPBACK, int(address.rpartition(":")[2])))
