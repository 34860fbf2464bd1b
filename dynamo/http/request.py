"""One HTTP request as the handlers see it, and the edge they share.

aiohttp's own request object works out addresses and URLs that nobody here asks for, at some cost
for each request; this one keeps the parsed message and no more. Knows nothing of routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from multidict import istr

from dynamo.admission import Admission
from dynamo.http.backend import Backend
from dynamo.http.dates import format_date
from dynamo.http.ids import Ids, accepted
from dynamo.http.limits import Limits
from dynamo.latency import OTHER, RequestTimes
from dynamo.memo import ObjectMemo
from dynamo.metrics import Metrics
from dynamo.ports import Clock
from dynamo.requests import Found, Stamps

#: Replies kept for reads that find the same again.
RENDERED_MAX: Final = 12_288
REQUEST_ID: Final = istr("X-Request-Id")


class Load(NamedTuple):
    """How busy the server is now: open connections, requests being answered; those of clients that
    were admitted, the bytes they bring, and how many seconds the loop is behind."""

    connections: int = 0
    requests: int = 0
    admitted: int = 0
    admitted_bytes: int = 0
    lag: float = 0.0


class Edge:
    """What every handler needs: the node behind and its door, time, names, limits, counters, times,
    the log."""

    __slots__ = (
        *("_stamp", "_stamped", "access_log", "admission", "backend", "clock", "closing", "ids"),
        *("limits", "load", "metrics", "monotonic", "rendered", "times"),
    )

    def __init__(
        self,
        *,
        backend: Backend,
        clock: Clock,
        ids: Ids,
        limits: Limits,
        metrics: Metrics,
        admission: Admission,
    ) -> None:
        self.admission = admission
        self.backend = backend
        self.clock = clock
        self.ids = ids
        self.limits = limits
        self.metrics = metrics
        self.monotonic = clock.monotonic
        self.times = RequestTimes(clock.monotonic)
        #: By path: what a read found, and the header lines and body of the reply that it makes.
        self.rendered: ObjectMemo[Found, tuple[bytes, bytes]] = ObjectMemo(count_max=RENDERED_MAX)
        #: Called with each reply's request, status and bytes of body, if requests are to be logged.
        self.access_log: Callable[[Request, int, int], None] | None = None
        self.load: Callable[[], Load] = Load
        #: Set once the server stops: every reply then closes its connection.
        self.closing = False
        self._stamped = -1
        self._stamp = b""

    def stamp(self) -> bytes:
        """The header lines that are the same for all replies of one second."""
        second = self.clock.wall_ms() // 1000
        if second != self._stamped:
            self._stamped = second
            self._stamp = b"Date: %b\r\nServer: dynamo\r\n" % format_date(second)
        return self._stamp


class Request:
    """A parsed request. `segments`: its path, split, undecoded; `raw_query`: what follows `?`.

    `headers`: by name, without case; `raw_headers`: pairs of bytes, as sent. `task`: of its
    connection. `id`: the client's X-Request-Id if that can be one (`dynamo.http.ids.accepted`), else
    one of this server's. `began`: when its headers were read (monotonic). `operation`: of
    `dynamo.latency`; set once the store is asked about an object. `stamps`: told with the reply, if the
    client asks for them.
    """

    __slots__ = (
        *("_message", "_payload", "_protocol", "began", "edge", "headers", "id", "operation"),
        *("raw_query", "segments", "stamps", "task"),
    )

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        task: asyncio.Task[None] | None,
        edge: Edge,
    ) -> None:
        self._message = message
        self._payload = payload
        self._protocol = protocol
        self.headers = message.headers
        self.task = task
        self.edge = edge
        self.began = edge.monotonic()
        self.operation = OTHER
        self.stamps: Stamps | None = None
        given = message.headers.get(REQUEST_ID)
        self.id: bytes = (given and accepted(given)) or edge.ids.request_id()
        self.segments: list[str] = []
        self.raw_query = ""

    @property
    def method(self) -> str:
        return self._message.method

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return self._message.raw_headers

    def _cancel(self, exc: BaseException) -> None:
        """What aiohttp calls when the client is gone: whoever reads the body is told.

        However it went, as by an unreachable host: what reads knows of one way.
        """
        if isinstance(exc, OSError) and not isinstance(exc, ConnectionError):
            exc = ConnectionResetError("the client went away")
        self._payload.set_exception(exc)

    def _finish(self) -> None:
        """What aiohttp calls after a reply, to remove files that nobody makes here."""
