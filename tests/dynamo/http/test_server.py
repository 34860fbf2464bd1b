"""Starting and stopping: nothing that runs is cut off, nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket

import pytest
from memory_backend import MemoryBackend
from raw_http import RawHttp

from dynamo.clock import SystemClock
from dynamo.errors import ConfigError
from dynamo.http.ids import Ids
from dynamo.http.limits import VALUE_BYTES_LIMIT, Limits
from dynamo.http.server import HttpServer, parse_address
from dynamo.metrics import Metrics
from dynamo.requests import Found, ReadOptions


class SlowBackend(MemoryBackend):
    """A store whose reads wait until `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.asked = asyncio.Event()
        self.ended = 0
        self.tidy_s = 0.0

    async def get(
        self, bucket_type: bytes, bucket: bytes, key: bytes, options: ReadOptions
    ) -> Found:
        self.asked.set()
        try:
            await self.go.wait()
            return await super().get(bucket_type, bucket, key, options)
        finally:
            await asyncio.sleep(self.tidy_s)
            self.ended += 1


@pytest.fixture
async def backend() -> SlowBackend:
    return SlowBackend()


def _others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_close_lets_a_running_request_finish(
    server: HttpServer, http: RawHttp, backend: SlowBackend
) -> None:
    await http.send(b"GET /buckets/b/keys/k HTTP/1.1\r\nHost: x\r\n\r\n")
    await backend.asked.wait()
    closing = asyncio.create_task(server.close(drain_s=5))
    await asyncio.sleep(0.05)
    assert not closing.done()
    backend.go.set()
    reply = await http.reply()
    assert (reply.status, reply.headers["connection"]) == (404, "close")
    await closing
    assert await http.is_closed()


async def test_close_cuts_off_what_takes_too_long_and_leaves_no_task(
    server: HttpServer, address: str, backend: SlowBackend, metrics: Metrics
) -> None:
    backend.tidy_s = 0.2
    before = _others()
    async with RawHttp(address) as busy, RawHttp(address) as idle:
        await busy.send(b"GET /buckets/b/keys/k HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await idle.request("GET", "/ping")).body == b"OK"
        await backend.asked.wait()
        await server.close(drain_s=0.1)
        assert backend.ended == 1
        assert _others() <= before
        assert await busy.is_closed()
        assert await idle.is_closed()
    assert metrics.count["http_requests_cut_off"] == 1
    with pytest.raises(ConnectionRefusedError):
        await RawHttp(address).__aenter__()


async def test_close_ends_a_request_whose_client_is_long_gone(
    server: HttpServer, address: str, backend: SlowBackend
) -> None:
    before = _others()
    async with RawHttp(address) as http:
        await http.send(b"GET /buckets/b/keys/k HTTP/1.1\r\nHost: x\r\n\r\n")
        await backend.asked.wait()
    await asyncio.sleep(0.05)
    await server.close(drain_s=0.1)
    assert backend.ended == 1
    assert _others() <= before


async def test_close_is_quick_when_nothing_runs_and_may_come_twice(
    server: HttpServer, address: str
) -> None:
    async with RawHttp(address) as idle:
        assert (await idle.request("GET", "/ping")).body == b"OK"
        async with asyncio.timeout(1):
            await server.close(drain_s=10)
            await server.close(drain_s=10)


async def test_a_server_that_stops_is_not_ready(
    server: HttpServer, address: str, backend: SlowBackend
) -> None:
    async with RawHttp(address) as busy, RawHttp(address) as probe:
        await probe.request("GET", "/ping")
        await busy.send(b"GET /buckets/b/keys/k HTTP/1.1\r\nHost: x\r\n\r\n")
        await backend.asked.wait()
        closing = asyncio.create_task(server.close(drain_s=5))
        await asyncio.sleep(0.05)
        got = await probe.request("GET", "/health/ready")
        assert (got.status, got.json()["reasons"]) == (503, ["the node is stopping"])
        backend.go.set()
        await closing


async def test_a_client_that_goes_away_does_not_stop_its_request(
    address: str, backend: SlowBackend, metrics: Metrics
) -> None:
    async with RawHttp(address) as http:
        await http.send(b"GET /buckets/b/keys/k HTTP/1.1\r\nHost: x\r\n\r\n")
        await backend.asked.wait()
    await asyncio.sleep(0.05)
    backend.go.set()
    await asyncio.sleep(0.05)
    assert backend.ended == 1
    assert metrics.count["http_failures"] == 0


async def test_a_client_that_does_not_read_its_reply_is_dropped() -> None:
    metrics = Metrics()
    server = HttpServer(
        backend=MemoryBackend(),
        clock=SystemClock(),
        ids=Ids(random=random.Random(2)),
        limits=Limits(value_bytes_max=VALUE_BYTES_LIMIT, reply_stall_s=0.2),
        metrics=metrics,
    )
    address = await server.start("127.0.0.1:0")
    # A loop with a listener left in it would never close.
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(server.close, drain_s=1)
        http = await stack.enter_async_context(RawHttp(address))
        # Left to itself a kernel may take all the replies for a client that reads none.
        tcp = socket.AF_INET, socket.SOCK_STREAM
        with socket.fromfd(http.writer.get_extra_info("socket").fileno(), *tcp) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        big = b"x" * VALUE_BYTES_LIMIT
        await http.request("PUT", "/buckets/b/keys/k", {"Content-Type": "a/b"}, big)
        assert (await http.request("GET", "/buckets/b/keys/k")).body == big
        http.writer.transport.pause_reading()  # type: ignore[attr-defined]
        get = b"GET /buckets/b/keys/k HTTP/1.1\r\nHost: x\r\n\r\n"
        await http.send(get * 3)
        async with asyncio.timeout(5):
            while not metrics.count["http_replies_stalled"]:
                await asyncio.sleep(0.02)


async def test_a_connection_too_many_is_told_503_and_closed_and_the_others_go_on() -> None:
    metrics = Metrics()
    server = HttpServer(
        backend=MemoryBackend(),
        clock=SystemClock(),
        ids=Ids(random=random.Random(2)),
        limits=Limits(connections_max=2, connections_reserved=0),
        metrics=metrics,
    )
    address = await server.start("127.0.0.1:0")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(server.close, drain_s=1)
        first = await stack.enter_async_context(RawHttp(address))
        assert (await first.request("GET", "/ping")).body == b"OK"
        async with RawHttp(address) as second:
            assert (await second.request("GET", "/ping")).body == b"OK"
            async with RawHttp(address) as third:
                reply = await third.reply()
                assert (reply.status, reply.json()["code"]) == (503, "too_many_connections")
                assert reply.json()["outcome"] == "none"
                assert (reply.headers["retry-after"], reply.headers["connection"]) == ("1", "close")
                assert await third.is_closed()
            assert (await first.request("GET", "/ping")).body == b"OK"
        await asyncio.sleep(0.05)
        async with RawHttp(address) as third:
            assert (await third.request("GET", "/ping")).body == b"OK"
    assert metrics.count["http_connections_turned_away"] == 1


async def test_an_address_that_is_taken_is_an_os_error(server: HttpServer, address: str) -> None:
    other = HttpServer(
        backend=MemoryBackend(), clock=SystemClock(), ids=Ids(random=random.Random(3))
    )
    with pytest.raises(OSError, match="in use"):
        await other.start(address)
    await other.close()


def test_an_address_is_host_and_port() -> None:
    assert parse_address("127.0.0.1:8098") == ("127.0.0.1", 8098)
    assert parse_address("[::1]:0") == ("::1", 0)
    for bad in (
        "",
        ":80",
        "host",
        "host:",
        "host:x",
        "host:65536",
        "::1:80",
        "host:-1",
        "host:\u0661",
    ):
        with pytest.raises(ConfigError):
            parse_address(bad)


def test_limits_are_within_their_own() -> None:
    for bad in (0, VALUE_BYTES_LIMIT + 1):
        with pytest.raises(ValueError, match="value_bytes_max"):
            Limits(value_bytes_max=bad)
    with pytest.raises(ValueError, match="timeout"):
        Limits(header_timeout_s=0)


def test_ids_are_distinct_and_safe_in_a_path() -> None:
    ids = Ids(random=random.Random(1))
    keys = {ids.key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(key.isalnum() and len(key) == 27 for key in keys)
    assert len({ids.request_id() for _ in range(1000)}) == 1000
    assert ids.request_id()[:16] != Ids(random=random.Random(2)).request_id()[:16]
