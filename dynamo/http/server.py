"""The HTTP server of a node: sockets in, handlers out, every error a JSON reply.

On aiohttp's low-level server, which parses; what to do with a request is decided by the table in
`dynamo.http.routes`. Knows nothing of quorums or storage.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Final, cast

from aiohttp import HttpVersion10, HttpVersion11, hdrs
from aiohttp.streams import EMPTY_PAYLOAD

from dynamo.admission import Admission, Client
from dynamo.errors import ConfigError, DynamoError
from dynamo.http.access_log import log_access
from dynamo.http.backend import Backend
from dynamo.http.body import body_bytes
from dynamo.http.connection import Connections
from dynamo.http.errors import Refusal, error_reply, failure_reply, refusal_reply
from dynamo.http.ids import Ids
from dynamo.http.limits import FIELD_BYTES_MAX, FIELDS_MAX, TARGET_BYTES_MAX, Limits
from dynamo.http.refusals import no_such_resource, not_allowed
from dynamo.http.reply import ERROR_TYPE, HttpReply, to_json
from dynamo.http.request import Edge, Load, Request
from dynamo.http.route import ADMIN_ROOT, CLIENT_ROOTS, READING, Handler
from dynamo.http.routes import ALL_METHODS, ROUTER
from dynamo.http.target import split_target
from dynamo.metrics import Metrics
from dynamo.ports import Clock

BACKLOG: Final = 1024
TOO_MANY: Final = "this node has as many connections as it takes"

FLUSH_S: Final = 1.0
#: Of a stop; with all that comes after it below the 10 s after which supervisors lose patience.
DRAIN_S: Final = 5.0


class HttpServer:
    """Serves one backend on one address.

    `metrics` gets counters that start with `http_`. `admission`: the door of the node, which is closed
    with the server; without one it is made, with the usual bounds. `access_log`: a log line for
    every reply. It starts once; it does not start again.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        clock: Clock,
        ids: Ids,
        limits: Limits | None = None,
        metrics: Metrics | None = None,
        admission: Admission | None = None,
        access_log: bool = False,
    ) -> None:
        metrics = metrics or Metrics()
        self._edge = Edge(
            backend=backend,
            clock=clock,
            ids=ids,
            limits=limits or Limits(),
            metrics=metrics,
            admission=admission or Admission(clock=clock, entropy=os.urandom, metrics=metrics),
        )
        self._edge.load = self._load
        if access_log:
            self._edge.access_log = log_access
        #: The connection's task of each running request; a client that left does not end it.
        self._running: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._web: Connections | None = None
        self._listener: asyncio.Server | None = None

    async def start(self, address: str) -> str:
        """Listen on `host:port` (`[host]:port` for IPv6; port 0 takes a free one).

        Returns the address in use. Raises ConfigError for a malformed address, OSError for one that
        is taken.
        """
        host, port = parse_address(address)
        limits = self._edge.limits
        loop = asyncio.get_running_loop()
        self._web = Connections(
            self._handle,
            edge=self._edge,
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
        self._edge.admission.close()

    def _connect(self) -> asyncio.BaseProtocol:
        assert self._web is not None
        limits, count = self._edge.limits, len(self._web)
        if count < limits.connections_max:
            return self._web()
        if count < limits.connections_max + limits.connections_reserved:
            return self._web.reserved()
        self._edge.metrics.count["http_connections_turned_away"] += 1
        return _TurnedAway(self._edge)

    def _load(self) -> Load:
        admission = self._edge.admission
        return Load(
            connections=0 if self._web is None else len(self._web),
            requests=len(self._running),
            admitted=admission.running,
            admitted_bytes=admission.bytes,
            lag=admission.lag,
        )

    async def _handle(self, request: Request) -> HttpReply:
        assert request.task is not None
        self._running.add(request.task)
        try:
            return await self._route(request)
        except DynamoError as error:
            return error_reply(request, error)
        except Refusal as refusal:
            return refusal_reply(request, refusal)
        except Exception as error:  # noqa: BLE001  # logged with its traceback, told as a 500
            return failure_reply(request, error, "unknown")
        finally:
            self._running.discard(request.task)
            if self._edge.closing and not self._running:
                self._idle.set()

    async def _route(self, request: Request) -> HttpReply:
        message = request._message
        version = message.version
        if version not in (HttpVersion11, HttpVersion10):
            raise Refusal(400, "malformed", "the request names no HTTP/1 version", close=True)
        method = message.method
        if method == "CONNECT" or message.path == "*":
            raise not_allowed(ALL_METHODS, close=True)
        path, request.raw_query = split_target(message.path, request.headers.get(hdrs.HOST))
        request.segments = segments = path.split("/")
        route = ROUTER.find(segments)
        if route is None:
            raise no_such_resource()
        handler = route.methods.get(method)
        if handler is None:
            raise not_allowed(route.methods)
        if hdrs.EXPECT in message.headers:
            _check_expectation(message.headers.getall(hdrs.EXPECT))
        if segments[1] not in CLIENT_ROOTS:
            return await self._answer_aside(request, handler)
        client: Client | None = request._protocol.client  # type: ignore[attr-defined]
        if client is None:
            self._edge.metrics.count["http_connections_turned_away"] += 1
            raise Refusal(
                503, "too_many_connections", TOO_MANY, fields=b"Retry-After: 1\r\n", close=True
            )
        admission = self._edge.admission
        size = 0 if request._payload is EMPTY_PAYLOAD else body_bytes(request)
        admission.admit(client, size, request.began)
        try:
            return await handler(request)
        finally:
            admission.release(client, size)

    async def _answer_aside(self, request: Request, handler: Handler) -> HttpReply:
        """What asks about the node itself is answered however many clients there are."""
        admission = self._edge.admission
        waits = request.segments[1] == ADMIN_ROOT and request.method not in READING
        lane = admission.admin if waits else admission.health
        admission.enter(lane)
        try:
            return await handler(request)
        finally:
            lane.running -= 1


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
                "message": TOO_MANY,
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
