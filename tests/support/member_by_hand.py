"""A member of a cluster of node processes that is played by the test, over a real socket.

It speaks with the production handshake, frames and codec and knows the cluster's secret, so a node
takes it for one of its peers; what it says after that is the test's affair. Blocking, one thread.
"""

from __future__ import annotations

import os
import socket
import time
from types import TracebackType

from cluster_process import ClusterProcess

from dynamo.rpc.codec import decode_reply, decode_request, encode
from dynamo.rpc.delay import STAMP_BITS, Delay
from dynamo.rpc.frame import LAST, REPLY, FrameReader, FrameWriter
from dynamo.rpc.handshake import Greeting, Handshake, Hello, Refusal
from dynamo.rpc.messages import AskProperties, Ping, Properties, Reply, Request
from dynamo.rpc.tcp import split_address

PATIENCE = 20.0
_READ_BYTES = 1 << 16


class Anyone:
    """The judge of a handshake that lets everyone in."""

    def admit(self, peer: Hello, last_session: bytes) -> Refusal | None:
        return None

    def last_session(self, node_id: str) -> bytes:
        return b""


class Guesser(Handshake):
    """The dialing side of one who guesses the proof."""

    def _mac(self, label: bytes, more: bytes = b"") -> bytes:
        mac = super()._mac(label, more)
        return bytes(len(mac)) if label == b"dialer" else mac


def dial(
    cluster: ClusterProcess, *, source: str = "127.0.0.1", receive_bytes: int = 0
) -> socket.socket:
    """A connection to the first node's RPC port from this address of the machine."""
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.settimeout(PATIENCE)
    sock.bind((source, 0))
    sock.connect(split_address(cluster.nodes[0].rpc))
    return sock


def closed_after(sock: socket.socket, seconds: float = PATIENCE) -> float:
    """Seconds until the node closes the connection. Raises TimeoutError."""
    began = time.monotonic()
    sock.settimeout(0.1)
    while time.monotonic() < began + seconds:
        try:
            if not sock.recv(_READ_BYTES):
                return time.monotonic() - began
        except TimeoutError:
            continue
        except ConnectionError:
            return time.monotonic() - began
    raise TimeoutError(f"still open after {seconds} s")


def hello(
    cluster: ClusterProcess,
    name: str,
    *,
    start: int = 1,
    write_number: int = 0,
    random: bytes = b"12345678",
    cluster_id: str = "",
) -> Hello:
    """What this member says of itself, from a process of its own."""
    members = {member.id: member.address for member in cluster.cluster.members}
    greeting = Greeting(
        cluster_id=cluster_id or cluster.cluster.id,
        node_id=name,
        start=start,
        write_number=write_number,
        epoch=0,
        ring_digest=b"",
        address=members.get(name, "127.0.0.1:9"),
        datacenter="",
        rack="",
        host="",
        nonce=os.urandom(16),
        random=random,
    )
    return Hello(greeting, os.urandom(8))


def dribble(sock: socket.socket, said: bytes) -> float:
    """Send a byte a second until the node closes; how many seconds that took. Raises TimeoutError."""
    began = time.monotonic()
    for byte in said:
        try:
            sock.sendall(bytes([byte]))
            closed_after(sock, 1.0)
        except TimeoutError:
            continue
        except ConnectionError:
            pass
        return time.monotonic() - began
    raise TimeoutError(f"still open after {len(said)} bytes")


class MemberByHand:
    """A member with an open connection to the first node, or with what it was refused with."""

    def __init__(
        self,
        cluster: ClusterProcess,
        name: str,
        *,
        start: int = 1,
        write_number: int = 0,
        random: bytes = b"12345678",
        cluster_id: str = "",
        handshake: type[Handshake] = Handshake,
        source: str = "127.0.0.1",
        receive_bytes: int = 0,
    ) -> None:
        self.name = name
        self.socket = dial(cluster, source=source, receive_bytes=receive_bytes)
        own = hello(
            cluster,
            name,
            start=start,
            write_number=write_number,
            random=random,
            cluster_id=cluster_id,
        )
        self._handshake = handshake(
            dialing=True, secret=cluster.cluster.secret, own=own, judge=Anyone()
        )
        try:
            self._shake()
        except BaseException:
            self.socket.close()
            raise
        self._streams = 0
        #: Streams of the node's own requests that have been read, with them.
        self.asked: list[tuple[int, Request]] = []
        self._replies: list[tuple[int, int, Reply]] = []

    def __enter__(self) -> MemberByHand:
        assert self.refusal is None, self.refusal
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    @property
    def refusal(self) -> Refusal | None:
        """What the node, or this side, refused with."""
        return self._handshake.refusal

    def _shake(self) -> None:
        handshake = self._handshake
        self.socket.sendall(handshake.start())
        while handshake.outcome == "pending":
            data = self.socket.recv(_READ_BYTES)
            if not data:
                raise ConnectionError("closed in the handshake")
            self.socket.sendall(handshake.receive(data))
        self._delay = Delay(time.monotonic())
        if handshake.keys is not None:
            self.frames = FrameWriter(seed=handshake.keys.seed_out)
            self.reader = FrameReader(seed=handshake.keys.seed_in)
            self._take(handshake.rest)

    # Sending ------------------------------------------------------------------------------------

    def frame(self, *payloads: bytes | Request, age: float = 0.0) -> bytes:
        """One frame of these requests, each on a stream of its own; not sent. It says that it was sent
        so many seconds ago."""
        self.frames.stamps = self._delay.stamps(time.monotonic() - age)
        for payload in payloads:
            self._streams += 1
            data = payload if isinstance(payload, bytes) else encode(payload)
            self.frames.add(self._streams, 0, data)
        return self.frames.take()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reply(self, stream: int, reply: bytes | Reply) -> None:
        """Send a last reply to a stream of the node's, which may have asked nothing on it."""
        data = reply if isinstance(reply, bytes) else encode(reply)
        self.frames.add(stream, REPLY | LAST, data)
        self.send(self.frames.take())

    # Asking -------------------------------------------------------------------------------------

    def ask(self, request: bytes | Request, *, age: float = 0.0) -> list[Reply]:
        """All replies to a request, to the last; `age` as of a frame."""
        self.send(self.frame(request, age=age))
        return self.replies(self._streams)

    def answer(self, request: bytes | Request, *, age: float = 0.0) -> Reply:
        """The last reply to a request."""
        return self.ask(request, age=age)[-1]

    def replies(self, stream: int) -> list[Reply]:
        """All replies to what was sent on this stream, to the last. Raises TimeoutError."""
        until = time.monotonic() + PATIENCE
        while True:
            here = [one for one in self._replies if one[0] == stream]
            if any(flags & LAST for _, flags, _ in here):
                return [reply for _, _, reply in here]
            self.read(until)

    def next_request(self, kind: type[Request]) -> tuple[int, Request]:
        """The next request of the node's of this kind, and its stream. Raises TimeoutError."""
        until = time.monotonic() + PATIENCE
        while True:
            for at, (_, request) in enumerate(self.asked):
                if isinstance(request, kind):
                    return self.asked.pop(at)
            self.read(until)

    def next_ping(self) -> int:
        """The stream of the node's next heartbeat."""
        return self.next_request(Ping)[0]

    def read(self, until: float) -> None:
        """Read what comes, up to then. Raises TimeoutError, ConnectionError."""
        self.socket.settimeout(max(0.01, until - time.monotonic()))
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise ConnectionError("the node has closed the connection")
        self._take(data)

    def _take(self, data: bytes) -> None:
        for stream, flags, payload, stamps in self.reader.feed(data):
            self._delay.heard = stamps >> STAMP_BITS
            if flags & REPLY:
                self._replies.append((stream, flags, decode_reply(payload)))
                continue
            request = decode_request(payload)
            if isinstance(request, AskProperties):
                self.reply(
                    stream, Properties(())
                )  # a node that is new serves nobody before it has that
            else:
                self.asked.append((stream, request))
        assert self.reader.fault is None, self.reader.fault
