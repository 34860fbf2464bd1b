"""What keys, parameters and headers may hold, row by row, and the reply each gets.

Exact bytes to a server over a whole store in memory. JSON bodies and listings have tables of their own
(test_buckets.py, test_strict_json.py, test_listing.py).
"""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import pytest
from memory_backend import MemoryBackend
from raw_http import RawHttp

from dynamo.context import CONTEXT_BYTES_MAX
from dynamo.http.limits import Limits
from dynamo.http.target import encode
from dynamo.keys import BUCKET_BYTES_MAX, KEY_BYTES_MAX, routing_key
from dynamo.metrics import Metrics
from dynamo.record import RECORD_BYTES_MAX, SIBLINGS_MAX
from dynamo.requests import TIMEOUT_MS_MAX

BASE = "/buckets/b/keys/"
KEY = BASE + "k"
TEXT = {"Content-Type": "text/plain"}
COUNTS = ("r", "w", "rw", "pr", "pw", "dw", "node_confirms")
NOT_ZERO = ("r", "w", "rw")


class Scene(NamedTuple):
    """A server and one connection to it."""

    http: RawHttp
    backend: MemoryBackend


Check = Callable[[Scene], Awaitable[None]]


# Checks ---------------------------------------------------------------------------------------------


def named(segment: str, key: bytes, *, bucket: str = "b", raw_bucket: bytes = b"b") -> Check:
    """The segment names this key: what is stored there comes back, byte for byte."""

    async def check(scene: Scene) -> None:
        path = f"/buckets/{bucket}/keys/{segment}"
        put = await scene.http.request("PUT", path, TEXT, b"value")
        assert (put.status, put.body) == (204, b"")
        assert list(scene.backend.records) == [routing_key(b"default", raw_bucket, key)]
        for target in (path, f"/types/default{path}", f"/riak/{bucket}/{segment}"):
            assert (await scene.http.request("GET", target)).body == b"value"
        assert (await scene.http.request("DELETE", path)).status == 204
        gone = await scene.http.request("GET", path)
        assert (gone.status, gone.headers["x-riak-deleted"]) == (404, "true")

    return check


def distinct(*segments: str) -> Check:
    """Each segment names a key of its own."""

    async def check(scene: Scene) -> None:
        for segment in segments:
            await scene.http.request("PUT", BASE + segment, TEXT, segment.encode())
        for segment in segments:
            assert (await scene.http.request("GET", BASE + segment)).body == segment.encode()
        assert len(scene.backend.records) == len(segments)

    return check


def same(*segments: str) -> Check:
    """All segments name one key."""

    async def check(scene: Scene) -> None:
        await scene.http.request("PUT", BASE + segments[0], TEXT, b"value")
        for segment in segments:
            assert (await scene.http.request("GET", BASE + segment)).body == b"value"

    return check


def refused(
    target: str,
    status: int,
    code: str,
    field: str | None = None,
    *,
    methods: tuple[str, ...] = ("GET", "HEAD", "PUT", "POST", "DELETE"),
) -> Check:
    """Whatever the method: this error, and nothing is stored."""

    async def check(scene: Scene) -> None:
        for method in methods:
            writes = method in ("PUT", "POST")
            reply = await scene.http.request(method, target, TEXT if writes else None)
            assert reply.status == status, method
            if method != "HEAD":
                body = reply.json()
                assert (body["code"], body["outcome"]) == (code, "none")
                assert body.get("field") == field
        assert not scene.backend.records

    return check


def counts(text: str, *, fields: tuple[str, ...] = COUNTS) -> Check:
    """No count: 400 that names the parameter and the range."""

    async def check(scene: Scene) -> None:
        for field in fields:
            target = f"{KEY}?{field}={encode(text.encode()).decode()}"
            for method in ("GET", "PUT", "DELETE"):
                reply = await scene.http.request(method, target, TEXT)
                body = reply.json()
                assert (reply.status, body["code"]) == (400, "invalid_argument"), (field, method)
                assert body["field"] == field
                assert body["allowed"] == (
                    f"{1 if field in NOT_ZERO else 0} to n, or one, quorum, all, default"
                )
        assert not scene.backend.records

    return check


def taken(text: str, *, fields: tuple[str, ...] = COUNTS) -> Check:
    async def check(scene: Scene) -> None:
        for field in fields:
            reply = await scene.http.request("PUT", f"{KEY}?{field}={text}", TEXT, b"v")
            assert reply.status == 204, field

    return check


async def above_n(scene: Scene) -> None:
    for method, fields in (
        ("GET", ("r", "pr", "node_confirms")),
        ("PUT", ("w", "pw", "dw", "node_confirms")),
    ):
        for field in fields:
            reply = await scene.http.request(method, f"{KEY}?{field}=4", TEXT, b"")
            body = reply.json()
            assert (reply.status, body["code"]) == (400, "invalid_argument")
            assert (body["field"], "3" in body["allowed"]) == (field, True)
    assert not scene.backend.records


def query(text: str, field: str) -> Check:
    return refused(f"{KEY}?{text}", 400, "invalid_argument", field)


def clamped(text: str) -> Check:
    async def check(scene: Scene) -> None:
        for method in ("GET", "PUT", "DELETE"):
            reply = await scene.http.request(method, f"{KEY}?timeout={text}", TEXT)
            assert reply.headers["x-dynamo-timeout"] == str(TIMEOUT_MS_MAX)
        assert scene.backend.read_options.timeout_ms == TIMEOUT_MS_MAX
        assert scene.backend.write_options.timeout_ms == TIMEOUT_MS_MAX

    return check


def contexts(make: Callable[[str, str], list[str]]) -> Check:
    """`make` gets the context of the key and that of another, and returns bad ones."""

    async def check(scene: Scene) -> None:
        good, other = [await _context(scene, path) for path in (KEY, BASE + "other")]
        before = dict(scene.backend.records)
        for text in make(good, other):
            for method in ("PUT", "POST", "DELETE"):
                reply = await scene.http.request(method, KEY, TEXT | {"X-Riak-Vclock": text})
                assert (reply.status, reply.json()["code"]) == (400, "bad_context"), text
        assert scene.backend.records == before
        kept = await scene.http.request("PUT", KEY, TEXT | {"X-Riak-Vclock": good}, b"w")
        assert kept.status == 204

    return check


async def _context(scene: Scene, path: str) -> str:
    await scene.http.request("PUT", path, TEXT, b"v")
    return (await scene.http.request("GET", path)).headers["x-riak-vclock"]


def _cut(good: str, other: str) -> list[str]:
    token = b64decode(good)
    return [b64encode(token[:length]).decode() for length in range(len(token))]


def _flipped(good: str, other: str) -> list[str]:
    token = b64decode(good)
    out = []
    for bit in range(len(token) * 8):
        damaged = bytearray(token)
        damaged[bit // 8] ^= 1 << bit % 8
        out.append(b64encode(damaged).decode())
    return out


def _misspelt(good: str, other: str) -> list[str]:
    # The last letter before the padding has bits that decoding drops: another spelling, same bytes.
    assert good.endswith("E=")
    assert b64decode(good[:-2] + "F=") == b64decode(good)
    return [
        *("", "!", "AAAA", good[:-1], good.rstrip("="), good + "=", good + good, good[:-2] + "F="),
        *(good[:10] + " " + good[10:], good.swapcase(), good.replace("A", "-"), "\xe9" * 8),
        b64encode(b64decode(good) + b"\0").decode(),
    ]


async def of_another_cluster(scene: Scene) -> None:
    await scene.http.request("PUT", KEY, TEXT, b"v")
    elsewhere = MemoryBackend(cluster_id="elsewhere")
    elsewhere.records = before = dict(scene.backend.records)
    token = elsewhere.found(routing_key(b"default", b"b", b"k")).context
    fields = TEXT | {"X-Riak-Vclock": b64encode(token).decode()}
    for method in ("PUT", "DELETE"):
        reply = await scene.http.request(method, KEY, fields)
        assert (reply.status, reply.json()["code"]) == (400, "bad_context")
    assert scene.backend.records == before


async def two_contexts(scene: Scene) -> None:
    good = await _context(scene, KEY)
    for method in ("PUT", "DELETE"):
        twice = TEXT | {"X-Riak-Vclock": good, "x-riak-vclock": good}
        reply = await scene.http.request(method, KEY, twice)
        assert (reply.status, reply.json()["code"]) == (400, "bad_context")


def condition(name: str, value: str) -> Check:
    """No condition: 400 that names the header, on a write and, where it counts there, on a read."""

    async def check(scene: Scene) -> None:
        for method in ("PUT", "POST"):
            reply = await scene.http.request(method, KEY, TEXT | {name: value}, b"v")
            assert (reply.status, reply.json()["field"]) == (400, name)
        assert not scene.backend.records
        await scene.http.request("PUT", KEY, TEXT, b"v")
        for method in ("GET", "DELETE"):
            reply = await scene.http.request(method, KEY, {name: value})
            assert (reply.status, reply.json()["field"]) == (400, name)

    return check


def failed(headers: dict[str, str], *, stored: bool) -> Check:
    """A condition that does not hold: 412, and the record stays as it was."""

    async def check(scene: Scene) -> None:
        if stored:
            await scene.http.request("PUT", KEY, TEXT, b"v")
        before = dict(scene.backend.records)
        reply = await scene.http.request("PUT", KEY, TEXT | headers, b"w")
        assert (reply.status, reply.json()["code"]) == (412, "precondition_failed")
        assert scene.backend.records == before

    return check


async def one_sibling_too_many(scene: Scene) -> None:
    """409 with all that is there, and a context that resolves it."""
    for number in range(SIBLINGS_MAX):
        assert (await scene.http.request("PUT", KEY, TEXT, b"%d" % number)).status == 204
    before = dict(scene.backend.records)
    reply = await scene.http.request("PUT", KEY, TEXT, b"one more")
    body = reply.json()
    assert (reply.status, body["code"], body["limit"]) == (409, "record_full", SIBLINGS_MAX)
    shown = sorted(int(sibling["value"]) for sibling in body["siblings"])
    assert shown == list(range(SIBLINGS_MAX))
    assert scene.backend.records == before
    fields = TEXT | {"X-Riak-Vclock": reply.headers["x-riak-vclock"]}
    assert (await scene.http.request("PUT", KEY, fields, b"resolved")).status == 204
    assert (await scene.http.request("GET", KEY)).body == b"resolved"


def untyped(fields: dict[str, str]) -> Check:
    async def check(scene: Scene) -> None:
        for method, target in (("PUT", KEY), ("POST", KEY), ("POST", "/buckets/b/keys")):
            reply = await scene.http.request(method, target, fields, b"v")
            assert (reply.status, reply.json()["field"]) == (400, "Content-Type")
        assert not scene.backend.records

    return check


async def generated(scene: Scene) -> None:
    for target in ("/buckets/b/keys", "/buckets/b/keys/"):
        made = await scene.http.request("POST", target, TEXT, b"v")
        assert made.status == 201
        assert (await scene.http.request("GET", made.headers["location"])).body == b"v"


async def never_fetched(scene: Scene) -> None:
    """URLs in a body, in metadata and in a query are stored or ignored, and nobody goes there."""
    calls: list[object] = []
    listener = await asyncio.start_server(lambda *_: calls.append(1), "127.0.0.1", 0)
    async with listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/x"
        fields = {"Content-Type": f'message/external-body; access-type=URL; URL="{url}"'}
        fields |= {"X-Riak-Meta-Url": url, "Referer": url, "Origin": url}
        put = await scene.http.request("PUT", f"{KEY}?url={url}", fields, url.encode())
        assert put.status == 204
        assert (await scene.http.request("GET", KEY)).body == url.encode()
        await asyncio.sleep(0.05)
    assert not calls


# The table ------------------------------------------------------------------------------------------

_SLOPPY = (
    *("-1", "+1", " 1", "1 ", "1.0", "1e0", "0x1", "1_0", "2x", "", " ", "\u0661", "\uff11", "ONE"),
    *("One", "quorum ", "1,2", "1000000000", "9" * 5000, "1\0", "true", "null", "NaN", "'1'"),
)

ROWS: Mapping[str, Mapping[str, Check]] = {
    "a key of any bytes": {
        "NUL": named("%00", b"\0"),
        "CR LF": named("%0d%0a", b"\r\n"),
        "slash": named("%2F", b"/"),
        "slashes": named("a%2f%2Fb", b"a//b"),
        "..": named("..", b".."),
        ".": named(".", b"."),
        "%2e%2e": named("%2e%2e", b".."),
        "../.. encoded": named("..%2F..%2Fetc%2Fpasswd", b"../../etc/passwd"),
        "not UTF-8": named("%ff%fe", b"\xff\xfe"),
        "a percent sign": named("100%25", b"100%"),
        "? and #": named("%3Fr=9%23f", b"?r=9#f"),
        "; = & :": named("a;b=c&d:e", b"a;b=c&d:e"),
        "plus and space": named("a+b%20c%2Bd", b"a b c+d"),
        "a header in it": named("k%0d%0aSet-Cookie:%20a=b", b"k\r\nSet-Cookie: a=b"),
        "the word keys": named("keys", b"keys"),
        "one space": named("+", b" "),
        "all 256 bytes": named("".join(f"%{byte:02x}" for byte in range(256)), bytes(range(256))),
        "in a bucket": named("k", b"k", bucket="%00%2F..%ff", raw_bucket=b"\0/..\xff"),
        "a bucket of two dots": named("k", b"k", bucket="..", raw_bucket=b".."),
    },
    "keys that are not one": {
        "%ff%fe and %25ff%25fe": distinct("%ff%fe", "%25ff%25fe", "%c3%bf%c3%be"),
        "composed and decomposed accents": distinct("%C3%A9", "e%CC%81"),
        "capitals and small letters": distinct("K", "k"),
        "with and without an end": distinct("k", "k%00", "k+", "k%2F"),
        "but hex has no case": same("%C3%A9", "%c3%a9", "%C3%a9"),
        "and what need not be encoded may be": same("k", "%6b", "%6B"),
    },
    "bad escapes": {
        **{
            text: refused(BASE + text, 400, "malformed")
            for text in ("%zz", "%", "a%2", "%+1", "%%30", "%0", "%u0041", "%-1", "%0x")
        },
        "in a bucket": refused("/buckets/%zz/keys/k", 400, "malformed"),
        "in a type": refused("/types/%zz/buckets/b/keys/k", 400, "malformed"),
        "in a query": refused(KEY + "?r=%zz", 400, "malformed"),
        "in a query that nobody reads": refused(KEY + "?unknown=%zz", 400, "malformed"),
    },
    "empty names": {
        "key": refused(BASE, 400, "invalid_argument", "key", methods=("PUT", "DELETE")),
        "bucket": refused("/buckets//keys/k", 400, "invalid_argument", "bucket"),
        "type": refused("/types//buckets/b/keys/k", 400, "invalid_argument", "type"),
        "bucket of the old form": refused("/riak//k", 400, "invalid_argument", "bucket"),
        "bucket of a key to be made": refused(
            "/buckets//keys", 400, "invalid_argument", "bucket", methods=("POST",)
        ),
        "a key to be made": generated,
    },
    "slashes in odd places": {
        "two at the start": refused("//buckets/b/keys/k", 404, "no_such_resource"),
        "two before the key": refused("/buckets/b/keys//k", 404, "no_such_resource"),
        "one at the end": refused("/buckets/b/keys/k/", 404, "no_such_resource"),
        "an encoded one between": refused("/buckets/b%2Fkeys/k", 404, "no_such_resource"),
        "letters of the path encoded": refused("/%62uckets/b/keys/k", 404, "no_such_resource"),
    },
    "long names": {
        "key over 1,024 bytes": refused(BASE + "k" * 1025, 414, "key_too_long", "key"),
        "counted decoded": refused(BASE + "%00" * 1025, 414, "key_too_long", "key"),
        "counted in bytes": refused(BASE + "%C3%A9" * 513, 414, "key_too_long", "key"),
        "bucket over 256": refused(
            "/buckets/" + "b" * 257 + "/keys/k", 414, "key_too_long", "bucket"
        ),
        "bucket over 256, decoded": refused(
            "/buckets/" + "%00" * 257 + "/keys/k", 414, "key_too_long", "bucket"
        ),
        "type over 255": refused(
            "/types/" + "t" * 256 + "/buckets/b/keys/k", 414, "key_too_long", "type"
        ),
        "key of 1,024": named("k" * 1024, b"k" * 1024),
        "key of 1,024, encoded": named("%00" * 1024, b"\0" * 1024),
        "bucket of 256": named("k", b"k", bucket="%FF" * 256, raw_bucket=b"\xff" * 256),
    },
    "Content-Type of a write": {
        "missing": untyped({}),
        "empty": untyped({"Content-Type": ""}),
        "blank": untyped({"Content-Type": "  "}),
    },
    "counts": {
        **{ascii(text)[:20]: counts(text) for text in _SLOPPY},
        "0": counts("0", fields=NOT_ZERO),
        "0 where it is the default": taken("0", fields=("pr", "pw", "dw", "node_confirms")),
        "more than n": above_n,
        **{text: taken(text) for text in ("1", "3", "003", "one", "quorum", "all", "default")},
        "twice": query("r=1&r=1", "r"),
        "twice, once encoded": query("r=1&%72=2", "r"),
        "one of them bad": query("r=1&w=1&pw=x", "pw"),
    },
    "timeouts": {
        **{
            ascii(text): query(f"timeout={encode(text.encode()).decode()}", "timeout")
            for text in (
                *("0", "000", "-1", "+1", " 1", "1 ", "1.5", "1e3", "0x10", "1_0", "", "abc"),
                *("infinity", "NaN", "\u0665", "5s"),
            )
        },
        "twice": query("timeout=1&timeout=1", "timeout"),
        "just above": clamped(str(TIMEOUT_MS_MAX + 1)),
        "huge": clamped("9" * 20),
        "5,000 digits": clamped("9" * 5000),
    },
    "other parameters": {
        **{
            f"{field}={text}": query(f"{field}={text}", field)
            for field in ("returnbody", "notfound_ok", "basic_quorum")
            for text in ("1", "True", "", "yes", "+true")
        },
        "read_repair=never": query("read_repair=never", "read_repair"),
        "vtag twice": query("vtag=a&vtag=b", "vtag"),
    },
    "contexts": {
        "cut off anywhere": contexts(_cut),
        "one bit flipped": contexts(_flipped),
        "misspelt": contexts(_misspelt),
        "of another key": contexts(lambda good, other: [other]),
        "of another cluster": of_another_cluster,
        "over 16 KiB": contexts(
            lambda good, other: [b64encode(b"\1" * (CONTEXT_BYTES_MAX + 1)).decode()]
        ),
        "two": two_contexts,
    },
    "too much for a record": {"a sibling above 100": one_sibling_too_many},
    "conditions": {
        **{
            f"{name}: {value}"[:60]: condition(name, value)
            for name in ("If-Match", "If-None-Match")
            for value in (
                *("", "abc", '"abc', '"a" "b"', '"a",', ',"a"', '*, "a"', "**", '"a b"', '"\xe9"'),
                *('w/"a"', ", ".join(['"a"'] * 101)),
            )
        },
        **{
            f"If-Unmodified-Since: {value}": condition("If-Unmodified-Since", value)
            for value in (
                *("", "yesterday", "1700000000", "2023-11-14T22:13:20Z"),
                *("Tue, 31 Feb 2023 22:13:20 GMT", "Tue, 14 Nov 2023 25:13:20 GMT"),
                *("Tue, 14 Nov 2023 22:13:61 GMT", "Tue, 14 Nov 2023 22:13:20 CET"),
                *("Tue, 14 Nov 0000 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:20"),
            )
        },
        "If-None-Match: * on what is there": failed({"If-None-Match": "*"}, stored=True),
        "If-Match: * on nothing": failed({"If-Match": "*"}, stored=False),
        "If-Match of another": failed({"If-Match": '"other"'}, stored=True),
        "If-Unmodified-Since before the last change": failed(
            {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:01 GMT"}, stored=True
        ),
    },
    "any URL": {"in a body, in metadata, in a query": never_fetched},
}


@pytest.fixture
def limits() -> Limits:
    """Those of production."""
    return Limits()


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=ascii(f"{row}: {item}").strip("'\"")[:90])
        for row, items in ROWS.items()
        for item, check in items.items()
    ],
)
async def test_each_input_gets_the_reply_of_its_row(
    check: Check, http: RawHttp, backend: MemoryBackend, metrics: Metrics
) -> None:
    await check(Scene(http, backend))
    assert metrics.count["http_failures"] == 0


def test_the_limits_are_those_that_the_rows_name() -> None:
    assert (KEY_BYTES_MAX, BUCKET_BYTES_MAX) == (1024, 256)
    assert (CONTEXT_BYTES_MAX, RECORD_BYTES_MAX, SIBLINGS_MAX) == (16 * 1024, 12 << 20, 100)
