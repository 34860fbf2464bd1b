"""HTTP by hand: exact bytes out, replies taken apart. For what no client library would send."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """Header names are lower-case; of a repeated header the last."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


class RawHttp:
    """One connection. `address` is host:port."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)

    async def __aenter__(self) -> RawHttp:
        self.reader, self.writer = await asyncio.open_connection(
            self._host, self._port, limit=1 << 24
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def request(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        """Send one request with a Host and a Content-Length, and read its reply."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        if body or method in ("PUT", "POST"):
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return await self.reply(method)

    async def reply(self, method: str = "GET") -> Reply:
        """The next reply. Raises IncompleteReadError if the connection ends first."""
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.rstrip("\r\n").split("\r\n")
            headers: dict[str, str] = {}
            for line in lines:
                name, _, value = line.partition(": ")
                headers[name.lower()] = value
            status = int(first.split(" ")[1])
            length = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
            return Reply(status, headers, await self.reader.readexactly(length))

    async def is_closed(self, within: float = 5.0) -> bool:
        """True if the other side closes within so many seconds, having sent nothing more."""
        try:
            async with asyncio.timeout(within):
                return await self.reader.read(1) == b""
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True
