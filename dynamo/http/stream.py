"""A reply whose body is made while it is sent: chunks, as fast as the client takes them.

A client of HTTP/1.0 gets the bytes as they are and the end of the connection. A body that cannot be
finished is cut off, so that no client takes it for whole. Knows nothing of what it says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import HttpVersion10

from dynamo.http.reply import HttpReply, drain, is_last
from dynamo.http.request import Request

logger = logging.getLogger(__name__)


class StreamReply(HttpReply):
    """A 200 in pieces. Its handler sends it, while the server counts the request as running."""

    __slots__ = ("_broken", "_sent")

    def __init__(self, fields: bytes) -> None:
        """`fields`: header lines, each with its CRLF."""
        super().__init__(200, fields)
        self._broken = False
        self._sent = 0

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
        finally:
            self.note(request, self._sent)

    async def prepare(self, request: Request) -> None:
        """It has been sent. Raises ConnectionResetError where that was cut off."""
        if self._broken:
            raise ConnectionResetError("the client went away")

    async def _send(self, request: Request, body: AsyncGenerator[bytes, None]) -> None:
        message, protocol, edge = request._message, request._protocol, request.edge
        chunked = message.version != HttpVersion10
        closes = message.should_close or edge.closing or is_last(protocol)
        self.keep_alive = chunked and not closes
        head = b"HTTP/1.1 200 OK\r\n%bX-Request-Id: %b\r\n%b%b%b\r\n" % (
            edge.stamp(),
            request.id,
            self.fields,
            b"Transfer-Encoding: chunked\r\n" if chunked else b"",
            b"" if self.keep_alive else b"Connection: close\r\n",
        )
        transport = _open(request)
        transport.write(head)
        if message.method == "HEAD":
            return
        async for piece in body:
            transport = _open(request)
            if piece:
                self._sent += len(piece)
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
