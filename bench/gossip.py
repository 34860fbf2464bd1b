"""What gossip costs, and how fast news spreads: a crowd of members in one process, rounds by hand.

Run as `dynamo-bench gossip`. The members are the production service over a post that encodes, decodes
and counts every message, and loses some of them. In a round all digests leave before any is read, and
all answers are made before any is: so news takes one step a round, as it does where the network takes
as long as a round. Knows nothing of sockets or of whole nodes.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Callable, Sequence
from statistics import mean
from typing import Final

from dynamo.cluster.addresses import AddressBook
from dynamo.cluster.gossip import GossipService
from dynamo.cluster.view import Entry
from dynamo.metrics import Metrics
from dynamo.ports import Clock, Failure, Timer, Waiter
from dynamo.rpc.codec import decode_reply, decode_request, encode
from dynamo.rpc.frame import ENTRY_BYTES, HEADER_BYTES
from dynamo.rpc.messages import Reply, Request
from ring.member import Member
from ring.ring import ReplicationClass, Ring

MEMBERS: Final = 1_000
ROUNDS: Final = 12
LOSS: Final = 0.05
SEEDS: Final = 3
#: Rounds before anything is measured: members have heard of each other, heartbeats have two bytes.
AGE: Final = 3_000
_FRAME_BYTES: Final = HEADER_BYTES + ENTRY_BYTES


class _Rounds:
    """A clock that shows the number of the round, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return int(self.now * 1000)

    def wall_ns(self) -> int:
        return int(self.now * 1e9)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        raise NotImplementedError("gossip sets no timers")


class _NoDisk:
    """Small files that nobody keeps."""

    def read_blob(self, name: str) -> bytes | None:
        return None

    def write_blob(self, name: str, data: bytes) -> None: ...

    async def keep_blob(self, name: str, data: bytes) -> None: ...


class _Call:
    """A request on its way to be answered."""

    deadline = float("inf")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.answer: Reply | None = None

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        self.answer = reply


class Person:
    """One member of the crowd, and the number of the last change of properties that it knows."""

    def __init__(self, name: str, crowd: Crowd) -> None:
        self.name = name
        self.start = 1
        self.changes = 0
        self.sent = self.received = 0
        self._crowd = crowd
        #: (whom, the bytes, who waits) of this round.
        self.out: list[tuple[str, bytes, Waiter]] = []
        self.asks: list[str] = []
        self.metrics = Metrics()
        self.gossip = self._make()

    def _make(self, address: str = "") -> GossipService:
        crowd = self._crowd
        gossip = GossipService(
            node_id=self.name,
            address=address or crowd.addresses[self.name],
            seeds=crowd.seeds,
            start=lambda: self.start,
            book=AddressBook(blobs=_NoDisk(), metrics=self.metrics),
            clock=crowd.clock,
            random=crowd.chance,
            metrics=self.metrics,
            properties=lambda: self.changes.to_bytes(16),
        )
        gossip.attach(self)
        gossip.on_properties = self._on_properties
        gossip.adopt(crowd.ring)
        return gossip

    def restart(self, address: str) -> None:
        """A new start, at another address, that knows nobody yet."""
        self.start += 1
        self.gossip = self._make(address)

    def _on_properties(self, peer: str, digest: bytes) -> None:
        if digest != self.changes.to_bytes(16):
            self.asks.append(peer)

    # Its transport ------------------------------------------------------------------------------

    def request(
        self, targets: Sequence[str], message: Request, waiter: Waiter, timeout: float
    ) -> None:
        payload = encode(message)
        for target in targets:
            self.sent += len(payload) + _FRAME_BYTES
            self.out.append((target, payload, waiter))

    def is_connected(self, node: str) -> bool:
        return True

    def stalled_for(self, node: str) -> float:
        return 0.0


class Crowd:
    """`count` members, started together; of the messages the part `loss` is lost."""

    def __init__(self, count: int, *, seed: int, loss: float = LOSS) -> None:
        self.chance = random.Random(seed)
        self.clock: Clock = _Rounds()
        self.loss = loss
        members = [
            Member(f"node{number:04}", f"10.0.{number // 250}.{number % 250}:7400")
            for number in range(count)
        ]
        self.addresses = {member.id: member.address for member in members}
        self.seeds = tuple(member.address for member in members[:3])
        self.ring = Ring.build(
            members, partitions=64, seed=seed, classes=[ReplicationClass("default", 0)]
        )
        self.people = {member.id: Person(member.id, self) for member in members}

    def grow_old(self, beats: int) -> None:
        """All have been up for so many rounds, and have heard of all others; some for longer."""
        truth = []
        for name in self.ring_names:
            person = self.people[name]
            person.start = self.chance.randrange(1, 200)
            truth.append(Entry(person.start, beats + self.chance.randrange(beats), ""))
        for person in self.people.values():
            for index, entry in enumerate(truth):
                person.gossip.view.set(index, entry)

    @property
    def ring_names(self) -> tuple[str, ...]:
        """All members, in the order of the ring."""
        return tuple(member.id for member in self.ring.members)

    def make_round(self) -> None:
        """Everybody makes one round, and all that was sent has come, or is lost."""
        assert isinstance(self.clock, _Rounds)
        self.clock.now += 1
        people = list(self.people.values())
        for person in people:
            person.sent = person.received = 0
            person.gossip.make_round()
        answers: list[tuple[str, str, bytes, Waiter]] = []
        for person in people:
            out, person.out = person.out, []
            for target, payload, waiter in out:
                self._carry(person.name, target, payload, waiter, answers)
        for target, name, payload, waiter in answers:
            if self.chance.random() < self.loss:
                waiter.on_failure(target, Failure("timed_out", "lost"))
                continue
            self.people[name].received += len(payload) + _FRAME_BYTES
            waiter.on_reply(target, decode_reply(payload))
        # What is behind a digest that differs is asked for and comes within the round.
        known = {person.name: person.changes for person in people}
        for person in people:
            asks, person.asks = person.asks, []
            person.changes = max([person.changes, *(known[peer] for peer in asks)])

    def _carry(
        self,
        name: str,
        target: str,
        payload: bytes,
        waiter: Waiter,
        answers: list[tuple[str, str, bytes, Waiter]],
    ) -> None:
        if self.chance.random() < self.loss:
            waiter.on_failure(target, Failure("timed_out", "lost"))
            return
        peer, call = self.people[target], _Call(name)
        peer.received += len(payload) + _FRAME_BYTES
        message = decode_request(payload)
        peer.gossip.handlers()[type(message)](message, call)
        assert call.answer is not None
        answer = encode(call.answer)
        peer.sent += len(answer) + _FRAME_BYTES
        answers.append((target, name, answer, waiter))

    def costs(self) -> tuple[float, int]:
        """Of the last round: bytes a member sent and received on average, and the most that one sent."""
        people = self.people.values()
        return mean(p.sent + p.received for p in people), max(p.sent for p in people)

    def knowing(self, name: str, start: int, address: str) -> int:
        """How many know that a member is in this start, and where."""
        index = self.ring.index(name)
        assert index is not None
        entries = (person.gossip.view.entry(index) for person in self.people.values())
        return sum((entry.start, entry.address) == (start, address) for entry in entries)

    def changed(self, changes: int) -> int:
        """How many have the bucket properties of this change."""
        return sum(person.changes == changes for person in self.people.values())


def spread(crowd: Crowd, *, rounds_max: int) -> tuple[int, int, float, int]:
    """One member starts anew at another address, another changes properties. Rounds until all know of
    the one, and of the other; what a round costs a member on average, and the most that one sent in any.
    """
    moved, changer = crowd.chance.sample(crowd.ring_names, 2)
    crowd.people[moved].restart("10.9.9.9:7400")
    crowd.people[changer].changes += 1
    start, changes = crowd.people[moved].start, crowd.people[changer].changes
    told = agreed = 0
    means, most = [], 0
    for number in range(1, rounds_max + 1):
        crowd.make_round()
        average, highest = crowd.costs()
        means.append(average)
        most = max(most, highest)
        everybody = len(crowd.people)
        if not told and crowd.knowing(moved, start, "10.9.9.9:7400") == everybody:
            told = number
        if not agreed and crowd.changed(changes) == everybody:
            agreed = number
        if told and agreed:
            break
    return told or rounds_max + 1, agreed or rounds_max + 1, mean(means), most


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="dynamo-bench gossip")
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    asked = parser.parse_args(list(arguments))
    # A crowd is millions of objects that all live: looking through them takes half the time.
    gc.disable()
    for seed in range(asked.seeds):
        crowd = Crowd(asked.members, seed=seed)
        crowd.grow_old(AGE)
        for _ in range(3):
            crowd.make_round()  # heartbeats come from all sides, as they do in the long run
        began = time.perf_counter()
        told, agreed, average, most = spread(crowd, rounds_max=2 * ROUNDS)
        took = (time.perf_counter() - began) / max(told, agreed) / asked.members
        print(
            f"{asked.members} members, {LOSS:.0%} of messages lost, seed {seed}: a restart at another"
            f" address known to all after {told} rounds, a change of properties after {agreed}; a round"
            f" costs a member {average:,.0f} bytes, sent and received, and the one that sent most"
            f" {most:,} sent; {took * 1e6:.0f} us"
        )
    return 0
