"""The transport of a node: requests to its peers by node id, and its own answers to theirs.

Puts together the connections, the dialing and the loopback. Knows nothing of what a message means,
nor of sockets: the network is an argument.

Counters (`metrics.count`), all `rpc_*`: nothing is dropped, refused or closed without one.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from dynamo.metrics import Metrics
from dynamo.ports import Clock, Failure, Handler, Waiter
from dynamo.rpc.codec import encode
from dynamo.rpc.dial import Dialer
from dynamo.rpc.fault_injection import FaultInjection
from dynamo.rpc.faulty_links import FaultyLinks
from dynamo.rpc.links import Gate, Links
from dynamo.rpc.loopback import Loopback
from dynamo.rpc.messages import Request
from dynamo.rpc.network import Listener, Network

#: What waits to be written when the transport closes gets this long to leave.
LINGER_SECONDS: Final = 1.0

_NOT_CONNECTED: Final = Failure("not_sent", "not connected")


class PeerTransport:
    """The port `Transport` over one connection a peer.

    `secret`: the cluster's. `random`: nonces and jitter; `random.SystemRandom` in production.
    `handlers`: message type -> who executes it; may still be filled until `start`. `faults`: delays and
    cuts of messages between nodes, which the loopback has none of.
    """

    def __init__(
        self,
        *,
        node_id: str,
        secret: bytes,
        gate: Gate,
        network: Network,
        clock: Clock,
        random: random.Random,
        metrics: Metrics,
        handlers: Mapping[type, Handler],
        faults: FaultInjection | None = None,
    ) -> None:
        #: What is done to messages on purpose; None of a node that was not started so.
        self.faults = faults
        self.node_id = node_id
        self._secret = secret
        self._gate = gate
        self._network = network
        self._clock = clock
        self._monotonic = clock.monotonic
        self._random = random
        self._metrics = metrics
        self._count = metrics.count
        self._handlers = handlers
        self._loopback = Loopback(node=node_id, clock=clock, metrics=metrics, handlers=handlers)
        make_links = Links if faults is None else partial(FaultyLinks, faults=faults)
        self._links = make_links(
            node_id=node_id,
            secret=secret,
            gate=gate,
            clock=clock,
            random=random,
            metrics=metrics,
            handlers=handlers,
            call_soon=lambda callback: asyncio.get_running_loop().call_soon(callback),
            on_opened=self._opened,
            on_lost=self._lost,
        )
        self._channels = self._links.channels
        self._dialer = Dialer(
            network=network,
            clock=clock,
            random=random,
            metrics=metrics,
            open=self._links.dial,
            is_connected=self._channels.__contains__,
        )
        self._listener: Listener | None = None
        self._closed = False

    def __repr__(self) -> str:
        where = self._listener.address if self._listener is not None else "not listening"
        return f"PeerTransport({self.node_id} {where} {self._links!r} {self._dialer!r})"

    # Coming and going ---------------------------------------------------------------------------

    async def start(self, listen_address: str) -> str:
        """Listen; returns the address, with the port that was free for port 0.

        Raises OSError if that fails, ValueError for what is no address.
        """
        assert self._listener is None
        self._links.call_soon = asyncio.get_running_loop().call_soon
        self._listener = await self._network.listen(listen_address, self._links.accept)
        return self._listener.address

    def dial(self, addresses: Iterable[str] | Mapping[str, str]) -> None:
        """Keep exactly these addresses connected from now on; one's own may be among them. Values of a
        mapping: who is there, "" where that is not known, so that a node is dialled at one address."""
        assert not self._closed
        self._dialer.dial(addresses)

    async def first_attempts_done(self) -> None:
        """Return once each address dialed now has been connected, or has failed once."""
        await self._dialer.first_attempts_done()

    @property
    def attempted(self) -> bool:
        """True once `first_attempts_done` would return at once."""
        return self._dialer.attempted

    @property
    def reaching(self) -> bool:
        """True while a peer that is not connected may be so soon: it was not tried yet, or is there."""
        return self._dialer.reaching

    def connected(self) -> tuple[str, ...]:
        """Ids of the connected peers, in order; without this node."""
        return tuple(sorted(self._channels))

    def disconnect(self, node_id: str | None = None) -> None:
        """Close the connection to a node, or (None) all; what is dialed is dialed again."""
        self._links.disconnect(node_id, "disconnected by this node")

    async def close(self) -> None:
        """Stop listening and dialing, close all connections; nothing of it is left afterwards.

        Whoever still waits for a reply gets a `lost` failure.
        """
        if self._closed:
            return
        self._closed = True
        if self._listener is not None:
            await self._listener.close()
        await self._dialer.close()
        if self.faults is not None:
            self.faults.close()
        self._loopback.close("this node is stopping")
        await self._links.close(linger=LINGER_SECONDS)

    def _opened(self, node_id: str, own_address: str, dialed: str | None) -> None:
        self._dialer.opened(node_id, own_address, dialed)

    def _lost(self, node_id: str, lasted: float) -> None:
        self._dialer.lost(node_id, lasted)

    # The port Transport -------------------------------------------------------------------------

    def request(
        self, targets: Sequence[str], message: Request, waiter: Waiter, timeout: float
    ) -> None:
        """Send one message to each target; encoded once, and only if a peer is among them."""
        now = self._monotonic()
        expires_at = now + timeout
        payload: bytes | None = None
        for target in targets:
            if target == self.node_id:
                self._loopback.request(message, waiter, now, expires_at)
                continue
            channel = self._channels.get(target)
            if channel is None:
                self._count["rpc_requests_not_sent"] += 1
                waiter.on_failure(target, _NOT_CONNECTED)
                continue
            if payload is None:
                payload = encode(message)
            channel.request(payload, waiter, now, expires_at)

    def is_connected(self, node: str) -> bool:
        """True if a request now would be handed to the network (always, for this node)."""
        return node in self._channels or node == self.node_id

    def stalled_for(self, node: str) -> float:
        """Seconds since the oldest request to the node that has had no reply at all; 0.0 if none."""
        if node == self.node_id:
            return self._loopback.pending.stalled_for()
        channel = self._channels.get(node)
        return channel.pending.stalled_for() if channel is not None else 0.0

    def waiters(self) -> list[Waiter]:
        """Who waits for answers now, of this node itself and of its peers: a request on a connection
        that is gone has ended."""
        pendings = [self._loopback.pending, *(c.pending for c in self._channels.values())]
        return [waiter for pending in pendings for waiter in pending.waiters()]

    # What the detector goes by -------------------------------------------------------------------

    def heard_at(self, node: str) -> float:
        """Monotonic second at which the last bytes of a connected peer came; -inf for any other."""
        channel = self._channels.get(node)
        return channel.heard_at if channel is not None else -math.inf

    def latency_of(self, node: str) -> float:
        """Seconds that a connected peer's first replies take lately, smoothed; 0.0 if unknown."""
        channel = self._channels.get(node)
        return channel.pending.latency if channel is not None else 0.0
