"""The floor: the least that any quorum store of this design must do, to measure the store against.

It does: HTTP by aiohttp's low-level server with its C parser on uvloop, the path taken apart by one
split, the reply written straight to the transport as the store does it. A key's three replicas by a
hash of the key; one future a request; to the other replicas one framed msgpack message each over the
one TCP connection of the pair, all frames of a turn of the loop in one write. One RocksDB put or get
at each replica, opened as the store opens it. Answers a GET with the value once two of three have
answered, a PUT (204) once two have it on disk: written unsynced, then one sync of the log at a time,
in a thread, for all who wait (`--unsynced`: at once, without any sync).

It does not: causality, siblings, records, checksums, merging, repair, trees, conditions, headers,
types and buckets, timeouts, deadlines, bounds, membership, handshakes, metrics, errors worth the
name. A node whose peer is gone ends. Never keep data in it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from struct import Struct as Layout
from typing import Any, Final
from zlib import crc32

import msgspec
import uvloop
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from dynamo.store.engine import Engine, Sizes
from dynamo.store.worker import Worker

REPLICAS: Final = 3
QUORUM: Final = 2
FETCH, STORE, ANSWER, HELLO = range(4)
LENGTH: Final = Layout(">I")
KEY_AT: Final = 4  # in "/buckets/B/keys/K", split


class Message(msgspec.Struct, array_like=True, gc=False):
    """All that is sent between nodes. `number`: of the request at its coordinator."""

    kind: int
    number: int
    key: bytes = b""
    value: bytes | None = None


decode = msgspec.msgpack.Decoder(Message).decode
encode = msgspec.msgpack.Encoder().encode


def frame(message: Message) -> bytes:
    """The message as it travels."""
    payload = encode(message)
    return LENGTH.pack(len(payload)) + payload


class Peer(asyncio.Protocol):
    """The connection to one other node; both ask and answer over it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.out: list[bytes] = []
        self.rest = b""

    def connection_made(self, transport: Any) -> None:
        """Greet: who dialled and who accepted need not be told apart."""
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport = transport
        self.send(frame(Message(HELLO, self.node.index)))

    def send(self, data: bytes) -> None:
        """Write at the end of this turn of the loop, with all else of this turn."""
        if not self.out:
            self.node.loop.call_soon(self.flush)
        self.out.append(data)

    def flush(self) -> None:
        """Write what this turn has to send."""
        self.transport.write(b"".join(self.out))
        self.out.clear()

    def data_received(self, data: bytes) -> None:
        """Carry out every message that is whole."""
        if self.rest:
            data = self.rest + data
        view, at, size = memoryview(data), 0, len(data)
        while at + 4 <= size and (end := at + 4 + LENGTH.unpack_from(data, at)[0]) <= size:
            self.node.receive(self, decode(view[at + 4 : end]))
            at = end
        self.rest = data[at:] if at < size else b""

    def connection_lost(self, exc: Exception | None) -> None:
        """The floor knows no failures: a node without its peers ends."""
        self.node.stop.set()


class Tally:
    """The one future of a request, and how many answers it still needs."""

    __slots__ = ("future", "missing", "value")

    def __init__(self, future: asyncio.Future[bytes | None]) -> None:
        self.future = future
        self.missing = QUORUM
        self.value: bytes | None = None


class Node:
    """One node: replica, and coordinator of whatever comes over HTTP."""

    def __init__(self, index: int, nodes: int, data_dir: Path, *, synced: bool) -> None:
        self.index, self.nodes, self.synced = index, nodes, synced
        self.loop = asyncio.get_running_loop()
        self.stop = asyncio.Event()
        self.engine = Engine(data_dir, sizes=Sizes(), create=True, point_in_time=False)
        self.get, self.put = self.engine.get["records"], self.engine.put["records"]
        self.worker = Worker("sync")
        self.peers: dict[int, Peer] = {}
        self.tallies: dict[int, Tally] = {}
        self.number = 0
        #: Who waits for a sync, and for which request; None stands for this node itself.
        self.unsynced: list[tuple[Peer | None, int]] = []
        self.syncing: asyncio.Task[None] | None = None

    # Replica

    def receive(self, peer: Peer, message: Message) -> None:
        """Carry out one message."""
        kind, number = message.kind, message.number
        if kind == ANSWER:
            self.count(number, message.value)
        elif kind == FETCH:
            peer.send(frame(Message(ANSWER, number, b"", self.get(message.key))))
        elif kind == STORE:
            assert message.value is not None
            self.store(peer, number, message.key, message.value)
        else:
            self.peers[number] = peer

    def store(self, peer: Peer | None, number: int, key: bytes, value: bytes) -> None:
        """Write, and answer: at once, or when a sync that begins later has ended."""
        self.put(key, value)
        if not self.synced:
            self.acknowledge(peer, number)
            return
        self.unsynced.append((peer, number))
        if self.syncing is None:
            self.syncing = self.loop.create_task(self.sync())

    def acknowledge(self, peer: Peer | None, number: int) -> None:
        """This node has the write."""
        if peer is None:
            self.count(number, None)
        else:
            peer.send(frame(Message(ANSWER, number)))

    async def sync(self) -> None:
        """Group commit: sync while anyone waits; whoever comes meanwhile is served by the next."""
        while group := self.unsynced:
            self.unsynced = []
            await self.worker.run(lambda: self.engine.db.flush_wal(True))
            for peer, number in group:
                self.acknowledge(peer, number)
        self.syncing = None

    # Coordinator

    async def ask(self, key: bytes, value: bytes | None) -> bytes | None:
        """Send it to the three replicas of the key; two have answered. With a value it is a PUT."""
        self.number = number = self.number + 1
        future: asyncio.Future[bytes | None] = self.loop.create_future()
        self.tallies[number] = Tally(future)
        data = frame(Message(FETCH if value is None else STORE, number, key, value))
        first = crc32(key)
        for offset in range(REPLICAS):
            replica = (first + offset) % self.nodes
            if replica != self.index:
                self.peers[replica].send(data)
            elif value is None:
                self.count(number, self.get(key))
            else:
                self.store(None, number, key, value)
        return await future

    def count(self, number: int, value: bytes | None) -> None:
        """One more answer; the third of a request finds nobody who waits."""
        tally = self.tallies.get(number)
        if tally is None:
            return
        if value is not None:
            tally.value = value
        tally.missing -= 1
        if not tally.missing:
            del self.tallies[number]
            if not tally.future.done():
                tally.future.set_result(tally.value)

    async def handle(self, request: Any) -> Reply:
        """One HTTP request. A path that names no key is asked whether this node is ready: it is."""
        parts = request.message.path.split("/")
        if len(parts) <= KEY_AT:
            return Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        if request.message.method == "PUT":
            payload = request.payload
            body = payload.read_nowait() if payload.is_eof() else await payload.read()
            await self.ask(parts[KEY_AT].encode(), body)
            return STORED
        value = await self.ask(parts[KEY_AT].encode(), None)
        if value is None:
            return Reply(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return Reply(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(value), value)
        )


class Request:
    """What aiohttp's connection needs of a request, and the two things that are read here."""

    __slots__ = ("_task", "message", "payload", "protocol")

    def __init__(
        self, message: RawRequestMessage, payload: StreamReader, protocol: Any, _: Any, task: Any
    ) -> None:
        self.message, self.payload, self.protocol, self._task = message, payload, protocol, task

    def _finish(self) -> None: ...

    def _cancel(self, exc: BaseException) -> None: ...


class Reply:
    """What aiohttp's connection needs of a reply: it writes itself, whole."""

    __slots__ = ("data",)
    keep_alive: Final = True

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def prepare(self, request: Request) -> None:
        """Write it."""
        if request.protocol.transport is None:
            raise ConnectionResetError("the client went away")
        request.protocol.transport.write(self.data)

    async def write_eof(self) -> None:
        """Nothing is left to write."""


STORED: Final = Reply(b"HTTP/1.1 204 No Content\r\n\r\n")


async def serve(asked: argparse.Namespace) -> None:
    """Run one node until a signal, or until a peer is gone."""
    node = Node(asked.index, len(asked.rpc), asked.data_dir, synced=not asked.unsynced)
    loop = node.loop
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, node.stop.set)
    if asked.exit_with_parent:
        loop.add_reader(sys.stdin.fileno(), node.stop.set)
    addresses = [address.split(":") for address in asked.rpc]
    host, port = addresses[node.index]
    await loop.create_server(lambda: Peer(node), host, int(port))
    for host, port in addresses[: node.index]:  # those before it; those after it dial themselves
        while not node.stop.is_set():
            try:
                await loop.create_connection(lambda: Peer(node), host, int(port))
                break
            except OSError:
                await asyncio.sleep(0.05)
    while len(node.peers) < node.nodes - 1 and not node.stop.is_set():
        await asyncio.sleep(0.01)
    server: Any = web.Server(node.handle, request_factory=Request, access_log=None)  # type: ignore[arg-type]
    host, port = asked.http.split(":")
    await loop.create_server(server, host, int(port), backlog=1024)
    await node.stop.wait()
    node.worker.stop()
    node.engine.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one node of a floor."""
    parser = argparse.ArgumentParser(prog="python -m bench.floor", description="one node")
    parser.add_argument("--index", type=int, required=True, help="which of --rpc it is, from 0")
    parser.add_argument("--rpc", nargs="+", required=True, help="host:port of every node, in order")
    parser.add_argument("--http", required=True, help="host:port of this one's HTTP")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--unsynced", action="store_true", help="acknowledge before any sync")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when stdin does")
    asked = parser.parse_args(arguments)
    if len(asked.rpc) < REPLICAS or not 0 <= asked.index < len(asked.rpc):
        parser.error(f"give at least {REPLICAS} addresses, and one of them as --index")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(asked))
    return 0


if __name__ == "__main__":
    sys.exit(main())
