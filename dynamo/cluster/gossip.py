"""Gossip: once a round a node tells a peer what it knows of all members, and hears what that knows more.

Each round a node counts its own heartbeat up and sends the digest of its view to one connected peer,
each in turn in an order drawn by chance, so that there is a bound on how long one is left out; now and
then to a seed as well. The answer holds the entries in which the peer is ahead; where the digest is
ahead, the peer learns from that. What a node sends in a round is bounded, whoever asks it how often:
what does not fit follows later. Nobody becomes a member by gossip, and of itself a node believes nobody.
Knows nothing of what heartbeats or properties mean.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple

from dynamo.cluster.addresses import AddressBook, is_address
from dynamo.cluster.rumour import (
    decode_delta,
    decode_digest,
    encode_delta,
    encode_digest,
)
from dynamo.cluster.view import Entry, Told, View, is_absurd
from dynamo.errors import Malformed
from dynamo.metrics import Metrics
from dynamo.ports import Call, Clock, Failure, Handler, Transport
from dynamo.rpc.handshake import Greeting
from dynamo.rpc.messages import Gossip, Gossiped, Refused, Reply
from ring.ring import Ring

log = logging.getLogger(__name__)

#: Seconds between two rounds, times 1 - JITTER to 1 + JITTER.
INTERVAL: Final = 1.0
JITTER: Final = 0.2
TIMEOUT: Final = 5.0
#: A node that has made no round for so long (seconds) stood still, and was missed.
AWAY_AFTER: Final = 3.0
#: How many rounds, of one, also talk to a seed.
SEED_CHANCE: Final = 0.1
#: What one digest and one delta may take, and all that leaves in a round, in bytes.
DIGEST_BYTES_MAX: Final = 8_000
DELTA_BYTES_MAX: Final = 4_000
ROUND_BYTES_MAX: Final = 16_000
#: For so many rounds a node says where a member is whose start it has just heard of, in so many bytes.
FRESH_ROUNDS: Final = 10
FRESH_BYTES_MAX: Final = 1_000
#: Of a message, beside its digest or delta.
_MESSAGE_BYTES: Final = 100
#: A digest that has room for less than one entry is not sent.
_ROOM_MIN: Final = 40


class Heard(NamedTuple):
    """What is known of a member. `address`: where it is dialled. `age`: seconds since its heartbeat has
    grown here, None if it never has."""

    start: int
    heartbeat: int
    address: str
    age: float | None


class GossipService:
    """One node's view of the members, and what it says and hears of them."""

    def __init__(
        self,
        *,
        node_id: str,
        address: str,
        seeds: Iterable[str],
        start: Callable[[], int],
        book: AddressBook,
        clock: Clock,
        random: random.Random,
        metrics: Metrics,
        properties: Callable[[], bytes],
    ) -> None:
        """`address`: where this node is dialled today. `seeds`: addresses of peers. `start`: this node's
        start number, `properties`: the digest of its bucket properties, both now."""
        self._node_id = node_id
        self._address = address
        self._seeds = frozenset(seeds)
        self._start = start
        self._book = book
        self._clock = clock
        self._random = random
        self._count = metrics.count
        self._properties = properties
        self._transport: Transport | None = None
        self._ring: Ring | None = None
        self._indexes: dict[str, int] = {}
        self._places: tuple[str, ...] = ()
        self._own = 0
        #: Empty while there is no ring.
        self.view = View(())
        self._heard_at: list[float | None] = []
        #: Members that are still to be talked to, the next one last.
        self._turns: list[str] = []
        #: Members that have started anew, and for how many more rounds their address is told.
        self._fresh: dict[int, int] = {}
        #: Bytes that may still be sent in this round.
        self._left = ROUND_BYTES_MAX
        #: Where the next digest and the next delta begin.
        self._digest_begin = self._delta_begin = 0
        #: Called when a member turns out to have started anew.
        self.on_restarted: Callable[[str], None] = lambda node: None
        #: Called with each digest of a peer's bucket properties.
        self.on_properties: Callable[[str, bytes], None] = lambda node, digest: None
        #: Called when members are to be dialled elsewhere.
        self.on_addresses: Callable[[], None] = lambda: None
        #: Called when this node has stood still, as a process that is stopped does.
        self.on_away: Callable[[], None] = lambda: None
        #: Called when a peer knows of a later start of this node.
        self.on_behind: Callable[[int], None] = lambda start: None
        #: Called with a peer that has another ring of the same epoch.
        self.on_stranger: Callable[[str], None] = lambda node: None
        #: Called with a peer that has a ring of a later epoch, and that.
        self.on_later_epoch: Callable[[str, int], None] = lambda node, epoch: None

    def __repr__(self) -> str:
        return f"GossipService({self._node_id} {self.view!r})"

    def attach(self, transport: Transport) -> None:
        """Gossip by this transport."""
        self._transport = transport

    def adopt(self, ring: Ring) -> None:
        """Gossip about the members of this ring; what is known of them stays."""
        known = dict(zip(self.view.members, self.view.entries(), strict=True))
        heard = dict(zip(self.view.members, self._heard_at, strict=True))
        names = tuple(member.id for member in ring.members)
        self._book.keep_only(frozenset(names))
        self.view = View(names, (known.get(name, self._remembered(name)) for name in names))
        self._heard_at = [heard.get(name) for name in names]
        self._ring = ring
        self._indexes = {name: index for index, name in enumerate(names)}
        self._places = tuple(member.address for member in ring.members)
        self._own = self._indexes[self._node_id]
        self._turns = []
        self._fresh = {}
        self._digest_begin = self._delta_begin = 0
        self._show_itself(0)

    def _remembered(self, name: str) -> Entry:
        start = self._book.start_of(name)
        return Entry(start, 0, self._book.addresses[name]) if start else Entry()

    def handlers(self) -> dict[type, Handler]:
        """What executes the requests of members."""
        return {Gossip: self.on_gossip}

    def heard(self, name: str) -> Heard:
        """What is known of a member; nothing of who is none, or while there is no ring."""
        index = self._indexes.get(name)
        if index is None:
            return Heard(0, 0, "", None)
        entry, at = self.view.entry(index), self._heard_at[index]
        address = self._book.addresses.get(name, self._places[index])
        if index == self._own:
            return Heard(entry.start, entry.heartbeat, self._address, 0.0)
        age = None if at is None else self._clock.monotonic() - at
        return Heard(entry.start, entry.heartbeat, address, age)

    # Rounds -------------------------------------------------------------------------------------

    async def run(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """A round now and then, for ever."""
        while True:
            before = self._clock.monotonic()
            await sleep(INTERVAL * self._random.uniform(1 - JITTER, 1 + JITTER))
            if self._clock.monotonic() - before > AWAY_AFTER:
                self._count["gossip_rounds_late"] += 1
                self.on_away()
            self.make_round()
            await self._book.keep()

    def make_round(self) -> None:
        """Count one heartbeat, and talk to the next peer."""
        if self._ring is None:
            return
        assert self._transport is not None
        self._count["gossip_rounds"] += 1
        self._left = ROUND_BYTES_MAX
        self._show_itself(1)
        self._fresh = {index: left - 1 for index, left in self._fresh.items() if left > 1}
        peer = self._next_peer(self._transport)
        if peer is None:
            return
        self._talk(peer, self._transport)
        if self._random.random() < SEED_CHANCE:
            seed = self._seed(self._transport)
            if seed is not None and seed != peer:
                self._talk(seed, self._transport)

    def _show_itself(self, beats: int) -> None:
        """So many heartbeats more of this node; a new start begins anew."""
        start, entry = self._start(), self.view.entry(self._own)
        if entry.start != start:
            self._fresh[self._own] = FRESH_ROUNDS
        heartbeat = entry.heartbeat + beats if entry.start == start else beats
        address = "" if self._address == self._places[self._own] else self._address
        self.view.set(self._own, Entry(start, heartbeat, address))

    def _next_peer(self, transport: Transport) -> str | None:
        """The next of the connected peers, each of them once before any is met again."""
        for _ in range(2):
            while self._turns:
                name = self._turns.pop()
                if transport.is_connected(name):
                    return name
            self._turns = [name for name in self.view.members if name != self._node_id]
            self._random.shuffle(self._turns)
        return None

    def _seed(self, transport: Transport) -> str | None:
        """A connected peer that is dialled at one of the seeds, by chance."""
        seeds = [
            name
            for name, place in zip(self.view.members, self._places, strict=True)
            if self._book.addresses.get(name, place) in self._seeds
            and name != self._node_id
            and transport.is_connected(name)
        ]
        return self._random.choice(seeds) if seeds else None

    def _talk(self, peer: str, transport: Transport) -> None:
        room = min(DIGEST_BYTES_MAX, self._left - _MESSAGE_BYTES)
        if room < _ROOM_MIN:
            self._count["gossip_cut_short"] += 1
            return
        assert self._ring is not None
        sent = self.view.copy()
        digest, self._digest_begin = encode_digest(
            sent,
            self._digest_begin,
            room,
            fresh=self._fresh,
            addresses_bytes_max=FRESH_BYTES_MAX,
        )
        if self._digest_begin:
            self._count["gossip_cut_short"] += 1
        self._left -= len(digest) + _MESSAGE_BYTES
        message = Gossip(
            int(TIMEOUT * 1000),
            self._ring.epoch,
            self._ring.digest(),
            digest,
            self._properties(),
        )
        transport.request((peer,), message, _Exchange(self, self._ring, sent), TIMEOUT)

    # What peers say -----------------------------------------------------------------------------

    def on_gossip(self, message: Gossip, call: Call) -> None:
        """Learn where the digest is ahead, and say where this node is."""
        ring = self._ring
        if ring is None:
            call.reply(Refused("not_ready", True, "this node has no ring yet"))
            return
        if message.epoch != ring.epoch or message.ring != ring.digest():
            self._count["gossip_of_other_rings"] += 1
            detail = f"the ring of {self._node_id} is another one, of epoch {ring.epoch}"
            call.reply(Refused("stale_epoch", True, detail, epoch=ring.epoch))
            if message.epoch == ring.epoch:
                self.on_stranger(call.peer)
            elif message.epoch > ring.epoch:
                self.on_later_epoch(call.peer, message.epoch)
            return
        try:
            digest = decode_digest(message.digest)
        except Malformed as error:
            self._count["gossip_malformed"] += 1
            call.reply(Refused("malformed", True, error.message))
            return
        room = max(0, min(DELTA_BYTES_MAX, self._left - _MESSAGE_BYTES))
        delta, self._delta_begin = encode_delta(self.view, digest, self._delta_begin, room)
        if self._delta_begin:
            self._count["gossip_cut_short"] += 1
        self._left -= len(delta) + _MESSAGE_BYTES
        call.reply(Gossiped(delta, self._properties()))
        self._learn_all(call.peer, digest.told)
        self.on_properties(call.peer, message.properties)

    def _learn_all(self, peer: str, told: Iterable[Told]) -> None:
        """Believe each entry, or refuse it by itself."""
        heard, rest = self.view.take_beats(told, self._own)
        now = self._clock.monotonic()
        for index in heard:
            self._heard_at[index] = now
        for index, start, heartbeat, address, _ in rest:
            self._learn(peer, index, Entry(start, heartbeat, address))

    def on_gossiped(self, peer: str, reply: Gossiped, ring: Ring, sent: View) -> None:
        """Learn from the answer to a digest of `sent`, a view of the members of `ring`."""
        if ring is not self._ring:
            return  # of an epoch that has passed: its indexes are of others
        try:
            told = decode_delta(reply.delta, sent)
        except Malformed:
            self._count["gossip_malformed"] += 1
            return
        self._learn_all(peer, told)
        self.on_properties(peer, reply.properties)

    def on_unanswered(self) -> None:
        """A digest was sent in vain; another peer's turn comes in the next round."""
        self._count["gossip_unanswered"] += 1

    def on_greeted(self, greeting: Greeting) -> None:
        """A peer is connected: its start and its address are first-hand."""
        index = self._indexes.get(greeting.node_id)
        if index is not None:
            place = "" if greeting.address == self._places[index] else greeting.address
            self._learn(greeting.node_id, index, Entry(greeting.start, 0, place))

    def _learn(self, peer: str, index: int, told: Entry) -> None:
        assert self._ring is not None
        if index >= len(self.view):
            self._alarm(f"{peer} speaks of member {index} of a ring of {len(self.view)}")
            return
        member = self._ring.members[index]
        if told.address and not is_address(told.address, member):
            self._alarm(f"{peer} says that {member.id} is at {told.address!r}")
            told = told._replace(address=None)
        if index == self._own:
            self._hear_of_itself(peer, told)
            return
        before = self.view.entry(index)
        judged = self.view.learn(index, told)
        if judged == "absurd":
            self._alarm(f"{peer} says that {member.id} has come to {told.start}.{told.heartbeat}")
        elif judged == "news":
            self._note_news(index, member.id, before)
            if 0 < before.start < told.start:
                self.on_restarted(member.id)

    def _note_news(self, index: int, name: str, before: Entry) -> None:
        self._heard_at[index] = self._clock.monotonic()
        entry = self.view.entry(index)
        if entry.start == before.start and entry.address == before.address:
            return
        self._fresh[index] = FRESH_ROUNDS
        if entry.address is not None and self._book.note(name, entry.start, entry.address):
            self._count["addresses_learnt"] += 1
            place = entry.address or self._places[index]
            log.info("%s is at %s in its start %s", name, place, entry.start)
            self.on_addresses()

    def _hear_of_itself(self, peer: str, told: Entry) -> None:
        self._show_itself(0)  # its start may have been raised since the last round
        known = self.view.entry(self._own)
        if told.start < known.start or (
            told.start == known.start and told.heartbeat <= known.heartbeat
        ):
            return
        if told.start == known.start or is_absurd(known, told):
            self._alarm(f"{peer} says that this node has come to {told.start}.{told.heartbeat}")
            return
        # It has lost that start, with an older or empty disk. Whoever saw it in that start says so at
        # the handshake; the others have heard of it.
        self._count["gossip_told_behind"] += 1
        self.on_behind(told.start)

    def _alarm(self, line: str) -> None:
        self._count["alarms"] += 1
        self._count["gossip_absurd"] += 1
        count = self._count["gossip_absurd"]
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, ...: one cause can have many alarms
            log.error("ALARM gossip that cannot be (%s so far): %s", count, line)


class _Exchange:
    """Waits for what a peer says to one digest."""

    __slots__ = ("_ring", "_sent", "_service")

    def __init__(self, service: GossipService, ring: Ring, sent: View) -> None:
        self._service = service
        self._ring = ring
        self._sent = sent

    def on_reply(self, node: str, reply: Reply) -> None:
        if isinstance(reply, Gossiped):
            self._service.on_gossiped(node, reply, self._ring, self._sent)
        else:
            self._service.on_unanswered()

    def on_failure(self, node: str, failure: Failure) -> None:
        self._service.on_unanswered()
