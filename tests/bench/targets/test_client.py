"""The client says apart what was not sent and what had no answer, whatever the other side does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from bench.targets.client import Broken, Client, NotSent

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Some: thing\r\n\r\nhi"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def address_of(server: asyncio.Server) -> str:
    return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[Client]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client is gone
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    client = Client(address_of(server))
    try:
        yield client
    finally:
        client.close()
        server.close()
        await server.wait_closed()


def answering(*pieces: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)

    return serve


async def test_an_answer_in_pieces_is_put_together() -> None:
    async with served(answering(OK[:5], OK[5:30], OK[30:-1], OK[-1:])) as client:
        answer = await client.ask(REQUEST, 5.0)
    assert (answer.status, answer.fields[b"x-some"], answer.body) == (200, b"thing", b"hi")


async def test_a_connection_is_used_again_and_others_are_made_for_those_beside() -> None:
    async with served(answering(OK)) as client:
        for _ in range(3):
            await client.ask(REQUEST, 5.0)
        assert repr(client).endswith("open=1 idle=1)")
        await asyncio.gather(*(client.ask(REQUEST, 5.0) for _ in range(4)))
        assert repr(client).endswith("open=4 idle=4)")


async def test_nobody_there_is_not_sent() -> None:
    server = await asyncio.start_server(answering(OK), "127.0.0.1", 0)
    address = address_of(server)
    server.close()
    await server.wait_closed()
    with pytest.raises(NotSent):
        await Client(address).ask(REQUEST, 5.0)


async def test_one_connection_too_many_is_not_sent() -> None:
    async with served(answering()) as client:
        client._connections_max = 1
        first = asyncio.ensure_future(client.ask(REQUEST, 0.2))
        await asyncio.sleep(0.05)
        with pytest.raises(NotSent, match="in use"):
            await client.ask(REQUEST, 5.0)
        with pytest.raises(Broken):
            await first


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (OK[:-1],),
        (b"SSH-2.0-x\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * (65 << 10),),
    ],
)
async def test_no_whole_answer_in_time_is_broken(pieces: tuple[bytes, ...]) -> None:
    async with served(answering(*pieces)) as client:
        with pytest.raises(Broken):
            await client.ask(REQUEST, 0.2)
        assert "idle=0" in repr(client)


async def test_a_connection_that_ends_instead_of_an_answer_is_broken() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with served(hang_up) as client:
        with pytest.raises(Broken, match="closed"):
            await client.ask(REQUEST, 5.0)


async def test_a_connection_that_the_server_ends_is_not_used_again() -> None:
    closing = OK.replace(b"X-Some: thing", b"Connection: close")
    async with served(answering(closing)) as client:
        await client.ask(REQUEST, 5.0)
        await client.ask(REQUEST, 5.0)
        await asyncio.sleep(0.05)
        assert repr(client).endswith("open=0 idle=0)")


async def test_who_is_cancelled_leaves_no_answer_to_the_next() -> None:
    async with served(answering(OK)) as client:
        first = asyncio.ensure_future(client.ask(REQUEST, 5.0))
        while "open=1" not in repr(client):
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await client.ask(REQUEST, 5.0)).body == b"hi"
