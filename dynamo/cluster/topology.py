"""The ring this node is in, and who may connect to it.

The ring of epoch 1 is agreed once: from the members of the cluster file, or from the first
handshakes with every address of `--peers`. Then it is kept on disk, and later starts need nobody.
Nodes whose rings of one epoch differ refuse each other by name. A peer that shows an earlier start,
or fewer synced writes, than it once did has lost some: it is refused and told what is known of it.
Knows nothing of requests about keys.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

import msgspec

from dynamo.cluster_file import DEVELOPMENT, ClusterFile
from dynamo.errors import ConfigError, StorageCorrupt, StorageError
from dynamo.metrics import Metrics
from dynamo.ports import Call, Failure, Transport
from dynamo.rpc.handshake import SELF, Greeting, Refusal
from dynamo.rpc.messages import AskRing, Ping, Pong, Reply, RingIs
from ring.member import Member
from ring.ring import ReplicationClass, Ring

log = logging.getLogger(__name__)

RING_BLOB: Final = "ring"
PEERS_BLOB: Final = "peers"
ASK_TIMEOUT: Final = 5.0
HEARTBEAT_INTERVAL: Final = 1.0
#: What was heard is written down after so many heartbeats.
KEEP_BEATS: Final = 2
#: A connected peer that has left a request unanswered for so long (seconds) may be a dead process.
SILENT_AFTER: Final = 1.0
_NOWHERE_ELSE: Final[Mapping[str, str]] = MappingProxyType({})


class Blobs(Protocol):
    """Small files of the node, each written atomically, checksummed and synced."""

    def read_blob(self, name: str) -> bytes | None: ...

    def write_blob(self, name: str, data: bytes) -> None: ...

    async def keep_blob(self, name: str, data: bytes) -> None: ...


class Known(msgspec.Struct, frozen=True, array_like=True):
    """The most that a peer has shown: start number with its random bytes, synced write number."""

    start: int
    write_number: int
    random: bytes = b""

    def lacks(self, other: Known) -> bool:
        """True if who shows this has less than who showed `other`, or is another copy of it.

        One process, known by its random bytes, does not go back: when both dial at once, what it
        said in the older greeting may be judged after what it has said since.
        """
        if self.start == other.start:
            return self.random != other.random
        return self.start < other.start or self.write_number < other.write_number


_known_decoder = msgspec.msgpack.Decoder(dict[str, Known])


class Topology:
    """The node's ring and its `Gate`: decides on every handshake."""

    def __init__(
        self,
        *,
        own: Member,
        cluster: ClusterFile,
        peers: tuple[str, ...],
        blobs: Blobs,
        standing: Callable[[], Known],
        metrics: Metrics,
        address: str = "",
        learnt: Mapping[str, str] = _NOWHERE_ELSE,
        begun: Known | None = None,
    ) -> None:
        """`own`: this node, as the cluster file has it. `peers`: the other members' addresses, if the
        cluster file names no members; else seeds, some addresses that members are at.
        `standing`: this node's own start and synced write number, now. `address`: where this node is
        dialled today, "" for where `own` says. `learnt`: where members are dialled that are not where
        the ring says, by id; looked at whenever `addresses` is. `begun`: what this node's storage had
        when it was started, as long as it has not taken another start number: it is greeted with, so
        that a disk that is put back cannot grow past what peers know before it meets them.

        Raises ConfigError if this node is not a member of its ring, StorageCorrupt.
        """
        self._own = own
        self._address = address or own.address
        self._learnt = learnt
        self._cluster = cluster
        self._peers = frozenset(peers)
        self._blobs = blobs
        self._standing = standing
        self._begun = begun
        self._count = metrics.count
        #: Peers that have no ring either, by address.
        self._met: dict[str, Member] = {}
        #: Peers that have a ring, while this node has none.
        self._with_ring: dict[str, None] = {}
        self._known = _read_known(blobs)
        self._heard = False
        #: The last synced write number that each peer has acknowledged a write with; shared with the
        #: coordinator. What a peer said in an acknowledgement it cannot take back.
        self.acknowledged: dict[str, int] = {}
        self._transport: Transport | None = None
        #: Why peers refused this node, or this node them, by address or id: for people.
        self.refusals: dict[str, str] = {}
        self.ring: Ring | None = self._first_ring()
        #: Called once, with the ring, if it is formed or learnt after the start.
        self.on_ring: Callable[[Ring], None] = lambda ring: None
        #: Called when a peer knows more of this node than it does itself.
        self.on_behind: Callable[[Known], None] = lambda known: None
        #: Called when a connected peer turns out to have another ring: it is to be disconnected.
        self.on_stranger: Callable[[str], None] = lambda node_id: None
        #: Called when a peer is connected, first with what it says of itself.
        self.on_greeted: Callable[[Greeting], None] = lambda greeting: None
        self.on_connected: Callable[[str], None] = lambda node_id: None
        #: Called when it no longer is.
        self.on_disconnected: Callable[[str], None] = lambda node_id: None
        #: Called when a peer has answered a heartbeat.
        self.on_heartbeat: Callable[[str], None] = lambda node_id: None

    def attach(self, transport: Transport) -> None:
        """Use this transport to ask peers for their ring."""
        self._transport = transport

    @property
    def addresses(self) -> dict[str, str]:
        """Where to dial, and which member is there, "" where that is not known: every other member,
        where the ring says and where it was last, and the seeds; every peer while there is no ring."""
        found: dict[str, str] = {}
        for member in self.ring.members if self.ring is not None else ():
            if member.id != self._own.id:
                for address in (member.address, self._learnt.get(member.id, "")):
                    # One may be now where the ring, or an old rumour, has another.
                    if address:
                        found[address] = (
                            member.id if found.get(address) in (None, member.id) else ""
                        )
        for address in sorted(self._peers):
            found.setdefault(address, "")
        found.pop(self._address, None)
        return found

    def missing(self) -> tuple[str, ...]:
        """Addresses that have not answered, or have a ring that has not come, while there is none."""
        if self.ring is not None:
            return ()
        return tuple(sorted(self._peers - self._met.keys()))

    # Forming the ring ---------------------------------------------------------------------------

    def _first_ring(self) -> Ring | None:
        ring = self._read_ring()
        if ring is not None:
            self._check_mine(ring)
            self._check_unchanged(ring)
            return ring
        if self._cluster.members:
            return self._keep(self._build(self._cluster.members))
        if not self._peers:
            return self._keep(self._build((self._own,)))
        return None

    def _read_ring(self) -> Ring | None:
        try:
            data = self._blobs.read_blob(RING_BLOB)
            return None if data is None else Ring.from_bytes(data)
        except (StorageCorrupt, ValueError) as error:
            # Not formed anew unasked: a later epoch may be what is damaged.
            raise StorageCorrupt(
                f"the ring on disk cannot be read ({error}). Move that file away: then the ring is"
                " formed again as at the first start, or learnt from a peer"
            ) from error

    def _build(self, members: tuple[Member, ...]) -> Ring:
        try:
            return Ring.build(
                members,
                partitions=self._cluster.partitions,
                seed=self._cluster.seed,
                classes=self._classes(),
            )
        except ValueError as error:
            raise ConfigError(f"these members cannot form a ring: {error}") from error

    def _classes(self) -> tuple[ReplicationClass, ...]:
        return tuple(
            ReplicationClass(name=name, id=index, replicas=replicas)
            for index, (name, replicas) in enumerate(self._cluster.classes)
        )

    def _keep(self, ring: Ring) -> Ring:
        self._check_mine(ring)
        self._blobs.write_blob(RING_BLOB, ring.to_bytes())
        return ring

    def _check_mine(self, ring: Ring) -> None:
        if ring.member(self._own.id) is None:
            raise ConfigError(
                f"node {self._own.id} is not a member of its ring"
                f" ({', '.join(member.id for member in ring.members)})"
            )
        if ring.seed != self._cluster.seed or ring.partitions != self._cluster.partitions:
            raise ConfigError("the ring on disk is of another cluster file")

    def _check_unchanged(self, ring: Ring) -> None:
        """Raises ConfigError if the cluster file was edited after the first ring was formed from it:
        what it says now would be obeyed by nobody. Later epochs differ from it. What flags say of
        this node is not obeyed either, and that is logged: it may be how it is reached today."""
        cluster = self._cluster
        if ring.epoch > 1:
            return
        changed = []
        classes = _differing(ring.classes, self._classes(), "name")
        if cluster.id != DEVELOPMENT.id:
            changed += [f"class {name}" for name in classes]
        elif classes:
            has = ", ".join(f"{class_.name}={class_.replicas}" for class_ in ring.classes)
            log.warning("the ring has the classes %s, and goes on with those", has)
        if cluster.members:
            members = _differing(ring.members, cluster.members, "id")
            changed += [f"member {name}" for name in members]
        elif ring.member(self._own.id) != self._own:
            log.warning("the ring has %r, and goes on with that", ring.member(self._own.id))
        if changed:
            raise ConfigError(
                f"the cluster file was changed after this node first started with it:"
                f" {', '.join(changed)}. Nothing in it can be changed; give the node the old one"
            )

    def _check_peers(self, ring: Ring) -> None:
        """Raises ConfigError if a first ring, formed elsewhere, leaves out one of `--peers`."""
        left_out = self._peers - {member.address for member in ring.members}
        if ring.epoch == 1 and left_out:
            raise ConfigError(
                f"{', '.join(sorted(left_out))} of the --peers of {self._own.id} is not in it"
            )

    def _adopt(self, ring: Ring) -> None:
        self.ring = self._keep(ring)
        self.refusals.pop(self._own.id, None)
        log.info("ring formed: %r", ring)
        self.on_ring(ring)
        # Whoever forms a ring later than its peer compares the two, so every pair is compared.
        for member in ring.members:
            if member.id != self._own.id:
                self._ask_ring(member.id)

    def _ask_ring(self, node_id: str) -> None:
        assert self._transport is not None
        ask = AskRing(int(ASK_TIMEOUT * 1000))
        self._transport.request((node_id,), ask, self, ASK_TIMEOUT)

    # Heartbeat ----------------------------------------------------------------------------------

    async def run_heartbeat(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Tell every peer, once a second, how far this node is synced; for ever.

        A peer that comes back with less has lost some, whatever it says of itself; and one that is
        frozen is noticed while nothing else is asked of it. What was heard is put on disk now and
        then: a peer that shows less than was heard since is found out all the same, until this node
        itself restarts.
        """
        assert self._transport is not None
        while True:
            for _ in range(KEEP_BEATS):
                await sleep(HEARTBEAT_INTERVAL)
                if self.ring is None:
                    self._try_again()
                else:
                    peers = [m.id for m in self.ring.members if m.id != self._own.id]
                    up = [peer for peer in peers if self._transport.is_connected(peer)]
                    ping = Ping(int(ASK_TIMEOUT * 1000), self._standing().write_number)
                    self._transport.request(up, ping, self, ASK_TIMEOUT)
            for name in self._known:
                self._last_known(name)
            if self._heard:
                await self._keep_known()

    def on_ping(self, message: Ping, call: Call) -> None:
        """Note how far the peer is synced, and answer with the same of this node."""
        self._hear(call.peer, message.write_number)
        call.reply(Pong(self._standing().write_number))

    def _hear(self, name: str, write_number: int) -> None:
        known = self._known.get(name)
        if known is not None and write_number > known.write_number:
            self._known[name] = msgspec.structs.replace(known, write_number=write_number)
            self._heard = True

    async def keep_shown(self, shown: Iterable[tuple[str, int, int]]) -> str:
        """Note on disk what members have shown of themselves, (id, start, synced write number): from
        then on one that comes back with less is found out. "" once it is there, else why it cannot be:
        a member has not been met in that start, or the disk takes nothing."""
        for name, start, number in shown:
            known = self._last_known(name)
            if name == self._own.id or (known is not None and known.start > start):
                continue
            if known is None or known.start < start:
                return f"it has not met {name} as it is now"
            self._hear(name, number)
        try:
            # All that is known, once more: what was heard before may not be there yet.
            await self._blobs.keep_blob(PEERS_BLOB, msgspec.msgpack.encode(self._known))
        except StorageError as error:
            self._heard = True
            return f"what members have shown cannot be kept: {error.message}"
        return ""

    def _write_known(self) -> None:
        """On disk when this returns: who greets is let in after it."""
        self._heard = False
        try:
            self._blobs.write_blob(PEERS_BLOB, msgspec.msgpack.encode(self._known))
        except StorageError as error:
            self._unwritten(error)

    async def _keep_known(self) -> None:
        """On disk soon; the loop does not wait for it."""
        self._heard = False
        try:
            await self._blobs.keep_blob(PEERS_BLOB, msgspec.msgpack.encode(self._known))
        except StorageError as error:
            self._unwritten(error)

    def _unwritten(self, error: StorageError) -> None:
        # A full disk: it is known in memory, and written at the next heartbeats that can.
        self._heard = True
        self._count["known_peers_unwritten"] += 1
        count = self._count["known_peers_unwritten"]
        if count & (count - 1) == 0:  # a disk may be full for days
            log.warning(
                "what is known of the peers could not be kept (%s so far): %s", count, error.message
            )

    def on_reply(self, node: str, reply: Reply) -> None:
        if isinstance(reply, Pong):
            self._hear(node, reply.write_number)
            self.on_heartbeat(node)
            return
        if not isinstance(reply, RingIs) or not reply.ring:
            return
        if self.ring is not None:
            if reply.ring != self.ring.to_bytes():
                self.refuse_stranger(node)
            return
        try:
            ring = Ring.from_bytes(reply.ring)
            self._check_peers(ring)
            self._adopt(ring)
        except (ValueError, ConfigError) as error:
            self._refuse(node, f"the ring it sent is not usable: {error}")
        except StorageError as error:
            self._refuse(self._own.id, error.message)

    def on_failure(self, node: str, failure: Failure) -> None:
        self._count["peer_requests_failed"] += 1
        if self.ring is None and failure.kind == "timed_out":
            self._ask_ring(node)

    def refuse_stranger(self, node: str) -> None:
        """A connected peer turns out to have another ring of this epoch."""
        self._refuse(node, f"its ring differs from that of {self._own.id}")
        self.on_stranger(node)

    def _refuse(self, name: str, why: str) -> None:
        self._count["peers_refused"] += 1
        if self.refusals.get(name) != why:
            log.error("refusing %s: %s", name, why)
        self.refusals[name] = why

    # Gate ---------------------------------------------------------------------------------------

    def greeting(self) -> Greeting:
        own, standing, begun = self._own, self._standing(), self._begun
        if begun is not None and begun.start == standing.start:
            standing = begun
        ring = self.ring
        return Greeting(
            cluster_id=self._cluster.id,
            node_id=own.id,
            start=standing.start,
            write_number=standing.write_number,
            epoch=ring.epoch if ring is not None else 0,
            ring_digest=ring.digest() if ring is not None else b"",
            address=self._address,
            datacenter=own.datacenter,
            rack=own.rack,
            host=own.host,
            weight=own.weight,
            random=standing.random,
        )

    def admit(self, greeting: Greeting) -> Refusal | None:
        """Why this peer may not connect, or None; what it shows of itself is remembered, synced."""
        name = greeting.node_id
        ring = self.ring
        if ring is None:
            if greeting.address not in self._peers:
                why = f"{greeting.address} is not among the --peers of {self._own.id}"
                self._refuse(name, why)
                return Refusal("not_member", why)
        elif ring.member(name) is None:
            why = f"{name} is not a member of the ring of {self._own.id}"
            self._refuse(name, why)
            return Refusal("not_member", why)
        elif (
            greeting.ring_digest
            and greeting.epoch == ring.epoch
            and greeting.ring_digest != ring.digest()
        ):
            why = f"the ring of {name} differs from that of {self._own.id}, in epoch {ring.epoch}"
            self._refuse(name, why)
            return Refusal("ring_differs", why)
        known = self._last_known(name)
        shown = Known(greeting.start, greeting.write_number, greeting.random)
        if self._is_running(name, shown, known):
            # A second process under one name; or a restart, whose old connection is about to go.
            why = f"{name} is connected to {self._own.id} from another process, which answers"
            self._refuse(name, why)
            return Refusal("in_use", why)
        if known is not None and shown.lacks(known):
            self._count["peers_behind"] += 1
            log.error(
                "ALARM %s shows start %s and %s synced writes, and has shown %s and %s before",
                name,
                greeting.start,
                greeting.write_number,
                known.start,
                known.write_number,
            )
            why = f"{name} has lost what it had: it must start above what is known and refill"
            return Refusal("behind", why, known.start, known.write_number)
        if known is not None and known.start == shown.start:
            number = max(known.write_number, shown.write_number)
            shown = msgspec.structs.replace(shown, write_number=number)
        if known != shown:
            self._known[name] = shown
            self._write_known()
        return None

    def _last_known(self, name: str) -> Known | None:
        """The most that a peer has shown, said in a heartbeat, or acknowledged with."""
        known = self._known.get(name)
        number = self.acknowledged.get(name, 0)
        if known is not None and number > known.write_number:
            known = self._known[name] = msgspec.structs.replace(known, write_number=number)
            self._heard = True
        return known

    def _is_running(self, name: str, shown: Known, known: Known | None) -> bool:
        """True if another process is connected under this name and answers."""
        transport = self._transport
        return (
            transport is not None
            and known is not None
            and known.random != shown.random
            and transport.is_connected(name)
            and transport.stalled_for(name) < SILENT_AFTER
        )

    def refused(self, address: str, refusal: Refusal) -> None:
        """A peer refused this node, or turned out to be this node under another address."""
        if refusal.code == SELF:
            own = self._address
            self._refuse(address, f"{address} is this node itself, which is {own} to its peers")
            return
        self._count["refused_by_peers"] += 1
        if self.refusals.get(address) != refusal.message:
            log.error("refused by %s: %s", address, refusal.message)
        self.refusals[address] = refusal.message
        if refusal.code == "behind":
            self.on_behind(Known(refusal.known_start, refusal.known_write_number))

    def connected(self, greeting: Greeting) -> None:
        """A peer is connected: while there is no ring, ask for the peer's, or note that it has none;
        with all of them noted, form the ring."""
        self.refusals.pop(greeting.node_id, None)
        self.refusals.pop(greeting.address, None)
        if self.ring is None and greeting.epoch:
            # There is a ring: one formed now, of what peers say of themselves today, may differ.
            self._with_ring[greeting.node_id] = None
            self._ask_ring(greeting.node_id)
        elif self.ring is None:
            self._note_met(greeting)
        self.on_greeted(greeting)
        self.on_connected(greeting.node_id)

    def _note_met(self, greeting: Greeting) -> None:
        self._met[greeting.address] = Member(
            id=greeting.node_id,
            address=greeting.address,
            datacenter=greeting.datacenter,
            rack=greeting.rack,
            host=greeting.host,
            weight=greeting.weight,
        )
        self._form()

    def _form(self) -> None:
        """Form the ring, if every peer has been met."""
        if self.missing():
            return
        try:
            self._adopt(self._build((self._own, *self._met.values())))
        except (ConfigError, StorageError) as error:
            self._refuse(self._own.id, error.message)

    def _try_again(self) -> None:
        """The ring that was to be formed or learnt could not be kept, say on a full disk."""
        assert self._transport is not None
        self._form()
        for name in self._with_ring:
            if self.ring is None and self._transport.is_connected(name):
                self._ask_ring(name)

    def disconnected(self, node_id: str) -> None:
        """A peer's connection is gone."""
        self._count["peers_lost"] += 1
        self.on_disconnected(node_id)


def _differing(one: Iterable[object], other: Iterable[object], name: str) -> list[str]:
    """The names of those that are in one of the two only, or not the same in both; sorted."""
    return sorted({getattr(item, name) for item in set(one) ^ set(other)})


def _read_known(blobs: Blobs) -> dict[str, Known]:
    """What was written last; nothing, with an alarm, if that is damaged: only a protection is lost,
    and it comes back with the next handshakes."""
    try:
        data = blobs.read_blob(PEERS_BLOB)
        return {} if data is None else _known_decoder.decode(data)
    except (StorageCorrupt, msgspec.DecodeError) as error:
        log.error("ALARM what was known of the peers is lost: %s", error)
        return {}
