"""What is asked of a cluster."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from bench.workload import (
    WORKLOADS,
    Workload,
    loading,
    sample,
    stream,
    value_of,
    wrk_script,
)

VALUE = value_of(random.Random(7))
MIXED = WORKLOADS[2]._replace(value=VALUE, keys=20, run="r1")


def paths(workload: Workload, count: int, seed: int = 1) -> list[str]:
    exchanges = islice(stream(workload, random.Random(seed)), count)
    return [exchange.request.split(b" ")[1].decode() for exchange in exchanges]


def test_loading_writes_every_key_once_with_its_value() -> None:
    requests = [exchange.request for exchange in loading(MIXED)]
    assert len(set(requests)) == len(requests) == 20
    assert all(request.endswith(b"\r\nContent-Length: 100\r\n\r\n" + VALUE) for request in requests)


def test_a_sample_says_what_must_come_back() -> None:
    (exchange,) = sample(MIXED, random.Random(1), 1)
    assert exchange.request.startswith(b"GET /buckets/bench/keys/key-")
    assert (exchange.status, exchange.body) == (200, VALUE)


@pytest.mark.parametrize(("workload", "gets"), list(zip(WORKLOADS, (1000, 0, 500), strict=True)))
def test_as_many_are_gets_as_are_said(workload: Workload, gets: int) -> None:
    exchanges = list(islice(stream(workload, random.Random(1)), 1000))
    found = sum(exchange.request.startswith(b"GET ") for exchange in exchanges)
    assert abs(found - gets) < (80 if 0 < gets < 1000 else 1)
    assert {exchange.status for exchange in exchanges} <= {200, 204}


def test_new_keys_are_written_once_and_by_one_run_only() -> None:
    puts = WORKLOADS[1]._replace(value=VALUE, run="r1")
    first, second = paths(puts, 5000), paths(puts._replace(run="r2"), 5000)
    assert len({*first, *second}) == 10_000


def test_where_the_last_write_wins_the_loaded_keys_are_written() -> None:
    lww = WORKLOADS[1]._replace(value=VALUE, keys=20, puts="lww")
    loaded = {exchange.request.split(b" ")[1].decode() for exchange in loading(lww)}
    assert set(paths(lww, 1000)) == loaded


def test_a_script_for_wrk_has_a_thread_for_each_node() -> None:
    script = wrk_script(MIXED, ["127.0.0.1:1000", "127.0.0.1:1001"], seed=5)
    assert 'local nodes = { {"127.0.0.1", "1000"}, {"127.0.0.1", "1001"} }' in script
    assert "math.randomseed(5 + number)" in script
    assert "if math.random() < 0.5 then" in script
    assert r"Content-Length: 100\r\n\r\n" + VALUE.decode() in script
    assert "-r1-%d-%d" in script
    assert "-r1-" not in wrk_script(MIXED._replace(puts="lww"), ["127.0.0.1:1000"], seed=5)
