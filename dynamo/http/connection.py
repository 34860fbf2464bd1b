"""A client's connection: aiohttp's, which parses, with a leaner way from request to reply.

One task a connection, which serves its requests one after the other: aiohttp makes another one for
every request, for the sake of context variables that nobody here has. Bad HTTP is answered in JSON,
and at once. Knows nothing of what requests ask for.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import ERROR, RequestPayloadError, _ErrInfo

from dynamo.admission import Client
from dynamo.http.errors import Refusal, failure_reply, refusal_reply
from dynamo.http.limits import FIELD_BYTES_MAX, TARGET_BYTES_MAX
from dynamo.http.refusals import refuse_method
from dynamo.http.reply import HttpReply
from dynamo.http.request import Edge, Request
from dynamo.http.routes import ALL_METHODS

_NOT_HTTP: Final = "the request is not well-formed HTTP"
_TOO_LONG: Final = (
    f"the request target is over {TARGET_BYTES_MAX} bytes, or a header over {FIELD_BYTES_MAX}"
)
#: A request line with a method and a target that HTTP allows (RFC 9110, 9.1), whoever knows them.
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/1\.[01]\r\n")

#: A client that is gone before it could be asked where it is.
UNKNOWN: Final = "unknown"

Serve = Callable[[Request], Awaitable[HttpReply]]


class Connections(web.Server):
    """Makes and knows the connections of one server. `serve`: answers a request; raises nothing but
    CancelledError."""

    def __init__(self, serve: Serve, *, edge: Edge, **settings: Any) -> None:
        super().__init__(serve, access_log=None, **settings)  # type: ignore[arg-type]
        self._serve = serve
        self._edge = edge

    def __call__(self) -> web.RequestHandler:
        return self._made(self._kwargs)

    def reserved(self) -> web.RequestHandler:
        """A connection above the limit: no client's, quick, and closed with its first reply."""
        header_s = self._edge.limits.reserved_header_s
        connection = self._made({**self._kwargs, "keepalive_timeout": header_s})
        connection.is_reserved = connection.ended = True
        return connection

    def _made(self, settings: dict[str, Any]) -> Connection:
        connection = Connection(self, loop=self._loop, **settings)
        connection.serve = self._serve
        connection.edge = self._edge
        connection._unread = connection._arriving = connection._stall = connection.client = None
        connection.is_reserved = connection.ended = False
        return connection

    def __len__(self) -> int:
        """How many are open."""
        return len(self._connections)

    def transports(self) -> list[asyncio.Transport]:
        """The open connections."""
        return list(self._connections.values())

    def tasks(self) -> list[asyncio.Task[None]]:
        """The task of each connection that still has one."""
        return [
            connection._task_handler
            for connection in self._connections
            if connection._task_handler is not None
        ]


class Connection(web.RequestHandler):
    """One client. Made by `Connections`."""

    __slots__ = (
        *("_arriving", "_stall", "_unread", "client", "edge", "ended", "is_reserved", "serve"),
    )
    edge: Edge
    serve: Serve
    #: The request line that what the parser could not read begins with, if it is one.
    _unread: re.Match[bytes] | None
    #: The body of the latest request.
    _arriving: StreamReader | None
    #: Looks whether the client still reads what is left of its replies.
    _stall: asyncio.TimerHandle | None
    #: Set once the client sends no more: the last reply that is due closes the connection.
    ended: bool
    #: Made by `Connections.reserved`: it is no client's.
    is_reserved: bool
    #: Whose requests these are; None of a reserved connection.
    client: Client | None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join those who are connected."""
        if not self.is_reserved:
            peer = transport.get_extra_info("peername")
            self.client = self.edge.admission.join(str(peer[0]) if peer else UNKNOWN)
        super().connection_made(transport)

    async def start(self) -> None:
        """Serve this connection's requests; what aiohttp's own does, without a task a request."""
        loop = self._loop
        messages = self._messages
        keepalive_s = self._keepalive_timeout
        while not self._force_close:
            if not messages:
                self._waiter = loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            message, payload = messages.popleft()
            if self._parser is not None:
                self._parser.message_consumed()
            if self._buffer_paused and len(messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            try:
                reply = await self._answer(message, payload)
                if not payload.is_eof():
                    await self._linger(payload)
            except ConnectionError:
                break  # the client is gone
            except BaseException:
                self.force_close()
                raise
            goes_on = reply.keep_alive
            # All that this request was made of would else be kept while the connection is idle.
            del message, payload, reply
            if not goes_on or self._close or self._force_close:
                break
            if self.ended and not messages:
                break  # the client has ended what it sends while the reply was written
            close_time = loop.time() + keepalive_s
            self._next_keepalive_close_time = close_time
            if self._keepalive_handle is None:
                self._keepalive_handle = loop.call_at(close_time, self._process_keepalive)
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()
                self._expect_reading(self.transport)

    async def _answer(self, message: Any, payload: StreamReader) -> HttpReply:
        """Serve one request and write the reply. Raises ConnectionError if the client is gone."""
        error = message if isinstance(message, _ErrInfo) else None
        request = Request(
            ERROR if error is not None else message,
            payload,
            self,
            self._task_handler or asyncio.current_task(),
            self.edge,
        )
        self._request_in_progress = True
        self._current_request = request  # type: ignore[assignment]
        try:
            if error is not None:
                reply = self._refuse_unread(request, error)
            else:
                reply = await self.serve(request)
        finally:
            self._current_request = None
            self._request_in_progress = False
            waiter = self._handler_waiter
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
        if self._upgraded:
            # To what was not granted: aiohttp goes on with what came after the request.
            await self.finish_response(request, reply, None)  # type: ignore[arg-type]
        else:
            await reply.prepare(request)
        return reply

    async def _linger(self, payload: StreamReader) -> None:
        """Read, for a while, what still comes of a body that was refused: the client gets to read
        the refusal. Closes the connection if it goes on."""
        if not self._force_close and self._lingering_time:
            try:
                async with asyncio.timeout(self._lingering_time):
                    while not payload.is_eof():
                        await payload.readany()
            except (TimeoutError, RequestPayloadError):
                pass
            except RuntimeError:
                if self.connected:
                    raise
                raise ConnectionResetError("the client went away") from None
        if not payload.is_eof() and not self._force_close:
            self.close()

    def data_received(self, data: bytes) -> None:
        """Parse; if that fails within a body, its reader is told rather than left to wait."""
        super().data_received(data)
        messages = self._messages
        if not messages:
            return
        message, payload = messages[-1]
        self._arriving = payload
        if isinstance(message, _ErrInfo):
            # The parser knows a list of methods, and says no more of others than that it fails.
            self._unread = _REQUEST_LINE.match(data)
        elif message.upgrade and not self._upgraded and not _is_all(data, payload):
            # The parser drops what comes along with an upgrade to what it does not know.
            messages[-1] = (message._replace(should_close=True), payload)
        request = self._current_request
        if request is not None and not request._payload.is_eof():
            # What follows an unfinished body can only be the parser's error.
            request._payload.set_exception(RequestPayloadError("malformed body"))

    def eof_received(self) -> bool:  # type: ignore[override]
        """True, and the connection stays for the replies that are due: a client may end what it
        sends and still read. Not for one that broke off in the middle of a body."""
        waiter = self._waiter
        if self._arriving is None or not self._arriving.is_eof():
            return False
        if waiter is not None and not waiter.done() and not self._messages:
            return False  # it waits for a request, which will not come
        self.ended = True
        return True

    def force_close(self) -> None:
        """Close once what is written has been read, as far as the client reads at all."""
        transport = self.transport
        super().force_close()
        if transport is not None:
            self._expect_reading(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the client; whoever still reads what it sent is told."""
        super().connection_lost(exc)
        if self.client is not None:
            # What still runs, or is still to be begun, keeps it.
            self.edge.admission.leave(self.client)
        arriving = self._arriving
        if arriving is not None and not arriving.is_eof():
            arriving.set_exception(ConnectionResetError("the client went away"))
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _expect_reading(self, transport: asyncio.Transport) -> None:
        """Of a transport that closes when all is written: do not wait for ever for a client that
        reads nothing."""
        left = transport.get_write_buffer_size()
        if left and self._stall is None and self._manager is not None:
            stall_s = self.edge.limits.reply_stall_s
            self._stall = self._loop.call_later(stall_s, self._look_at_reading, transport, left)

    def _look_at_reading(self, transport: asyncio.Transport, before: int) -> None:
        self._stall = None
        if transport.get_write_buffer_size() < before:
            self._expect_reading(transport)
        else:
            self.edge.metrics.count["http_replies_stalled"] += 1
            transport.abort()

    def _refuse_unread(self, request: Request, error: _ErrInfo) -> HttpReply:
        """The reply to bytes that are not HTTP (400), or to a failure of the parser itself.

        A method that the parser does not know is answered as any other that is not built.
        """
        if isinstance(error.exc, BadHttpMethod) and self._unread is not None:
            method, target = self._unread[1].decode("ascii"), self._unread[2].decode("ascii")
            # Of several requests sent at once, what failed is not the first if that is one of ours.
            if method not in ALL_METHODS:
                return refusal_reply(request, refuse_method(target))
        if error.status == 400:
            what = _TOO_LONG if isinstance(error.exc, LineTooLong) else _NOT_HTTP
            return refusal_reply(request, Refusal(400, "malformed", what, close=True))
        return failure_reply(request, error.exc or RuntimeError(error.message), "unknown")


def _is_all(data: bytes, payload: StreamReader) -> bool:
    """True if these bytes are one request with this body, and nothing after it."""
    _, _, rest = data.partition(b"\r\n\r\n")
    return payload.is_eof() and len(rest) == payload.total_bytes
