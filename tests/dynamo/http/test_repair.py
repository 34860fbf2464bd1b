"""`/admin/repair`, as clients see it."""

from __future__ import annotations

import pytest
from memory_backend import MemoryBackend
from raw_http import RawHttp

from dynamo.requests import RepairAsked

PATH = "/admin/repair"
JSON = {"Content-Type": "application/json"}


async def test_a_repair_is_started_followed_and_stopped(
    http: RawHttp, backend: MemoryBackend
) -> None:
    assert (await http.request("GET", PATH)).json()["progress"] is None
    got = await http.request("POST", PATH)
    progress = got.json()["progress"]
    assert (got.status, progress["state"], progress["number"]) == (202, "running", 1)
    assert backend.repair_asked == RepairAsked()
    assert (await http.request("GET", PATH)).json()["progress"]["pairs_total"] == 16
    got = await http.request("DELETE", PATH)
    assert (got.status, got.json()["progress"]["state"]) == (200, "stopped")
    assert (await http.request("DELETE", PATH)).status == 200
    assert (await http.request("POST", PATH, JSON, b"{}")).json()["progress"]["number"] == 2


async def test_a_second_one_is_told_how_far_the_first_is(http: RawHttp) -> None:
    await http.request("POST", PATH)
    got = await http.request("POST", PATH)
    told = got.json()
    assert (got.status, told["code"], told["outcome"]) == (409, "repair_running", "none")
    progress = told["repair"]["progress"]
    assert (progress["state"], progress["pairs_total"]) == ("running", 16)


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"partition": 0}', RepairAsked(partition=0)),
        (b'{"type": "pairs"}', RepairAsked(bucket_type=b"pairs")),
        (b'{"bucket": "caf\xc3\xa9"}', RepairAsked(bucket="café".encode())),
        (b'{"encoded_bucket": "%FF%2F"}', RepairAsked(bucket=b"\xff/")),
        (b'{"peer": "n2", "bucket": null}', RepairAsked(peer="n2")),
    ],
)
async def test_what_it_is_narrowed_to_is_handed_on(
    http: RawHttp, backend: MemoryBackend, body: bytes, asked: RepairAsked
) -> None:
    got = await http.request(
        "POST", PATH, {"Content-Type": "application/json; charset=utf-8"}, body
    )
    assert (got.status, backend.repair_asked) == (202, asked)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"partition": "1"}', "partition"),
        (b'{"partition": 1.0}', "partition"),
        (b'{"partition": true}', "partition"),
        (b'{"partition": 111111111111111111111}', "partition"),
        (b'{"partition": [1]}', "partition"),
        (b'{"type": ""}', "type"),
        (b'{"type": 3}', "type"),
        (b'{"type": "%s"}' % (b"t" * 256), "type"),
        (b'{"bucket": ""}', "bucket"),
        (b'{"bucket": {}}', "bucket"),
        (b'{"bucket": "%s"}' % (b"b" * 257), "bucket"),
        (b'{"bucket": "\\ud800"}', "bucket"),
        (b'{"encoded_bucket": "%zz"}', "encoded_bucket"),
        (b'{"encoded_bucket": "%s"}' % (b"%41" * 257), "encoded_bucket"),
        (b'{"bucket": "a", "encoded_bucket": "b"}', "encoded_bucket"),
        (b'{"peer": ""}', "peer"),
        (b'{"peer": false}', "peer"),
        (b'{"partitions": 1}', "partitions"),
        (b'{"peer": "n2", "peer": "n3"}', "peer"),
        (b"[1]", "body"),
        (b"null", "body"),
        (b"{", "body"),
        (b"\xff", "body"),
        (b"{}" + b" " * (64 << 10), "body"),
    ],
)
async def test_a_bad_body_is_refused_by_its_field_and_starts_nothing(
    http: RawHttp, backend: MemoryBackend, body: bytes, field: str
) -> None:
    got = await http.request("POST", PATH, JSON, body)
    told = got.json()
    assert (got.status, told["code"], told["outcome"]) == (400, "invalid_argument", "none")
    assert (told["field"], backend.repaired.progress) == (field, None)
    assert told["allowed"]


async def test_a_body_that_is_not_json_is_refused(http: RawHttp, backend: MemoryBackend) -> None:
    got = await http.request("POST", PATH, {"Content-Type": "text/plain"}, b"{}")
    assert (got.status, got.json()["code"]) == (415, "unsupported_media_type")
    assert backend.repaired.progress is None


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_other_methods_are_refused(http: RawHttp, method: str) -> None:
    got = await http.request(method, PATH)
    assert got.status == 405
    assert got.headers["allow"].startswith("GET, HEAD, POST, DELETE")
