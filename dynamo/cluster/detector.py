"""Which of the other members are down, and which are too slow or silent now to be asked first.

Down is a member that is not connected. One that is connected and silent for too long, by the phi of
its heartbeats, is convicted: its connection is closed, so that what it was asked ends at once. Doubted
is one that is up and has left a request unanswered for far longer than it usually takes, or takes many
times what the others of its datacenter do. Both are this node's own opinion. Time in which this node
itself stood still counts against nobody. Knows nothing of keys, nor of what members say.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Final, Literal, NamedTuple, Protocol

from dynamo.cluster.phi import Phi
from dynamo.metrics import Metrics
from dynamo.ports import Clock
from ring.ring import Ring

log = logging.getLogger(__name__)

#: All peers are looked at so often, in seconds.
TICK: Final = 0.1
#: So long lies between two heartbeats of a peer.
HEARTBEAT: Final = 1.0
#: A tick that comes this much later than due: this node itself stood still.
OWN_PAUSE: Final = 0.25
#: A peer that is said to have restarted, and is silent for so long: its connection is a dead one. One
#: that lives is heard every HEARTBEAT.
STALE_AFTER: Final = 1.5

#: A peer is doubted once it has left a request unanswered for so many times its usual latency ...
STALL_LATENCIES: Final = 4.0
#: ... and for so long, if nothing at all comes from it; ...
SILENT_MIN: Final = 0.05
#: ... or for so long, if other things do: one request may have to wait for its disk.
STALL_MIN: Final = 0.25
#: A peer is slow from so many times the median latency of the others on, and so many seconds above
#: it; and until it is below either of the second pair.
SLOW_TIMES: Final = 5.0
SLOW_SECONDS: Final = 0.010
FAIR_TIMES: Final = 3.0
FAIR_SECONDS: Final = 0.005
#: Latencies are compared once in so many ticks.
COMPARE_TICKS: Final = 5
#: A doubted peer is trusted again once it has been well for so long.
RECOVERY: Final = 0.5


class Observed(Protocol):
    """What the detector needs of the transport."""

    def is_connected(self, node: str) -> bool: ...

    def stalled_for(self, node: str) -> float: ...

    def heard_at(self, node: str) -> float: ...

    def latency_of(self, node: str) -> float: ...

    def disconnect(self, node_id: str) -> None: ...


State = Literal["up", "doubted", "down"]


class Opinion(NamedTuple):
    """What this node thinks of a peer. `phi`: of its silence now, None while it is not connected.
    `latency`: seconds that its first replies take, 0.0 if unknown. `lasted`: seconds, of `state`."""

    state: State
    phi: float | None
    latency: float
    lasted: float


class _Peer:
    """One other node that is, or was, connected or a member."""

    __slots__ = (
        "awake_at",
        "bad_at",
        "connected",
        "datacenter",
        "heard_at",
        "member",
        "node",
        "phi",
        "restarted",
        "since",
        "slow",
    )

    def __init__(self, node: str, now: float) -> None:
        self.node = node
        self.phi = Phi(HEARTBEAT)
        self.member = False
        self.datacenter = ""
        self.connected = False
        #: When bytes last came, as the transport says, and as time goes here while this node is awake.
        self.heard_at = self.awake_at = now
        #: When it was last found worth doubting.
        self.bad_at = 0.0
        #: It is slow by comparison.
        self.slow = False
        #: Gossip knows of a newer start than may be connected here.
        self.restarted = False
        #: When its state last changed.
        self.since = now

    def __repr__(self) -> str:
        return f"_Peer({self.node} {'connected' if self.connected else 'gone'} {self.phi!r})"


class Detector:
    """The port `Opinions`; one a node. Never go through its sets in their own order: it differs from
    one start to the next."""

    def __init__(self, *, node_id: str, clock: Clock, metrics: Metrics) -> None:
        self._node_id = node_id
        self._observed: Observed | None = None
        self._clock = clock
        self._count = metrics.count
        self._down: set[str] = set()
        self._doubted: set[str] = set()
        self._peers: dict[str, _Peer] = {}
        #: Of them, those that are connected, in the order in which they were.
        self._connected: dict[str, _Peer] = {}
        #: Seconds that this node has stood still for.
        self._lost = 0.0
        self._ticks = 0

    def __repr__(self) -> str:
        down, doubted = " ".join(sorted(self._down)), " ".join(sorted(self._doubted))
        return f"Detector({self._node_id} down=[{down}] doubted=[{doubted}])"

    def attach(self, transport: Observed) -> None:
        """Go by this transport."""
        self._observed = transport

    @property
    def _transport(self) -> Observed:
        assert self._observed is not None
        return self._observed

    @property
    def down(self) -> AbstractSet[str]:
        """Members that are not connected. The same object all along."""
        return self._down

    @property
    def doubted(self) -> AbstractSet[str]:
        """Members that are connected, and slow or silent now. The same object all along."""
        return self._doubted

    # What it is told ----------------------------------------------------------------------------

    def adopt(self, ring: Ring) -> None:
        """Have opinions of this ring's members from now on: down until they are connected."""
        for peer in self._peers.values():
            peer.member = False
        for member in ring.members:
            if member.id != self._node_id:
                peer = self._peer(member.id)
                peer.member = True
                peer.datacenter = member.datacenter
        for peer in list(self._peers.values()):
            if not peer.member:
                self._down.discard(peer.node)
                self._doubted.discard(peer.node)
                if not peer.connected:
                    del self._peers[peer.node]
            elif not peer.connected:
                self._down.add(peer.node)

    def connected(self, node: str) -> None:
        """A handshake with the node is done: it is up."""
        now = self._clock.monotonic()
        peer = self._peer(node)
        peer.connected = True
        peer.restarted = peer.slow = False
        peer.heard_at, peer.awake_at = now, now - self._lost
        peer.since = now
        self._connected[node] = peer
        self._down.discard(node)

    def disconnected(self, node: str) -> None:
        """Requests no longer reach the node: it is down."""
        peer = self._connected.pop(node, None)
        if peer is None:
            return
        peer.connected = False
        peer.since = self._clock.monotonic()
        peer.phi.pause()
        self._doubted.discard(node)
        if peer.member:
            self._down.add(node)
        else:
            del self._peers[node]

    def heartbeat(self, node: str) -> None:
        """Something has come from the node that it sends at regular times."""
        peer = self._connected.get(node)
        if peer is not None:
            peer.phi.heartbeat(self._clock.monotonic())

    def restarted(self, node: str) -> None:
        """The node has a newer start than some that was known: if the connection stays silent from
        here on it belongs to the dead one, and is closed long before phi would tell."""
        peer = self._connected.get(node)
        if peer is not None:
            peer.restarted = True

    def opinion_of(self, node: str) -> Opinion:
        """For people."""
        now = self._clock.monotonic()
        peer = self._peers.get(node)
        if peer is None or not peer.connected:
            return Opinion("down", None, 0.0, 0.0 if peer is None else now - peer.since)
        # What has come since the last tick was not put into time awake yet.
        silence = min(now - self._lost - peer.awake_at, now - self._transport.heard_at(node))
        return Opinion(
            "doubted" if node in self._doubted else "up",
            peer.phi.after(max(0.0, silence)),
            self._transport.latency_of(node),
            now - peer.since,
        )

    def _peer(self, node: str) -> _Peer:
        peer = self._peers.get(node)
        if peer is None:
            peer = self._peers[node] = _Peer(node, self._clock.monotonic())
        return peer

    # What it sees -------------------------------------------------------------------------------

    async def run(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Look at every peer every TICK; for ever."""
        while True:
            due = self._clock.monotonic() + TICK
            await sleep(TICK)
            suspects = self.look(due)
            if suspects:
                # What came while this node was busy is read before anyone is judged for his silence.
                await sleep(0)
                self.judge(suspects)

    def look(self, due: float) -> list[str]:
        """Note who was heard; returns who may have to be judged. `due`: when this was to be called."""
        now = self._clock.monotonic()
        transport = self._transport
        self._ticks += 1
        if self._ticks % COMPARE_TICKS == 0:
            self._compare()
        suspects = []
        for node, peer in self._connected.items():
            heard_at = transport.heard_at(node)
            if heard_at != peer.heard_at:
                peer.heard_at = heard_at
                peer.awake_at = heard_at - self._lost
                peer.restarted = False
            if (
                transport.stalled_for(node) > SILENT_MIN
                or peer.slow
                or node in self._doubted
                or now - heard_at >= STALE_AFTER
            ):
                suspects.append(node)
        if now - due > OWN_PAUSE:
            self._stood_still(now, now - due)
            # Requests have grown old meanwhile, their answers perhaps not: the next tick tells.
            return []
        return suspects

    def _stood_still(self, now: float, late: float) -> None:
        """Take the time off every silence."""
        self._lost += late
        self._count["own_pauses"] += 1
        if late > HEARTBEAT:
            log.warning("this node stood still for %.1f s", late)
        for peer in self._connected.values():
            peer.phi.pause()
            # What was read since, before this was noticed, is not heard in the future.
            peer.awake_at = min(peer.awake_at, now - self._lost)

    def judge(self, nodes: Iterable[str]) -> None:
        """Convict, doubt or trust each of these, by what is known of it now."""
        now = self._clock.monotonic()
        for node in nodes:
            peer = self._connected.get(node)
            if peer is None:
                continue
            heard_at = self._transport.heard_at(node)
            silence = now - heard_at
            if heard_at == peer.heard_at:
                silence = now - self._lost - peer.awake_at
            if silence >= (STALE_AFTER if peer.restarted else peer.phi.limit):
                self._convict(peer, silence)
            elif peer.member:
                self._doubt(peer, now, silence)

    def _convict(self, peer: _Peer, silence: float) -> None:
        """Close the connection: the transport calls back, the peer is down, requests end as lost."""
        self._count["connections_stale" if peer.restarted else "peers_convicted"] += 1
        log.warning(
            "%s has been silent for %.1f s (phi %.1f): it is taken to be down",
            peer.node,
            silence,
            peer.phi.after(silence),
        )
        self._transport.disconnect(peer.node)

    def _doubt(self, peer: _Peer, now: float, silence: float) -> None:
        node = peer.node
        stalled = self._transport.stalled_for(node)
        usual = STALL_LATENCIES * self._transport.latency_of(node)
        if (
            peer.slow
            or min(stalled, silence) > max(usual, SILENT_MIN)
            or stalled > max(usual, STALL_MIN)
        ):
            peer.bad_at = now
            if node not in self._doubted:
                self._doubted.add(node)
                peer.since = now
                self._count["peers_doubted"] += 1
        elif node in self._doubted and now - peer.bad_at >= RECOVERY:
            self._doubted.discard(node)
            peer.since = now

    def _compare(self) -> None:
        """Find who is slow beside the others of its datacenter; far ones are slow to all."""
        groups: dict[str, list[tuple[float, _Peer]]] = {}
        for node, peer in self._connected.items():
            latency = self._transport.latency_of(node)
            if latency and peer.member:
                groups.setdefault(peer.datacenter, []).append((latency, peer))
        for group in groups.values():
            latencies = sorted(latency for latency, _ in group)
            for latency, peer in group:
                median = _median_of_others(latencies, latency)
                if peer.slow:
                    peer.slow = latency > median * FAIR_TIMES and latency > median + FAIR_SECONDS
                else:
                    peer.slow = latency > median * SLOW_TIMES and latency > median + SLOW_SECONDS


def _median_of_others(ordered: list[float], own: float) -> float:
    """The median, of two the lower, of `ordered` without one `own`; `own` if there is nothing else."""
    if len(ordered) == 1:
        return own
    middle = (len(ordered) - 2) // 2
    return ordered[middle] if own > ordered[middle] else ordered[middle + 1]
