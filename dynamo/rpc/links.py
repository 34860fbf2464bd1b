"""All connections of one node: at most one open to each peer, used both ways.

Both nodes of a pair may dial at once. A dialer gives its proof only while it has no connection to
that peer, and to one connection at a time. So when an acceptor gets a proof:

- its own dial awaits its confirmation: both are on their way. The dial of the lower node id stays.
- it has a connection that the peer dialed, or of an earlier process of the peer: that one is dead
  on the other side. The new one replaces it.
- it has one that it dialed itself: the peer has lost that too, if the proof names it as the last
  session; else the proof was sent before that connection was confirmed, and the new one goes.

Connections that are replaced execute nothing more. Knows nothing of bytes or addresses to dial.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec

from dynamo.metrics import Metrics
from dynamo.ports import Clock, Handler
from dynamo.rpc.channel import Channel
from dynamo.rpc.connection import Connection
from dynamo.rpc.handshake import (
    DUPLICATE,
    NONCE_BYTES,
    PROCESS_BYTES,
    SELF,
    Greeting,
    Hello,
    Refusal,
)

#: Connections of all kinds at a time. One that arrives above it ends the oldest unfinished handshake of
#: all hosts, so that many who say nothing keep out nobody; is there none, it is closed itself. Those
#: that arrive in one turn of the loop may be above it until that has passed.
CONNECTIONS_MAX: Final = 4_096
#: Unfinished handshakes of one remote host at a time; one more ends the oldest of them, since a node
#: is done in an instant and who says nothing has had his.
GREETINGS_PER_HOST_MAX: Final = 128
#: One line about what is no node, and one about refusals, in this many seconds.
COMPLAINT_SECONDS: Final = 60.0

log = logging.getLogger("dynamo.rpc")


class Gate(Protocol):
    """What the node knows and decides about its peers. Called on the loop; must not block."""

    def greeting(self) -> Greeting:
        """This node's own facts, now (the nonce is put in by the transport)."""
        ...

    def admit(self, greeting: Greeting) -> Refusal | None:
        """Whether to talk to a peer that has proved that it knows the secret; None to do so."""
        ...

    def refused(self, address: str, refusal: Refusal) -> None:
        """The peer at `address` will not talk to this node, or is this node itself (SELF), though
        its own address is written otherwise."""
        ...

    def connected(self, greeting: Greeting) -> None:
        """Requests to this node now reach it."""
        ...

    def disconnected(self, node_id: str) -> None:
        """They no longer do. Comes once after each `connected`."""
        ...


class Links:
    """The `Owner` of a node's connections.

    `random` makes nonces: give it `random.SystemRandom` in production. `on_opened` gets node id,
    its own address and the address that was dialed, if it was; `on_lost` gets node id and seconds.
    """

    def __init__(
        self,
        *,
        node_id: str,
        secret: bytes,
        gate: Gate,
        clock: Clock,
        random: random.Random,
        metrics: Metrics,
        handlers: Mapping[type, Handler],
        call_soon: Callable[[Callable[[], None]], Any],
        on_opened: Callable[[str, str, str | None], None],
        on_lost: Callable[[str, float], None],
    ) -> None:
        self.node_id = node_id
        self.secret = secret
        self.clock = clock
        self.metrics = metrics
        self.handlers = handlers
        self.call_soon = call_soon
        #: Node id -> channel, of the open connections.
        self.channels: dict[str, Channel] = {}
        self._gate = gate
        self._random = random
        self._process = random.randbytes(PROCESS_BYTES)
        self._on_opened = on_opened
        self._on_lost = on_lost
        self._open: dict[str, Connection] = {}
        #: Dialed connections that have sent their proof and await the confirmation.
        self._proving: dict[str, Connection] = {}
        self._last_sessions: dict[str, bytes] = {}
        # Dicts for their order, which must not depend on memory addresses.
        self._alive: dict[Connection, None] = {}
        self._greetings: dict[str, dict[Connection, None]] = {}
        #: The same, of all hosts, oldest first.
        self._unfinished: dict[Connection, None] = {}
        self._complaints: dict[str, tuple[float, int]] = {}
        self._closing = False
        self._all_gone = asyncio.Event()

    def __repr__(self) -> str:
        greeting = len(self._unfinished)
        return f"Links({self.node_id} open=[{' '.join(self._open)}] greeting={greeting})"

    def accept(self) -> Connection:
        """The protocol for a connection that arrives."""
        return Connection(self, address=None)

    def dial(self, address: str) -> Connection:
        """The protocol for a connection to `address`."""
        return Connection(self, address=address)

    def disconnect(self, node_id: str | None, reason: str) -> None:
        """Close the connection to a node, or all of them; those being made too."""
        for connection in list(self._alive):
            if node_id is None or connection.node_id == node_id:
                connection.close(reason)

    async def close(self, *, linger: float) -> None:
        """Close everything; what waits to be written gets `linger` seconds to leave."""
        self._closing = True
        for connection in list(self._alive):
            connection.close("this node is stopping", abort=False)
        if self._alive and not await self._gone_within(linger):
            for connection in list(self._alive):
                connection.abort()
            if not await self._gone_within(linger):
                log.error("connections that do not end: %s", list(self._alive))

    async def _gone_within(self, seconds: float) -> bool:
        self._all_gone.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._all_gone.wait()
        except TimeoutError:
            return False
        return True

    # The owner of connections -------------------------------------------------------------------

    def make_channel(self, **arguments: Any) -> Channel:
        return Channel(**arguments)

    def hello(self) -> Hello:
        nonce = self._random.randbytes(NONCE_BYTES)
        return Hello(msgspec.structs.replace(self._gate.greeting(), nonce=nonce), self._process)

    def take(self, connection: Connection) -> bool:
        if self._closing:
            return False
        if not connection.dialed:
            greetings = self._greetings.get(connection.remote_host, {})
            if len(greetings) >= GREETINGS_PER_HOST_MAX:
                self.metrics.count["rpc_connections_capped"] += 1
                next(iter(greetings)).close("too many unfinished handshakes of its host")
            elif len(self._alive) >= CONNECTIONS_MAX:
                self.metrics.count["rpc_connections_capped"] += 1
                if not self._unfinished:
                    return False
                next(iter(self._unfinished)).close("too many connections")
            self._greetings.setdefault(connection.remote_host, {})[connection] = None
            self._unfinished[connection] = None
        self._alive[connection] = None
        return True

    def judge(self, connection: Connection, peer: Hello, last_session: bytes) -> Refusal | None:
        refusal = self._gate.admit(peer.greeting)
        if refusal is not None:
            return refusal
        node_id = peer.greeting.node_id
        if connection.dialed:
            stale = self._before_proof(node_id, peer)
        else:
            stale = self._before_confirmation(node_id, peer, last_session)
        if stale is None:
            return Refusal(DUPLICATE, "the two nodes have a connection")
        for older in stale:
            older.close("replaced by a newer connection")
        if connection.dialed:
            self._proving[node_id] = connection
        return None

    def _before_proof(self, node_id: str, peer: Hello) -> list[Connection] | None:
        """What stands in the way of a dial and is stale; None if the dial is not needed."""
        others = [self._open.get(node_id), self._proving.get(node_id)]
        stale = [other for other in others if other is not None]
        if any(other.peer is not None and other.peer.process == peer.process for other in stale):
            return None
        return stale

    def _before_confirmation(
        self, node_id: str, peer: Hello, last_session: bytes
    ) -> list[Connection] | None:
        """What a connection that arrived replaces; None if it must give way."""
        stale = []
        mine = self._proving.get(node_id)
        if mine is not None:
            assert mine.peer is not None
            if mine.peer.process == peer.process and self.node_id < node_id:
                return None
            stale.append(mine)
        old = self._open.get(node_id)
        if old is not None:
            assert old.peer is not None
            same = old.peer.process == peer.process
            if same and old.dialed and old.session != last_session:
                return None
            # It stays in place until the new one is open, so that nobody finds none.
        return stale

    def last_session(self, node_id: str) -> bytes:
        return self._last_sessions.get(node_id, b"")

    def opened(self, connection: Connection) -> None:
        peer, channel = connection.peer, connection.channel
        assert peer is not None
        assert channel is not None
        greeting = peer.greeting
        node_id = greeting.node_id
        self._end_greeting(connection)
        if self._proving.get(node_id) is connection:
            del self._proving[node_id]
        old = self._open.get(node_id)
        self._open[node_id] = connection
        self.channels[node_id] = channel
        self._last_sessions[node_id] = connection.session
        if old is not None:
            self.metrics.count["rpc_connections_replaced"] += 1
            old.close("replaced by a newer connection")
            self._gate.disconnected(node_id)
        log.info("connected to %s", node_id)
        self._on_opened(node_id, greeting.address, connection.address)
        self._gate.connected(greeting)

    def refused(self, connection: Connection, refusal: Refusal) -> None:
        address = connection.address
        if address is None:
            peer = connection.peer
            address = peer.greeting.address if peer is not None else connection.remote_host
        if refusal.code == SELF and address == self._gate.greeting().address:
            return
        self._gate.refused(address, refusal)

    def closing(self, connection: Connection, reason: str) -> None:
        self._end_greeting(connection)
        node_id = connection.node_id
        if self._proving.get(node_id) is connection:
            del self._proving[node_id]
        if self._open.get(node_id) is connection:
            del self._open[node_id]
            del self.channels[node_id]
            self.metrics.count["rpc_connections_lost"] += 1
            log.info("connection to %s ended: %s", node_id, reason)
            self._on_lost(node_id, self.clock.monotonic() - connection.opened_at)
            self._gate.disconnected(node_id)

    def gone(self, connection: Connection) -> None:
        self._alive.pop(connection, None)
        if not self._alive:
            self._all_gone.set()

    def complain(self, connection: Connection, reason: str) -> None:
        topic = "caller" if connection.refusal is None else "refusal"
        now = self.clock.monotonic()
        last, unsaid = self._complaints.get(topic, (-COMPLAINT_SECONDS, 0))
        if now - last < COMPLAINT_SECONDS:
            self._complaints[topic] = (last, unsaid + 1)
            return
        self._complaints[topic] = (now, 0)
        more = f" ({unsaid} more since the last such line)" if unsaid else ""
        log.warning("closed %s from %s: %s%s", topic, connection.remote_host, reason, more)

    def _end_greeting(self, connection: Connection) -> None:
        self._unfinished.pop(connection, None)
        greetings = self._greetings.get(connection.remote_host)
        if greetings is not None:
            greetings.pop(connection, None)
            if not greetings:
                del self._greetings[connection.remote_host]
