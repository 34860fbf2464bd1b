"""What clients did and saw in a run, what its disks hold at rest, and the causal graph of its writes.

Causality is taken from unique values and from the contexts that clients echoed, never from the
store's vectors: a write covers the siblings that its context was given with, and what those cover.
The value of a put is the decimal id of the operation, filled up to some size; a tombstone says by
its expiry which delete it is of. Where the last write wins, a write covers all that have lower stamps:
then the order of stamps is the graph, and whether that order is as it should be is another check.
What a node holds for another (a hint) counts beside what owners hold.
Knows nothing of nodes' insides; times are seconds of one clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from dynamo.errors import Malformed, StorageCorrupt
from dynamo.record import SIBLINGS_WARN, TOMBSTONE, Record, Sibling, decode_record, record_digest
from dynamo.stored import decode_stored
from dynamo.version import Dot, covers_dot

Outcome = Literal["ok", "none", "unknown"]
OperationKind = Literal["put", "delete", "get"]
#: Disk replaced; a value's checksum fails; an old copy of the disk put back; the end of the log gone;
#: the database gone; the records of one partition gone; the node stays down for good.
Why = Literal["wipe", "rot", "restore", "log", "database", "partition", "dead"]
#: By node, what it covers.
Covers = dict[str, frozenset[int]]

#: Of a write that has a stamp: stamp, then dot. The highest wins.
Order = tuple[int, bytes, int]

NOTHING: Final[frozenset[int]] = frozenset()
#: A delete writes a tombstone with `expires_ms = TOMBSTONE_TAG + id`.
TOMBSTONE_TAG: Final = 1 << 50
FOREVER: Final = float("inf")
#: A node that lost its copy counts again without a peer that has been down for so long (seconds):
#: a little less than it waits, as its clock may be fast.
REFILL_PATIENCE: Final = 4.5
LOOK_SECONDS: Final = 0.01
#: Of a value whose body went, its expiry is all that tells which write it is: an early one is the id
#: itself, of a later one the id is what is left over.
EXPIRY_EARLY_MS: Final = 1_000_000
EXPIRY_STEP_MS: Final = 1_000
_DIGITS_MAX: Final = 9
_FILLER: Final = b"."


# Reading records ----------------------------------------------------------------------------------


def value_of(id: int, size: int = 0) -> bytes:
    """The value of that write, of `size` bytes or as many as its id needs."""
    return (b"%d" % id).ljust(size, _FILLER)


def write_of(sibling: Sibling) -> int:
    """Id of the write that a sibling is. Raises Malformed if its value is none that a run writes."""
    if sibling.kind == TOMBSTONE:
        return sibling.expires_ms - TOMBSTONE_TAG
    if sibling.content is None:
        expires_ms = sibling.expires_ms
        return expires_ms if expires_ms < EXPIRY_EARLY_MS else expires_ms % EXPIRY_STEP_MS
    value = sibling.read().value
    digits = value.rstrip(_FILLER)
    if not digits.isdigit() or len(digits) > _DIGITS_MAX:
        raise Malformed(f"a sibling's value is no operation's: {value[:20]!r}")
    return int(digits)


def expiry_of(id: int, at_ms: int) -> int:
    """An expiry about then that names the write, or 0 if none can."""
    return at_ms // EXPIRY_STEP_MS * EXPIRY_STEP_MS + id if 0 < id < EXPIRY_STEP_MS else 0


def writes_in(record: Record) -> frozenset[int]:
    """Ids of the writes whose siblings are in a record, tombstones included. Raises Malformed."""
    return frozenset(map(write_of, record.siblings))


def values_in(siblings: Iterable[Sibling]) -> frozenset[int]:
    """Ids of the puts among siblings, say those that an answer shows. Raises Malformed."""
    return frozenset(write_of(one) for one in siblings if one.kind != TOMBSTONE)


@dataclass(frozen=True, slots=True)
class Copy:
    """What one disk has of a key. `ids`: of its siblings, None if they cannot be read.

    `record`: encoded, b"" if the key is absent. `wrong`: why what lies under a good checksum is no
    record that a run could make; "" for a good copy, and for one whose checksum fails.
    """

    ids: frozenset[int] | None = NOTHING
    record: bytes = b""
    wrong: str = ""

    @property
    def form(self) -> bytes:
        """What is equal for two copies of one record, though a body of one may have gone."""
        try:
            return record_digest(decode_record(self.record)) if self.record else b""
        except Malformed:
            return self.record

    @property
    def damaged(self) -> bool:
        """True if its checksum fails."""
        return self.ids is None and not self.wrong


def copy_on_disk(data: bytes | None, storage_key: bytes) -> Copy:
    """The copy that these stored bytes are; None: no bytes."""
    if data is None:
        return Copy()
    try:
        stored = decode_stored(storage_key, data)
    except StorageCorrupt:
        return Copy(None)
    try:
        record = decode_record(stored.record)
        if dict(record.vector).get(stored.birth, 0) < stored.counter:
            raise Malformed("the birth beside the record has a counter that the record never saw")
        return Copy(writes_in(record), stored.record)
    except Malformed as error:
        return Copy(None, stored.record, error.message)


# What happened ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Operation:
    """One request of a client.

    `w`, `pw`: acknowledgements asked for (`w`: the most of w, dw and node_confirms). `r`, `pr`:
    answers of a get (a needless delete may have an r too: that of its read). `blocking`: with
    blocking read repair.
    `past`: all that its context covers, a closed set (`History.past_of`); for a delete without
    context what the read inside it showed, set before anything is minted. `foreign_context`: the
    context was of another key.
    `seen`: the siblings in the record of its answer, tombstones and expired values included.
    `shown`: of a get, the values in it that were visible.
    `needless`: a delete that found nothing left to delete and was not made (its outcome is none).
    `code`: of the error. `expires`: the value has an expiry. `end`: when the answer left the node,
    FOREVER if none did. `cut_off`: its node crashed or stood still or the client went away, so that
    no answer was owed.
    `holders`: owners whose durable disk held, at `end`, the write or one that covers it; for a get
    and a needless delete, all of `seen`. None if that was not looked at. `hinted`: other nodes that
    held it so, in a hint for an owner: a node counts once, however many hints it has.
    `primary_acks`, `fallback_acks`: what the answer to a write said of who has it.
    `had`: by owner, what its durable disk held or covered when the operation began.
    `answerers`: owners that answered a read of the key to its node while it went on: no other can have
    counted. None if that was not looked at: then all may have. `stood_in`: other nodes that answered
    so with something that they held for others, and what certainly was in that.
    `expires`: it is not shown for ever. `fades`: its body may go in the run's time; then any other write
    may take its place, as if it covered it.
    `minter`: who gave the write its dot; `stand_in`: and did so for another, in a hint.
    """

    id: int
    kind: OperationKind
    key: bytes
    node: str
    start: float
    timeout: float
    w: int = 0
    pw: int = 0
    r: int = 0
    pr: int = 0
    blocking: bool = False
    foreign_context: bool = False
    expires: bool = False
    fades: bool = False
    past: frozenset[int] = NOTHING
    seen: frozenset[int] = NOTHING
    shown: frozenset[int] = NOTHING
    end: float = FOREVER
    cut_off: bool = False
    outcome: Outcome = "unknown"
    code: str = ""
    needless: bool = False
    holders: frozenset[str] | None = None
    hinted: frozenset[str] = frozenset()
    primary_acks: int = 0
    fallback_acks: int = 0
    had: Covers = field(default_factory=dict)
    answerers: frozenset[str] | None = None
    stood_in: Covers = field(default_factory=dict)
    minter: str = ""
    stand_in: bool = False

    @property
    def writes_needed(self) -> int:
        """Nodes that must hold it when it is acknowledged, of which `pw` are owners."""
        return max(self.w, self.pw)

    @property
    def reads_needed(self) -> int:
        """Nodes that must stand behind an answer, of which `pr` are owners."""
        return max(self.r, self.pr)

    @property
    def answered(self) -> bool:
        """True if its answer says that what it wrote, or what it showed, is there."""
        return self.outcome == "ok" or self.needless

    def weaken_not_found(self, n: int, *, basic_quorum: bool) -> None:
        """It found nothing, asked without `notfound_ok`: that is said once r replicas that do have
        a record are out of reach, or (`basic_quorum`) once a majority has none."""
        self.r = min(self.reads_needed, n - self.reads_needed + 1)
        self.pr = 0
        if basic_quorum:
            self.r = min(self.r, n // 2 + 1)
        self.blocking = False

    def __str__(self) -> str:
        """One line a person can follow."""
        counts = (("w", self.w), ("pw", self.pw), ("r", self.r), ("pr", self.pr))
        words = [f"{self.kind} {self.id} of {self.key!r} at {self.node} ({_span(self)})"]
        words += [f"{name}={count}" for name, count in counts if count]
        words += ["blocking"] if self.blocking else []
        words += ["needless"] if self.needless else [self.code or self.outcome]
        if self.kind != "get" and self.past:
            words.append(f"covers {some(self.past)}")
        if self.seen:
            words.append(f"saw {some(self.seen)}")
        if self.holders is not None:
            words.append(f"held by {' '.join(sorted(self.holders)) or 'nobody'}")
        if self.hinted:
            words.append(f"for others by {' '.join(sorted(self.hinted))}")
        return ", ".join(words)


#: Losses that leave what the disk had at an earlier time.
GOES_BACK: Final[tuple[Why, ...]] = ("restore", "log")


@dataclass(slots=True)
class Loss:
    """A node's copy of a key is gone or old. A lost disk is a loss for each key, since a node reads
    the others partition by partition (`History.lose`).

    `noticed`: the node knows, and counts toward no r until it has read what the others have.
    `whole_at`: when its disk had a good copy again and it said that it had read all other replicas;
    looked for every LOOK_SECONDS at least. `starts`: how often the node had been started then.
    """

    at: float
    node: str
    key: bytes
    why: Why = "wipe"
    noticed: bool = True
    whole_at: float = FOREVER
    starts: int = 0

    @property
    def sets_back(self) -> bool:
        """True from a fault that leaves what the disk had at an earlier time until it is whole: what it
        has left may be long gone elsewhere, so its node neither shows it nor mints on top of it."""
        return self.why in GOES_BACK and self.whole_at == FOREVER

    @property
    def counts_at(self) -> float:
        """The earliest time at which it may count again: whole, or without peers that were down for
        so long that it does without them. Not what the node says: it may be wrong."""
        return min(self.whole_at - LOOK_SECONDS, self.at + REFILL_PATIENCE)

    @property
    def whole_in_time(self) -> bool:
        """True if it did not count again before it was whole."""
        return self.whole_at <= self.at + REFILL_PATIENCE

    def __str__(self) -> str:
        noticed = "" if self.noticed else ", unnoticed"
        return f"{self.why} of {self.key!r} at {self.node} ({self.at:.4f} s{noticed})"


@dataclass(frozen=True, slots=True)
class Handed:
    """A hint has left a node's disk. `ids`: what it held or covered, `left`: what other hints of the key
    there still do. `taken`: of `ids`, what its target certainly had on disk then."""

    at: float
    node: str
    target: str
    key: bytes
    ids: frozenset[int]
    left: frozenset[int] = NOTHING
    taken: frozenset[int] = NOTHING


@dataclass(frozen=True, slots=True)
class Reaped:
    """A node has removed a record for good. `ids`: what was in it; `covered`: that, and all that it
    covers."""

    at: float
    node: str
    key: bytes
    ids: frozenset[int]
    covered: frozenset[int]


@dataclass(slots=True)
class History:
    """All operations of a run, and the copies lost on the way. `n`: replicas of each key.

    `owners`: the nodes that keep a key, for all keys from the start.
    `handed`: hints that have left, in order; `broken_hints`: what is wrong with that, a line each.
    `reaped`: records that went for good, in order; `broken_reaps`: what is wrong with that.
    `lww`: the keys where the last write wins. `orders`: by write of such a key, what decides.
    `unreadable`: answers with a record or a value that nobody wrote, a line each.
    `went_back`: nodes whose disk was set back to an earlier time, or rebuilt.
    `crowded`: keys with so many siblings that a write takes the place of all that have expired.
    `two_writes`: a dot and the writes that it named. `two_dots`: a write and the dots it had.
    """

    n: int
    operations: list[Operation] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    handed: list[Handed] = field(default_factory=list)
    broken_hints: list[str] = field(default_factory=list)
    reaped: list[Reaped] = field(default_factory=list)
    broken_reaps: list[str] = field(default_factory=list)
    owners: dict[bytes, tuple[str, ...]] = field(default_factory=dict)
    lww: frozenset[bytes] = frozenset()
    orders: dict[int, Order] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    went_back: set[str] = field(default_factory=set)
    crowded: set[bytes] = field(default_factory=set)
    two_writes: list[tuple[Dot, int, int]] = field(default_factory=list)
    two_dots: list[tuple[int, Dot, Dot]] = field(default_factory=list)
    _write_of: dict[Dot, int] = field(default_factory=dict)
    _dot_of: dict[int, Dot] = field(default_factory=dict)
    #: Stored bytes, and all that they cover.
    _covered: dict[tuple[bytes, bytes], frozenset[int]] = field(default_factory=dict)
    #: By write that has a stamp, all below it, of so many that have one.
    _below: dict[int, frozenset[int]] = field(default_factory=dict)
    _below_of: int = 0

    def next_id(self) -> int:
        """The id of the operation that begins next."""
        return len(self.operations)

    def begin(self, operation: Operation) -> Operation:
        """Add an operation that begins now."""
        assert operation.id == len(self.operations)
        self.operations.append(operation)
        return operation

    def lose(
        self, at: float, node: str, key: bytes | None = None, *, why: Why, noticed: bool = True
    ) -> list[Loss]:
        """A node has lost its copy of the key, or (None) of all keys that it owns. The losses: say of
        each when it is whole again."""
        keys = [one for one, nodes in self.owners.items() if node in nodes and key in (None, one)]
        lost = [Loss(at, node, one, why, noticed) for one in keys]
        self.losses += lost
        return lost

    def lose_hints(self, at: float, node: str, key: bytes, *, why: Why) -> None:
        """A node that does not own the key has lost what it held of it for others, for good."""
        if node not in self.owners.get(key, ()):
            self.losses.append(Loss(at, node, key, why))

    def gone(self, key: bytes) -> frozenset[int]:
        """What was reaped of the key so far, and all that it covered."""
        return NOTHING.union(*(one.covered for one in self.reaped if one.key == key))

    def fading(self, key: bytes) -> frozenset[int]:
        """Writes of the key whose place any other may take, and all that they cover."""
        crowded = key in self.crowded
        return self.past_of(
            one.id
            for one in self.operations
            if one.key == key and (one.fades or (crowded and one.expires))
        )

    def past_of(self, ids: Iterable[int]) -> frozenset[int]:
        """The writes themselves, and all that they cover."""
        found: set[int] = set()
        operations = self.operations
        for id in ids:
            found.add(id)
            if 0 <= id < len(operations):
                found |= operations[id].past
        return frozenset(found)

    def note_dots(self, record: Record) -> frozenset[int]:
        """Remember which dot names which write, for ever. The ids, as `writes_in`; raises Malformed."""
        ids = []
        for sibling in record.siblings:
            id = write_of(sibling)
            ids.append(id)
            dot = sibling.dot
            known = self._write_of.setdefault(dot, id)
            if known != id and (dot, known, id) not in self.two_writes:
                self.two_writes.append((dot, known, id))
            before = self._dot_of.setdefault(id, dot)
            if before != dot and (id, before, dot) not in self.two_dots:
                self.two_dots.append((id, before, dot))
        self._note_orders(record)
        if len(ids) >= SIBLINGS_WARN and 0 <= ids[0] < len(self.operations):
            self.crowded.add(self.operations[ids[0]].key)
        return frozenset(ids)

    def _note_orders(self, record: Record) -> None:
        for sibling in record.siblings:
            if sibling.stamp:
                self.orders.setdefault(write_of(sibling), (sibling.stamp, *sibling.dot))

    def note_answer(
        self, operation: Operation, record: Record, visible: Sequence[Sibling] = ()
    ) -> None:
        """The operation was answered with this record, of which these siblings were visible."""
        if any(sibling.kind == TOMBSTONE for sibling in visible):
            self.unreadable.append(f"[{operation}] was shown a tombstone")
        try:
            operation.seen = self.note_dots(record)
            operation.shown = values_in(visible)
        except Malformed as error:
            self.unreadable.append(f"[{operation}] was answered wrongly: {error.message}")

    def note_minted(self, node: str, record: Record, dot: Dot, *, stand_in: bool) -> None:
        """A node has given a write this dot, in this record. Raises Malformed."""
        self.note_dots(record)
        id = self._write_of.get(dot, -1)
        if 0 <= id < len(self.operations):
            self.operations[id].minter = node
            self.operations[id].stand_in = stand_in

    def was_minted(self, id: int) -> bool:
        """True if a record was noted that had this write."""
        return id in self._dot_of

    def holders_of(
        self, operation: Operation, stored: Mapping[str, bytes | None], storage_key: bytes
    ) -> frozenset[str]:
        """Nodes whose stored bytes hold what the operation wrote, or all that it saw, or what covers
        it. `stored`: what each owner's disk has, durably, under the key."""
        wanted = left_by(operation)
        fading = wanted & self.fading(operation.key)
        if operation.kind == "get" or operation.needless:
            wanted -= fading
        return frozenset(
            node
            for node, data in stored.items()
            if wanted <= self.covers(data, storage_key)
            # Of what another write has taken the place of only the vector tells.
            or (wanted <= fading and self._has_seen(data, storage_key, wanted))
        )

    def _has_seen(self, data: bytes | None, storage_key: bytes, ids: frozenset[int]) -> bool:
        """True if the vector of these stored bytes covers the dots of all these writes, and there are
        some."""
        copy = copy_on_disk(data, storage_key)
        dots = [self._dot_of.get(id) for id in ids]
        if not copy.ids or not dots:
            return False
        vector = dict(decode_record(copy.record).vector)
        return all(dot is not None and covers_dot(vector, *dot) for dot in dots)

    def covers(
        self,
        data: bytes | None,
        storage_key: bytes,
        copy_of: Callable[[bytes | None, bytes], Copy] = copy_on_disk,
    ) -> frozenset[int]:
        """The writes that stored bytes hold or cover; none where they cannot be read. `copy_of`: reads
        them."""
        if data is None:
            return NOTHING
        known = self._covered.get((storage_key, data))
        if known is None:
            copy = copy_of(data, storage_key)
            if copy.ids:
                # Of a write that no answer has shown yet, this is all that tells its dot and stamp.
                self.note_dots(decode_record(copy.record))
            if stamped := [id for id in copy.ids or () if id in self.orders]:
                # Kept until another stamp is known: those with lower ones may be minted yet.
                if self._below_of != len(self.orders):
                    self._below_of = len(self.orders)
                    self._below.clear()
                highest = max(stamped, key=self.orders.__getitem__)
                below = self._below.get(highest)
                if below is None:
                    below = self._below[highest] = self.below(highest)
                return below.union(copy.ids or ())
            known = self.past_of(copy.ids or NOTHING)
            self._covered[storage_key, data] = known
        return known

    def below(self, id: int) -> frozenset[int]:
        """The write, which has a stamp, and all of its key that it wins over."""
        key, order = self.operations[id].key, self.orders[id]
        return frozenset(
            other
            for other, lower in self.orders.items()
            if lower <= order and self.operations[other].key == key
        )


def left_by(operation: Operation) -> frozenset[int]:
    """What whoever holds all that the operation wrote, or showed, has."""
    if operation.kind == "get" or operation.needless:
        return operation.seen
    return frozenset((operation.id,))


@dataclass(frozen=True, slots=True)
class Shown:
    """What a read answered. `seen`: all siblings of its record. `values`: those that were visible."""

    seen: frozenset[int] = NOTHING
    values: frozenset[int] = NOTHING


@dataclass(slots=True)
class AtRest:
    """What a run learnt once all was healed, every key read at r = n, and nothing moved any more.

    `healed_at`: from then on operations with a timeout of `patience` seconds or more must succeed
    if they ask for at most `reachable` replicas (0: all of them). `at`: from then on it is converged.
    `copies`: what each owner's disk has, durably. `reads`: what a read at r = n showed at each node.
    `hints`: what nodes that are up hold for others then, by key. `undelivered`: of it, what is for nodes
    that are up, a line each.
    `repairs`: how many were sent after `at`. `apart`: where nodes exchange, what they did not agree on
    by themselves in their time, or did not leave alone then, a line each; `agreed`: after how many
    seconds they did agree. `errors`: what could not be done, a line each.
    `breaches`: what a disk saw that no process may do, a line each. `ends_met`: how often a process met
    the very end of a disk.
    """

    healed_at: float = FOREVER
    at: float = FOREVER
    patience: float = 1.0
    reachable: int = 0
    copies: dict[bytes, dict[str, Copy]] = field(default_factory=dict)
    reads: dict[bytes, dict[str, Shown]] = field(default_factory=dict)
    hints: dict[bytes, frozenset[int]] = field(default_factory=dict)
    undelivered: list[str] = field(default_factory=list)
    repairs: int = 0
    apart: list[str] = field(default_factory=list)
    agreed: float = FOREVER
    errors: list[str] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    ends_met: int = 0


def some(ids: Iterable[int]) -> str:
    """Ids for people, the first of many."""
    listed = sorted(ids)
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return "{" + " ".join(map(str, listed[:8])) + more + "}"


def dot_name(dot: Dot) -> str:
    """A dot for people."""
    return f"{dot[0].hex()}:{dot[1]}"


def _span(operation: Operation) -> str:
    end = "never answered" if operation.end == FOREVER else f"to {operation.end:.4f} s"
    return f"{operation.start:.4f} {end}"
