"""Values with an end, over HTTP: what is taken, what is refused, what is told."""

from __future__ import annotations

import email
import email.policy
import time

import pytest
from memory_backend import MemoryBackend
from raw_http import RawHttp

from dynamo.http.dates import format_date
from dynamo.requests import TTL_S_MAX

KEY = "/buckets/sessions/keys/alice"
TEXT = {"Content-Type": "text/plain"}


def lasting(expires: str) -> dict[str, str]:
    return {**TEXT, "X-Dynamo-Expires": expires}


def date(ahead_s: int) -> str:
    return format_date(int(time.time()) + ahead_s).decode()


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_seconds_from_now_are_told_as_a_date(
    http: RawHttp, backend: MemoryBackend, method: str
) -> None:
    assert (await http.request(method, KEY, lasting("3600"), b"v")).status == 204
    for read in ("GET", "HEAD"):
        got = await http.request(read, KEY)
        assert got.headers["x-dynamo-expires"] == "Tue, 14 Nov 2023 23:13:20 GMT"
    backend.now_ms += 3_600_000
    gone = await http.request("GET", KEY)
    assert (gone.status, gone.headers["x-riak-deleted"]) == (404, "true")
    assert gone.headers["x-riak-vclock"]
    assert "x-dynamo-expires" not in gone.headers


async def test_a_date_is_taken_as_it_is(http: RawHttp) -> None:
    ahead = date(600)
    await http.request("PUT", KEY, lasting(ahead), b"v")
    assert (await http.request("GET", KEY)).headers["x-dynamo-expires"] == ahead


async def test_a_new_key_can_have_an_end(http: RawHttp) -> None:
    made = await http.request("POST", "/buckets/sessions/keys", lasting("60"), b"v")
    assert "x-dynamo-expires" in (await http.request("GET", made.headers["location"])).headers


@pytest.mark.parametrize("expires", [str(TTL_S_MAX), "1", "0060"])
async def test_the_ends_of_the_range_are_taken(http: RawHttp, expires: str) -> None:
    assert (await http.request("PUT", KEY, lasting(expires), b"v")).status == 204


async def test_zero_is_never(http: RawHttp, backend: MemoryBackend) -> None:
    assert (await http.request("PUT", KEY, lasting("0"), b"v")).status == 204
    assert "x-dynamo-expires" not in (await http.request("GET", KEY)).headers
    assert backend.write_options.ttl_s == 0
    await http.request("PUT", KEY, TEXT, b"v")
    assert backend.write_options.ttl_s is None  # the bucket's to say


BAD = (
    *("", "-1", "+1", "1.0", "1e3", "0x10", "60s", "1_000", "\u0661", "never", "tomorrow", "1, 2"),
    *(str(TTL_S_MAX + 1), "9" * 13, "9" * 5000),
    *("Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "2033-11-06T08:49:37Z"),
    *("Sun, 06 Nov 2033 08:49:37 CET", "Sun, 31 Feb 2033 08:49:37 GMT"),
)


@pytest.mark.parametrize("expires", BAD)
async def test_what_is_no_end_is_refused_by_name(
    http: RawHttp, backend: MemoryBackend, expires: str
) -> None:
    fields = lasting(expires.encode().decode("latin-1"))
    refused = await http.request("PUT", KEY, fields, b"v")
    assert refused.status == 400, refused.body
    body = refused.json()
    assert (body["code"], body["field"]) == ("invalid_argument", "X-Dynamo-Expires")
    assert (body["outcome"], str(TTL_S_MAX) in body["allowed"]) == ("none", True)
    assert backend.writes == 0


async def test_an_end_that_is_just_past_is_refused(http: RawHttp) -> None:
    assert (await http.request("PUT", KEY, lasting(date(-1)), b"v")).status == 400
    assert (await http.request("PUT", KEY, lasting(date(TTL_S_MAX + 60)), b"v")).status == 400
    assert (await http.request("PUT", KEY, lasting(date(TTL_S_MAX - 60)), b"v")).status == 204


async def test_two_ends_are_refused(http: RawHttp, backend: MemoryBackend) -> None:
    for other in ("60", "90"):
        refused = await http.request("PUT", KEY, {**lasting("60"), "x-dynamo-expires": other}, b"v")
        assert (refused.status, refused.json()["field"]) == (400, "X-Dynamo-Expires")
    assert backend.writes == 0


async def test_a_write_that_returns_its_body_tells_the_end(http: RawHttp) -> None:
    stored = await http.request("PUT", f"{KEY}?returnbody=true", lasting("60"), b"v")
    assert stored.status == 200
    assert stored.headers["x-dynamo-expires"] == "Tue, 14 Nov 2023 22:14:20 GMT"


async def test_of_siblings_each_that_has_an_end_tells_it(
    http: RawHttp, backend: MemoryBackend
) -> None:
    await http.request("PUT", KEY, TEXT, b"stays")
    await http.request("PUT", KEY, lasting("60"), b"goes")
    both = await http.request("GET", KEY, {"Accept": "multipart/mixed"})
    assert (both.status, "x-dynamo-expires" in both.headers) == (300, False)
    head = f"Content-Type: {both.headers['content-type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + both.body, policy=email.policy.HTTP).iter_parts()
    told = {part.get_payload(): part["X-Dynamo-Expires"] for part in parts}
    assert told == {"stays": None, "goes": "Tue, 14 Nov 2023 22:14:20 GMT"}
    listed = (await http.request("GET", KEY, {"Accept": "application/json"})).json()["siblings"]
    assert {one["value"]: one.get("expires") for one in listed} == told
    tag = next(one["vtag"] for one in listed if one["value"] == "goes")
    alone = await http.request("GET", f"{KEY}?vtag={tag}")
    assert alone.headers["x-dynamo-expires"] == told["goes"]

    backend.now_ms += 60_000
    left = await http.request("GET", KEY)
    assert (left.status, left.body) == (200, b"stays")
    assert (await http.request("GET", f"{KEY}?vtag={tag}")).status == 404


async def test_conditions_go_by_what_has_not_expired(http: RawHttp, backend: MemoryBackend) -> None:
    create = {**TEXT, "If-None-Match": "*"}
    await http.request("PUT", KEY, lasting("60"), b"1")
    assert (await http.request("PUT", KEY, create, b"2")).status == 412
    backend.now_ms += 60_000
    assert (await http.request("PUT", KEY, {**TEXT, "If-Match": "*"}, b"2")).status == 412
    assert (await http.request("PUT", KEY, create, b"2")).status == 204
    assert (await http.request("GET", KEY)).body == b"2"


async def test_nothing_is_left_to_delete_of_an_expired_key(
    http: RawHttp, backend: MemoryBackend
) -> None:
    await http.request("PUT", KEY, lasting("60"), b"v")
    backend.now_ms += 60_000
    assert (await http.request("DELETE", KEY)).status == 404


async def test_the_bucket_says_a_time_to_live(http: RawHttp) -> None:
    props = "/buckets/sessions/props"
    json = {"Content-Type": "application/json"}
    assert (await http.request("GET", props)).json()["props"]["ttl"] == 0
    assert (await http.request("PUT", props, json, b'{"props": {"ttl": 60}}')).status == 204
    assert (await http.request("GET", props)).json()["props"]["ttl"] == 60
    for bad in (b"-1", b"1.5", b"true", b'"60"', b"null", b"%d" % (TTL_S_MAX + 1), b"1e400"):
        refused = await http.request("PUT", props, json, b'{"props": {"ttl": %b}}' % bad)
        assert refused.status == 400, bad
        assert b"ttl" in refused.body
    assert (await http.request("GET", props)).json()["props"]["ttl"] == 60
    assert (await http.request("PUT", props, json, b'{"props": {"ttl": "default"}}')).status == 204
    assert (await http.request("GET", props)).json()["props"]["ttl"] == 0
