"""A reply whose body is made while it is sent: chunks, as fast as the client takes them.

A client of HTTP/1.0 gets the bytes as they are and the end of the connection. A body that cannot be
finished is cut off, so that no client takes it for whole. Knows nothing of what it says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import HttpVersion10, web
from aiohttp.abc import AbstractStreamWriter

from dynamo.http.reply import HttpReply, drain
from dynamo.http.request import Request

logger = logging.getLogger(__name__)


class StreamReply(HttpReply):
    """A 200 in pieces. Its handler sends it, while the server counts the request as running."""

    def __init__(self, fields: bytes) -> None:
        """`fields`: header lines, each with its CRLF."""
        super().__init__(200, fields)
        self._broken = False

    async def send(self, request: Request, body: AsyncGenerator[bytes, None]) -> None:
        """Send all of it, close `body` in any case. Never raises for a client that is gone, or reads
        nothing: that ends the connection, counted."""
        try:
            async with aclosing(body):
                await self._send(request, body)
        except ConnectionError:
            self._broken = True
            request.edge.metrics.count["http_streams_cut_off"] += 1
        except asyncio.CancelledError:
            self._abort_stream(request)
            raise
        except Exception as error:  # logged; half a reply cannot become an error
            request.edge.metrics.count["http_failures"] += 1
            logger.error("request %s failed", request.id.decode("ascii"), exc_info=error)
            self._abort_stream(request)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """It has been sent. Raises ConnectionResetError where that was cut off."""
        if self._broken:
            raise ConnectionResetError("the client went away")
        return None

    async def _send(self, request: Request, body: AsyncGenerator[bytes, None]) -> None:
        message, protocol, edge = request._message, request._protocol, request.edge
        last = getattr(protocol, "ended", False) and not protocol._messages
        chunked = message.version != HttpVersion10
        self._keep_alive = chunked and not (message.should_close or edge.closing or last)
        head = b"HTTP/1.1 200 OK\r\n%bX-Request-Id: %b\r\n%b%b%b\r\n" % (
            edge.stamp(),
            request.id,
            self._fields,
            b"Transfer-Encoding: chunked\r\n" if chunked else b"",
            b"" if self._keep_alive else b"Connection: close\r\n",
        )
        # aiohttp must not add an error page of its own to what is sent here.
        request._payload_writer.output_size += len(head)
        transport = _open(request)
        transport.write(head)
        if message.method == "HEAD":
            return
        async for piece in body:
            transport = _open(request)
            if piece:
                transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                if protocol.writing_paused:
                    await drain(request, transport)
        if chunked:
            _open(request).write(b"0\r\n\r\n")

    def _abort_stream(self, request: Request) -> None:
        self._broken = True
        request.edge.metrics.count["http_streams_cut_off"] += 1
        transport = request._protocol.transport
        if transport is not None:
            transport.abort()


def _open(request: Request) -> asyncio.Transport:
    """The connection. Raises ConnectionResetError if the client is gone."""
    transport = request._protocol.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client went away")
    return transport
