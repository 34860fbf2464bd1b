"""`/admin/wars`, and the stamps of one operation, as clients see them."""

from __future__ import annotations

import msgspec
from memory_backend import MemoryBackend
from raw_http import RawHttp

from dynamo.requests import READ, ReadOptions
from dynamo.wars_status import WarsStatus

KEY = "/buckets/b/keys/k"
TEXT = {"Content-Type": "text/plain"}
STAMPS = {**TEXT, "X-Dynamo-Stamps": "1"}
TOLD = ("x-dynamo-coordinator", "x-dynamo-began", "x-dynamo-committed")


async def test_it_is_what_predictions_are_made_from(http: RawHttp, backend: MemoryBackend) -> None:
    got = await http.request("GET", "/admin/wars")
    assert got.status == 200
    decoded = msgspec.json.Decoder(WarsStatus, strict=True).decode(got.body)
    assert msgspec.to_builtins(decoded) == msgspec.to_builtins(backend.wars())
    assert (await http.request("HEAD", "/admin/wars")).status == 200
    post = await http.request("POST", "/admin/wars")
    assert (post.status, post.headers["allow"]) == (405, "GET, HEAD")


async def test_an_operation_is_stamped_for_who_asks_and_for_nobody_else(http: RawHttp) -> None:
    await http.request("PUT", KEY, TEXT, b"v")
    for method, target, status in (
        ("GET", f"{KEY}x", 404),
        ("GET", KEY, 200),
        ("GET", KEY, 200),  # one that is kept
        ("HEAD", KEY, 200),
        ("PUT", f"{KEY}y", 204),
        ("POST", f"{KEY}y", 204),
        ("POST", "/buckets/b/keys", 201),
        ("GET", f"{KEY}y", 300),
    ):
        body = b"v" if method in ("PUT", "POST") else b""
        plain = await http.request(method, target, TEXT, body)
        assert plain.status == status
        assert not set(TOLD) & set(plain.headers)
        asked = await http.request(method, target, STAMPS, body)
        assert asked.status == status
        assert [asked.headers[name] for name in TOLD] == ["n1", "12500000000", "12500000250"]
    gone = await http.request("DELETE", KEY, STAMPS)
    assert (gone.status, gone.headers["x-dynamo-coordinator"]) == (204, "n1")


async def test_errors_are_stamped_as_far_as_it_went(http: RawHttp) -> None:
    got = await http.request("GET", f"{KEY}?r=9", STAMPS)
    assert (got.status, got.headers["x-dynamo-began"]) == (400, "12500000000")
    got = await http.request("GET", f"{KEY}?r=none", STAMPS)
    assert (got.status, set(TOLD) & set(got.headers)) == (400, set())


async def test_a_local_read_is_asked_for_by_a_header(http: RawHttp, backend: MemoryBackend) -> None:
    for method in ("GET", "HEAD"):
        assert (await http.request(method, KEY, {"X-Dynamo-Local": "1"})).status == 404
        assert backend.read_options == ReadOptions(local=True)
        await http.request(method, KEY)
        assert backend.read_options is READ


async def test_what_asks_otherwise_is_refused(http: RawHttp) -> None:
    for value in ("0", "true", "", "1,1"):
        for name, methods in (
            ("X-Dynamo-Stamps", ("GET", "PUT", "DELETE")),
            ("X-Dynamo-Local", ("GET",)),
        ):
            for method in methods:
                got = await http.request(method, KEY, {**TEXT, name: value})
                assert (got.status, got.json()["field"]) == (400, name)
