"""Lists over HTTP: what they look like byte by byte, pages, bad input, and clients that leave."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest
from memory_backend import MemoryBackend
from raw_http import RawHttp

from dynamo.errors import TooManyListings, UnknownBucketType
from dynamo.http.server import HttpServer
from dynamo.metrics import Metrics
from dynamo.requests import Listed, ListOptions

TEXT = {"Content-Type": "text/plain"}
HOST = b" HTTP/1.1\r\nHost: x\r\n\r\n"
#: Every kind of key that a client might have trouble with.
ODD = [
    b"plain",
    b"with space",
    b"}",
    b'{"keys":[]}',
    b'"',
    b"\\",
    b"\x00\r\n",
    "é\U0001f600".encode(),
    b"%ff",
    b"a/b",
    b"..",
]
NOT_UTF8 = [b"\xff\xfe", b"\xed\xa0\x80", b"ok\xc3"]


async def put(http: RawHttp, key: bytes, bucket: bytes = b"b") -> None:
    target = f"/buckets/{quote(bucket, safe='')}/keys/{quote(key, safe='')}"
    assert (await http.request("PUT", target, TEXT, b"v")).status == 204


async def chunks(http: RawHttp, target: str) -> list[bytes]:
    """The chunks of a reply, as they were framed."""
    await http.send(b"GET " + target.encode() + HOST)
    async with asyncio.timeout(20):
        head = await http.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        assert b"\r\nContent-Type: application/json\r\n" in head
        assert b"Content-Length" not in head
        found: list[bytes] = []
        while True:
            size = int(await http.reader.readuntil(b"\r\n"), 16)
            data = await http.reader.readexactly(size + 2)
            assert data.endswith(b"\r\n")
            if not size:
                return found
            found.append(data[:-2])


async def listed(http: RawHttp, target: str) -> dict[str, Any]:
    value = json.loads(b"".join(await chunks(http, target)))
    assert isinstance(value, dict)
    return value


async def test_a_list_is_one_object_that_says_that_it_is_complete(http: RawHttp) -> None:
    assert await chunks(http, "/buckets/b/keys?keys=true") == [
        b'{"keys":[',
        b'],"complete":true}',
    ]
    for key in (b"a", b"b", b"c"):
        await put(http, key)
    assert await chunks(http, "/buckets/b/keys?keys=true") == [
        b'{"keys":[',
        b'"a","b"',
        b',"c"',
        b'],"complete":true}',
    ]


async def test_a_stream_is_an_object_a_part_and_one_at_the_end(http: RawHttp) -> None:
    for key in (b"a", b"b", b"c"):
        await put(http, key)
    expected = [
        b'{"keys":["a","b"]}',
        b'{"keys":["c"]}',
        b'{"keys":[],"complete":true}',
    ]
    assert await chunks(http, "/buckets/b/keys?keys=stream") == expected
    assert await chunks(http, "/types/default/buckets/b/keys?keys=stream") == expected
    assert await chunks(http, "/types/other/buckets/b/keys?keys=stream") == expected[-1:]
    # The connection goes on.
    assert (await http.request("GET", "/ping")).body == b"OK"


async def test_buckets_are_listed_alike(http: RawHttp) -> None:
    for bucket in (b"one", b"two", b"\xff"):
        await put(http, b"k", bucket)
    expected = {"buckets": ["one", "two"], "encoded_buckets": ["%FF"], "complete": True}
    assert await listed(http, "/buckets?buckets=true") == expected
    assert await listed(http, "/types/default/buckets?buckets=true") == expected
    assert await chunks(http, "/buckets?buckets=stream") == [
        b'{"buckets":["one","two"]}',
        b'{"buckets":[],"encoded_buckets":["%FF"]}',
        b'{"buckets":[],"complete":true}',
    ]


async def test_any_key_comes_back_as_what_a_client_can_ask_for(http: RawHttp) -> None:
    for key in (*ODD, *NOT_UTF8):
        await put(http, key)
    whole = await listed(http, "/buckets/b/keys?keys=true")
    assert {key.encode() for key in whole["keys"]} == set(ODD)
    assert {unquote_to_bytes(key) for key in whole["encoded_keys"]} == set(NOT_UTF8)
    for encoded in whole["encoded_keys"]:
        assert (await http.request("GET", f"/buckets/b/keys/{encoded}")).body == b"v"


async def test_a_client_that_cuts_the_stream_at_each_brace_reads_every_key(http: RawHttp) -> None:
    """As riak 2.7.0 does: blocks of 2,048 bytes, each decoded by itself, cut at every `}`."""
    for key in (*ODD, *NOT_UTF8, *("ü".encode() * n for n in range(1, 200))):
        await put(http, key)
    data = b"".join(await chunks(http, "/buckets/b/keys?keys=stream"))
    buffer = "".join(data[at : at + 2048].decode() for at in range(0, len(data), 2048))
    found: list[str] = []
    last: dict[str, Any] = {}
    while "}" in buffer:
        end = buffer.index("}") + 1
        last = json.loads(buffer[:end])
        found += last["keys"]
        buffer = buffer[end:]
    assert buffer == ""
    assert last == {"keys": [], "complete": True}
    assert {key.encode() for key in found} == {*ODD, *("ü".encode() * n for n in range(1, 200))}


async def test_a_list_that_nobody_asked_for_is_not_made(
    http: RawHttp, backend: MemoryBackend
) -> None:
    await put(http, b"k")
    for query in ("", "?keys=false", "?props=true"):
        got = await http.request("GET", f"/buckets/b/keys{query}")
        assert (got.status, got.json()) == (200, {})
    got = await http.request("GET", "/buckets")
    assert (got.status, got.json()) == (200, {"buckets": [], "complete": False})


async def test_pages_go_on_where_the_last_one_stopped(http: RawHttp) -> None:
    for number in range(7):
        await put(http, b"k%d" % number)
    found: list[str] = []
    cursor = ""
    for _ in range(10):
        page = await listed(http, f"/buckets/b/keys?keys=true&limit=3{cursor}")
        assert page["complete"]
        found += page["keys"]
        if "cursor" not in page:
            break
        assert page["cursor"].replace("-", "").replace("_", "").isalnum()
        cursor = f"&cursor={page['cursor']}"
    assert found == [f"k{number}" for number in range(7)]
    end = (await chunks(http, "/buckets/b/keys?keys=stream&limit=3"))[-1]
    assert set(json.loads(end)) == {"keys", "complete", "cursor"}


@pytest.mark.parametrize(
    ("given", "effective"), [("1", 1), ("1000", 1000), ("1001", 1000), ("9" * 400, 1000)]
)
async def test_a_limit_above_a_thousand_is_clamped_and_told(
    http: RawHttp, backend: MemoryBackend, given: str, effective: int
) -> None:
    await http.send(f"GET /buckets/b/keys?keys=true&limit={given}".encode() + HOST)
    head = await http.reader.readuntil(b"\r\n\r\n")
    assert b"\r\nX-Dynamo-Limit: %d\r\n" % effective in head
    assert backend.list_options == ListOptions(limit=effective)


async def test_a_timeout_is_told(http: RawHttp, backend: MemoryBackend) -> None:
    await http.send(b"GET /buckets?buckets=true&timeout=999999999" + HOST)
    head = await http.reader.readuntil(b"\r\n\r\n")
    assert b"\r\nX-Dynamo-Timeout: 300000\r\n" in head
    assert backend.list_options == ListOptions(timeout_ms=300_000)


LONG_KEY = "k" * 257
BAD = {
    "/buckets/b/keys?keys=yes": (400, "invalid_argument", "keys"),
    "/buckets/b/keys?keys=true&keys=true": (400, "invalid_argument", "keys"),
    "/buckets?buckets=1": (400, "invalid_argument", "buckets"),
    "/buckets/b/keys?keys=true&limit=0": (400, "invalid_argument", "limit"),
    "/buckets/b/keys?keys=true&limit=-1": (400, "invalid_argument", "limit"),
    "/buckets/b/keys?keys=true&limit=1.0": (400, "invalid_argument", "limit"),
    "/buckets/b/keys?keys=true&limit=": (400, "invalid_argument", "limit"),
    "/buckets/b/keys?keys=true&limit=%D9%A3": (400, "invalid_argument", "limit"),
    "/buckets/b/keys?keys=true&limit=1&limit=2": (400, "invalid_argument", "limit"),
    "/buckets/b/keys?keys=true&timeout=0": (400, "invalid_argument", "timeout"),
    "/buckets/b/keys?keys=true&timeout=x": (400, "invalid_argument", "timeout"),
    "/buckets/b/keys?keys=true&cursor=": (400, "bad_cursor", None),
    "/buckets/b/keys?keys=true&cursor=AAAA": (400, "bad_cursor", None),
    "/buckets/b/keys?keys=true&cursor=!": (400, "bad_cursor", None),
    "/buckets/b/keys?keys=true&cursor=%C3%A9": (400, "bad_cursor", None),
    f"/buckets/b/keys?keys=true&cursor={'A' * 4000}": (400, "bad_cursor", None),
    "/buckets/b/keys?keys=%zz": (400, "malformed", None),
    "/buckets//keys?keys=true": (400, "invalid_argument", "bucket"),
    "/types//buckets?buckets=true": (400, "invalid_argument", "type"),
    f"/buckets/{LONG_KEY}/keys?keys=true": (414, "key_too_long", "bucket"),
    "/buckets/b/keys//preflist": (400, "invalid_argument", "key"),
}


@pytest.mark.parametrize("target", BAD)
async def test_bad_input_gets_a_clear_error(http: RawHttp, target: str) -> None:
    status, code, field = BAD[target]
    got = await http.request("GET", target)
    assert (got.status, got.json()["code"], got.json().get("field")) == (status, code, field)


async def test_a_cursor_of_another_bucket_or_spelled_otherwise_is_refused(http: RawHttp) -> None:
    for bucket in (b"b", b"c"):
        for key in (b"1", b"2"):
            await put(http, key, bucket)
    cursor = (await listed(http, "/buckets/b/keys?keys=true&limit=1"))["cursor"]
    for target in (
        f"/buckets/c/keys?keys=true&cursor={cursor}",
        f"/buckets?buckets=true&cursor={cursor}",
        f"/types/t/buckets/b/keys?keys=true&cursor={cursor}",
        f"/buckets/b/keys?keys=true&cursor={cursor}=",
        f"/buckets/b/keys?keys=true&cursor={cursor[:-1]}",
        f"/buckets/b/keys?keys=true&cursor={cursor[:-1]}%2B",
    ):
        got = await http.request("GET", target)
        assert (got.status, got.json()["code"]) == (400, "bad_cursor"), target
    assert (await listed(http, f"/buckets/b/keys?keys=true&cursor={cursor}"))["keys"] == ["2"]


class RefusingBackend(MemoryBackend):
    """A store that raises `error` where a listing begins."""

    error: Exception = UnknownBucketType("no such bucket type")

    async def list_keys(self, bucket_type: bytes, bucket: bytes, options: ListOptions) -> Any:
        raise self.error
        yield


@pytest.mark.parametrize("backend", [RefusingBackend()])
async def test_what_is_refused_before_the_first_key_is_an_error_like_any_other(
    http: RawHttp, backend: RefusingBackend
) -> None:
    for form in ("true", "stream"):
        got = await http.request("GET", f"/buckets/b/keys?keys={form}")
        assert (got.status, got.json()["code"]) == (404, "unknown_bucket_type")
    backend.error = TooManyListings("too many", limit=4, retry_after_s=1)
    got = await http.request("GET", "/buckets/b/keys?keys=true")
    assert (got.status, got.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("form", ["true", "stream"])
@pytest.mark.parametrize("error", [UnknownBucketType("gone"), RuntimeError("a bug")])
async def test_a_list_that_fails_in_its_midst_says_that_it_is_not_complete(
    http: RawHttp, backend: MemoryBackend, metrics: Metrics, form: str, error: Exception
) -> None:
    for key in (b"a", b"b", b"c"):
        await put(http, key)
    backend.fails_after_a_part = error
    found = await chunks(http, f"/buckets/b/keys?keys={form}")
    assert b'"a","b"' in b"".join(found)
    assert b'"complete":false' in found[-1]
    assert metrics.count["http_listings_failed"] == 1
    assert backend.listings == 0


async def test_a_client_of_http_1_0_gets_no_chunks_and_the_end_of_the_connection(
    http: RawHttp,
) -> None:
    await put(http, b"k")
    await http.send(b"GET /buckets/b/keys?keys=true HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    async with asyncio.timeout(5):
        data = await http.reader.read(-1)
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert b"Connection: close" in head
    assert body == b'{"keys":["k"],"complete":true}'


async def test_head_says_the_same_without_a_body(http: RawHttp, backend: MemoryBackend) -> None:
    await put(http, b"k")
    got = await http.request("HEAD", "/buckets/b/keys?keys=true")
    assert (got.status, got.headers["transfer-encoding"]) == (200, "chunked")
    assert (await http.request("GET", "/ping")).body == b"OK"
    assert backend.listings == 0


async def test_a_preflist_names_who_keeps_the_key(http: RawHttp) -> None:
    for target in ("/buckets/b/keys/k/preflist", "/types/t/buckets/b/keys/a%2Fb/preflist"):
        got = await http.request("GET", target)
        assert got.status == 200
        assert got.json()["preflist"][0] == {
            "partition": 7,
            "node": "n1",
            "primary": True,
            "connected": True,
        }
    # A key of that name is a key like any other.
    assert (await http.request("GET", "/buckets/b/keys/preflist")).status == 404


class EndlessBackend(MemoryBackend):
    """A store with a bucket that has no end."""

    offered = 0

    async def list_keys(self, bucket_type: bytes, bucket: bytes, options: ListOptions) -> Any:
        self.listings += 1
        try:
            while True:
                self.offered += 1
                yield Listed((b"k" * 1000,) * 20)
                await asyncio.sleep(0)
        finally:
            self.listings -= 1


@pytest.mark.parametrize("backend", [EndlessBackend()])
async def test_a_client_that_leaves_ends_the_listing(
    address: str, backend: EndlessBackend, metrics: Metrics
) -> None:
    before = asyncio.all_tasks()
    async with RawHttp(address) as leaver:
        await leaver.send(b"GET /buckets/b/keys?keys=stream" + HOST)
        await leaver.reader.readexactly(50_000)
        assert backend.listings == 1
    async with asyncio.timeout(5):
        while backend.listings or asyncio.all_tasks() > before:
            await asyncio.sleep(0.01)
    assert metrics.count["http_streams_cut_off"] == 1
    assert metrics.count["http_failures"] == 0


@pytest.mark.impatient(reply_stall_s=0.3)
@pytest.mark.parametrize("backend", [EndlessBackend()])
async def test_a_client_that_does_not_read_holds_up_the_listing_and_is_let_go(
    address: str, backend: EndlessBackend, metrics: Metrics
) -> None:
    async with RawHttp(address) as idler:
        idler.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await idler.send(b"GET /buckets/b/keys?keys=stream" + HOST)
        async with asyncio.timeout(10):
            while not backend.offered:
                await asyncio.sleep(0.01)
            given = -1
            while given < backend.offered:  # what fits into the buffers of both sides
                given = backend.offered
                await asyncio.sleep(0.1)
            while backend.listings:
                await asyncio.sleep(0.01)
    assert metrics.count["http_replies_stalled"] == 1
    assert metrics.count["http_streams_cut_off"] == 1


@pytest.mark.parametrize("backend", [EndlessBackend()])
async def test_a_server_that_stops_cuts_off_a_listing_that_does_not_end(
    server: HttpServer, address: str, backend: EndlessBackend
) -> None:
    before = asyncio.all_tasks()
    async with RawHttp(address) as http:
        await http.send(b"GET /buckets/b/keys?keys=stream" + HOST)
        await http.reader.readexactly(1000)
        reading = asyncio.ensure_future(http.reader.read(-1))
        await server.close(drain_s=0.2)
        # It is seen to be cut off: the last chunk never comes.
        async with asyncio.timeout(5):
            got = await asyncio.gather(reading, return_exceptions=True)
        assert not (isinstance(got[0], bytes) and got[0].endswith(b"0\r\n\r\n"))
    assert backend.listings == 0
    assert asyncio.all_tasks() <= before
