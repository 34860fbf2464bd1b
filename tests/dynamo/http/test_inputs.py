"""Bad input in keys, parameters and headers: what is refused, and what is not."""

from __future__ import annotations

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


async def test_a_raw_byte_above_ascii_is_itself_or_refused(
    http: RawHttp, backend: MemoryBackend
) -> None:
    await http.send(b"GET /buckets/b/keys/\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await http.reply()).status in (400, 404)


async def test_a_bucket_and_a_type_are_any_bytes_too(http: RawHttp, backend: MemoryBackend) -> None:
    path = "/types/%00t/buckets/a%2Fb+c/keys/k"
    assert (await http.request("PUT", path, TEXT, b"v")).status == 204
    assert list(backend.records) == [routing_key(b"\x00t", b"a/b c", b"k")]


_COUNTS = ("r", "w", "rw", "pr", "pw", "dw", "node_confirms")


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
