"""`/admin/antientropy`, as clients see it."""

from __future__ import annotations

import pytest
from memory_backend import MemoryBackend
from raw_http import RawHttp

from dynamo.status import ExchangePair

PATH = "/admin/antientropy"
JSON = {"Content-Type": "application/json"}


def pair(partition: int, peer: str, clean_s: float | None) -> ExchangePair:
    return ExchangePair(cls=0, partition=partition, peer=peer, clean_s=clean_s, reason="")


async def test_the_oldest_pair_says_since_when_all_agree(
    http: RawHttp, backend: MemoryBackend
) -> None:
    backend.pairs = tuple(pair(number, "n2", 10.0 + number) for number in range(30))
    got = await http.request("GET", PATH)
    told = got.json()
    assert got.status == 200
    assert (told["oldest_clean_s"], told["pairs"], told["never_clean"]) == (39.0, 30, 0)
    assert [one["partition"] for one in told["oldest"]] == list(range(29, 9, -1))
    assert told["left_out"] == 10
    assert told["oldest"][0]["class"] == "default"
    assert told["repaired"]["hint"] == {"keys": 3, "bytes": 300}
    assert told["repaired"]["exchange"] == {"keys": 6, "bytes": 60}
    assert (await http.request("HEAD", PATH)).status == 200


async def test_while_a_pair_never_was_clean_there_is_no_such_time(
    http: RawHttp, backend: MemoryBackend
) -> None:
    backend.pairs = (pair(1, "n2", 5.0), pair(2, "n3", None))
    told = (await http.request("GET", PATH)).json()
    assert (told["oldest_clean_s"], told["never_clean"]) == (None, 1)
    assert told["oldest"][0] == {
        "class": "default",
        "partition": 2,
        "peer": "n3",
        "clean_s": None,
        "reason": "",
    }
    by_peer = {one["peer"]: one["oldest_clean_s"] for one in told["peers"]}
    assert by_peer == {"n2": 5.0, "n3": None}


async def test_one_partition_is_told_of_alone(http: RawHttp, backend: MemoryBackend) -> None:
    backend.pairs = (pair(1, "n2", 5.0), pair(2, "n2", 6.0), pair(2, "n3", 7.0))
    got = await http.request("GET", PATH + "?partition=2&limit=1")
    told = got.json()
    assert (got.headers["x-dynamo-limit"], told["pairs"], told["left_out"]) == ("1", 2, 1)
    assert [(one["partition"], one["peer"]) for one in told["oldest"]] == [(2, "n3")]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *(("partition=" + value, "partition") for value in ("8", "-1", "x", "", "1.5", "9" * 30)),
        *(("limit=" + value, "limit") for value in ("0", "-1", "x", "", "%D9%A1", "9" * 30)),
        ("partition=1&partition=2", "partition"),
    ],
)
async def test_a_bad_query_is_refused_by_its_field(http: RawHttp, query: str, field: str) -> None:
    got = await http.request("GET", f"{PATH}?{query}")
    assert (got.status, got.json()["field"]) == (400, field)


async def test_exchanges_are_paused_and_go_on(http: RawHttp, backend: MemoryBackend) -> None:
    got = await http.request("POST", PATH + "/pause", JSON, b'{"reason": "the backup runs"}')
    assert (got.status, got.json()) == (200, {"paused": True})
    told = (await http.request("GET", PATH)).json()
    assert (told["state"], told["reason"]) == ("paused", "the backup runs")
    assert b"dynamo_antientropy_paused 1\n" in (await http.request("GET", "/metrics")).body
    assert (await http.request("POST", PATH + "/resume")).json() == {"paused": False}
    assert (await http.request("GET", PATH)).json()["state"] == "running"
    assert (await http.request("POST", PATH + "/pause")).status == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"reason": 7}', "reason"),
        (b'{"reason": null}', "reason"),
        (b'{"reason": "%s"}' % (b"x" * 201), "reason"),
        (b'{"why": "x"}', "why"),
        (b"[]", "body"),
        (b'{"reason": "a", "reason": "b"}', "reason"),
    ],
)
async def test_a_bad_reason_pauses_nothing(
    http: RawHttp, backend: MemoryBackend, body: bytes, field: str
) -> None:
    got = await http.request("POST", PATH + "/pause", JSON, body)
    assert (got.status, got.json()["field"], backend.paused) == (400, field, None)


async def test_the_metrics_tell_of_each_peer_and_cause(
    http: RawHttp, backend: MemoryBackend
) -> None:
    backend.pairs = (pair(1, "n2", 5.0), pair(2, "n2", 6.5), pair(2, "n3", None))
    lines = (await http.request("GET", "/metrics")).body.decode().splitlines()
    for line in (
        'dynamo_antientropy_oldest_clean_seconds{peer="n2"} 6.5',
        'dynamo_antientropy_pairs{peer="n2"} 2',
        'dynamo_antientropy_pairs_never_clean{peer="n3"} 1',
        "dynamo_trees_ready 7",
        "dynamo_trees_building 1",
        'dynamo_repaired_keys_total{cause="hint"} 3',
        'dynamo_repaired_bytes_total{cause="hint"} 300',
    ):
        assert line in lines
    assert not any(
        line.startswith('dynamo_antientropy_oldest_clean_seconds{peer="n3"}') for line in lines
    )
