"""A network in memory whose every byte string takes its own time, drawn from a seed.

Byte streams as TCP's: in order, but connects, data and the news of an end are late, and each
direction of each connection has its own delay. Real protocols run on it unchanged.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

Factory = Callable[[], asyncio.Protocol]


class SlowTransport(asyncio.Transport):
    """One end. What it sends arrives at `other` in order, after a delay."""

    def __init__(self, network: SlowNetwork, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._network = network
        self._protocol = protocol
        self._last = 0.0
        self._ended = False
        self.other: SlowTransport | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("memory", 0) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing waits in this transport."""

    def start(self) -> None:
        self._protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert self.other is not None
        if not self._ended:
            self._later(lambda other=self.other, piece=bytes(data): other.arrive(piece))

    def arrive(self, data: bytes) -> None:
        if not self._ended:
            self._protocol.data_received(data)

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        """End here now; the other end hears of it after all that was sent."""
        if not self._ended:
            assert self.other is not None
            self._later(self.other.end)
            self.end()

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def _later(self, callback: Callable[..., None]) -> None:
        loop = asyncio.get_running_loop()
        self._last = max(self._last + 1e-6, loop.time() + self._network.delay())
        loop.call_at(self._last, callback)


class SlowListener:
    def __init__(self, network: SlowNetwork, address: str) -> None:
        self._network = network
        self.address = address

    async def close(self) -> None:
        del self._network.listening[self.address]


class SlowNetwork:
    """`seed` draws every delay, up to `delay_max` seconds."""

    def __init__(self, seed: int, delay_max: float) -> None:
        self._random = random.Random(seed)
        self._delay_max = delay_max
        self.listening: dict[str, Factory] = {}
        self.transports: list[SlowTransport] = []

    def delay(self) -> float:
        return self._delay_max * self._random.random() ** 2

    async def connect(self, address: str, protocol_factory: Factory) -> asyncio.Transport:
        await asyncio.sleep(self.delay())
        accept = self.listening.get(address)
        if accept is None:
            raise ConnectionRefusedError(address)
        here = SlowTransport(self, protocol_factory())
        there = SlowTransport(self, accept())
        here.other, there.other = there, here
        self.transports += [here, there]
        there.start()
        here.start()
        return here

    async def listen(self, address: str, protocol_factory: Factory) -> SlowListener:
        self.listening[address] = protocol_factory
        return SlowListener(self, address)

    def reset_one(self) -> None:
        """One end of some connection is gone; the other one learns it late."""
        alive = [transport for transport in self.transports if not transport._ended]
        if alive:
            self._random.choice(alive).abort()
