"""What becomes of a client's connection: nothing of one that is over stays behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
from typing import Any

import pytest
from aiohttp.streams import StreamReader
from memory_backend import MemoryBackend
from raw_http import RawHttp

from dynamo.http.connection import Connection
from dynamo.http.reply import HttpReply
from dynamo.http.request import Request
from dynamo.http.server import HttpServer
from dynamo.metrics import Metrics

KEY = "/buckets/b/keys/k"
TEXT = {"Content-Type": "text/plain"}


def _left_to_write(server: HttpServer) -> list[int]:
    assert server._web is not None
    return [transport.get_write_buffer_size() for transport in server._web.transports()]


async def _deaf_client(server: HttpServer, address: str, last: bytes) -> socket.socket:
    """A client that reads nothing, and has sent requests until replies wait in the server, though
    not so many that a request waits with them; `last` is another header of each."""
    host, _, port = address.rpartition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (host, int(port)))
    while not any(_left_to_write(server)):
        await loop.sock_sendall(
            client, b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (KEY.encode(), last)
        )
        await asyncio.sleep(0.002)
    return client


@pytest.mark.impatient(reply_stall_s=0.5)
async def test_a_client_that_never_reads_its_last_replies_is_let_go(
    address: str, server: HttpServer, metrics: Metrics
) -> None:
    async with RawHttp(address) as http:
        await http.request("PUT", KEY, TEXT, bytes(4096))
    client = await _deaf_client(server, address, b"")
    try:
        async with asyncio.timeout(10):
            while _left_to_write(server):
                await asyncio.sleep(0.05)
    finally:
        client.close()
    assert metrics.count["http_replies_stalled"] == 1


@pytest.mark.impatient(reply_stall_s=0.5)
async def test_a_client_that_asked_to_close_and_never_reads_is_let_go(
    address: str, server: HttpServer, metrics: Metrics
) -> None:
    async with RawHttp(address) as http:
        await http.request("PUT", KEY, TEXT, bytes(4096))
    client = await _deaf_client(server, address, b"")
    try:
        await asyncio.get_running_loop().sock_sendall(
            client, b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        async with asyncio.timeout(10):
            while _left_to_write(server):
                await asyncio.sleep(0.05)
    finally:
        client.close()
    assert metrics.count["http_replies_stalled"] == 1


@pytest.mark.impatient(reply_stall_s=0.5)
async def test_a_client_that_reads_late_gets_all_of_its_last_replies(
    address: str, server: HttpServer, metrics: Metrics
) -> None:
    async with RawHttp(address) as http:
        await http.request("PUT", KEY, TEXT, bytes(4096))
    client = await _deaf_client(server, address, b"")
    loop = asyncio.get_running_loop()
    try:
        await asyncio.sleep(0.6)  # the server closes, with replies left to write
        while _left_to_write(server):
            await loop.sock_recv(client, 1 << 16)
            await asyncio.sleep(0.001)
    finally:
        client.close()
    assert not metrics.count["http_replies_stalled"]


async def test_an_idle_connection_keeps_nothing_of_its_last_request(
    http: RawHttp, backend: MemoryBackend
) -> None:
    await http.request("PUT", KEY, {**TEXT, "X-Riak-Meta-A": "a" * 20_000}, bytes(4096))
    assert (await http.request("GET", KEY)).status == 200
    await asyncio.sleep(0.05)
    gc.collect()
    assert [kept for kept in gc.get_objects() if isinstance(kept, HttpReply)] == []
    # Of the body of the last request only that it has ended is asked for.
    assert [kept for kept in gc.get_objects() if _is_message(kept)] == []


def _is_message(kept: Any) -> bool:
    return type(kept).__name__ == "RawRequestMessage" and kept.path == KEY


async def test_a_refused_body_whose_client_is_gone_is_no_error(server: HttpServer) -> None:
    await server.start("127.0.0.1:0")
    assert server._web is not None
    connection = server._web()
    assert isinstance(connection, Connection)
    body = StreamReader(connection, 1 << 16, loop=asyncio.get_running_loop())
    with pytest.raises(ConnectionResetError):
        await connection._linger(body)


async def test_nobody_waits_for_the_rest_of_a_refused_body_of_a_client_that_is_gone(
    address: str,
) -> None:
    idle = asyncio.all_tasks()
    async with RawHttp(address) as http:
        await http.send(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        assert (await http.reply()).status == 404
        assert asyncio.all_tasks() - idle
    async with asyncio.timeout(1):
        while asyncio.all_tasks() - idle:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("error", [OSError(errno.EHOSTUNREACH, "no route"), TimeoutError(110)])
async def test_a_body_ends_alike_however_the_connection_is_lost(
    error: OSError, backend: MemoryBackend, http: RawHttp, server: HttpServer, metrics: Metrics
) -> None:
    await http.send(
        b"PUT /buckets/b/keys/k HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\n"
        b"Content-Length: 5\r\n\r\nhe"
    )
    await asyncio.sleep(0.05)
    assert server._web is not None
    (connection,) = server._web._connections
    connection.connection_lost(error)
    await asyncio.sleep(0.05)
    assert metrics.count["http_bodies_cut_off"] == 1
    assert metrics.count["http_failures"] == 0
    assert not backend.records


UPGRADE = b"Host: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
PING = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_an_upgrade_that_nobody_knows_is_passed_over(http: RawHttp) -> None:
    await http.send(b"GET /ping HTTP/1.1\r\n" + UPGRADE + b"\r\n")
    assert "connection" not in (await http.reply()).headers
    put = b"PUT /buckets/b/keys/k HTTP/1.1\r\n" + UPGRADE
    await http.send(put + b"Content-Type: a/b\r\nContent-Length: 5\r\n\r\nhello")
    reply = await http.reply()
    assert (reply.status, reply.headers.get("connection")) == (204, None)
    assert (await http.request("GET", KEY)).body == b"hello"


@pytest.mark.parametrize("split", [0, 3])
async def test_what_comes_along_with_an_unknown_upgrade_is_not_lost_without_a_word(
    split: int, http: RawHttp
) -> None:
    put = b"PUT /buckets/b/keys/k HTTP/1.1\r\n" + UPGRADE
    head, body = put + b"Content-Type: a/b\r\nContent-Length: 5\r\n\r\n", b"hello"
    await http.send(head + body[:split])
    if split:
        await asyncio.sleep(0.05)
    await http.send(body[split:] + PING)
    reply = await http.reply()
    assert reply.status == 204
    assert reply.headers["connection"] == "close"
    assert await http.is_closed()


async def test_a_client_that_ends_while_its_reply_is_written_is_closed(
    server: HttpServer, address: str
) -> None:
    async with RawHttp(address) as http:
        await http.request("PUT", KEY, TEXT, bytes(4096))
    client = await _deaf_client(server, address, b"")
    loop = asyncio.get_running_loop()
    try:
        get = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % KEY.encode()
        while max(_left_to_write(server)) <= 1 << 16:  # until one waits for the client
            await loop.sock_sendall(client, get)
            await asyncio.sleep(0.002)
        client.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            while await loop.sock_recv(client, 1 << 16):
                pass
    finally:
        client.close()


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_condition_that_fails_keeps_no_request(address: str, method: str) -> None:
    """An error that is its own cause would keep it, body and all, until the collector comes."""
    async with RawHttp(address) as http:
        await http.request("PUT", KEY, TEXT, b"1")
        gc.collect()
        gc.disable()
        try:
            reply = await http.request(method, KEY, {**TEXT, "If-Match": '"other"'}, b"2")
            assert reply.status == 412
            await http.request("GET", "/ping")
            assert not [o for o in gc.get_objects() if isinstance(o, Request)]
        finally:
            gc.enable()
