"""What Riak's object resource promises, over a real socket and a real store."""

from __future__ import annotations

import email
from base64 import b64decode
from email.message import Message

from memory_backend import MemoryBackend
from raw_http import RawHttp

from dynamo.http.siblings import multipart_body
from dynamo.record import VALUE, Content, Sibling, encode_content
from dynamo.requests import ReadOptions, WriteOptions

KEY = "/buckets/carts/keys/alice"
TEXT = {"Content-Type": "text/plain"}


async def test_a_value_comes_back_as_it_was_stored(http: RawHttp) -> None:
    headers = {
        "Content-Type": "application/x-thing; charset=klingon",
        "Content-Encoding": "gzip",
        "X-Riak-Meta-Colour": "r\xe9d",
        "x-riak-meta-empty": "",
    }
    stored = await http.request("PUT", KEY, headers, b"\x00not gzip\xff")
    assert stored.status == 204
    assert stored.headers["x-dynamo-acks"] == "primary=2,fallback=0"
    assert "x-riak-vclock" not in stored.headers

    got = await http.request("GET", KEY)
    assert (got.status, got.body) == (200, b"\x00not gzip\xff")
    assert got.headers["content-type"] == "application/x-thing; charset=klingon"
    assert got.headers["content-encoding"] == "gzip"
    assert got.headers["x-riak-meta-colour"] == "r\xe9d"
    assert got.headers["x-riak-meta-empty"] == ""
    assert got.headers["last-modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert got.headers["etag"] == stored.headers["etag"]
    assert got.headers["x-riak-vclock"]


async def test_head_is_get_without_its_body(http: RawHttp) -> None:
    await http.request("PUT", KEY, TEXT, b"12345")
    got = await http.request("GET", KEY)
    head = await http.request("HEAD", KEY)
    assert head.status == 200
    assert head.headers["content-length"] == "5"
    for name in ("etag", "content-type", "x-riak-vclock", "last-modified"):
        assert head.headers[name] == got.headers[name]
    assert (await http.request("HEAD", "/buckets/carts/keys/nobody")).status == 404
    assert (await http.request("GET", KEY)).body == b"12345"


async def test_an_empty_value_is_a_value(http: RawHttp) -> None:
    await http.request("PUT", KEY, TEXT)
    got = await http.request("GET", KEY)
    assert (got.status, got.body, got.headers["content-length"]) == (200, b"", "0")


async def test_the_three_ways_to_say_a_path_name_one_object(http: RawHttp) -> None:
    await http.request("PUT", "/types/default/buckets/carts/keys/alice", TEXT, b"1")
    assert (await http.request("GET", KEY)).body == b"1"
    assert (await http.request("GET", "/riak/carts/alice")).body == b"1"
    assert (await http.request("GET", "/types/other/buckets/carts/keys/alice")).status == 404


async def test_post_with_a_key_is_put(http: RawHttp) -> None:
    assert (await http.request("POST", KEY, TEXT, b"1")).status == 204
    assert (await http.request("GET", KEY)).body == b"1"


async def test_two_blind_writes_are_siblings_until_a_context_resolves_them(http: RawHttp) -> None:
    await http.request("PUT", KEY, TEXT, b"one")
    await http.request("PUT", KEY, TEXT, b"two")
    both = await http.request("GET", KEY)
    assert (both.status, both.headers["content-type"]) == (300, "text/plain")
    title, *vtags = both.body.decode().splitlines()
    assert title == "Siblings:"
    values = [(await http.request("GET", f"{KEY}?vtag={vtag}")).body for vtag in vtags]
    assert sorted(values) == [b"one", b"two"]

    context = {"X-Riak-Vclock": both.headers["x-riak-vclock"]}
    assert (await http.request("PUT", KEY, TEXT | context, b"merged")).status == 204
    got = await http.request("GET", KEY)
    assert (got.status, got.body) == (200, b"merged")


async def test_a_vtag_that_is_not_there_is_404_with_the_context(http: RawHttp) -> None:
    await http.request("PUT", KEY, TEXT, b"one")
    got = await http.request("GET", f"{KEY}?vtag=0123")
    assert (got.status, got.json()["code"]) == (404, "not_found")
    assert got.headers["x-riak-vclock"]


def _parts(content_type: str, body: bytes) -> list[Message]:
    whole = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    parts = whole.get_payload()
    assert isinstance(parts, list)
    return [part for part in parts if isinstance(part, Message)]


async def test_multipart_holds_every_sibling(http: RawHttp) -> None:
    await http.request("PUT", KEY, TEXT | {"X-Riak-Meta-Who": "a"}, b"one\r\n--x\r\n")
    await http.request("PUT", KEY, {"Content-Type": "text/html"}, b"<two>")
    got = await http.request("GET", KEY, {"Accept": "multipart/mixed, application/json, */*;q=0.5"})
    assert got.status == 300
    first, second = _parts(got.headers["content-type"], got.body)
    assert first.get_payload(decode=True) == b"one\r\n--x\r\n"
    assert (first["Content-Type"], first["X-Riak-Meta-Who"]) == ("text/plain", "a")
    assert second.get_payload(decode=True) == b"<two>"
    assert second["Last-Modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert (await http.request("GET", f"{KEY}?vtag={second['Etag']}")).body == b"<two>"
    assert got.body.count(b"\n") == got.body.count(b"\r\n")


def test_no_value_can_end_the_multipart_it_is_in() -> None:
    def sibling(counter: int, value: bytes) -> Sibling:
        content = encode_content(Content(value, b"text/plain"))
        return Sibling(b"\x01" + b"\x02" * 8 + b"\x01", counter, VALUE, 0, 0, 0, b"h" * 16, content)

    boundary, _ = multipart_body((sibling(1, b"a"), sibling(2, b"b")))
    value = b"\r\n--" + boundary + b"--\r\n"
    another, body = multipart_body((sibling(1, value), sibling(2, b"b")))
    assert another != boundary
    first, second = _parts(f"multipart/mixed; boundary={another.decode()}", body)
    assert (first.get_payload(decode=True), second.get_payload(decode=True)) == (value, b"b")


async def test_json_holds_every_sibling_and_the_context(http: RawHttp) -> None:
    await http.request("PUT", KEY, TEXT | {"X-Riak-Meta-Who": "a"}, "h\xe9".encode())
    await http.request("PUT", KEY, {"Content-Type": "image/png"}, b"\x89PNG\xff")
    got = await http.request("GET", KEY, {"Accept": "application/json"})
    assert (got.status, got.headers["content-type"]) == (300, "application/json")
    text, image = got.json()["siblings"]
    assert (text["value"], text["metadata"]) == ("h\xe9", [["who", "a"]])
    assert b64decode(image["value_base64"]) == b"\x89PNG\xff"
    assert image["content_type"] == "image/png"
    assert got.json()["context"] == got.headers["x-riak-vclock"]


async def test_a_deleted_key_is_404_with_the_context_that_covers_it(http: RawHttp) -> None:
    await http.request("PUT", KEY, TEXT, b"1")
    context = (await http.request("GET", KEY)).headers["x-riak-vclock"]
    deleted = await http.request("DELETE", KEY, {"X-Riak-Vclock": context})
    assert (deleted.status, deleted.headers["x-dynamo-acks"]) == (204, "primary=2,fallback=0")

    gone = await http.request("GET", KEY)
    assert (gone.status, gone.headers["x-riak-deleted"]) == (404, "true")
    assert gone.headers["x-riak-vclock"] not in ("", context)
    assert (await http.request("DELETE", KEY)).status == 404
    covered = TEXT | {"X-Riak-Vclock": gone.headers["x-riak-vclock"]}
    assert (await http.request("PUT", KEY, covered, b"2")).status == 204
    assert (await http.request("GET", KEY)).body == b"2"


async def test_a_key_never_written_is_404_without_context(http: RawHttp) -> None:
    for method in ("GET", "DELETE"):
        absent = await http.request(method, KEY)
        assert (absent.status, absent.json()["code"]) == (404, "not_found")
        assert not {"x-riak-vclock", "x-riak-deleted"} & set(absent.headers)


async def test_returnbody_answers_with_what_a_get_would_show(http: RawHttp) -> None:
    one = await http.request("PUT", f"{KEY}?returnbody=true", TEXT, b"1")
    assert (one.status, one.body) == (200, b"1")
    assert one.headers["x-riak-vclock"]
    two = await http.request("PUT", f"{KEY}?returnbody=true", TEXT, b"2")
    assert two.status == 300
    assert two.headers["x-dynamo-acks"] == "primary=2,fallback=0"
    got = await http.request("GET", KEY)
    assert (got.body, got.headers["x-riak-vclock"]) == (two.body, two.headers["x-riak-vclock"])


async def test_a_generated_key_is_201_and_found_at_its_location(http: RawHttp) -> None:
    for path in (
        "/buckets/a%2Fb/keys",
        "/buckets/a%2Fb/keys/",
        "/types/t/buckets/a%2Fb/keys",
        "/riak/a%2Fb",
    ):
        made = await http.request("POST", f"{path}?returnbody=true", TEXT, b"1")
        assert (made.status, made.body) == (201, b"1")
        location = made.headers["location"]
        assert location.startswith(path.rstrip("/") + "/")
        assert (await http.request("GET", location)).body == b"1"
    again = await http.request("POST", "/buckets/a%2Fb/keys", TEXT, b"1")
    assert (again.status, again.body) == (201, b"")
    assert again.headers["location"] != location


async def test_a_location_carries_no_byte_of_the_bucket_undone(http: RawHttp) -> None:
    made = await http.request("POST", "/buckets/%0d%0aSet-Cookie%3a+x/keys", TEXT, b"1")
    assert made.status == 201
    assert "set-cookie" not in made.headers
    assert made.headers["location"].startswith("/buckets/%0D%0ASet-Cookie%3A%20x/keys/")


async def test_options_reach_the_store_and_the_timeout_is_echoed(
    http: RawHttp, backend: MemoryBackend
) -> None:
    query = "r=3&pr=one&node_confirms=2&notfound_ok=false&basic_quorum=true&timeout=1234"
    got = await http.request("GET", f"{KEY}?{query}&read_repair=blocking&unknown=x")
    assert got.headers["x-dynamo-timeout"] == "1234"
    assert backend.read_options == ReadOptions(
        r=3,
        pr="one",
        node_confirms=2,
        notfound_ok=False,
        basic_quorum=True,
        timeout_ms=1234,
        read_repair="blocking",
    )
    await http.request("PUT", f"{KEY}?w=all&pw=1&dw=2&node_confirms=1", TEXT, b"1")
    assert backend.write_options == WriteOptions(w="all", pw=1, dw=2, node_confirms=1)
    await http.request("DELETE", f"{KEY}?rw=3&w=2")
    assert backend.write_options == WriteOptions(w=2, r=3)


async def test_a_timeout_that_is_too_long_is_clamped_and_said(http: RawHttp) -> None:
    for huge in ("300001", "9" * 5000):
        got = await http.request("GET", f"{KEY}?timeout={huge}")
        assert (got.status, got.headers["x-dynamo-timeout"]) == (404, "300000")


async def test_a_condition_that_fails_is_412_and_writes_nothing(
    http: RawHttp, backend: MemoryBackend
) -> None:
    first = await http.request("PUT", KEY, TEXT | {"If-None-Match": "*"}, b"1")
    assert first.status == 204
    etag = first.headers["etag"]
    writes = backend.writes
    for name, value in (
        ("If-None-Match", "*"),
        ("If-None-Match", f'"x", {etag}'),
        ("If-Match", '"x"'),
        ("If-Match", '"*"'),
        ("If-Match", f"W/{etag}"),
        ("If-Unmodified-Since", "Tue, 14 Nov 2023 22:13:19 GMT"),
        ("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("If-Unmodified-Since", "Monday, 13-Nov-23 22:13:20 GMT"),
        ("If-Unmodified-Since", "Mon Nov 13 22:13:20 2023"),
    ):
        refused = await http.request("PUT", KEY, TEXT | {name: value}, b"2")
        assert (refused.status, refused.json()["code"]) == (412, "precondition_failed"), name
    assert (await http.request("DELETE", KEY, {"If-Match": '"x"'})).status == 412
    assert backend.writes == writes
    for name, value in (
        ("If-Match", etag),
        ("If-Match", "*"),
        ("If-None-Match", '"x"'),
        ("If-Unmodified-Since", "Tue, 14 Nov 2023 22:13:20 GMT"),
    ):
        backend.records.clear()
        await backend.put(
            b"default", b"carts", b"alice", Content(b"1", b"a/b"), b"", WriteOptions()
        )
        etag = (await http.request("GET", KEY)).headers["etag"]
        value = etag if name == "If-Match" and value != "*" else value
        assert (await http.request("PUT", KEY, TEXT | {name: value}, b"2")).status == 204, name


async def test_a_write_if_not_modified_goes_by_the_context_and_is_409_otherwise(
    http: RawHttp, backend: MemoryBackend
) -> None:
    async def write(method: str, context: str, **more: str) -> tuple[int, str]:
        given = {**TEXT, "X-Riak-If-Not-Modified": context, **more}
        reply = await http.request(method, KEY, given, b"new" if method == "PUT" else b"")
        return reply.status, reply.json()["code"] if reply.body else ""

    async def context() -> str:
        return (await http.request("GET", KEY)).headers["x-riak-vclock"]

    await http.request("PUT", KEY, TEXT, b"1")
    first = await context()
    assert await write("PUT", first, **{"X-Riak-Vclock": first}) == (204, "")
    second = await context()
    writes = backend.writes
    for method in ("PUT", "DELETE"):
        assert await write(method, first, **{"X-Riak-Vclock": first}) == (409, "modified")
        assert await write(method, "AAAA") == (400, "bad_context")
    assert await write("PUT", second, **{"If-Match": '"x"'}) == (409, "modified")
    elsewhere = KEY + "2"
    for target, headers in ((elsewhere, {}), (KEY, {"Expect": "100-continue"})):
        given = {**TEXT, "X-Riak-If-Not-Modified": second[:-4] + "AAA=", **headers}
        assert (await http.request("PUT", target, given, b"")).status == 400
    assert backend.writes == writes
    assert await write("DELETE", second, **{"X-Riak-Vclock": second}) == (204, "")
    assert await write("PUT", second) == (409, "modified")  # it was deleted since
    assert await write("PUT", await context()) == (204, "")
    context_of_nothing = await context()
    backend.records.clear()
    assert await write("PUT", context_of_nothing) == (409, "modified")


async def test_a_read_whose_copy_is_current_is_304(http: RawHttp) -> None:
    etag = (await http.request("PUT", KEY, TEXT, b"1")).headers["etag"]
    for method in ("GET", "HEAD"):
        for name, value, status in (
            ("If-None-Match", etag, 304),
            ("If-None-Match", f"W/{etag}", 304),
            ("If-None-Match", "*", 304),
            ("If-None-Match", '"x"', 200),
            ("If-Modified-Since", "Tue, 14 Nov 2023 22:13:20 GMT", 304),
            ("If-Modified-Since", "Tue, 14 Nov 2023 22:13:19 GMT", 200),
            ("If-Match", '"x"', 412),
            ("If-Match", etag, 200),
            ("If-Unmodified-Since", "Tue, 14 Nov 2023 22:13:19 GMT", 412),
        ):
            got = await http.request(method, KEY, {name: value})
            assert got.status == status, (method, name, value)
            if status == 304:
                assert got.body == b""
                assert got.headers["etag"] == etag
                assert got.headers["x-riak-vclock"]
    both = {"If-None-Match": '"x"', "If-Modified-Since": "Tue, 14 Nov 2023 22:13:20 GMT"}
    assert (await http.request("GET", KEY, both)).status == 200


async def test_siblings_that_are_known_are_304_too(http: RawHttp, backend: MemoryBackend) -> None:
    await http.request("PUT", KEY, TEXT, b"1")
    backend.now_ms += 2000
    await http.request("PUT", KEY, TEXT, b"2")
    got = await http.request("GET", KEY)
    etag, modified = got.headers["etag"], got.headers["last-modified"]
    assert modified == "Tue, 14 Nov 2023 22:13:22 GMT"
    assert (await http.request("GET", KEY, {"If-None-Match": etag})).status == 304
    assert (await http.request("GET", KEY, {"If-Modified-Since": modified})).status == 304
    assert (await http.request("GET", KEY, {"If-Unmodified-Since": modified})).status == 300


async def test_a_full_record_is_409_with_what_is_there(
    http: RawHttp, backend: MemoryBackend
) -> None:
    for number in range(100):
        assert (await http.request("PUT", KEY, TEXT, b"%d" % number)).status == 204
    full = await http.request("PUT", KEY, TEXT, b"one too many")
    assert full.status == 409
    body = full.json()
    assert (body["code"], body["outcome"], body["cap"]) == ("record_full", "none", "siblings")
    assert sorted(int(s["value"]) for s in body["siblings"]) == list(range(100))
    context = full.headers["x-riak-vclock"]
    assert body["context"] == context
    resolved = await http.request("PUT", KEY, TEXT | {"X-Riak-Vclock": context}, b"resolved")
    assert resolved.status == 204
    assert (await http.request("GET", KEY)).body == b"resolved"


async def test_metadata_with_control_characters_cannot_split_a_reply(
    http: RawHttp, backend: MemoryBackend
) -> None:
    content = Content(
        b"v",
        b"text/plain\r\nX-Evil: 1",
        b"gzip\x00",
        ((b"a: b\r\nX-Evil", b"1\r\n\r\n<html>"),),
    )
    await backend.put(b"default", b"carts", b"alice", content, b"", WriteOptions())
    got = await http.request("GET", KEY)
    assert (got.status, got.body) == (200, b"v")
    assert "x-evil" not in got.headers
    assert got.headers["content-type"] == "text/plain%0D%0AX-Evil: 1"
    assert got.headers["x-riak-meta-a%3a%20b%0d%0ax-evil"] == "1%0D%0A%0D%0A<html>"


async def test_links_that_are_only_up_are_accepted(http: RawHttp) -> None:
    up = TEXT | {"Link": '</buckets/carts>; rel="up"'}
    assert (await http.request("PUT", KEY, up, b"1")).status == 204
