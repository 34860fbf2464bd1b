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


@pytest.mark.parametrize(
    "line", [b"GET /ping HTTP/1.1\r\nA: " + b"b" * 24577, b"GET /" + b"a" * 8192]
)
async def test_what_is_too_long_is_told_so_with_the_limits(line: bytes, http: RawHttp) -> None:
    await http.send(line + b"\r\n\r\n")
    message = (await http.reply()).json()["message"]
    assert "8192" in message
    assert "24576" in message


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


async def test_a_body_is_asked_for_when_the_client_waits_to_be_asked(http: RawHttp) -> None:
    await http.send(HEAD + b"Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n")
    assert await http.reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    await http.send(b"hello")
    assert (await http.reply()).status == 204
    assert (await http.request("GET", KEY)).body == b"hello"


async def test_the_name_of_a_coding_has_no_case(http: RawHttp) -> None:
    await http.send(HEAD + b"Transfer-Encoding:  CHUNKED \r\n\r\n1\r\nx\r\n0\r\n\r\n")
    assert (await http.reply()).status == 204


async def test_a_get_that_expects_a_100_is_answered_without_one(http: RawHttp) -> None:
    await http.send(b"GET /ping HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n")
    assert (await http.reply()).body == b"OK"


@pytest.mark.impatient(header_timeout_s=2.0)
async def test_a_connection_lives_on_between_requests_that_come_in_time(http: RawHttp) -> None:
    for _ in range(4):
        assert (await http.request("GET", "/ping")).body == b"OK"
        await asyncio.sleep(0.7)


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
