"""What is done about keys in which two owners differ: a second look at each, who has missed something,
and the records that bring that side up.

The elements of a first look come from whoever compared the leaves. A key that has changed since is
looked at again, a bounded number of times; one that still changes is left to the next exchange. Knows
nothing of hash trees but what a record's change means for its leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Literal, NamedTuple

from antientropy.exchange import MINE, THEIRS, LeafNotes, Side
from antientropy.looks import Look, judge
from dynamo.ask import ask_of
from dynamo.exchange_budget import Budget
from dynamo.exchange_moves import DAMAGED, LeftOut, Moves, PeerFailed, check
from dynamo.exchange_stuck import Stuck
from dynamo.keys import partition_prefix
from dynamo.metrics import Metrics
from dynamo.ports import Clock, Transport
from dynamo.refill_marks import Partition
from dynamo.replica import Replica
from dynamo.replica_trees import ReplicaTrees
from dynamo.rpc.exchange_messages import Looked, LookedAt, LookKeys
from dynamo.rpc.messages import Reply, Request
from dynamo.version import descends

#: Seconds for which one answer is waited for.
ASK_TIMEOUT: Final = 10.0
ASK_TIMEOUT_MS: Final = int(ASK_TIMEOUT * 1000)
#: Keys that wait for their second look, since they changed between two.
SUSPECTS_MAX: Final = 10_000
#: Keys of one message.
LOOKED_AT_ONCE: Final = 128
#: Times that keys are looked at; those that still change are left to the next exchange.
LOOKS_MAX: Final = 4

TOO_MUCH_CHANGES: Final = "too many of its keys change"
CHANGES: Final = "some of its keys change all the time"
STUCK: Final = "some of its records cannot be merged"


class Tally:
    """What exchanges with a peer, or those of a repair, have done."""

    __slots__ = (
        *("bytes_pulled", "bytes_pushed", "keys_compared", "keys_differing"),
        *("pulled", "pushed"),
    )

    def __init__(self) -> None:
        self.keys_compared = self.keys_differing = 0
        self.pulled = self.pushed = 0
        self.bytes_pulled = self.bytes_pushed = 0


class Means(NamedTuple):
    """What all exchanges of a node share. `deadline`: seconds from one look to the next at least.
    `in_delivery`: whether hints for that peer, of that partition, are on their way. `listed`: partitions
    whose keys an exchange lists now. `on_repaired`: told of what this node's own record has changed by:
    partition, leaf, change."""

    node_id: str
    replica: Replica
    trees: ReplicaTrees
    transport: Transport
    clock: Clock
    metrics: Metrics
    budget: Budget
    moves: Moves
    stuck: Stuck
    deadline: float
    in_delivery: Callable[[str, Partition], bool]
    listed: dict[Partition, str]
    on_repaired: Callable[[Partition, int, int], None]


class _Wanted(NamedTuple):
    """Keys whose records are to be moved, and what a leaf changes by then, 0 if that is not known."""

    pulls: dict[bytes, int]
    pushes: dict[bytes, int]
    #: Keys with one vector and two records: what stands for them here and there.
    twins: dict[bytes, tuple[bytes, bytes]]


class KeyLooks:
    """The keys of one exchange with one peer."""

    def __init__(self, means: Means, peer: str, epoch: int, tallies: Sequence[Tally]) -> None:
        """`epoch`: of the ring that is served. `tallies`: count what is done."""
        self.means = means
        self.peer = peer
        self.state: Literal["comparing", "waiting", "listing", "moving"] = "comparing"
        #: Partitions that are certainly the same, of all that was there when this began.
        self.clean: dict[Partition, None] = {}
        #: Why nothing certain is known of a partition.
        self.left_out: dict[Partition, str] = {}
        #: Keys of which one side had certainly missed something.
        self.found = 0
        self._count = means.metrics.count
        self._epoch = epoch
        self._leaves = means.replica.forest.leaves
        self._tallies = tallies
        self._suspects: dict[tuple[Partition, bytes], Look] = {}
        self._looks = 0

    async def look_at_suspects(self) -> None:
        """The next look at those that wait for it."""
        self.state = "listing"
        by_place: dict[Partition, dict[bytes, Look]] = {}
        for (place, key), look in self._suspects.items():
            by_place.setdefault(place, {})[key] = look
        self._suspects.clear()
        for place, looks in by_place.items():
            await self._of(place, self._look_at(place, looks, None))

    def next_look(self) -> float | None:
        """When those that wait can be looked at; None if none does, or they are given up."""
        if not self._suspects:
            return None
        self._looks += 1
        if self._looks >= LOOKS_MAX:
            self._count["exchange_suspects_left"] += len(self._suspects)
            for place, _ in self._suspects:
                self._leave_out(place, CHANGES)
            self._suspects.clear()
            return None
        return max(look.at for look in self._suspects.values()) + self.means.deadline

    def _suspect(self, place: Partition, key: bytes, look: Look) -> None:
        """Look at it once more later."""
        if (place, key) not in self._suspects and len(self._suspects) >= SUSPECTS_MAX:
            self._count["exchange_suspects_dropped"] += 1
            self._leave_out(place, TOO_MUCH_CHANGES)
            return
        self._suspects[place, key] = look

    async def _look_at(
        self, place: Partition, firsts: dict[bytes, Look], notes: LeafNotes | None
    ) -> None:
        """The second look at these keys, and the records that follow from it. `notes`: of the leaves
        that they lie in, while those are being listed."""
        rest = list(firsts)
        while rest:
            await self.means.budget.room()
            keys = tuple(rest[:LOOKED_AT_ONCE])
            mine, theirs = await self._ask_both(LookKeys(*place, self._epoch, ASK_TIMEOUT_MS, keys))
            if not isinstance(mine, Looked) or not isinstance(theirs, Looked):
                raise unasked(self.peer)
            looked = list(zip(keys, mine.entries, theirs.entries, strict=False))
            if not looked:
                raise unasked(self.peer)
            self.means.budget.spent(keys=len(looked))
            wanted = self._judge(place, looked, firsts)
            pulled = await self._move(MINE, place, wanted.pulls, notes)
            pushed = await self._move(THEIRS, place, wanted.pushes, notes)
            for key, elements in wanted.twins.items():
                if key in pulled and key in pushed:
                    self.means.stuck.note_merged(partition_prefix(*place) + key, elements)
            rest = rest[len(looked) :]

    def _judge(
        self,
        place: Partition,
        looked: list[tuple[bytes, LookedAt, LookedAt]],
        firsts: dict[bytes, Look],
    ) -> _Wanted:
        now = self.means.clock.monotonic()
        wanted = _Wanted({}, {}, {})
        for key, mine, theirs in looked:
            if mine.code or theirs.code:
                self._leave_out(place, DAMAGED)
                continue
            elements = (mine.element, theirs.element)
            behind = behind_of(mine, theirs)
            verdict = judge(firsts[key], Look(now, *elements, *behind), self.means.deadline)
            if verdict.again is not None:
                self._suspect(place, key, verdict.again)
            if not verdict.pull and not verdict.push:
                continue
            if mine.vector == theirs.vector:
                storage_key = partition_prefix(*place) + key
                if not self.means.stuck.may_merge(storage_key, elements, now):
                    self._leave_out(place, STUCK)
                    continue
                wanted.twins[key] = elements
            self.found += 1
            self._add("keys_differing", 1)
            change = int.from_bytes(mine.element) ^ int.from_bytes(theirs.element)
            # What both merge to stands for something that neither has yet.
            known = 0 if behind == (True, True) else change
            if verdict.pull:
                wanted.pulls[key] = known
            if verdict.push:
                wanted.pushes[key] = known
        return wanted

    async def _move(
        self, to: Side, place: Partition, changes: dict[bytes, int], notes: LeafNotes | None
    ) -> dict[bytes, int]:
        """Bring these keys' records to that side; returns those that got there, with their sizes."""
        if not changes:
            return {}
        means = self.means
        own, peer = means.node_id, self.peer
        source, target = (peer, own) if to is MINE else (own, peer)
        before, self.state = self.state, "moving"
        moved: dict[bytes, int] = {}
        rest = list(changes)
        try:
            while rest:
                carried = await means.moves.carry(source, target, place, self._epoch, rest)
                rest = rest[carried.asked :]
                moved |= carried.moved
                if carried.why:
                    self._leave_out(place, carried.why)
        except LeftOut as left_out:
            # What has got there before counts, and so do the keys that go the other way.
            self._leave_out(place, left_out.reason)
        finally:
            self.state = before
            self._note_moved(to, place, moved, changes, notes)
        return moved

    def _note_moved(
        self,
        to: Side,
        place: Partition,
        moved: dict[bytes, int],
        changes: dict[bytes, int],
        notes: LeafNotes | None,
    ) -> None:
        for key in moved:
            leaf = self._leaf(place, key)
            if to is MINE:
                self.means.on_repaired(place, leaf, changes[key])
            elif notes is not None:
                notes.repaired(THEIRS, leaf, changes[key])
        size = sum(moved.values())
        if to is MINE:
            self._count["repairs_by_exchange_pulled"] += len(moved)
            self._count["repair_bytes_by_exchange_pulled"] += size
            self._add("pulled", len(moved))
            self._add("bytes_pulled", size)
        else:
            self._count["repairs_by_exchange_pushed"] += len(moved)
            self._count["repair_bytes_by_exchange_pushed"] += size
            self._add("pushed", len(moved))
            self._add("bytes_pushed", size)

    # For both -----------------------------------------------------------------------------------

    async def _of(self, place: Partition, work: Coroutine[Any, Any, None]) -> None:
        """What cannot be done about one partition says nothing of the others."""
        try:
            await work
        except LeftOut as left_out:
            self._leave_out(place, left_out.reason)

    def _leave_out(self, place: Partition, reason: str) -> None:
        if place not in self.left_out:
            self._count["exchange_partitions_left_out"] += 1
            self.left_out[place] = reason
        self.clean.pop(place, None)

    def _leaf(self, place: Partition, key: bytes) -> int:
        position = self.means.replica.hasher.position(partition_prefix(*place) + key)
        return position & (self._leaves - 1)

    def _add(self, name: str, count: int) -> None:
        for tally in self._tallies:
            setattr(tally, name, getattr(tally, name) + count)

    async def _ask(self, node: str, message: Request) -> Reply:
        """Raises LeftOut, PeerFailed."""
        if node == self.peer:
            self._count["exchange_messages"] += 1
        answers = await ask_of(self.means.transport, {node: message}, ASK_TIMEOUT)
        return check(answers[node])

    async def _ask_both(self, message: Request) -> tuple[Reply, Reply]:
        """What this node and the peer answer. Raises LeftOut, PeerFailed."""
        own = self.means.node_id
        self._count["exchange_messages"] += 1
        messages = {own: message, self.peer: message}
        answers = await ask_of(self.means.transport, messages, ASK_TIMEOUT)
        theirs = check(answers[self.peer])
        return check(answers[own]), theirs


def unasked(node: str) -> PeerFailed:
    """For an answer that is none to what was asked."""
    return PeerFailed(f"{node} answers what was not asked")


def behind_of(mine: LookedAt, theirs: LookedAt) -> tuple[bool, bool]:
    """Whether this side has missed something that the other has, and the other way about. Absent is
    behind whatever there is; two records with one vector have each missed what the other has."""
    if mine.digest == theirs.digest:
        return False, False
    if mine.vector == theirs.vector:
        return True, True
    return not descends(mine.vector, theirs.vector), not descends(theirs.vector, mine.vector)
