"""Hints against a model that knows no vectors, no births and no storage.

A fallback stands in for two owners of two keys: it mints, merges, delivers, settles what was delivered
(now or much later, when the hint has moved on), drops damaged hints and crashes. The model keeps the
plain set of writes that went into each hint and into each target, with the writes that each one's
writer had seen. What is shown must be the causally maximal of them, no write that was acknowledged may
be missing at both, and no dot may be given twice.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from lone_replica import FALLBACK, OWNERS, LoneReplica, foreign, key
from storages import open_sim, quick_disk

from dynamo.hint_store import Hint
from dynamo.record import Record, decode_record
from dynamo.rpc.messages import Body, Delivered, Minted, Synced
from dynamo.sim.loop import run_virtual
from dynamo.store.memory import MemoryStorage
from dynamo.version import Vector, incarnation_bytes

TARGETS = OWNERS[:2]
KEYS = (key(0), key(1))

Place = tuple[str, bytes]
Step = tuple[str, int, int, int]


@dataclass
class Seen:
    """What a client has seen of a hint: the context, and the writes that it stands for."""

    context: Vector = ()
    writes: frozenset[int] = frozenset()


@dataclass
class History:
    """Runs steps on a fallback, two targets and the model side by side."""

    past: dict[int, frozenset[int]] = field(default_factory=dict)
    hints: dict[Place, frozenset[int]] = field(default_factory=dict)
    at_target: dict[Place, frozenset[int]] = field(default_factory=dict)
    #: What a crash can bring back: it was settled, and nothing was synced since.
    settled: dict[Place, frozenset[int]] = field(default_factory=dict)
    seen: dict[Place, Seen] = field(default_factory=dict)
    under_way: list[tuple[tuple[Hint, ...], dict[Place, frozenset[int]]]] = field(
        default_factory=list
    )
    dots: set[tuple[bytes, int]] = field(default_factory=set)
    starts: int = 1

    async def run(self, steps: list[Step]) -> None:
        self.disk = quick_disk()
        self.targets = {name: LoneReplica(name, MemoryStorage()) for name in TARGETS}
        for target in self.targets.values():
            target.start()
        await self._start(existed=False)
        try:
            for verb, one, two, three in steps:
                place = (TARGETS[one % 2], KEYS[two % 2])
                await getattr(self, verb)(place, three)
                self._check()
            await self._drain()
        finally:
            await self.node.stop()
            for target in self.targets.values():
                await target.stop()

    # Verbs --------------------------------------------------------------------------------------

    async def mint(self, place: Place, how: int) -> None:
        """A client writes, blind or with what it has seen of this hint."""
        seen = Seen() if how % 2 else self.seen.get(place, Seen())
        write = self._new(seen.writes)
        target, name = place
        minted, synced = await self.node.mint(
            b"%d" % write, seen.context, hint_for=target, routing=name
        )
        assert isinstance(minted, Minted)
        assert isinstance(synced, Synced)
        assert (minted.birth, minted.counter) not in self.dots
        self.dots.add((minted.birth, minted.counter))
        self._know(place, frozenset((write,)) | seen.writes)

    async def store(self, place: Place, how: int) -> None:
        """A write that was minted elsewhere is kept here."""
        write = self._new(frozenset())
        target, name = place
        record = foreign(b"%d" % write, sequence=write + 1)
        assert isinstance(await self.node.store(record, hint_for=target, routing=name), Synced)
        self._know(place, frozenset((write,)))

    async def look(self, place: Place, how: int) -> None:
        """A client reads what is kept for this target."""
        for hint in self._page(place[0]):
            vector = decode_record(hint.record).vector
            self.seen[hint.target, hint.key] = Seen(vector, self.hints[hint.target, hint.key])

    async def send(self, place: Place, how: int) -> None:
        """All hints for the target leave, and arrive; the answer is on its way."""
        batch = self._page(place[0])
        took = {(hint.target, hint.key): self.hints[hint.target, hint.key] for hint in batch}
        reply = await self.targets[place[0]].take(*((hint.key, hint.record) for hint in batch))
        assert reply == Delivered()
        for at, writes in took.items():
            self.at_target[at] = self.at_target.get(at, frozenset()) | writes
        self.under_way.append((batch, took))

    async def settle(self, place: Place, how: int) -> None:
        """An answer arrives, of some batch, maybe once more."""
        if not self.under_way:
            return
        batch, took = self.under_way[how % len(self.under_way)]
        gone = {at for at, writes in took.items() if self.hints.get(at) == writes}
        assert self.node.hints.settle(batch) == len(gone)
        for at in gone:
            self.settled[at] = self.hints.pop(at)

    async def crash(self, place: Place, how: int) -> None:
        """The fallback ends in the middle, and starts anew with some prefix of what was not synced."""
        self.disk.crash(how % (self.disk.unsynced + 1))
        await self.node.stop()
        self.starts += 1
        await self._start(existed=True)
        for at, writes in self.settled.items():
            if self._shown().get(at) == self._maximal(writes):
                self.hints[at] = writes
        self.settled.clear()

    # Inside -------------------------------------------------------------------------------------

    async def _start(self, *, existed: bool) -> None:
        storage = await open_sim(self.disk, existed=existed)
        incarnation = incarnation_bytes(self.starts, b"fallback")
        self.node = LoneReplica(FALLBACK, storage, incarnation=incarnation)
        self.node.start()
        await asyncio.sleep(1)
        assert self.node.hints.counted

    async def _drain(self) -> None:
        """All is delivered: each target has all that was ever kept for it."""
        for target in TARGETS:
            await self.send((target, b""), 0)
            await self.settle((target, b""), -1)
        assert self.node.hints.held() == ()
        for (target, name), writes in self.at_target.items():
            reply = await self.targets[target].fetch(routing=name)
            assert isinstance(reply, Body)
            assert _values(decode_record(reply.record)) == self._maximal(writes)
        assert set().union(*self.at_target.values()) == set(self.past)

    def _new(self, seen: frozenset[int]) -> int:
        write = len(self.past)
        self.past[write] = seen
        return write

    def _know(self, place: Place, writes: frozenset[int]) -> None:
        self.hints[place] = self.hints.get(place, frozenset()) | writes
        self.settled.clear()  # what was synced meanwhile, a crash cannot bring back

    def _page(self, target: str) -> tuple[Hint, ...]:
        hints, _ = self.node.hints.page(target, b"", count_max=100, bytes_max=1 << 20)
        return hints

    def _shown(self) -> dict[Place, set[int]]:
        return {
            (hint.target, hint.key): _values(decode_record(hint.record))
            for target in TARGETS
            for hint in self._page(target)
        }

    def _maximal(self, writes: frozenset[int]) -> set[int]:
        covered = set().union(*(self.past[write] for write in writes))
        return set(writes) - covered

    def _check(self) -> None:
        assert self._shown() == {at: self._maximal(writes) for at, writes in self.hints.items()}
        held = {held.target: held.count for held in self.node.hints.held()}
        assert held == {
            target: count
            for target in sorted(TARGETS)
            if (count := sum(1 for name, _ in self.hints if name == target))
        }
        assert self.node.metrics.count["foreign_dots"] == 0


def _values(record: Record) -> set[int]:
    return {int(sibling.read().value) for sibling in record.siblings}


_numbers = st.integers(0, 99)
_verbs = st.sampled_from(
    ("mint", "mint", "mint", "store", "look", "send", "settle", "settle", "crash")
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(_verbs, _numbers, _numbers, _numbers), min_size=25, max_size=50))
def test_hints_lose_nothing_and_repeat_no_dot(steps: list[Step]) -> None:
    run_virtual(History().run(steps), random=random.Random(1))
