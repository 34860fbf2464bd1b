"""The properties of buckets and types over HTTP: Riak's dialect, and bad bodies."""

from __future__ import annotations

import json

import pytest
from memory_backend import MemoryBackend
from raw_http import RawHttp

PROPS = "/buckets/b/props"
TYPED = "/types/t/buckets/b/props"
TYPE = "/types/t/props"
JSON = {"Content-Type": "application/json"}


def body(**props: object) -> bytes:
    return json.dumps({"props": props}).encode()


async def shown(http: RawHttp, path: str) -> dict[str, object]:
    reply = await http.request("GET", path)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert list(reply.json()) == ["props"]
    props = reply.json()["props"]
    assert isinstance(props, dict)
    return props


async def test_properties_are_shown_set_and_reset(http: RawHttp) -> None:
    before = await shown(http, PROPS)
    assert (before["name"], before["n_val"], before["allow_mult"]) == ("b", 3, True)
    assert "bucket_type" not in before
    put = await http.request("PUT", PROPS, JSON, body(allow_mult=False, w="all"))
    assert (put.status, put.body) == (204, b"")
    changed = await shown(http, PROPS)
    assert changed == {**before, "allow_mult": False, "w": "all"}
    assert (await http.request("HEAD", PROPS)).status == 200
    assert (await http.request("DELETE", PROPS)).status == 204
    assert await shown(http, PROPS) == before


async def test_a_type_stands_behind_its_buckets(http: RawHttp) -> None:
    assert (await http.request("PUT", TYPE, JSON, body(r=1, w=1))).status == 204
    assert (await http.request("PUT", TYPED, JSON, body(w=2))).status == 204
    of_type, of_bucket = await shown(http, TYPE), await shown(http, TYPED)
    assert (of_type["bucket_type"], "name" in of_type) == ("t", False)
    assert (of_bucket["bucket_type"], of_bucket["name"]) == ("t", "b")
    assert (of_bucket["r"], of_bucket["w"]) == (1, 2)
    assert (await shown(http, PROPS))["r"] == "quorum"
    assert (await http.request("DELETE", TYPE)).status == 204
    assert (await shown(http, TYPED))["r"] == "quorum"


async def test_default_is_a_type_like_any_other(http: RawHttp) -> None:
    assert (await http.request("PUT", "/types/default/props", JSON, body(r=1))).status == 204
    assert (await shown(http, PROPS))["r"] == 1
    assert await shown(http, "/types/default/buckets/b/props") == await shown(http, PROPS)


@pytest.mark.parametrize("path", [PROPS, TYPED, TYPE, "/buckets/%ff+%22/props"])
async def test_who_reads_all_changes_one_and_sends_all_back_is_served(
    http: RawHttp, path: str
) -> None:
    props = await shown(http, path)
    for name, value in (("r", 1), ("allow_mult", False), ("notfound_ok", False), ("rw", "all")):
        props[name] = value
        assert (await http.request("PUT", path, JSON, body(**props))).status == 204
        assert await shown(http, path) == props


async def test_a_bucket_called_props_and_one_that_is_no_text(http: RawHttp) -> None:
    assert (await shown(http, "/types/props/buckets/props/props"))["name"] == "props"
    assert (await shown(http, "/buckets/%ff+%22/props"))["encoded_name"] == "%FF%20%22"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/types/unknown/props", 404),
        ("/types/unknown/buckets/b/props", 404),
        ("/buckets//props", 400),
        ("/types//props", 400),
        ("/types/t/buckets//props", 400),
        ("/buckets/%zz/props", 400),
        (f"/buckets/{'b' * 257}/props", 414),
        (f"/types/{'t' * 256}/props", 414),
        (PROPS + "?timeout=x", 400),
    ],
)
async def test_a_path_that_names_nothing_is_an_error(
    http: RawHttp, backend: MemoryBackend, path: str, status: int
) -> None:
    for method in ("GET", "PUT", "DELETE"):
        reply = await http.request(method, path, JSON, body(r=1) if method == "PUT" else b"")
        assert reply.status == status
        assert reply.json()["code"]
    assert not backend.given


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b"{}", "props"),
        (b'{"props":[]}', "props"),
        (b'{"props":null}', "props"),
        (b'{"props":{},"more":1}', "more"),
        (b'{"props":{"r":NaN}}', "r"),
        (b'{"props":{"r":1,"r":1}}', "r"),
        (b'{"props":{"n_val":' + b"3" * 5000 + b"}}", "n_val"),
        (b'{"props":' + b"[" * 30_000 + b"]" * 30_000 + b"}", "body"),
        (b'{"props":{"r":"\\ud800"}}', "r"),
        ('{"props":{"r":1}}'.encode("utf-16"), "body"),
        (b'\xef\xbb\xbf{"props":{"r":1}}', "body"),
        (b'{"props":{"r":true}}', "r"),
        (b'{"props":{"r":1,"w":4}}', "w"),
        (b'{"props":{"r":1,"n_val":2}}', "n_val"),
        (b'{"props":{"r":1,"search_index":"x"}}', "search_index"),
        (b'{"props":{"r":1,"allow_mult":true,"last_write_wins":true}}', "last_write_wins"),
        (b'{"props":{"r":1,"name":"c"}}', "name"),
        (b'{"props":{"r":1,"bucket_type":"u"}}', "bucket_type"),
        (b'{"props":{"r":1,"encoded_name":"b"}}', "encoded_name"),
        (b'{"props":{"r":1}}' + b" " * (64 << 10), "body"),
        (b'{"props":{"r":1}}' + b" " * (1 << 20), "body"),
    ],
)
async def test_a_bad_body_is_400_by_field_and_changes_nothing(
    http: RawHttp, backend: MemoryBackend, data: bytes, field: str
) -> None:
    reply = await http.request("PUT", PROPS, JSON, data)
    assert (reply.status, reply.json()["code"]) == (400, "invalid_argument")
    assert reply.json()["field"] == field
    assert not backend.given


async def test_a_body_in_chunks_that_grows_too_long_is_400_too(http: RawHttp) -> None:
    await http.send(
        b"PUT /buckets/b/props HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"8000\r\n%b\r\n" % (b" " * 0x8000) * 3
    )
    reply = await http.reply()
    assert (reply.status, reply.json()["field"]) == (400, "body")
    assert reply.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 204),
        ("Application/JSON; charset=utf-8", 204),
        (None, 204),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/jsonx", 415),
        ("", 415),
    ],
)
async def test_properties_come_as_json_or_not_at_all(
    http: RawHttp, kind: str | None, status: int
) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    reply = await http.request("PUT", PROPS, headers, body(r=1))
    assert reply.status == status
    if status == 415:
        assert reply.json()["code"] == "unsupported_media_type"
        assert reply.headers["accept"] == "application/json"
        assert (await shown(http, PROPS))["r"] == "quorum"


async def test_the_timeout_is_handed_on_and_echoed(http: RawHttp, backend: MemoryBackend) -> None:
    reply = await http.request("PUT", PROPS + "?timeout=1234", JSON, body(r=1))
    assert (reply.status, reply.headers["x-dynamo-timeout"]) == (204, "1234")
    assert backend.properties_timeout_ms == 1234
    assert (await http.request("DELETE", PROPS + "?timeout=99")).status == 204
    assert backend.properties_timeout_ms == 99


async def test_other_methods_are_405(http: RawHttp) -> None:
    reply = await http.request("POST", PROPS, JSON, body(r=1))
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, PUT, DELETE")
