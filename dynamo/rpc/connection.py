"""One byte stream between nodes, from its first byte to its last: handshake, then channel.

The asyncio protocol that a `Network` drives. It closes what is not a node, is too slow or breaks
the rules; which of several connections to a peer stays is its owner's decision. Knows nothing of
addresses to dial or of other connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Protocol, cast

from dynamo.metrics import Metrics
from dynamo.ports import Clock, Handler, Timer
from dynamo.rpc.channel import WRITE_BYTES_MAX, Channel
from dynamo.rpc.handshake import DUPLICATE, SELF, Handshake, Hello, Refusal

#: From the first byte that could flow to the end of the handshake.
HANDSHAKE_SECONDS: Final = 10.0

State = Literal["new", "greeting", "open", "closed"]


class Owner(Protocol):
    """Who keeps the connections of a node."""

    clock: Clock
    metrics: Metrics
    secret: bytes
    handlers: Mapping[type, Handler]
    call_soon: Callable[[Callable[[], None]], Any]

    def make_channel(self, **arguments: Any) -> Channel:
        """A channel of these arguments."""
        ...

    def hello(self) -> Hello:
        """This node's greeting for one connection, with a fresh nonce."""
        ...

    def take(self, connection: Connection) -> bool:
        """False if there is no room for a connection that has just arrived."""
        ...

    def judge(self, connection: Connection, peer: Hello, last_session: bytes) -> Refusal | None:
        """Whether a proven peer may go on, and on this connection."""
        ...

    def last_session(self, node_id: str) -> bytes:
        """Name of the last session with the node, b"" for none."""
        ...

    def opened(self, connection: Connection) -> None:
        """The handshake is done; `peer`, `session` and `channel` are set."""
        ...

    def refused(self, connection: Connection, refusal: Refusal) -> None:
        """The peer refused this node, by name; or it is this node (SELF)."""
        ...

    def closing(self, connection: Connection, reason: str) -> None:
        """The connection is of no use any more; its transport may still live for a moment."""
        ...

    def gone(self, connection: Connection) -> None:
        """The transport is closed."""
        ...

    def complain(self, connection: Connection, reason: str) -> None:
        """Something that is no node, or none of ours, has called."""
        ...


class Connection(asyncio.Protocol):
    """`address`: what was dialed, None for a connection that was accepted."""

    def __init__(self, owner: Owner, *, address: str | None) -> None:
        self._owner = owner
        self._count = owner.metrics.count
        self._transport: asyncio.Transport | None = None
        self._timer: Timer | None = None
        self._handshake: Handshake | None = None
        self.address = address
        self.remote_host = "?"
        self.state: State = "new"
        self.peer: Hello | None = None
        self.session = b""
        self.channel: Channel | None = None
        #: Why it is closed, and how the peer was called where it said so.
        self.reason = ""
        self.refusal: Refusal | None = None
        self.opened_at = 0.0
        #: Told once, when the connection is open or closed.
        self.on_settled: Callable[[], None] | None = None

    def __repr__(self) -> str:
        way = f"-> {self.address}" if self.address is not None else f"<- {self.remote_host}"
        reason = f": {self.reason}" if self.reason else ""
        return f"Connection({way} {self.node_id or '?'} {self.state}{reason})"

    @property
    def dialed(self) -> bool:
        """True if this side opened it."""
        return self.address is not None

    @property
    def node_id(self) -> str:
        """The peer's node id, once it is proven; "" before."""
        return self.peer.greeting.node_id if self.peer is not None else ""

    # What the network calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peername = transport.get_extra_info("peername")
        self.remote_host = str(peername[0] if isinstance(peername, tuple) else peername)
        if self.state == "closed":
            self.abort()
            return
        if not self._owner.take(self):
            self.close("no room for another connection")
            return
        self.state = "greeting"
        self._timer = self._owner.clock.call_later(HANDSHAKE_SECONDS, self._too_slow)
        self._handshake = Handshake(
            dialing=self.dialed, secret=self._owner.secret, own=self._owner.hello(), judge=self
        )
        first = self._handshake.start()
        if first:
            self._transport.write(first)

    def data_received(self, data: bytes) -> None:
        if self.channel is not None:
            self.channel.receive(data)
        elif self.state == "greeting":
            self._greet(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(f"connection lost: {exc}" if exc is not None else "closed by the peer")
        self._owner.gone(self)

    def pause_writing(self) -> None:
        if self.channel is not None:
            self.channel.pause_writing()

    def resume_writing(self) -> None:
        if self.channel is not None:
            self.channel.resume_writing()

    # Handshake ----------------------------------------------------------------------------------

    def admit(self, peer: Hello, last_session: bytes) -> Refusal | None:
        """What the handshake asks once the peer has given its proof."""
        self.peer = peer
        return self._owner.judge(self, peer, last_session)

    def last_session(self, node_id: str) -> bytes:
        return self._owner.last_session(node_id)

    def _greet(self, data: bytes) -> None:
        handshake = self._handshake
        transport = self._transport
        assert handshake is not None
        assert transport is not None
        answer = handshake.receive(data)
        if self.state != "greeting":
            return
        if answer:
            transport.write(answer)
        if handshake.outcome == "done":
            self._open(handshake)
        elif handshake.outcome == "garbage":
            self._count["rpc_connections_garbage"] += 1
            self._owner.complain(self, handshake.reason)
            self.close(handshake.reason)
        elif handshake.outcome != "pending":
            self._end_refused(handshake)

    def _open(self, handshake: Handshake) -> None:
        peer, keys, transport = handshake.peer, handshake.keys, self._transport
        assert peer is not None
        assert keys is not None
        assert transport is not None
        self._stop_timer()
        self._handshake = None
        self.session = keys.session
        self.opened_at = self._owner.clock.monotonic()
        transport.set_write_buffer_limits(high=WRITE_BYTES_MAX, low=WRITE_BYTES_MAX * 3 // 4)
        self.channel = self._owner.make_channel(
            peer=peer.greeting.node_id,
            seed_out=keys.seed_out,
            seed_in=keys.seed_in,
            writer=transport,
            close=self.close,
            clock=self._owner.clock,
            call_soon=self._owner.call_soon,
            metrics=self._owner.metrics,
            handlers=self._owner.handlers,
        )
        self.state = "open"
        self._count["rpc_connections_opened"] += 1
        self._owner.opened(self)
        self._settle()
        if handshake.rest:
            self.data_received(handshake.rest)

    def _end_refused(self, handshake: Handshake) -> None:
        refusal = self.refusal = handshake.refusal
        assert refusal is not None
        reason = f"refused: {refusal.code}: {refusal.message}"
        if refusal.code == DUPLICATE:
            self._count["rpc_connections_duplicate"] += 1
        elif handshake.outcome == "refused_by_peer":
            reason = f"refused by the peer: {refusal.code}: {refusal.message}"
            if refusal.code != SELF:
                self._count["rpc_connections_refused_by_peer"] += 1
                self._owner.refused(self, refusal)
        elif refusal.code == SELF:
            self._owner.refused(self, refusal)
        else:
            self._count["rpc_connections_refused"] += 1
            self._owner.complain(self, reason)
        self.close(reason, abort=False)

    def _too_slow(self) -> None:
        self._timer = None
        self._count["rpc_handshakes_timed_out"] += 1
        self.close(f"no handshake within {HANDSHAKE_SECONDS:.0f} s")

    # Closing ------------------------------------------------------------------------------------

    def close(self, reason: str, *, abort: bool = True) -> None:
        """Be of no use any more, at once. Without `abort` what was sent is still written."""
        if self.state == "closed":
            return
        self.state = "closed"
        self.reason = reason
        self._handshake = None
        self._stop_timer()
        transport = self._transport
        if transport is not None:
            if abort:
                transport.abort()
            else:
                if self.channel is not None:
                    self.channel.finish()
                transport.close()
        # First out of the owner's tables: who is told may send again, on a better one.
        self._owner.closing(self, reason)
        if self.channel is not None:
            self.channel.shut(reason)
        self._settle()

    def abort(self) -> None:
        """Give up on writing what `close` left to be written."""
        if self._transport is not None:
            self._transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _settle(self) -> None:
        on_settled, self.on_settled = self.on_settled, None
        if on_settled is not None:
            on_settled()
