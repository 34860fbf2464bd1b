"""The network of `dynamo.rpc.network` on TCP sockets of the running loop.

The only module between nodes that knows sockets. Knows nothing of what flows.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

_BACKLOG = 1_024
#: What was sent and is not acknowledged by the peer's machine for this long ends the connection.
#: A little more than a full write buffer has, so that a peer that does not read is called by its name.
UNACKNOWLEDGED_SECONDS: Final = 12


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port". Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{address!r}: write an IPv6 address in brackets, [::1]:7400")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 0xFFFF:
        raise ValueError(f"{address!r} is not host:port")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """The address that `split_address` takes apart."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class TcpListener:
    """Listening sockets of one address."""

    def __init__(self, server: asyncio.Server, address: str) -> None:
        self._server = server
        self.address = address

    def __repr__(self) -> str:
        return f"TcpListener({self.address})"

    async def close(self) -> None:
        # asyncio drops, unclosed, what it has accepted but not yet given its protocol when the
        # server closes: accept no more first, and let that happen. (uvloop has no such gap.)
        loop = asyncio.get_running_loop()
        for listening in self._server.sockets:
            loop.remove_reader(listening.fileno())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # Not wait_closed(): from Python 3.12 on it also waits for the connections.
        self._server.close()
        await asyncio.sleep(0)


class TcpNetwork:
    """TCP with TCP_NODELAY, keep-alive, and an end to what nobody acknowledges."""

    def __repr__(self) -> str:
        return "TcpNetwork()"

    async def connect(
        self, address: str, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> asyncio.Transport:
        host, port = split_address(address)
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: _Tuned(protocol_factory()), host, port
        )
        return transport

    async def listen(
        self, address: str, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> TcpListener:
        host, port = split_address(address)
        # One socket: a name with several addresses and port 0 would get several ports.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = await asyncio.get_running_loop().create_server(
            lambda: _Tuned(protocol_factory()),
            host,
            port,
            family=family,
            backlog=_BACKLOG,
            reuse_address=True,
        )
        actual = server.sockets[0].getsockname()[1]
        return TcpListener(server, join_address(host, actual))


def _tune(transport: asyncio.BaseTransport) -> None:
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A peer that vanished without a word is found by the kernel in the end, even when idle.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    # Where packets vanish, the kernel waits twice as long before each new try: two minutes in the end,
    # and for the first of them even once the network is whole. A new connection is there in seconds.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = UNACKNOWLEDGED_SECONDS * 1000
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


class _Tuned(asyncio.Protocol):
    """Tunes a new socket, then hands it to its protocol and steps aside."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        _tune(transport)
        # uvloop's transports are no subclass of asyncio's.
        cast(asyncio.Transport, transport).set_protocol(self._protocol)
        self._protocol.connection_made(transport)
