"""Records against a model that keeps every event and knows no vectors.

Several replicas mint, merge, sync, crash, lose their disks and get old ones back, under the rules
for births; clients read from some of them and write with what they saw, or blind. Beside each
record the model keeps the plain set of writes that went into it. What a record shows must then be
exactly the causally maximal writes of that set: each write has a unique number, and its past is
what its client had seen.

Three tempting ways to choose a dot are run through the same histories: the model must find them
out, by the values they lose and not by the dots they reuse.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo.record import (
    EMPTY,
    TOMBSTONE,
    VALUE,
    Content,
    Record,
    decode_record,
    encode_content,
    encode_record,
    merge,
    mint,
    record_digest,
)
from dynamo.version import Birth, Vector, birth_bytes, covers_dot, incarnation_bytes, join

REPLICAS = 4
CLIENTS = 3

Event = int
Minting = Literal["births", "own record + 1", "one actor an incarnation", "births outlive a start"]
#: A verb and three numbers it may use; any numbers do.
Step = tuple[str, int, int, int]


class ModelBroken(AssertionError):
    """A record does not show the causally maximal surviving writes, or covers too much."""


@dataclass(frozen=True)
class Copy:
    """A record, what went into it, and what lies beside it: what a disk or a message holds."""

    record: Record = EMPTY
    known: frozenset[Event] = frozenset()
    birth: Birth = b""
    counter: int = 0


@dataclass
class Replica:
    """One node's stay with one key: what it holds in memory, and what of it is on disk."""

    held: Copy = Copy()
    on_disk: Copy = Copy()
    incarnation: bytes = b""
    sequence: int = 0


@dataclass
class Client:
    """What its last read gave it: a context, and the writes that stands for."""

    context: Vector = ()
    seen: frozenset[Event] = frozenset()


@dataclass
class History:
    """Runs steps on replicas and model side by side; raises ModelBroken where they part."""

    minting: Minting = "births"
    replicas: list[Replica] = field(default_factory=lambda: [Replica() for _ in range(REPLICAS)])
    clients: list[Client] = field(default_factory=lambda: [Client() for _ in range(CLIENTS)])
    past: dict[Event, frozenset[Event]] = field(default_factory=dict)
    dots: dict[tuple[Birth, int], Event] = field(default_factory=dict)
    under_way: list[Copy] = field(default_factory=lambda: [Copy()])
    images: list[Copy] = field(default_factory=lambda: [Copy()])
    starts: int = 0

    def __post_init__(self) -> None:
        for replica in self.replicas:
            self._start(replica)

    def run(self, steps: Sequence[Step]) -> None:
        for verb, one, two, three in steps:
            replica = self.replicas[one % REPLICAS]
            getattr(self, verb)(replica, two, three)
            self._check(replica.held)
        self._check(self.everything())

    # Verbs: each takes the replica it acts on, and two numbers that choose among what there is.

    def write(self, replica: Replica, client: int, how: int) -> None:
        """A client writes at the replica: blind or with its context, a value or a tombstone."""
        writer = self.clients[client % CLIENTS]
        blind = how % 3 == 0
        seen = frozenset() if blind else writer.seen
        event = len(self.past)
        self.past[event] = seen
        held = replica.held
        context = () if blind else writer.context
        birth, counter = self._dot(replica, context)
        record = mint(
            held.record,
            context,
            birth=birth,
            counter=counter,
            kind=TOMBSTONE if how % 4 == 1 else VALUE,
            content=encode_content(Content(b"%d" % event)),
            written_ms=event,
        )
        self.dots.setdefault((birth, counter), event)
        replica.held = Copy(record, held.known | seen | {event}, birth, counter)
        if how % 2:
            writer.context, writer.seen = record.vector, replica.held.known

    def _dot(self, replica: Replica, context: Vector) -> tuple[Birth, int]:
        held = replica.held
        known = dict(join(held.record.vector, context))
        if self.minting in ("births", "births outlive a start"):
            if held.birth.startswith(replica.incarnation):
                return held.birth, held.counter + 1
            if held.birth and self.minting != "births":
                return held.birth, known.get(held.birth, 0) + 1
            replica.sequence += 1
            return birth_bytes(replica.incarnation, replica.sequence), 1
        if self.minting == "own record + 1":
            node = next(i for i, other in enumerate(self.replicas) if other is replica)
            actor = birth_bytes(incarnation_bytes(node, bytes(8)), 1)
        else:
            actor = birth_bytes(replica.incarnation, 1)
        return actor, known.get(actor, 0) + 1

    def read(self, replica: Replica, client: int, others: int) -> None:
        """A client reads what this replica and some others hold."""
        copies = [replica.held]
        copies += [r.held for i, r in enumerate(self.replicas) if others >> i & 1]
        shown = self._merged(copies)
        reader = self.clients[client % CLIENTS]
        reader.context, reader.seen = shown.record.vector, shown.known
        self._check(shown)

    def send(self, replica: Replica, _: int, __: int) -> None:
        """The record leaves, synced or not, and may arrive late, often or never."""
        self.under_way.append(replica.held)

    def arrive(self, replica: Replica, which: int, _: int) -> None:
        self._take_in(replica, self.under_way[which % len(self.under_way)])

    def exchange(self, replica: Replica, other: int, _: int) -> None:
        self._take_in(replica, self.replicas[other % REPLICAS].held)

    def sync(self, replica: Replica, _: int, __: int) -> None:
        replica.on_disk = replica.held

    def crash(self, replica: Replica, _: int, __: int) -> None:
        """What was not synced is gone, and it starts anew."""
        replica.held = replica.on_disk
        self._start(replica)

    def wipe(self, replica: Replica, _: int, __: int) -> None:
        replica.on_disk = Copy()
        self.crash(replica, 0, 0)

    def save(self, replica: Replica, _: int, __: int) -> None:
        """Someone takes an image of the disk."""
        self.images.append(replica.on_disk)

    def restore(self, replica: Replica, which: int, _: int) -> None:
        """It starts from an image, perhaps of another node."""
        replica.on_disk = self.images[which % len(self.images)]
        self.crash(replica, 0, 0)

    def hand_over(self, replica: Replica, other: int, _: int) -> None:
        """A hint is delivered: the target syncs it, then it is dropped here with its birth."""
        target = self.replicas[other % REPLICAS]
        if target is not replica:
            self._take_in(target, replica.held)
            target.on_disk = target.held
            self.drop(replica, 0, 0)

    def drop(self, replica: Replica, _: int, __: int) -> None:
        """The record goes while the node runs on: it was damaged, and is set aside."""
        replica.held = replica.on_disk = Copy()

    # The model.

    def everything(self) -> Copy:
        """What all replicas hold together; the order in which they are merged does not matter."""
        copies = [replica.held for replica in self.replicas]
        merged = self._merged(copies)
        if encode_record(self._merged(copies[::-1]).record) != encode_record(merged.record):
            raise ModelBroken("the order of merges shows")
        return merged

    def _start(self, replica: Replica) -> None:
        self.starts += 1
        # The start number a restored disk repeats; the random bits are new.
        replica.incarnation = incarnation_bytes(1, self.starts.to_bytes(8))
        replica.sequence = 0

    def _take_in(self, replica: Replica, arrived: Copy) -> None:
        held = replica.held
        merged = self._merged([held, arrived])
        replica.held = Copy(merged.record, merged.known, held.birth, held.counter)

    def _merged(self, copies: Sequence[Copy]) -> Copy:
        record, known = EMPTY, frozenset[Event]()
        for copy in copies:
            record, known = merge(record, copy.record), known | copy.known
        return Copy(record, known)

    def _check(self, copy: Copy) -> None:
        shown = sorted(int(sibling.read().value) for sibling in copy.record.siblings)
        replaced = frozenset[Event]().union(*(self.past[event] for event in copy.known))
        if shown != sorted(copy.known - replaced):
            raise ModelBroken(f"shows {shown}, not {sorted(copy.known - replaced)}")
        if decode_record(encode_record(copy.record)) != copy.record:
            raise ModelBroken("a record is not read back")
        if self.minting == "births":
            vector = dict(copy.record.vector)
            covered = {event for dot, event in self.dots.items() if covers_dot(vector, *dot)}
            if covered != copy.known:
                raise ModelBroken(f"covers {sorted(covered)}, not {sorted(copy.known)}")


VERBS = (("write",) * 10 + ("read",) * 5 + ("exchange",) * 4 + ("send", "arrive", "sync") * 2) + (
    "crash",
    "wipe",
    "save",
    "restore",
    "hand_over",
    "drop",
)

steps = st.lists(
    st.tuples(
        st.sampled_from(VERBS),
        st.integers(0, REPLICAS - 1),
        st.integers(0, 7),
        st.integers(0, 15),
    ),
    max_size=60,
)


def drawn(seed: int) -> list[Step]:
    """A history of 60 steps that depends on the seed alone."""
    dice = random.Random(seed)
    return [
        (dice.choice(VERBS), dice.randrange(REPLICAS), dice.randrange(64), dice.randrange(16))
        for _ in range(60)
    ]


@settings(max_examples=300)
@given(steps)
def test_siblings_are_the_causally_maximal_surviving_writes(steps: list[Step]) -> None:
    History().run(steps)


def test_births_keep_every_write_in_many_random_histories() -> None:
    for seed in range(300):
        History().run(drawn(seed))


def test_every_write_has_a_dot_of_its_own() -> None:
    for seed in range(100):
        history = History()
        history.run(drawn(seed))
        assert len(history.dots) == len(history.past)


@pytest.mark.parametrize(
    "minting", ["own record + 1", "one actor an incarnation", "births outlive a start"]
)
def test_a_shortcut_to_a_dot_is_found_out_by_what_it_loses(minting: Minting) -> None:
    def is_found_out(seed: int) -> bool:
        try:
            History(minting).run(drawn(seed))
        except ModelBroken:
            return True
        return False

    assert any(is_found_out(seed) for seed in range(300))


def test_own_record_plus_one_loses_an_acknowledged_write_after_a_wipe() -> None:
    """The shortest history: the peer keeps the first write, the wiped node names another so."""
    steps: list[Step] = [
        ("write", 0, 0, 0),
        ("exchange", 1, 0, 0),
        ("wipe", 0, 0, 0),
        ("write", 0, 0, 3),
        ("write", 0, 0, 2),
        ("exchange", 1, 0, 0),
    ]
    with pytest.raises(ModelBroken, match="shows"):
        History("own record + 1").run(steps)
    History("one actor an incarnation").run(steps)
    History("births").run(steps)


def test_one_actor_an_incarnation_loses_a_write_after_a_delivered_hint() -> None:
    """No crash at all: the fallback hands its hint over, is asked again, and counts from 1."""
    steps: list[Step] = [
        ("write", 0, 0, 0),
        ("hand_over", 0, 1, 0),
        ("write", 0, 0, 3),
        ("write", 0, 0, 2),
        ("hand_over", 0, 1, 0),
    ]
    with pytest.raises(ModelBroken, match="shows"):
        History("one actor an incarnation").run(steps)
    History("births").run(steps)


@settings(max_examples=60)
@given(steps, st.data())
def test_merge_of_records_from_a_history_is_a_join(steps: list[Step], data: st.DataObject) -> None:
    history = History()
    history.run(steps)
    copies = [*history.under_way, *history.images, *(r.held for r in history.replicas)]
    pick = st.sampled_from([copy.record for copy in copies])
    a, b, c = data.draw(pick), data.draw(pick), data.draw(pick)
    assert encode_record(merge(a, b)) == encode_record(merge(b, a))
    assert encode_record(merge(merge(a, b), c)) == encode_record(merge(a, merge(b, c)))
    assert merge(a, a) == a
    assert (merge(a, b) is a) == (record_digest(merge(a, b)) == record_digest(a)) or not a
