"""The HTTP server of a node: sockets in, handlers out, every error a JSON reply.

On aiohttp's low-level server, which parses; what to do with a request is decided by the table in
`dynamo.http.routes`. Knows nothing of quorums or storage.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Final, cast

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestPayloadError, _ErrInfo

from dynamo.errors import ConfigError, DynamoError
from dynamo.http.access_log import log_access
from dynamo.http.backend import Backend
from dynamo.http.errors import Refusal, error_reply, failure_reply, refusal_reply
from dynamo.http.ids import Ids
from dynamo.http.limits import FIELD_BYTES_MAX, FIELDS_MAX, TARGET_BYTES_MAX, Limits
from dynamo.http.reply import ERROR_TYPE, HttpReply, to_json
from dynamo.http.request import Edge, Load, Request
from dynamo.http.routes import ALL_METHODS, ROUTER
from dynamo.http.target import split_target
from dynamo.metrics import Metrics
from dynamo.ports import Clock

BACKLOG: Final = 1024
FLUSH_S: Final = 1.0
#: Of a stop; with all that comes after it below the 10 s after which supervisors lose patience.
DRAIN_S: Final = 5.0
_NOT_HTTP: Final = "the request is not well-formed HTTP"
_TOO_LONG: Final = (
    f"the request target is over {TARGET_BYTES_MAX} bytes, or a header over {FIELD_BYTES_MAX}"
)
#: A request line with a method and a target that HTTP allows (RFC 9110, 9.1), whoever knows them.
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/1\.[01]\r\n")


class HttpServer:
    """Serves one backend on one address.

    `metrics` gets counters that start with `http_`. `access_log`: a log line for every reply. It
    starts once; it does not start again.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        clock: Clock,
        ids: Ids,
        limits: Limits | None = None,
        metrics: Metrics | None = None,
        access_log: bool = False,
    ) -> None:
        self._edge = Edge(
            backend=backend,
            clock=clock,
            ids=ids,
            limits=limits or Limits(),
            metrics=metrics or Metrics(),
        )
        self._edge.load = self._load
        if access_log:
            self._edge.access_log = log_access
        #: The connection's task of each running request; a client that left does not end it.
        self._running: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._web: _WebServer | None = None
        self._listener: asyncio.Server | None = None

    async def start(self, address: str) -> str:
        """Listen on `host:port` (`[host]:port` for IPv6; port 0 takes a free one).

        Returns the address in use. Raises ConfigError for a malformed address, OSError for one that
        is taken.
        """
        host, port = parse_address(address)
        limits = self._edge.limits
        loop = asyncio.get_running_loop()
        self._web = _WebServer(
            self._handle,
            request_factory=self._request,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=limits.header_timeout_s,
            lingering_time=limits.lingering_s,
            max_line_size=TARGET_BYTES_MAX,
            max_field_size=FIELD_BYTES_MAX,
            max_headers=FIELDS_MAX,
        )
        self._listener = await loop.create_server(self._connect, host, port, backlog=BACKLOG)
        name = self._listener.sockets[0].getsockname()
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

    async def close(self, *, drain_s: float = DRAIN_S) -> None:
        """Stop listening, let running requests finish for up to `drain_s`, close all connections.

        No task of the server is left. Requests that come meanwhile are answered, and their
        connections closed.
        """
        if self._listener is None or self._web is None:
            return
        self._listener.close()
        self._edge.closing = True
        if self._running:
            self._idle.clear()
            try:
                async with asyncio.timeout(drain_s):
                    await self._idle.wait()
            except TimeoutError:
                self._edge.metrics.count["http_requests_cut_off"] += len(self._running)
        tasks = {*self._web.tasks(), *self._running}
        transports = self._web.transports()
        # Whoever is idle is closed at once; whoever still runs has had its time.
        await self._web.shutdown(0.05)
        for task in tasks:
            # A second cancel would break into what the first one is tidying up.
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Replies on their way out get a moment more; a peer that does not read gets no longer.
        flushed_by = self._edge.clock.monotonic() + FLUSH_S
        while any(transport.get_write_buffer_size() for transport in transports):
            if self._edge.clock.monotonic() >= flushed_by:
                break
            await asyncio.sleep(0.01)
        for transport in transports:
            transport.abort()
        await self._listener.wait_closed()
        self._listener = self._web = None

    def _connect(self) -> asyncio.BaseProtocol:
        assert self._web is not None
        if len(self._web._connections) < self._edge.limits.connections_max:
            return self._web()
        self._edge.metrics.count["http_connections_turned_away"] += 1
        return _TurnedAway(self._edge)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> Request:
        return Request(message, payload, protocol, writer, task, self._edge)

    def _load(self) -> Load:
        connections = 0 if self._web is None else len(self._web._connections)
        return Load(connections, len(self._running))

    async def _handle(self, request: web.BaseRequest) -> HttpReply:
        assert isinstance(request, Request)
        self._running.add(request._task)
        try:
            return await self._route(request)
        except DynamoError as error:
            return error_reply(request, error)
        except Refusal as refusal:
            return refusal_reply(request, refusal)
        except Exception as error:  # noqa: BLE001  # logged with its traceback, told as a 500
            return failure_reply(request, error, "unknown")
        finally:
            self._running.discard(request._task)
            if self._edge.closing and not self._running:
                self._idle.set()

    async def _route(self, request: Request) -> HttpReply:
        message = request._message
        version = message.version
        if version not in (HttpVersion11, HttpVersion10):
            raise Refusal(400, "malformed", "the request names no HTTP/1 version", close=True)
        method = message.method
        if method == "CONNECT" or message.path == "*":
            raise _not_allowed(ALL_METHODS, close=True)
        path, request.raw_query = split_target(message.path, request.headers.get("Host"))
        request.segments = segments = path.split("/")
        route = ROUTER.find(segments)
        if route is None:
            raise _no_such_resource()
        handler = route.methods.get(method)
        if handler is None:
            raise _not_allowed(route.methods)
        if hdrs.EXPECT in message.headers:
            _check_expectation(message.headers.getall(hdrs.EXPECT))
        return await handler(request)


class _WebServer(web.Server):
    """aiohttp's server, with connections of ours."""

    def __call__(self) -> web.RequestHandler:
        connection = _Connection(self, loop=self._loop, **self._kwargs)
        connection._unread = connection._arriving = None
        connection.ended = False
        return connection

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


class _Connection(web.RequestHandler):
    """aiohttp's connection, which here answers bad HTTP in JSON, and at once."""

    __slots__ = ("_arriving", "_unread", "ended")
    #: The request line that what the parser could not read begins with, if it is one.
    _unread: re.Match[bytes] | None
    #: The body of the latest request.
    _arriving: StreamReader | None
    #: Set once the client sends no more: the last reply that is due closes the connection.
    ended: bool

    def data_received(self, data: bytes) -> None:
        """Parse; if that fails within a body, its reader is told rather than left to wait."""
        super().data_received(data)
        messages = self._messages
        if not messages:
            return
        self._arriving = messages[-1][1]
        if isinstance(messages[-1][0], _ErrInfo):
            # The parser knows a list of methods, and says no more of others than that it fails.
            self._unread = _REQUEST_LINE.match(data)
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

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The reply to bytes that are not HTTP (400), or to a failure outside of any handler.

        A method that the parser does not know is answered as any other that is not built.
        """
        assert isinstance(request, Request)
        if isinstance(exc, BadHttpMethod) and self._unread is not None:
            method, target = self._unread[1].decode("ascii"), self._unread[2].decode("ascii")
            # Of several requests sent at once, what failed is not the first if that is one of ours.
            if method not in ALL_METHODS:
                return refusal_reply(request, _refuse_method(target))
        if status == 400:
            what = _TOO_LONG if isinstance(exc, LineTooLong) else _NOT_HTTP
            return refusal_reply(request, Refusal(400, "malformed", what, close=True))
        return failure_reply(request, exc or RuntimeError(message), "unknown")


def _check_expectation(expectations: Sequence[str]) -> None:
    if any(expectation.strip().lower() != "100-continue" for expectation in expectations):
        raise Refusal(
            417, "expectation_failed", "the only expectation met is 100-continue", close=True
        )


class _TurnedAway(asyncio.Protocol):
    """A connection above the limit: told so without being read, and closed.

    Clients must not use up what the storage engine opens its files with.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        request_id = self._edge.ids.request_id()
        body = to_json(
            {
                "message": "this node has as many connections as it takes",
                "code": "too_many_connections",
                "outcome": "none",
                "request_id": request_id.decode("ascii"),
            }
        )
        transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\n%bX-Request-Id: %b\r\nRetry-After: 1\r\n"
            b"%bContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (self._edge.stamp(), request_id, ERROR_TYPE, len(body), body)
        )
        transport.close()


def _refuse_method(target: str) -> Refusal:
    path, _, _ = target.partition("?")
    route = ROUTER.find(path.split("/"))
    if route is None:
        return _no_such_resource(close=True)
    return _not_allowed(route.methods, close=True)


def _no_such_resource(*, close: bool = False) -> Refusal:
    return Refusal(404, "no_such_resource", "there is nothing at this path", close=close)


def _not_allowed(methods: Iterable[str], *, close: bool = False) -> Refusal:
    return Refusal(
        405,
        "method_not_allowed",
        "this method is not built here",
        fields=b"Allow: %b\r\n" % ", ".join(methods).encode("ascii"),
        close=close,
        allowed=list(methods),
    )


def parse_address(address: str) -> tuple[str, int]:
    """(host, port) of `host:port` or `[host]:port`. Raises ConfigError."""
    host, separator, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        separator = ""
    if not separator or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ConfigError(f"{address!r} is not host:port")
    return host, int(port)
