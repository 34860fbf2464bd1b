"""What the edge does when there is too much: refuse before anything is done, and stay in step."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest
from memory_backend import MemoryBackend
from raw_http import RawHttp, Reply

from dynamo.admission import Admission
from dynamo.clock import SystemClock
from dynamo.http.ids import Ids
from dynamo.http.limits import Limits
from dynamo.http.server import HttpServer
from dynamo.metrics import Metrics

KEY = "/buckets/b/keys/k"
TEXT = {"Content-Type": "text/plain"}
REQUESTS_MAX = 4
VALUE_BYTES_MAX = 1 << 20
#: A PUT whose body does not come: it is in flight until its connection ends.
HALF = b"PUT /buckets/b/keys/half HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\n"
HALF += b"Content-Length: 10\r\n\r\nhalf"


class Node:
    """A server with room for REQUESTS_MAX requests and 2 MiB."""

    def __init__(self, *, body_hurry_s: float = 60.0) -> None:
        self.backend = MemoryBackend()
        self.metrics = Metrics()
        self.clock = SystemClock()
        self.admission = Admission(
            clock=self.clock,
            entropy=random.Random(1).randbytes,
            metrics=self.metrics,
            requests_max=REQUESTS_MAX,
            bytes_max=2 << 20,
        )
        self.server = HttpServer(
            backend=self.backend,
            clock=self.clock,
            ids=Ids(random=random.Random(2)),
            limits=Limits(
                value_bytes_max=VALUE_BYTES_MAX,
                connections_max=20,
                lingering_s=1.0,
                body_hurry_s=body_hurry_s,
            ),
            metrics=self.metrics,
            admission=self.admission,
        )
        self.address = ""

    async def until_running(self, count: int) -> None:
        async with asyncio.timeout(5):
            while self.admission.running != count:
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(node: Node) -> AsyncIterator[Node]:
    """The node serves; in the end nothing is in flight."""
    node.address = await node.server.start("127.0.0.1:0")
    yield node
    await node.server.close(drain_s=0.1)
    assert (node.admission.running, node.admission.bytes) == (0, 0)
    assert "clients=0" in repr(node.admission)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with running(Node()) as node:
        yield node


@contextlib.asynccontextmanager
async def full(node: Node, count: int = REQUESTS_MAX) -> AsyncIterator[None]:
    """So many requests are in flight."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            http = await stack.enter_async_context(RawHttp(node.address))
            await http.send(HALF)
        await node.until_running(count)
        yield


def assert_shed(reply: Reply, reason: str) -> None:
    body = reply.json()
    assert (reply.status, body["code"], body["outcome"]) == (503, "overloaded", "none")
    assert body["reason"] == reason
    assert reply.headers["retry-after"] == str(-(-body["retry_after_ms"] // 1000))
    assert 1 <= int(reply.headers["retry-after"]) <= 3


async def test_a_request_too_many_is_503_and_its_connection_goes_on(node: Node) -> None:
    async with RawHttp(node.address) as http:
        async with full(node):
            assert_shed(await http.request("PUT", KEY, TEXT, b"v"), "requests")
            assert_shed(await http.request("GET", KEY), "requests")
            assert_shed(await http.request("GET", "/buckets/b/keys?keys=true"), "requests")
            assert_shed(await http.request("GET", "/buckets/b/props"), "requests")
        await node.until_running(0)
        assert (await http.request("GET", KEY)).status == 404
        assert (await http.request("PUT", KEY, TEXT, b"v")).status == 204
    assert node.backend.writes == 1
    assert node.metrics.count["requests_shed_requests"] == 4


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/metrics", "/admin/status", "/ping", "/stats", "/"]
)
async def test_what_asks_about_the_node_is_answered_all_the_same(node: Node, path: str) -> None:
    async with full(node), RawHttp(node.address) as http:
        assert (await http.request("GET", path)).status == 200


async def test_who_waits_to_send_a_body_is_refused_without_a_100(node: Node) -> None:
    async with full(node), RawHttp(node.address) as http:
        await http.send(
            f"PUT {KEY} HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: 5\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        reply = await http.reply("PUT")
        assert_shed(reply, "requests")
        assert reply.headers["connection"] == "close"
        assert await http.is_closed()


@pytest.mark.parametrize("chunked", [False, True])
async def test_the_body_of_a_refused_upload_is_no_request(node: Node, chunked: bool) -> None:
    body = b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n" * 20_000
    if chunked:
        framing, sent = "Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        framing, sent = f"Content-Length: {len(body)}", body
    head = f"PUT {KEY} HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\n{framing}\r\n\r\n".encode()
    async with full(node), RawHttp(node.address) as http:
        await http.send(head)
        await asyncio.sleep(0.05)
        await http.send(sent)
        assert_shed(await http.reply("PUT"), "requests")
        assert (await http.request("GET", "/ping")).body == b"OK"
    assert node.backend.writes == 0


async def test_bytes_are_counted_by_what_is_declared_before_they_come(node: Node) -> None:
    head = "PUT {} HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\n{}\r\n\r\n"
    async with contextlib.AsyncExitStack() as stack:
        for framing in (f"Content-Length: {VALUE_BYTES_MAX}", "Transfer-Encoding: chunked"):
            http = await stack.enter_async_context(RawHttp(node.address))
            await http.send(head.format(KEY, framing).encode())
        await node.until_running(2)
        assert node.admission.bytes == 2 * VALUE_BYTES_MAX
        last = await stack.enter_async_context(RawHttp(node.address))
        assert_shed(await last.request("PUT", KEY, TEXT, b"v"), "bytes")
        assert (await last.request("GET", KEY)).status == 404
        too_large = await stack.enter_async_context(RawHttp(node.address))
        await too_large.send(head.format(KEY, "Content-Length: 99999999999").encode())
        assert_shed(await too_large.reply("PUT"), "bytes")
    await node.until_running(0)
    async with RawHttp(node.address) as http:
        await http.send(head.format(KEY, "Content-Length: 99999999999").encode())
        assert (await http.reply("PUT")).status == 413


@pytest.mark.parametrize("pieces", [b"", b"x" * 100])
async def test_who_sends_slowly_does_not_keep_out_the_others(pieces: bytes) -> None:
    """Each of them would be in its rights for a quarter of an hour, if there were room for all."""
    head = f"PUT {KEY} HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\n"
    head += f"Content-Length: {VALUE_BYTES_MAX}\r\n\r\n"
    async with running(Node(body_hurry_s=0.2)) as node, contextlib.AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(RawHttp(node.address)) for _ in range(2)]
        for http in slow:
            await http.send(head.encode())
        await node.until_running(2)
        last = await stack.enter_async_context(RawHttp(node.address))
        assert_shed(await last.request("PUT", KEY, TEXT, b"v"), "bytes")
        async with asyncio.timeout(5):
            while (await last.request("PUT", KEY, TEXT, b"v")).status == 503:
                await asyncio.sleep(0.05)
                with contextlib.suppress(ConnectionError):
                    for http in slow:
                        await http.send(pieces)
        # The other one is in nobody's way now.
        assert node.metrics.count["http_bodies_too_slow"] == 1
        assert node.admission.running == 1


async def test_who_sends_at_a_good_rate_keeps_its_place_however_full_the_node_is() -> None:
    async with running(Node(body_hurry_s=0.1)) as node, contextlib.AsyncExitStack() as stack:
        senders = [await stack.enter_async_context(RawHttp(node.address)) for _ in range(2)]
        for http in senders:
            await http.send(
                f"PUT {KEY} HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\n"
                f"Content-Length: {VALUE_BYTES_MAX}\r\n\r\n".encode()
            )
        for _ in range(16):
            for http in senders:
                await http.send(bytes(VALUE_BYTES_MAX // 16))
            await asyncio.sleep(0.05)
        assert [(await http.reply("PUT")).status for http in senders] == [204, 204]


async def test_who_has_more_than_its_share_is_429_while_another_comes(node: Node) -> None:
    async with from_elsewhere(node) as other:
        assert (await other.request("PUT", KEY, TEXT, b"v")).status == 204
        async with full(node, 3), RawHttp(node.address) as http:
            reply = await http.request("PUT", KEY, TEXT, b"w")
            body = reply.json()
            assert (reply.status, body["code"]) == (429, "too_many_requests")
            assert body["outcome"] == "none"
            assert reply.headers["retry-after"] == str(-(-body["retry_after_ms"] // 1000))
            assert (await other.request("GET", KEY)).body == b"v"
    assert node.metrics.count["requests_shed_share"] == 1


@contextlib.asynccontextmanager
async def from_elsewhere(node: Node) -> AsyncIterator[RawHttp]:
    """A connection from another address of this machine."""
    http = RawHttp(node.address)
    host, _, port = node.address.rpartition(":")
    try:
        http.reader, http.writer = await asyncio.open_connection(
            host, int(port), local_addr=("127.0.0.2", 0)
        )
    except OSError:
        pytest.skip("this machine has one loopback address")
    try:
        yield http
    finally:
        http.writer.transport.abort()
        await asyncio.sleep(0)


async def test_above_the_limit_of_connections_the_node_can_still_be_asked_how_it_is(
    node: Node,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            http = await stack.enter_async_context(RawHttp(node.address))
            assert (await http.request("GET", "/ping")).status == 200
        async with RawHttp(node.address) as more:
            reply = await more.request("GET", "/health/live")
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert await more.is_closed()
        async with RawHttp(node.address) as more:
            reply = await more.request("PUT", KEY, TEXT, b"v")
            assert (reply.status, reply.json()["code"]) == (503, "too_many_connections")
            assert (reply.headers["retry-after"], reply.headers["connection"]) == ("1", "close")
            assert await more.is_closed()
        async with contextlib.AsyncExitStack() as reserved:
            for _ in range(16):
                await reserved.enter_async_context(RawHttp(node.address))
            async with RawHttp(node.address) as last:
                assert (await last.reply()).json()["code"] == "too_many_connections"
                assert await last.is_closed()
            # Who keeps such a connection and asks nothing loses it.
            await asyncio.sleep(2.5)
            async with RawHttp(node.address) as last:
                assert (await last.request("GET", "/health/live")).status == 200
    assert node.backend.writes == 0


async def test_a_client_that_leaves_in_the_middle_gives_its_place_back(node: Node) -> None:
    for _ in range(3 * REQUESTS_MAX):
        async with RawHttp(node.address) as http:
            await http.send(HALF)
            await node.until_running(1)
        await node.until_running(0)


async def test_what_is_in_flight_and_shed_is_on_the_metrics_page(node: Node) -> None:
    async with full(node), RawHttp(node.address) as http:
        await http.request("GET", KEY)
        page = (await http.request("GET", "/metrics")).body.decode()
    assert f"dynamo_requests_admitted {REQUESTS_MAX}\n" in page
    assert f"dynamo_requests_admitted_bytes {REQUESTS_MAX * 10}\n" in page
    assert "dynamo_loop_lag_seconds " in page
    assert 'dynamo_requests_shed_total{why="requests"} 1\n' in page
