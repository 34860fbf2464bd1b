"""Byte streams inside one process, for counting what a request costs without sockets.

Delivers what is written a turn of the loop later, whole and in order. No faults: those are the
simulator's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

Factory = Callable[[], asyncio.Protocol]


class MemoryTransport(asyncio.Transport):
    """One end of a stream."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.other: MemoryTransport | None = None
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.other is not None and not self._closing:
            asyncio.get_running_loop().call_soon(self.other._receive, bytes(data))

    def _receive(self, data: bytes) -> None:
        if not self._closing:
            self.protocol.data_received(data)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            loop = asyncio.get_running_loop()
            loop.call_soon(self.protocol.connection_lost, None)
            if self.other is not None:
                loop.call_soon(self.other.close)

    abort = close

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer: what is written has left."""

    def get_write_buffer_size(self) -> int:
        return 0


class MemoryListener:
    """An address that is taken."""

    def __init__(self, address: str, listening: dict[str, Factory]) -> None:
        self.address = address
        self._listening = listening

    async def close(self) -> None:
        self._listening.pop(self.address, None)


class MemoryNetwork:
    """A `dynamo.rpc.network.Network`; share one among the nodes."""

    def __init__(self) -> None:
        self._listening: dict[str, Factory] = {}

    async def connect(self, address: str, protocol_factory: Factory) -> asyncio.Transport:
        accept = self._listening.get(address)
        if accept is None:
            raise ConnectionRefusedError(f"nobody listens at {address}")
        near, far = MemoryTransport(protocol_factory()), MemoryTransport(accept())
        near.other, far.other = far, near
        far.protocol.connection_made(far)
        near.protocol.connection_made(near)
        return near

    async def listen(self, address: str, protocol_factory: Factory) -> MemoryListener:
        self._listening[address] = protocol_factory
        return MemoryListener(address, self._listening)
