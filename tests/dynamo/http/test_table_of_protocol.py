"""What may come over a connection, row by row: all that is bad input to HTTP itself, and its reply.

Exact bytes to a server with the limits of production; where a row is about time, they are scaled down,
and `test_the_limits_are_those_that_the_rows_name` holds the real ones.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import msgspec
import pytest
from memory_backend import MemoryBackend
from raw_http import RawHttp, Reply

from dynamo.http import limits as bounds
from dynamo.http.limits import Limits
from dynamo.metrics import Metrics

KEY = "/buckets/b/keys/k"
HEAD = b"PUT /buckets/b/keys/k HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MIB = 1 << 20
ALL_METHODS = "GET, HEAD, PUT, POST, DELETE"


class Scene(NamedTuple):
    """A server and one connection to it."""

    http: RawHttp
    address: str
    backend: MemoryBackend
    metrics: Metrics


Check = Callable[[Scene], Awaitable[None]]


# Checks ---------------------------------------------------------------------------------------------


def refused(
    data: bytes, status: int, code: str, *, stays: bool = False, allow: str | None = None
) -> Check:
    """These bytes get this error, nothing is stored, and the connection ends unless it `stays`.

    One whose body is still to come ends once the time is over in which that is read and dropped.
    """

    async def check(scene: Scene) -> None:
        await scene.http.send(data)
        reply = await scene.http.reply()
        _check_error(reply, status, code, allow=allow)
        if stays:
            assert (await scene.http.request("GET", "/ping")).body == b"OK"
        else:
            assert reply.headers["connection"] == "close"
            if status not in (413, 417) and b"Expect" not in data:
                assert await scene.http.is_closed()

    return check


def bad(data: bytes) -> Check:
    """400 and close: the row of what is not HTTP."""
    return refused(data, 400, "malformed")


def declared(length: bytes) -> Check:
    return bad(HEAD + b"Content-Length: " + length + b"\r\n\r\nxxxxx")


def coded(coding: bytes) -> Check:
    return bad(HEAD + b"Transfer-Encoding: " + coding + b"\r\n\r\n1\r\nx\r\n0\r\n\r\n")


def headed(line: bytes) -> Check:
    return bad(b"GET /ping HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")


def asked(line: bytes, status: int, code: str, allow: str | None, *, stays: bool = True) -> Check:
    return refused(line + b" HTTP/1.1\r\nHost: x\r\n\r\n", status, code, stays=stays, allow=allow)


def _check_error(reply: Reply, status: int, code: str, *, allow: str | None = None) -> None:
    body = reply.json()
    assert (reply.status, body["code"], body["outcome"]) == (status, code, "none")
    assert body["request_id"] == reply.headers["x-request-id"]
    assert reply.headers.get("allow") == allow


def _client_hello() -> bytes:
    sent = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="node")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return sent.read()


def upload(head: bytes, piece: bytes) -> Check:
    """100 MB are on their way when 413 comes, and the client, still sending, gets to read it."""

    async def check(scene: Scene) -> None:
        reading = asyncio.create_task(scene.http.reply())
        await scene.http.send(head)
        began = time.monotonic()
        sent = 0
        while sent < 100_000_000 and not reading.done():
            await scene.http.send(piece)
            sent += len(piece)
        _check_error(await reading, 413, "value_too_large")
        assert sent < 90_000_000
        assert time.monotonic() - began < 5

    return check


async def blind_upload(scene: Scene) -> None:
    """A client that reads only once it has sent all gets its 413 too: the rest is read and dropped."""
    await scene.http.send(HEAD + b"Content-Length: 20000000\r\n\r\n" + bytes(20_000_000))
    _check_error(await scene.http.reply(), 413, "value_too_large")


def verbatim(encoding: str, body: bytes) -> Check:
    async def check(scene: Scene) -> None:
        fields = {"Content-Type": "a/b", "Content-Encoding": encoding}
        assert (await scene.http.request("PUT", KEY, fields, body)).status == 204
        got = await scene.http.request("GET", KEY, {"Accept-Encoding": "identity"})
        assert (got.status, got.body, got.headers["content-encoding"]) == (200, body, encoding)

    return check


def closed_after(*pieces: bytes, pause: float = 0.05) -> Check:
    """Whatever comes meanwhile: no request within the time for one, and the connection ends."""

    async def check(scene: Scene) -> None:
        async def send() -> None:
            for piece in pieces:
                await scene.http.send(piece)
                await asyncio.sleep(pause)

        began = time.monotonic()
        sending = asyncio.create_task(send())
        assert await scene.http.is_closed(within=4)
        assert 0.4 < time.monotonic() - began < 2.5
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    return check


async def closed_after_a_reply(scene: Scene) -> None:
    assert (await scene.http.request("GET", "/ping")).body == b"OK"
    await closed_after(b"GET /ping HTTP/1.1\r\nHo", *[b"x"] * 60)(scene)


def too_slow(*pieces: bytes, pause: float = 0.05) -> Check:
    """408 and close, and nothing is stored of a body that does not come."""

    async def check(scene: Scene) -> None:
        async def send() -> None:
            for piece in pieces:
                await scene.http.send(piece)
                await asyncio.sleep(pause)

        began = time.monotonic()
        sending = asyncio.create_task(send())
        _check_error(await scene.http.reply(), 408, "request_timeout")
        assert 0.3 < time.monotonic() - began < 2.5
        assert await scene.http.is_closed()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert scene.metrics.count["http_bodies_too_slow"] == 1

    return check


def cut_off(data: bytes) -> Check:
    """A body that ends too soon: then a GET says 404."""

    async def check(scene: Scene) -> None:
        await scene.http.send(data)
        await asyncio.sleep(0.05)
        scene.http.writer.write_eof()
        assert await scene.http.is_closed()
        async with RawHttp(scene.address) as other:
            assert (await other.request("GET", KEY)).status == 404

    return check


# The table ------------------------------------------------------------------------------------------

ROWS: Mapping[str, Mapping[str, Check]] = {
    "not HTTP": {
        "random bytes": bad(random.Random(7).randbytes(300)),
        "few random bytes": bad(random.Random(8).randbytes(3)),
        "NULs": bad(bytes(100)),
        "SSH banner": bad(b"SSH-2.0-OpenSSH_9.2\r\n"),
        "TLS hello": bad(_client_hello()),
        "HTTP/2 preface": bad(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04" + bytes(5)),
        "no Host": bad(b"GET /ping HTTP/1.1\r\n\r\n"),
        "two Hosts": bad(b"GET /ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        "one Host twice": bad(b"GET /ping HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    },
    "lengths and codings": {
        "Content-Length with Transfer-Encoding": bad(
            HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        ),
        "the same, the other way round": bad(
            HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        ),
        "two lengths": bad(HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
        "one length twice": bad(HEAD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
        **{
            f"length {length.decode('utf-8')!r}": declared(length)
            for length in (
                *(b"", b"-1", b"+5", b"5_0", b"0x5", b"5.0", b"5e0", b"5,5", b"5 5", b"5;"),
                *(b"%d" % 10**20, b"%d" % 2**64, b"%d" % (2**64 + 5), "\u0665".encode()),
            )
        },
        **{
            f"coding {coding.decode('ascii')!r}": coded(coding)
            for coding in (
                *(
                    b"",
                    b"gzip",
                    b"identity",
                    b"xchunked",
                    b"chunked;q=1",
                    b'"chunked"',
                    b",chunked",
                ),
                *(b"chunked, chunked", b"chunked, identity", b"gzip, chunked", b"\x0bchunked"),
            )
        },
        "chunked twice": bad(
            HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        "a coding on a GET": bad(
            b"GET /ping HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n"
        ),
        **{
            f"chunk size {size.decode('ascii')!r}": bad(CHUNKED + size + b"\r\nx\r\n0\r\n\r\n")
            for size in (
                *(b"", b"zz", b"-1", b"+1", b"0x1", b"1_0", b" 1", b"1 ", b"1\r", b"1" + b"0" * 16),
            )
        },
        "a chunk longer than its size": bad(CHUNKED + b"1\r\nxy\r\n0\r\n\r\n"),
        "chunks ended by LF": bad(CHUNKED + b"1\nx\n0\n\n"),
        "a trailer that is none": bad(CHUNKED + b"1\r\nx\r\n0\r\nA b\r\n\r\n"),
    },
    "headers": {
        **{
            repr(line)[2:-1]: headed(line)
            for line in (
                *(b"A B: c", b"A : c", b"A\t: c", b" A: b", b": c", b"A", b"A(b): c", b"A\0b: c"),
                *(b"A: b\0c", b"A: b\rc", b"A: b\r", b"A: b\nC: d", b"A: b\n c", b"A: b\r\n c"),
                *(b"A: b\x01c", b"A: b\x7fc", b"\xc3\xa9: b"),
            )
        },
        "a space before the first": bad(b"GET /ping HTTP/1.1\r\n Host: x\r\n\r\n"),
        "LF at the ends of lines": bad(b"GET /ping HTTP/1.1\nHost: x\n\n"),
        "129 of them": headed(b"\r\n".join([b"A: b"] * 128)),
        "a value over 24 KiB": headed(b"A: " + b"b" * (24 * 1024 + 1)),
        "a name over 24 KiB": headed(b"A" * (24 * 1024 + 1) + b": b"),
        "one that does not end": bad(b"GET /ping HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 100_000),
        "a target over 8 KiB": bad(b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        "a target that does not end": bad(b"GET /" + b"a" * 100_000),
        "a method that does not end": bad(b"A" * 100_000),
    },
    "no HTTP version": {
        "none": bad(b"GET /ping\r\n\r\n"),
        "none on a PUT": bad(
            HEAD.replace(b" HTTP/1.1", b"") + b"Content-Length: 1\r\n\r\nx",
        ),
        **{
            version: bad(f"GET /ping {version}\r\nHost: x\r\n\r\n".encode())
            for version in (
                *("HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/11.1", "HTTP/1", "HTTP/1.", "http/1.1"),
                *("HTTP/1.1 ", "HTTP/1.1x", "HTTPS/1.1"),
            )
        },
    },
    "a body over the limit": {
        "declared, nothing sent": refused(
            HEAD + b"Content-Length: %d\r\n\r\n" % (MIB + 1), 413, "value_too_large"
        ),
        "declared, over 63 bits": refused(
            HEAD + b"Content-Length: %d\r\n\r\n" % 2**63, 413, "value_too_large"
        ),
        "declared and sent": refused(
            HEAD + b"Content-Length: %d\r\n\r\n" % (MIB + 1) + bytes(MIB + 1),
            413,
            "value_too_large",
        ),
        "chunked": refused(
            CHUNKED + (b"40000\r\n" + bytes(1 << 18) + b"\r\n") * 4 + b"1\r\nx\r\n0\r\n\r\n",
            413,
            "value_too_large",
        ),
        "100 MB, declared": upload(HEAD + b"Content-Length: 100000000\r\n\r\n", bytes(10_000)),
        "100 MB, chunked": upload(CHUNKED, b"2710\r\n" + bytes(10_000) + b"\r\n"),
        "sent by a client that does not read": blind_upload,
        "to a path that takes none": refused(
            b"POST " + KEY.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\n"
            b"Content-Length: 9999999\r\n\r\n",
            413,
            "value_too_large",
        ),
    },
    "Content-Encoding": {
        "gzip that is none": verbatim("gzip", b"\x1f\x8bnot really"),
        "gzip cut off": verbatim("gzip", b"\x1f\x8b\x08"),
        "deflate": verbatim("deflate", b"x"),
        "br": verbatim("br", b"\xff" * 100),
        "zstd": verbatim("zstd", b"\x28\xb5\x2f\xfd"),
        "one that nobody knows": verbatim("nonsense", b""),
        "two": verbatim("gzip, br", b"x"),
    },
    "Expect": {
        "100-continue over the limit": refused(
            HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (MIB + 1),
            413,
            "value_too_large",
        ),
        "100-continue with a bad condition": refused(
            HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\nIf-Match: x\r\n\r\n",
            400,
            "invalid_argument",
        ),
        "100-continue with a bad context": refused(
            HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\nX-Riak-Vclock: AAAA\r\n\r\n",
            400,
            "bad_context",
        ),
        "100-continue with w above n": refused(
            HEAD.replace(b"/k ", b"/k?w=4 ") + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            400,
            "invalid_argument",
        ),
        "100-continue for nothing": refused(
            b"PUT /nothing HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            404,
            "no_such_resource",
        ),
        **{
            f"another: {expectation}": refused(
                HEAD + f"Expect: {expectation}\r\nContent-Length: 5\r\n\r\n".encode(),
                417,
                "expectation_failed",
            )
            for expectation in ("200-ok", "100-continue, 200-ok", "", "100-continue\r\nExpect: x")
        },
        "another, on a GET": refused(
            b"GET /ping HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\n\r\n", 417, "expectation_failed"
        ),
    },
    "a body cut off": {
        "declared": cut_off(HEAD + b"Content-Length: 100\r\n\r\nhalf"),
        "declared, none sent": cut_off(HEAD + b"Content-Length: 100\r\n\r\n"),
        "chunked, in a chunk": cut_off(CHUNKED + b"5\r\nxxx"),
        "chunked, between chunks": cut_off(CHUNKED + b"5\r\nxxxxx\r\n"),
        "chunked, before the last line": cut_off(CHUNKED + b"5\r\nxxxxx\r\n0\r\n"),
    },
    "targets": {
        **{
            target.decode(): refused(
                b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed", stays=True
            )
            for target in (
                *(b"http://other" + KEY.encode(), b"https://x/ping", b"http://x:81/ping"),
                *(b"http://a@x/ping", b"http://x?a=b"),
                *(KEY.encode() + b"#frag", KEY.encode() + b"?r=1#frag", KEY.encode() + b"#"),
            )
        },
        **{
            f"no path: {target.decode()}": bad(
                b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            )
            for target in (b"ping", b"*", b"x:80", b"/pi ng")
        },
    },
    "methods": {
        "CONNECT": asked(b"CONNECT x:443", 405, "method_not_allowed", ALL_METHODS, stays=False),
        "CONNECT on a path": asked(
            b"CONNECT " + KEY.encode(), 405, "method_not_allowed", ALL_METHODS, stays=False
        ),
        "OPTIONS *": asked(b"OPTIONS *", 405, "method_not_allowed", ALL_METHODS, stays=False),
        "TRACE": asked(b"TRACE " + KEY.encode(), 405, "method_not_allowed", ALL_METHODS),
        "PATCH": asked(b"PATCH /types/t/buckets/b/keys/k", 405, "method_not_allowed", ALL_METHODS),
        "PUT where one only reads": asked(b"PUT /ping", 405, "method_not_allowed", "GET, HEAD"),
        "DELETE where one only reads": asked(
            b"DELETE /health/ready", 405, "method_not_allowed", "GET, HEAD"
        ),
        "one that nobody knows": asked(
            b"FOO " + KEY.encode(), 405, "method_not_allowed", ALL_METHODS, stays=False
        ),
        "one in small letters": asked(
            b"get /ping?a=b", 405, "method_not_allowed", "GET, HEAD", stays=False
        ),
        "one of odd characters": asked(
            b"X-Y!z /ping", 405, "method_not_allowed", "GET, HEAD", stays=False
        ),
        "one that is no token": bad(b"FOO{} /ping HTTP/1.1\r\nHost: x\r\n\r\n"),
        "one that nobody knows, for nothing": asked(
            b"FOO /nothing", 404, "no_such_resource", None, stays=False
        ),
        "one that is known, for nothing": asked(b"TRACE /nothing", 404, "no_such_resource", None),
    },
}

#: Those about time, at limits of half a second.
SLOW_ROWS: Mapping[str, Mapping[str, Check]] = {
    "no request": {
        "nothing said": closed_after(),
        "half a header": closed_after(b"GET /ping HTTP/1.1\r\nHost: x\r\n"),
        "half a line": closed_after(b"GET /pi"),
        "a byte now and then": closed_after(b"GET /ping HTTP/1.1\r\nHost: x\r\nA: ", *[b"b"] * 60),
        "a header now and then": closed_after(
            b"GET /ping HTTP/1.1\r\nHost: x\r\n", *[b"A: b\r\n"] * 60
        ),
        "empty lines": closed_after(*[b"\r\n"] * 60),
        "half a header after a request": closed_after_a_reply,
    },
    "a body promised": {
        "then silence": too_slow(HEAD + b"Content-Length: 4000\r\n\r\n"),
        "then a part, then silence": too_slow(HEAD + b"Content-Length: 4000\r\n\r\n" + bytes(3000)),
        "below 1 kB/s": too_slow(HEAD + b"Content-Length: 4000\r\n\r\n", *[b"x" * 10] * 60),
        "chunks below 1 kB/s": too_slow(CHUNKED, *[b"1\r\nx\r\n"] * 60),
        "chunked, then silence": too_slow(CHUNKED + b"5\r\nxx"),
        "without an end of its chunks": too_slow(CHUNKED + b"5\r\nxxxxx\r\n0\r\n"),
        "of a chunk too long to come": too_slow(CHUNKED + b"ffffffffffffffff\r\nx"),
    },
}


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> Limits:
    """Those of production; an impatient test has the times of half a second."""
    if request.node.get_closest_marker("impatient") is None:
        return Limits()
    return msgspec.structs.replace(
        Limits(), header_timeout_s=0.5, body_silence_s=0.4, lingering_s=0.5
    )


def _cases(rows: Mapping[str, Mapping[str, Check]], *marks: pytest.MarkDecorator) -> list[object]:
    return [
        pytest.param(check, id=ascii(f"{row}: {item}").strip("'\"")[:90], marks=marks)
        for row, items in rows.items()
        for item, check in items.items()
    ]


@pytest.mark.parametrize("check", [*_cases(ROWS), *_cases(SLOW_ROWS, pytest.mark.impatient)])
async def test_bad_http_gets_the_reply_of_its_row_and_stores_nothing_in_part(
    check: Check, http: RawHttp, address: str, backend: MemoryBackend, metrics: Metrics
) -> None:
    await check(Scene(http, address, backend, metrics))
    assert metrics.count["http_failures"] == 0
    for record in backend.records.values():
        (sibling,) = record.siblings
        assert sibling.read().content_encoding, "only what Content-Encoding goes with is stored"


def test_the_limits_are_those_that_the_rows_name() -> None:
    limits = Limits()
    assert limits.value_bytes_max == MIB
    assert bounds.VALUE_BYTES_LIMIT == 8 * MIB
    assert (limits.header_timeout_s, limits.body_silence_s, limits.body_rate_min) == (15, 10, 1000)
    assert (bounds.FIELDS_MAX, bounds.FIELD_BYTES_MAX) == (128, 24 * 1024)
    assert bounds.TARGET_BYTES_MAX == 8 * 1024


async def test_what_is_exactly_at_a_limit_is_taken(http: RawHttp) -> None:
    fields = {f"A{number}": "b" for number in range(125)}
    assert (
        await http.request("GET", "/ping", {**fields, "A": "b" * (24 * 1024 - 1)})
    ).body == b"OK"
    assert (await http.request("GET", "/ping?" + "a" * (8 * 1024 - 6))).body == b"OK"
    stored = await http.request("PUT", KEY, {"Content-Type": "a/b"}, bytes(MIB))
    assert stored.status == 204
    await http.send(CHUNKED + (b"40000\r\n" + bytes(1 << 18) + b"\r\n") * 4 + b"0\r\n\r\n")
    assert (await http.reply()).status == 204


async def test_a_connection_goes_on_after_an_error_whose_request_was_whole(http: RawHttp) -> None:
    body = bytes(900_000)
    typed = {"Content-Type": "a/b"}
    for method, target, status in (
        ("PUT", "/buckets/b/keys/" + "k" * 1025, 414),
        ("PUT", KEY + "?w=9", 400),
        ("PUT", KEY + "%zz", 400),
        ("PUT", "/nothing", 404),
        ("PUT", "/ping", 405),
        ("DELETE", KEY, 404),
        ("GET", KEY, 404),
    ):
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        lines = "".join(f"{name}: {value}\r\n" for name, value in typed.items())
        ping = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
        await http.send(f"{head}{lines}\r\n".encode() + body + ping)
        assert (await http.reply()).status == status, target[:40]
        assert (await http.reply()).body == b"OK", target[:40]


async def test_the_rest_of_a_refused_body_is_not_taken_for_a_request(http: RawHttp) -> None:
    smuggled = b"DELETE /buckets/b/keys/k HTTP/1.1\r\nHost: x\r\n\r\n"
    head = HEAD.replace(b"/k ", b"/k?w=0 ")
    await http.send(head + b"Content-Length: %d\r\n\r\n" % len(smuggled))
    assert (await http.reply()).status == 400
    await http.send(smuggled + b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await http.reply()).body == b"OK"
