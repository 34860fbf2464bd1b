"""What the wire needs from a network: byte streams between addresses.

An address is "host:port" ("[::1]:7400" for IPv6). Protocols only: `dynamo.rpc.tcp` is the real
one, the simulator has its own, and everything above runs unchanged on either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Listener(Protocol):
    """A place where connections arrive."""

    @property
    def address(self) -> str:
        """Where it really listens: port 0 has become the port that was free."""
        ...

    async def close(self) -> None:
        """Take no more connections; those accepted stay. Free the address."""
        ...


class Network(Protocol):
    """Opens and accepts byte streams, driven as asyncio drives protocols."""

    async def connect(
        self, address: str, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> asyncio.Transport:
        """Connect; raises OSError if that fails, ValueError for what is no address."""
        ...

    async def listen(
        self, address: str, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> Listener:
        """Accept, with a protocol for each connection. Raises as `connect`."""
        ...
