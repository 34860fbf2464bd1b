"""Bad input in keys, parameters and headers: what is refused, and what is not."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_backend import MemoryBackend
from raw_http import RawHttp

from dynamo.errors import Malformed
from dynamo.http import parameters
from dynamo.http.dates import format_date, parse_date
from dynamo.http.parameters import PARAMETER_NAMES
from dynamo.http.siblings import accepted_form
from dynamo.http.target import decode, encode
from dynamo.keys import routing_key
from dynamo.requests import ReadOptions

KEY = "/buckets/b/keys/k"
TEXT = {"Content-Type": "text/plain"}
BASE = "/buckets/b/keys/"


@pytest.mark.parametrize(
    ("segment", "key"),
    [
        ("%00", b"\x00"),
        ("%0d%0a", b"\r\n"),
        ("a%2Fb", b"a/b"),
        ("..", b".."),
        (".", b"."),
        ("%2e%2e", b".."),
        ("%ff%fe", b"\xff\xfe"),
        ("%25ff%25fe", b"%ff%fe"),
        ("%C3%A9", b"\xc3\xa9"),
        ("e%CC%81", b"e\xcc\x81"),
        ("a+b", b"a b"),
        ("a%2Bb", b"a+b"),
        ("a%20b", b"a b"),
        ("a;b=c&d", b"a;b=c&d"),
        ("%3Fr=1", b"?r=1"),
        ("%23", b"#"),
        ("k" * 1024, b"k" * 1024),
        ("%00" * 1024, b"\x00" * 1024),
    ],
)
async def test_a_key_is_any_bytes(
    segment: str, key: bytes, http: RawHttp, backend: MemoryBackend
) -> None:
    assert (await http.request("PUT", BASE + segment, TEXT, b"v")).status == 204
    assert list(backend.records) == [routing_key(b"default", b"b", key)]
    assert (await http.request("GET", BASE + segment)).body == b"v"


async def test_a_raw_byte_above_ascii_is_itself_or_refused(
    http: RawHttp, backend: MemoryBackend
) -> None:
    await http.send(b"GET /buckets/b/keys/\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await http.reply()).status in (400, 404)


async def test_a_bucket_and_a_type_are_any_bytes_too(http: RawHttp, backend: MemoryBackend) -> None:
    path = "/types/%00t/buckets/a%2Fb+c/keys/k"
    assert (await http.request("PUT", path, TEXT, b"v")).status == 204
    assert list(backend.records) == [routing_key(b"\x00t", b"a/b c", b"k")]


@pytest.mark.parametrize(
    ("path", "status", "code", "field"),
    [
        (BASE + "%zz", 400, "malformed", None),
        (BASE + "%", 400, "malformed", None),
        (BASE + "a%2", 400, "malformed", None),
        (BASE + "%+1", 400, "malformed", None),
        ("/buckets/%zz/keys/k", 400, "malformed", None),
        (KEY + "?unknown=%zz", 400, "malformed", None),
        (BASE, 400, "invalid_argument", "key"),
        ("/buckets//keys/k", 400, "invalid_argument", "bucket"),
        ("/types//buckets/b/keys/k", 400, "invalid_argument", "type"),
        ("/riak//k", 400, "invalid_argument", "bucket"),
        (BASE + "k" * 1025, 414, "key_too_long", "key"),
        (BASE + "%00" * 1025, 414, "key_too_long", "key"),
        ("/buckets/" + "b" * 257 + "/keys/k", 414, "key_too_long", "bucket"),
        ("/types/" + "t" * 256 + "/buckets/b/keys/k", 414, "key_too_long", "type"),
    ],
)
async def test_a_name_out_of_bounds_is_refused(
    path: str, status: int, code: str, field: str | None, http: RawHttp, backend: MemoryBackend
) -> None:
    for method in ("GET", "PUT", "DELETE"):
        reply = await http.request(method, path, TEXT if method == "PUT" else None)
        assert (reply.status, reply.json()["code"]) == (status, code)
        assert reply.json().get("field") == field
    assert not backend.records


_COUNTS = ("r", "w", "rw", "pr", "pw", "dw", "node_confirms")
_BAD_COUNTS = ("-1", "2x", "1.0", "1000000000", "+1", "1_0", " 1", "", "\u0661", "9" * 5000, "ONE")


@pytest.mark.parametrize("field", _COUNTS)
async def test_a_count_that_is_none_is_400_and_names_what_is_allowed(
    field: str, http: RawHttp
) -> None:
    for text in _BAD_COUNTS + (("0",) if field in ("r", "w", "rw") else ()):
        value = encode(text.encode()).decode()
        for method in ("GET", "PUT"):
            reply = await http.request(method, f"{KEY}?{field}={value}", TEXT)
            body = reply.json()
            assert (reply.status, body["code"], body["field"]) == (400, "invalid_argument", field)
            assert "quorum" in body["allowed"]
    for text in ("1", "3", "one", "quorum", "all", "default"):
        assert (await http.request("DELETE", f"{KEY}?{field}={text}")).status == 404
    if field not in ("r", "w", "rw"):
        assert (await http.request("DELETE", f"{KEY}?{field}=0")).status == 404


@pytest.mark.parametrize("field", ["w", "pw", "dw", "node_confirms"])
async def test_a_count_above_n_is_400_from_the_store(
    field: str, http: RawHttp, backend: MemoryBackend
) -> None:
    reply = await http.request("PUT", f"{KEY}?{field}=4", TEXT, b"v")
    assert (reply.status, reply.json()["field"]) == (400, field)
    assert not backend.records


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("timeout=0", "timeout"),
        ("timeout=000", "timeout"),
        ("timeout=-1", "timeout"),
        ("timeout=1.5", "timeout"),
        ("timeout=abc", "timeout"),
        ("timeout=", "timeout"),
        ("timeout=infinity", "timeout"),
        ("returnbody=1", "returnbody"),
        ("returnbody=True", "returnbody"),
        ("notfound_ok=", "notfound_ok"),
        ("basic_quorum=yes", "basic_quorum"),
        ("read_repair=never", "read_repair"),
        ("r=1&r=1", "r"),
        ("r=1&%72=2", "r"),
        ("vtag=a&vtag=b", "vtag"),
        ("timeout=1&timeout=2", "timeout"),
    ],
)
async def test_a_parameter_that_is_malformed_is_400_by_name(
    query: str, field: str, http: RawHttp, backend: MemoryBackend
) -> None:
    for method in ("GET", "PUT", "DELETE"):
        reply = await http.request(method, f"{KEY}?{query}", TEXT)
        assert (reply.status, reply.json()["code"]) == (400, "invalid_argument")
        assert reply.json()["field"] == field
        assert reply.json()["allowed"]
    assert not backend.records


async def test_default_leaves_a_parameter_to_the_bucket(
    http: RawHttp, backend: MemoryBackend
) -> None:
    await http.request("GET", f"{KEY}?r=default&notfound_ok=default&basic_quorum=default")
    assert backend.read_options == ReadOptions()
    await http.request("GET", f"{KEY}?notfound_ok=false&basic_quorum=true")
    assert backend.read_options == ReadOptions(notfound_ok=False, basic_quorum=True)


async def test_parameters_that_nobody_knows_are_ignored(http: RawHttp) -> None:
    reply = await http.request("PUT", f"{KEY}?x=1&x=2&asis&&=&%C3%A9=%FF", TEXT, b"v")
    assert reply.status == 204


async def test_a_write_without_content_type_is_400(http: RawHttp, backend: MemoryBackend) -> None:
    for method, path in (("PUT", KEY), ("POST", KEY), ("POST", "/buckets/b/keys")):
        reply = await http.request(method, path, None, b"v")
        assert (reply.status, reply.json()["field"]) == (400, "Content-Type")
    assert not backend.records


async def test_a_context_that_is_not_exactly_ours_is_400(
    http: RawHttp, backend: MemoryBackend
) -> None:
    await http.request("PUT", KEY, TEXT, b"v")
    good = (await http.request("GET", KEY)).headers["x-riak-vclock"]
    await http.request("PUT", BASE + "other", TEXT, b"v")
    other = (await http.request("GET", BASE + "other")).headers["x-riak-vclock"]
    token = b64decode(good)
    bad = [b64encode(token[:cut]).decode() for cut in range(0, len(token), 5)]
    for bit in range(len(token) * 8):
        flipped = bytearray(token)
        flipped[bit // 8] ^= 1 << bit % 8
        bad.append(b64encode(flipped).decode())
    # The last letter before the padding has bits that decoding drops: another spelling, same bytes.
    assert good.endswith("E=")
    assert b64decode(good[:-2] + "F=") == token
    bad.append(good[:-2] + "F=")
    elsewhere = MemoryBackend(cluster_id="elsewhere")
    elsewhere.records = backend.records
    bad += [
        other,
        b64encode(elsewhere.found(routing_key(b"default", b"b", b"k")).context).decode(),
        "",
        "!",
        good[:-1],
        good.rstrip("=") if good.endswith("=") else good + "=",
        good + good,
        good[:10] + " " + good[10:],
        b64encode(token + b"\x00").decode(),
        b64encode(b"\x01" * (16 * 1024 + 1)).decode(),
        "\xe9" * 8,
    ]
    records = dict(backend.records)
    for text in bad:
        for method in ("PUT", "DELETE"):
            headers = TEXT | {"X-Riak-Vclock": text}
            reply = await http.request(method, KEY, headers)
            assert (reply.status, reply.json()["code"]) == (400, "bad_context"), text
    assert backend.records == records
    assert (await http.request("PUT", KEY, TEXT | {"X-Riak-Vclock": good}, b"w")).status == 204


async def test_two_contexts_are_400(http: RawHttp) -> None:
    await http.request("PUT", KEY, TEXT, b"v")
    good = (await http.request("GET", KEY)).headers["x-riak-vclock"]
    twice = TEXT | {"X-Riak-Vclock": good, "x-riak-vclock": good}
    for method in ("PUT", "DELETE"):
        reply = await http.request(method, KEY, twice)
        assert (reply.status, reply.json()["code"]) == (400, "bad_context")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("If-Match", ""),
        ("If-Match", "abc"),
        ("If-Match", '"abc'),
        ("If-Match", '"a" "b"'),
        ("If-Match", '"a",'),
        ("If-Match", '*, "a"'),
        ("If-Match", '"a b"'),
        ("If-Match", '"\xe9"'),
        ("If-Match", 'w/"a"'),
        ("If-Match", ", ".join(['"a"'] * 101)),
        ("If-None-Match", "abc"),
        ("If-None-Match", "**"),
        ("If-Unmodified-Since", ""),
        ("If-Unmodified-Since", "yesterday"),
        ("If-Unmodified-Since", "1700000000"),
        ("If-Unmodified-Since", "Tue, 31 Feb 2023 22:13:20 GMT"),
        ("If-Unmodified-Since", "Tue, 14 Nov 2023 25:13:20 GMT"),
        ("If-Unmodified-Since", "Tue, 14 Nov 2023 22:13:61 GMT"),
        ("If-Unmodified-Since", "Tue, 14 Nov 2023 22:13:20 CET"),
        ("If-Unmodified-Since", "Tue, 14 Nov 0000 22:13:20 GMT"),
    ],
)
async def test_a_condition_that_is_malformed_is_400_by_name(
    name: str, value: str, http: RawHttp, backend: MemoryBackend
) -> None:
    reply = await http.request("PUT", KEY, TEXT | {name: value}, b"v")
    assert (reply.status, reply.json()["field"]) == (400, name)
    assert not backend.records
    await http.request("PUT", KEY, TEXT, b"v")
    assert (await http.request("GET", KEY, {name: value})).status == 400
    if name == "If-Unmodified-Since":
        assert (await http.request("GET", KEY, {"If-Modified-Since": value})).status == 400


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("X-Riak-Index-age_int", "7", "X-Riak-Index-*"),
        ("Link", '</buckets/b/keys/x>; riaktag="next"', "Link"),
        ("Link", '</buckets/b>; rel="up", </buckets/b/keys/x>; riaktag="next"', "Link"),
        ("X-Riak-Meta-Big", "x" * (17 * 1024), "X-Riak-Meta-*"),
    ],
)
async def test_what_would_be_dropped_is_refused_by_name(
    name: str, value: str, field: str, http: RawHttp, backend: MemoryBackend
) -> None:
    headers = TEXT | {name: value}
    if field == "X-Riak-Meta-*":
        headers |= {f"{name}{number}": value for number in range(3)}
    reply = await http.request("PUT", KEY, headers, b"v")
    assert (reply.status, reply.json()["field"]) == (400, field)
    assert not backend.records


@given(st.binary())
def test_a_segment_reads_back_as_it_was_encoded(data: bytes) -> None:
    assert decode(encode(data).decode("ascii")) == data


@given(st.text())
def test_any_segment_is_bytes_or_malformed(text: str) -> None:
    try:
        assert isinstance(decode(text.encode("utf-8", "surrogatepass").decode("latin-1")), bytes)
    except Malformed:
        assert "%" in text


@given(st.integers(min_value=0, max_value=253_402_300_799))
def test_a_date_reads_back_as_it_was_written(seconds: int) -> None:
    assert parse_date(format_date(seconds).decode("ascii"), "Date") == seconds


def test_a_clock_gone_mad_still_gives_a_date() -> None:
    assert format_date(-1) == b"Thu, 01 Jan 1970 00:00:00 GMT"
    assert format_date(1 << 62) == b"Fri, 31 Dec 9999 23:59:59 GMT"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ([], "text"),
        (["*/*"], "text"),
        (["text/html, application/xml;q=0.9"], "text"),
        (["multipart/mixed"], "multipart"),
        (["Multipart/Mixed; q=0.1 , application/json"], "multipart"),
        (["multipart/*"], "multipart"),
        (["multipart/mixed, application/json, */*;q=0.5"], "multipart"),
        (["application/json"], "json"),
        (["application/json", "multipart/mixed"], "multipart"),
        (["multipart/mixed;q=0, application/json"], "json"),
        (["multipart/mixed;q=0.000, application/json;q=0.0"], "text"),
        ([";;,,=;q=q"], "text"),
    ],
)
def test_the_form_of_siblings_is_what_accept_names(accept: list[str], form: str) -> None:
    assert accepted_form(accept) == form


def test_the_table_of_parameters_is_riaks_and_ours() -> None:
    rest = {"timeout", "returnbody", "notfound_ok", "basic_quorum", "vtag", "read_repair"}
    assert set(PARAMETER_NAMES) == {*_COUNTS, *rest}
    assert parameters.parse("r=2&w=all") is parameters.parse("r=2&w=all")
