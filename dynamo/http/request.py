"""One HTTP request as the handlers see it, and the edge they share.

aiohttp's own request object works out addresses and URLs that nobody here asks for, at some cost
for each request; this one keeps the parsed message and no more. Knows nothing of routes.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from dynamo.http.backend import Backend
from dynamo.http.dates import format_date
from dynamo.http.ids import Ids
from dynamo.http.limits import Limits
from dynamo.metrics import Metrics
from dynamo.ports import Clock


class Edge:
    """What every handler needs: the node behind, time, names, limits, counters."""

    __slots__ = ("_stamp", "_stamped", "backend", "clock", "closing", "ids", "limits", "metrics")

    def __init__(
        self, *, backend: Backend, clock: Clock, ids: Ids, limits: Limits, metrics: Metrics
    ) -> None:
        self.backend = backend
        self.clock = clock
        self.ids = ids
        self.limits = limits
        self.metrics = metrics
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


class Request(web.BaseRequest):
    """A parsed request. `segments`: its path, split, undecoded; `raw_query`: what follows `?`."""

    # aiohttp's initialiser is not called on purpose; these are all the attributes that its
    # connection handler and the inherited properties in use (`headers`, `method`, `content`,
    # `writer`, ...) touch.
    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
        edge: Edge,
    ) -> None:
        self._message = message
        self._payload = payload
        self._protocol = protocol
        self._payload_writer = writer
        self._headers = message.headers
        self._method = message.method
        self._version = message.version
        self._task = task
        self._cache = {}
        self.edge = edge
        self.id: bytes = edge.ids.request_id()
        self.segments: list[str] = []
        self.raw_query = ""
