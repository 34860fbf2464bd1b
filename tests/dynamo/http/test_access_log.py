"""The access log: one line a reply, of what may be known."""

from __future__ import annotations

import io
import json
import logging
import random
from collections.abc import AsyncIterator, Iterator

import pytest
from memory_backend import MemoryBackend
from raw_http import RawHttp

from dynamo.cli.logs import JsonFormatter, LineFormatter
from dynamo.clock import SystemClock
from dynamo.http.ids import Ids
from dynamo.http.server import HttpServer

FIELDS = {"time", "level", "logger", "message", "node", "peer", "method", "target", "status"} | {
    *("bytes", "ms", "request_id")
}


@pytest.fixture(params=[JsonFormatter("n1"), LineFormatter()], ids=["json", "text"])
def log(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What the access log's logger writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(request.param)
    logger = logging.getLogger("dynamo.access")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


@pytest.fixture
async def server(backend: MemoryBackend) -> AsyncIterator[HttpServer]:
    server = HttpServer(
        backend=backend,
        clock=SystemClock(),
        ids=Ids(random=random.Random(1)),
        access_log=True,
    )
    yield server
    await server.close(drain_s=1)


@pytest.mark.parametrize("log", [JsonFormatter("n1")], indirect=True)
async def test_a_line_has_what_was_asked_and_answered(http: RawHttp, log: io.StringIO) -> None:
    secret = {"Content-Type": "a/b", "X-Riak-Meta-Token": "sesame", "X-Request-Id": "mine"}
    await http.request("PUT", "/buckets/b/keys/k?w=2", secret, b"the value")
    got = await http.request("GET", "/buckets/b/keys/k")
    await http.request("HEAD", "/buckets/b/keys/k")
    await http.request("GET", "/nothing")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert all(set(line) == FIELDS for line in lines)
    assert [(line["method"], line["target"], line["status"], line["bytes"]) for line in lines] == [
        ("PUT", "/buckets/b/keys/k?w=2", 204, 0),
        ("GET", "/buckets/b/keys/k", 200, 9),
        ("HEAD", "/buckets/b/keys/k", 200, 0),
        ("GET", "/nothing", 404, lines[3]["bytes"]),
    ]
    assert [line["request_id"] for line in lines[:2]] == ["mine", got.headers["x-request-id"]]
    own = http.writer.get_extra_info("sockname")
    assert {line["peer"] for line in lines} == {f"127.0.0.1:{own[1]}"}
    assert all(0 < line["ms"] < 20_000 for line in lines)
    for hidden in ("sesame", "the value", got.headers["x-riak-vclock"]):
        assert hidden not in log.getvalue()


@pytest.mark.parametrize(
    "target", ["/buckets/b/keys/%0d%0aGET%20/", "/a\x7fb", "/a\x1b[31m", "/\xff\x85", '/"}\\']
)
async def test_no_target_can_forge_a_line(address: str, log: io.StringIO, target: str) -> None:
    async with RawHttp(address) as http:
        await http.request("GET", target)
    text = log.getvalue()
    assert text.count("\n") == 1
    assert text.isascii()
    assert text.rstrip("\n").isprintable()


async def test_bytes_that_are_no_request_have_a_line_too(address: str, log: io.StringIO) -> None:
    async with RawHttp(address) as http:
        await http.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert (await http.reply()).status == 400
    assert log.getvalue().count("\n") == 1
    assert "400" in log.getvalue()
