"""Bad input at the level of the protocol, by raw socket: nothing is stored, every error is JSON."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from memory_backend import MemoryBackend
from raw_http import RawHttp, Reply

from dynamo.metrics import Metrics

KEY = "/buckets/b/keys/k"
HEAD = b"PUT /buckets/b/keys/k HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\n"

MALFORMED = {
    "random bytes": random.Random(7).randbytes(300) + b"\r\n\r\n",
    "TLS hello": bytes.fromhex("16030100c8010000c40303") + b"\x00" * 193 + b"\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /ping HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "length and coding": HEAD
    + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length -1": HEAD + b"Content-Length: -1\r\n\r\nx",
    "length +5": HEAD + b"Content-Length: +5\r\n\r\nxxxxx",
    "length 5_0": HEAD + b"Content-Length: 5_0\r\n\r\nxxxxx",
    "length 10^20": HEAD + b"Content-Length: 100000000000000000000\r\n\r\nx",
    "odd coding": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "bad chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
    "negative chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
    "space before colon": b"GET /ping HTTP/1.1\r\nHost : x\r\n\r\n",
    "NUL in a header": b"GET /ping HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
    "bare CR in a header": b"GET /ping HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
    "bare LF in a header": b"GET /ping HTTP/1.1\r\nHost: x\r\nA: b\n c\r\n\r\n",
    "129 headers": b"GET /ping HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 128 + b"\r\n",
    "header over 24 KiB": b"GET /ping HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 24577 + b"\r\n\r\n",
    "target over 8 KiB": b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "no version": b"GET /ping\r\n\r\n",
    "other host": b"GET http://other/buckets/b/keys/k HTTP/1.1\r\nHost: x\r\n\r\n",
    "other scheme": b"GET https://x/buckets/b/keys/k HTTP/1.1\r\nHost: x\r\n\r\n",
    "user in the target": b"GET http://a@x/ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "fragment": b"GET /buckets/b/keys/k#frag HTTP/1.1\r\nHost: x\r\n\r\n",
    "fragment after a query": b"GET /buckets/b/keys/k?r=1#frag HTTP/1.1\r\nHost: x\r\n\r\n",
}
#: Well-formed as far as the connection goes: only the request is refused.
STAY_OPEN = {
    "other host",
    "other scheme",
    "user in the target",
    "fragment",
    "fragment after a query",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_not_http_is_400_and_closed(
    name: str, http: RawHttp, backend: MemoryBackend
) -> None:
    await http.send(MALFORMED[name])
    reply = await http.reply()
    body = reply.json()
    assert (reply.status, body["code"], body["outcome"]) == (400, "malformed", "none")
    assert body["request_id"] == reply.headers["x-request-id"]
    assert set(body) == {"message", "code", "outcome", "request_id"}
    if name not in STAY_OPEN:
        assert reply.headers["connection"] == "close"
        assert await http.is_closed()
    assert not backend.records


@pytest.mark.parametrize("name", ["header over 24 KiB", "target over 8 KiB"])
async def test_what_is_too_long_is_told_so_with_the_limits(name: str, http: RawHttp) -> None:
    await http.send(MALFORMED[name])
    message = (await http.reply()).json()["message"]
    assert "8192" in message
    assert "24576" in message


async def test_a_header_of_24_kib_and_a_target_of_8_are_fine(http: RawHttp) -> None:
    got = await http.request("GET", "/ping", {"A": "b" * (24 * 1024 - 1)})
    assert got.body == b"OK"
    got = await http.request("GET", "/ping?" + "a" * (8 * 1024 - 6))
    assert got.body == b"OK"


async def test_any_bytes_end_in_a_reply_or_a_close_and_never_in_a_500(
    address: str, metrics: Metrics
) -> None:
    chance = random.Random(11)
    for _ in range(150):
        valid = bytearray(HEAD + b"X-Riak-Meta-A: b\r\nContent-Length: 4\r\n\r\nabcd")
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(valid))
            if chance.random() < 0.3:
                del valid[at : at + chance.randint(1, 9)]
            else:
                valid[at] = chance.randrange(256)
        async with RawHttp(address) as http:
            await http.send(bytes(valid))
            http.writer.write_eof()
            first = await http.reader.readline()
            assert first == b"" or int(first.split(b" ")[1]) < 500, bytes(valid)
    assert metrics.count["http_failures"] == 0


async def test_the_absolute_form_is_taken_for_our_own_host(http: RawHttp) -> None:
    for target, host in (
        (b"http://x/ping", b"x"),
        (b"HTTP://X:80/ping", b"x"),
        (b"http://x:8098/ping?a=b", b"x:8098"),
    ):
        await http.send(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
        assert (await http.reply()).body == b"OK"


async def _refused(http: RawHttp, data: bytes, status: int, code: str) -> Reply:
    await http.send(data)
    reply = await http.reply()
    assert (reply.status, reply.json()["code"], reply.json()["outcome"]) == (status, code, "none")
    assert reply.headers["connection"] == "close"
    return reply


@pytest.mark.impatient
async def test_a_body_declared_over_the_limit_is_413_before_it_is_read(
    http: RawHttp, backend: MemoryBackend
) -> None:
    reply = await _refused(http, HEAD + b"Content-Length: 4097\r\n\r\n", 413, "value_too_large")
    assert reply.json()["limit"] == 4096
    assert await http.is_closed()
    assert not backend.records


async def test_a_body_that_came_at_once_and_is_over_the_limit_is_413(
    http: RawHttp, backend: MemoryBackend
) -> None:
    data = HEAD + b"Content-Length: 4097\r\n\r\n" + b"x" * 4097
    await _refused(http, data, 413, "value_too_large")
    assert not backend.records


@pytest.mark.impatient
async def test_a_chunked_body_over_the_limit_is_413_while_it_is_read(
    http: RawHttp, backend: MemoryBackend
) -> None:
    await http.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    await http.send(b"800\r\n" + b"x" * 2048 + b"\r\n")
    await asyncio.sleep(0.05)
    await _refused(http, b"801\r\n" + b"x" * 2049 + b"\r\n", 413, "value_too_large")
    assert await http.is_closed()
    assert not backend.records


async def test_a_body_of_exactly_the_limit_is_stored(http: RawHttp) -> None:
    value = b"x" * 4096
    assert (await http.request("PUT", KEY, {"Content-Type": "a/b"}, value)).status == 204
    await http.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(4):
        await http.send(b"400\r\n" + b"y" * 1024 + b"\r\n")
        await asyncio.sleep(0.01)
    await http.send(b"0\r\n\r\n")
    assert (await http.reply()).status == 204


async def test_content_encoding_is_stored_and_never_acted_on(http: RawHttp) -> None:
    for encoding in ("gzip", "deflate", "br", "zstd", "nonsense"):
        stored = await http.request(
            "PUT",
            f"/buckets/b/keys/{encoding}",
            {"Content-Type": "a/b", "Content-Encoding": encoding},
            b"\x1f\x8bnot really",
        )
        assert stored.status == 204
        got = await http.request("GET", f"/buckets/b/keys/{encoding}")
        assert (got.body, got.headers["content-encoding"]) == (b"\x1f\x8bnot really", encoding)


async def test_a_body_is_asked_for_when_the_client_waits_to_be_asked(http: RawHttp) -> None:
    await http.send(HEAD + b"Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n")
    assert await http.reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    await http.send(b"hello")
    assert (await http.reply()).status == 204
    assert (await http.request("GET", KEY)).body == b"hello"


@pytest.mark.parametrize(
    "coding", ["gzip, chunked", "chunked;q=1", "x,chunked", "identity, chunked"]
)
async def test_a_body_in_a_coding_that_is_not_undone_is_400_and_not_stored(
    coding: str, http: RawHttp, backend: MemoryBackend
) -> None:
    line = f"Transfer-Encoding: {coding}\r\n\r\n".encode()
    await _refused(http, HEAD + line + b"1\r\nx\r\n0\r\n\r\n", 400, "malformed")
    assert not backend.records


async def test_the_name_of_a_coding_has_no_case(http: RawHttp) -> None:
    await http.send(HEAD + b"Transfer-Encoding:  CHUNKED \r\n\r\n1\r\nx\r\n0\r\n\r\n")
    assert (await http.reply()).status == 204


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        (b"Expect: 100-continue\r\nContent-Length: 4097", 413, "value_too_large"),
        (b"Expect: 200-ok\r\nContent-Length: 5", 417, "expectation_failed"),
        (b"Expect: 100-continue\r\nExpect: x\r\nContent-Length: 5", 417, "expectation_failed"),
        (b"Expect: 100-continue\r\nContent-Length: 5\r\nIf-Match: x", 400, "invalid_argument"),
        (b"Expect: 100-continue\r\nContent-Length: 5\r\nX-Riak-Vclock: AAAA", 400, "bad_context"),
    ],
)
async def test_an_expectation_is_refused_before_any_100(
    line: bytes, status: int, code: str, http: RawHttp
) -> None:
    await _refused(http, HEAD + line + b"\r\n\r\n", status, code)


async def test_a_write_that_asks_for_too_much_is_refused_before_any_100(http: RawHttp) -> None:
    line = b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    await _refused(http, HEAD.replace(b"/k ", b"/k?w=4 ") + line, 400, "invalid_argument")


@pytest.mark.parametrize("line", [b"GET " + KEY.encode(), b"DELETE " + KEY.encode(), b"GET /ping"])
async def test_an_expectation_is_refused_whatever_the_method(line: bytes, http: RawHttp) -> None:
    data = line + b" HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\n\r\n"
    await _refused(http, data, 417, "expectation_failed")


async def test_a_get_that_expects_a_100_is_answered_without_one(http: RawHttp) -> None:
    await http.send(b"GET /ping HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n")
    assert (await http.reply()).body == b"OK"


@pytest.mark.impatient
@pytest.mark.parametrize("start", [b"", b"GET /ping HTTP/1.1\r\nHost: x\r\n"])
async def test_a_connection_that_says_nothing_or_half_is_closed(
    start: bytes, http: RawHttp
) -> None:
    began = time.monotonic()
    await http.send(start)
    assert await http.is_closed(within=2)
    assert 0.4 < time.monotonic() - began < 1.5


@pytest.mark.impatient
async def test_a_header_that_trickles_in_does_not_hold_a_connection(http: RawHttp) -> None:
    async def trickle() -> None:
        for byte in b"GET /ping HTTP/1.1\r\nHost: " + b"x" * 200:
            await http.send(bytes((byte,)))
            await asyncio.sleep(0.05)

    began = time.monotonic()
    task = asyncio.create_task(trickle())
    assert await http.is_closed(within=3)
    assert time.monotonic() - began < 1.5
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.impatient(header_timeout_s=2.0)
async def test_a_connection_lives_on_between_requests_that_come_in_time(http: RawHttp) -> None:
    for _ in range(4):
        assert (await http.request("GET", "/ping")).body == b"OK"
        await asyncio.sleep(0.7)


@pytest.mark.impatient
@pytest.mark.parametrize("sent", [0, 3000])
async def test_a_body_promised_then_silence_is_408(
    sent: int, http: RawHttp, backend: MemoryBackend, metrics: Metrics
) -> None:
    began = time.monotonic()
    data = HEAD + b"Content-Length: 4000\r\n\r\n" + b"x" * sent
    await _refused(http, data, 408, "request_timeout")
    assert await http.is_closed(within=1)
    assert 0.3 < time.monotonic() - began < 1.5
    assert not backend.records
    assert metrics.count["http_bodies_too_slow"] == 1


@pytest.mark.impatient
async def test_a_body_below_the_least_rate_is_408_though_never_silent(http: RawHttp) -> None:
    await http.send(HEAD + b"Content-Length: 4000\r\n\r\n")

    async def trickle() -> None:
        while True:
            await http.send(b"x" * 10)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(trickle())
    began = time.monotonic()
    assert (await http.reply()).status == 408
    assert time.monotonic() - began < 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_body_that_takes_longer_than_a_silence_is_fine_at_a_good_rate(
    http: RawHttp,
) -> None:
    await http.send(HEAD + b"Content-Length: 4000\r\n\r\n")
    for _ in range(10):
        await http.send(b"x" * 400)
        await asyncio.sleep(0.08)
    assert (await http.reply()).status == 204


async def test_a_body_cut_off_stores_nothing(
    address: str, backend: MemoryBackend, metrics: Metrics
) -> None:
    async with RawHttp(address) as http:
        await http.send(HEAD + b"Content-Length: 100\r\n\r\nhalf")
        await asyncio.sleep(0.05)
        http.writer.write_eof()
        assert await http.is_closed()
    assert not backend.records
    assert metrics.count["http_bodies_cut_off"] == 1
    assert metrics.count["http_failures"] == 0


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (HEAD + b"Content-Length: 3\r\n\r\nabc", 204),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
    ],
)
async def test_a_client_that_sends_no_more_gets_its_reply_and_is_closed(
    data: bytes, status: int, http: RawHttp
) -> None:
    await http.send(data)
    http.writer.write_eof()
    assert (await http.reply()).status == status
    assert await http.is_closed()


async def test_a_client_that_sends_no_more_gets_all_its_replies(http: RawHttp) -> None:
    await http.send(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    http.writer.write_eof()
    assert [(await http.reply()).body for _ in range(3)] == [b"OK"] * 3
    assert await http.is_closed()


async def test_a_body_that_turns_malformed_is_400_at_once(
    http: RawHttp, backend: MemoryBackend
) -> None:
    await http.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await _refused(http, b"zz\r\n", 400, "malformed")
    assert time.monotonic() - began < 0.2
    assert not backend.records


@pytest.mark.parametrize(
    ("line", "allow"),
    [
        (b"CONNECT x:443", "GET, HEAD, PUT, POST, DELETE"),
        (b"OPTIONS *", "GET, HEAD, PUT, POST, DELETE"),
        (b"TRACE /buckets/b/keys/k", "GET, HEAD, PUT, POST, DELETE"),
        (b"PATCH /types/t/buckets/b/keys/k", "GET, HEAD, PUT, POST, DELETE"),
        (b"PUT /buckets/b/keys", "GET, HEAD, POST"),
        (b"GET /riak/b", "POST"),
        (b"PUT /ping", "GET, HEAD"),
        (b"DELETE /health/ready", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_built_is_405_with_allow(
    line: bytes, allow: str, http: RawHttp
) -> None:
    await http.send(line + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    reply = await http.reply()
    assert (reply.status, reply.headers["allow"]) == (405, allow)
    assert reply.json()["allowed"] == allow.split(", ")


@pytest.mark.parametrize(
    ("line", "status", "allow"),
    [
        (b"FOO /buckets/b/keys/k", 405, "GET, HEAD, PUT, POST, DELETE"),
        (b"get /buckets/b/keys/k?r=1", 405, "GET, HEAD, PUT, POST, DELETE"),
        (b"X-Y!z /ping", 405, "GET, HEAD"),
        (b"FOO /nothing", 404, None),
        (b"FOO{} /ping", 400, None),
        (b"FOO  /ping", 400, None),
    ],
)
async def test_a_method_that_nobody_knows_is_405_too_and_closed(
    line: bytes, status: int, allow: str | None, http: RawHttp
) -> None:
    await http.send(line + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    reply = await http.reply()
    assert (reply.status, reply.headers.get("allow")) == (status, allow)
    assert reply.json()["outcome"] == "none"
    assert reply.headers["connection"] == "close"
    assert await http.is_closed()


async def test_what_follows_a_good_request_at_once_is_not_taken_for_its_line(http: RawHttp) -> None:
    await http.send(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\nFOO /ping HTTP/1.1\r\n\r\n")
    reply = await http.reply()
    assert (reply.status, reply.json()["code"]) == (400, "malformed")
    assert await http.is_closed()


@pytest.mark.parametrize(
    "path",
    ["/nothing", "//buckets/b/keys/k", "/buckets/b/keys/k/more", "/%62uckets/b/keys/k", "/ping/"],
)
async def test_an_unknown_path_is_404_json(path: str, http: RawHttp) -> None:
    reply = await http.request("GET", path)
    assert (reply.status, reply.json()["code"]) == (404, "no_such_resource")


async def test_an_upgrade_is_declined_and_the_connection_goes_on(http: RawHttp) -> None:
    for upgrade in ("websocket", "h2c"):
        got = await http.request("GET", "/ping", {"Connection": "Upgrade", "Upgrade": upgrade})
        assert (got.status, got.body) == (200, b"OK")
    assert (await http.request("GET", "/ping")).body == b"OK"


async def test_requests_sent_at_once_are_answered_in_order(http: RawHttp) -> None:
    put = HEAD + b"Content-Length: 3\r\n\r\nabc"
    get = b"GET /buckets/b/keys/k HTTP/1.1\r\nHost: x\r\n\r\n"
    await http.send(get + put + get + put + get)
    assert [(await http.reply()).status for _ in range(5)] == [404, 204, 200, 204, 300]


async def test_http_1_0_is_answered_and_closed_unless_it_asks_to_stay(address: str) -> None:
    async with RawHttp(address) as http:
        await http.send(b"GET /ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert (await http.reply()).headers["connection"] == "keep-alive"
        await http.send(b"GET /ping HTTP/1.0\r\n\r\n")
        reply = await http.reply()
        assert (reply.body, reply.headers["connection"]) == (b"OK", "close")
        assert await http.is_closed()


async def test_a_client_that_asks_to_close_is_closed(http: RawHttp) -> None:
    got = await http.request("GET", "/ping", {"Connection": "close"})
    assert got.headers["connection"] == "close"
    assert await http.is_closed()


async def test_every_request_has_an_id_of_its_own(http: RawHttp) -> None:
    ids = {(await http.request("GET", "/ping")).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5
