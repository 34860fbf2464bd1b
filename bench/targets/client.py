"""Requests of HTTP/1.1 to one address, over connections that are kept: one request at a time on each.

Says apart what matters to a history: a request that was certainly not sent, and one that was sent and
had no whole answer. Idle connections are used again, the last one first; one that was idle for long is
closed instead, since the server may be closing it. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

#: Open at a time, to one address.
CONNECTIONS_MAX: Final = 4_000
#: Below the 15 s after which a node closes an idle connection.
IDLE_SECONDS: Final = 10.0
HEAD_BYTES_MAX: Final = 64 << 10
BODY_BYTES_MAX: Final = 64 << 20
_HEAD_END: Final = b"\r\n\r\n"


class NotSent(Exception):
    """The request has not left: nothing was done."""


class Broken(Exception):
    """The request was sent, in part at least, and its answer did not come."""


class Answer(NamedTuple):
    """`fields`: header names in small letters; of several with one name the last."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes


class Client:
    """Asks one address, "host:port"."""

    def __init__(self, address: str, *, connections_max: int = CONNECTIONS_MAX) -> None:
        self.address = address
        self._host, _, port = address.rpartition(":")
        self._host = self._host.strip("[]")
        self._port = int(port)
        self._connections_max = connections_max
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Connection] = []
        # A dict for its order.
        self._all: dict[_Connection, None] = {}
        self._opening = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"Client({self.address} open={len(self._all)} idle={len(self._idle)})"

    async def ask(self, request: bytes, timeout: float) -> Answer:
        """Send these bytes and return the answer. Raises NotSent, Broken (both within `timeout`
        seconds)."""
        deadline = self._loop.time() + timeout
        connection = self._take_idle()
        if connection is None:
            connection = await self._connect(timeout)
        return await connection.ask(request, deadline)

    def _take_idle(self) -> _Connection | None:
        idle, oldest = self._idle, self._loop.time() - IDLE_SECONDS
        while idle:
            connection = idle.pop()
            if connection.closed:
                continue
            if connection.idle_since > oldest:
                return connection
            connection.transport.close()
        return None

    async def _connect(self, timeout: float) -> _Connection:
        if self._closed:
            raise NotSent("the client is closed")
        if len(self._all) + self._opening >= self._connections_max:
            raise NotSent(f"{self._connections_max} connections to {self.address} are in use")
        self._opening += 1
        try:
            async with asyncio.timeout(timeout):
                _, connection = await self._loop.create_connection(
                    lambda: _Connection(self), self._host, self._port
                )
        except TimeoutError:
            raise NotSent(f"no connection to {self.address} within {timeout:g} s") from None
        except OSError as error:
            raise NotSent(f"no connection to {self.address}: {error}") from None
        finally:
            self._opening -= 1
        return connection

    def made(self, connection: _Connection) -> None:
        """A connection is open."""
        self._all[connection] = None
        if self._closed:
            connection.transport.abort()

    def free(self, connection: _Connection) -> None:
        """It has had its answer."""
        connection.idle_since = self._loop.time()
        self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        """It is gone."""
        self._all.pop(connection, None)
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """No connection is left; who waits is told Broken."""
        self._closed = True
        for connection in list(self._all):
            connection.transport.abort()
        self._idle.clear()


class _Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, owner: Client) -> None:
        self._owner = owner
        self._loop = owner._loop
        self.transport: Any = None
        self.closed = False
        self.idle_since = 0.0
        self._waiter: asyncio.Future[Answer] | None = None
        self._buffer = b""
        #: Of the answer under way, once its head has been read: where it ends.
        self._end = -1
        self._status = 0
        self._fields: dict[bytes, bytes] = {}
        self._body_at = 0

    async def ask(self, request: bytes, deadline: float) -> Answer:
        waiter: asyncio.Future[Answer] = self._loop.create_future()
        self._waiter = waiter
        if self.closed:
            self._waiter = None
            raise NotSent(f"{self._owner.address} closed the connection")
        self.transport.write(request)
        timer = self._loop.call_at(deadline, self._expire)
        try:
            return await waiter
        finally:
            timer.cancel()
            if self._waiter is waiter:  # whoever asked was cancelled
                self._waiter = None
                self.transport.abort()

    def _expire(self) -> None:
        self._fail("no answer in time")

    def _fail(self, why: str) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(Broken(f"{self._owner.address}: {why}"))
        self.transport.abort()

    # asyncio.Protocol -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.transport.abort()  # nobody has asked
            return
        buffer = self._buffer = self._buffer + data if self._buffer else data
        if self._end < 0 and not self._read_head(buffer):
            return
        if len(buffer) < self._end:
            return
        waiter, self._waiter = self._waiter, None
        answer = Answer(self._status, self._fields, buffer[self._body_at : self._end])
        over = len(buffer) > self._end
        self._buffer, self._end = b"", -1
        if over or answer.fields.get(b"connection", b"").lower() == b"close":
            self.transport.close()
            self.closed = True
        else:
            self._owner.free(self)
        if not waiter.done():
            waiter.set_result(answer)

    def _read_head(self, buffer: bytes) -> bool:
        """False until the head is there, or if it is none."""
        head_end = buffer.find(_HEAD_END)
        if head_end < 0:
            if len(buffer) > HEAD_BYTES_MAX:
                self._fail("the head of its answer has no end")
            return False
        lines = buffer[:head_end].split(b"\r\n")
        status = lines[0][9:12]
        if not lines[0].startswith(b"HTTP/1.") or not status.isdigit():
            self._fail("it does not speak HTTP/1.1")
            return False
        fields = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip()
        self._status, self._fields = int(status), fields
        self._body_at = head_end + 4
        length = fields.get(b"content-length", b"0")
        if b"transfer-encoding" in fields or not length.isdigit() or int(length) > BODY_BYTES_MAX:
            self._fail("the length of its answer is not told, or too large")
            return False
        self._end = self._body_at + int(length)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._owner.lost(self)
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            why = str(exc) if exc is not None else "it closed the connection"
            waiter.set_exception(Broken(f"{self._owner.address}: {why}"))
