"""What clients did and saw, and whether a store that keeps its promises could have answered so.

Causality is taken from unique values and from the contexts that clients echoed, never from the
store's vectors: a write covers the siblings that its context was given with, and what those cover.
Knows nothing of nodes' insides; times are seconds of one clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from dynamo.record import TOMBSTONE, Record
from dynamo.version import Dot

Outcome = Literal["ok", "none", "unknown"]
OperationKind = Literal["put", "delete", "get"]

NOTHING: Final[frozenset[int]] = frozenset()
#: A tombstone has no value: its expiry says which delete it is of.
TOMBSTONE_TAG: Final = 1 << 50
FOREVER: Final = float("inf")


def writes_in(record: Record) -> frozenset[int]:
    """Ids of the writes whose siblings are in a record, tombstones included."""
    return frozenset(
        sibling.expires_ms - TOMBSTONE_TAG
        if sibling.kind == TOMBSTONE
        else int(sibling.read().value)
        for sibling in record.siblings
    )


@dataclass(slots=True)
class Operation:
    """One request. `past`: what its context covers. `seen`: the siblings it was shown.

    `w` acknowledgements or `r` answers, of `n`. `blocking`: with blocking read repair. `needless`: a
    delete that found nothing left to delete, and was not made.
    """

    id: int
    kind: OperationKind
    key: bytes
    node: str
    start: float
    timeout: float
    w: int = 0
    r: int = 0
    blocking: bool = False
    needless: bool = False
    past: frozenset[int] = NOTHING
    seen: frozenset[int] = NOTHING
    end: float = FOREVER
    outcome: Outcome = "unknown"
    error: str = ""

    @property
    def holds(self) -> bool:
        """True if its answer promises that what it wrote, or showed, is there."""
        if self.kind == "get":
            return self.outcome == "ok" and self.blocking
        return self.outcome == "ok" or self.needless


@dataclass(slots=True)
class Loss:
    """A node's copy is gone: of one key, or (None) all of them."""

    at: float
    node: str
    key: bytes | None


@dataclass(slots=True)
class History:
    """All operations of a run, with the disks lost on the way. `n`: replicas of each key."""

    n: int
    operations: list[Operation] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    #: What was found wrong, one line each.
    problems: list[str] = field(default_factory=list)
    _dots: dict[Dot, int] = field(default_factory=dict)
    _dot_of: dict[int, Dot] = field(default_factory=dict)

    def begin(self, operation: Operation) -> Operation:
        assert operation.id == len(self.operations)
        self.operations.append(operation)
        return operation

    def next_id(self) -> int:
        return len(self.operations)

    def past_of(self, ids: Iterable[int]) -> frozenset[int]:
        """The writes themselves, and all that they cover."""
        found: set[int] = set()
        for id in ids:
            found.add(id)
            found |= self.operations[id].past
        return frozenset(found)

    def note_dots(self, record: Record) -> None:
        """Each dot names one write, and each write has one dot, for ever."""
        for sibling in record.siblings:
            (id,) = writes_in(Record(record.format, record.vector, (sibling,)))
            dot = sibling.dot
            if self._dots.setdefault(dot, id) != id:
                self._problem(f"dot {_short(dot)} names writes {self._dots[dot]} and {id}")
            if self._dot_of.setdefault(id, dot) != dot:
                self._problem(f"write {id} has two dots")

    # Checks -------------------------------------------------------------------------------------

    def check(self, final: dict[bytes, frozenset[int]]) -> list[str]:
        """Everything wrong with the run. `final`: what is there of each key at rest."""
        for operation in self.operations:
            if (
                operation.end - operation.start > operation.timeout + 1.0
                and operation.end < FOREVER
            ):
                self._problem(f"{operation} took longer than its timeout and a second")
            if operation.outcome == "ok":
                self._check_siblings(f"{operation}", operation.key, operation.seen, operation.end)
            if operation.outcome == "ok" and operation.kind == "get":
                self._check_read(operation)
        for key, seen in final.items():
            self._check_siblings(f"at rest {key!r}", key, seen, FOREVER)
            self._check_final(key, seen)
        return self.problems

    def _check_siblings(self, what: str, key: bytes, seen: frozenset[int], end: float) -> None:
        for id in seen:
            write = self.operations[id] if id < len(self.operations) else None
            if write is None or write.kind == "get" or write.key != key or write.start > end:
                self._problem(f"{what}: shows write {id}, which nobody made of this key")
            elif write.outcome == "none":
                self._problem(f"{what}: shows {write}, which failed definitely")
            elif write.past & seen:
                self._problem(
                    f"{what}: shows {sorted(write.past & seen)} beside {id}, which covers it"
                )

    def _check_read(self, read: Operation) -> None:
        """A read sees what quorums that it meets have: acknowledged writes, and what reads with
        blocking repair returned."""
        shown = self.past_of(read.seen)
        for earlier in self.operations:
            if earlier.key != read.key or earlier.end >= read.start or not earlier.holds:
                continue
            holders = self.holders(earlier)
            if holders + read.r <= self.n or holders <= self._lost_since(earlier, read.end):
                continue
            if earlier.kind == "get" or earlier.needless:
                if not earlier.seen <= shown:
                    missed = sorted(earlier.seen - shown)
                    self._problem(f"{read} goes back: {missed} was shown by {earlier}")
            elif earlier.id not in shown:
                self._problem(f"{read} misses {earlier}")

    def _check_final(self, key: bytes, seen: frozenset[int]) -> None:
        shown = self.past_of(seen)
        for operation in self.operations:
            if operation.key != key or operation.outcome != "ok":
                continue
            if operation.kind != "get":
                lost = self._lost_since(operation, FOREVER)
                if operation.id not in shown and self.holders(operation) > lost:
                    self._problem(f"{operation} was acknowledged and is lost")
            elif not self.losses and not operation.seen <= shown:
                missed = sorted(operation.seen - shown)
                self._problem(f"{missed} of {key!r} was shown by {operation} and is lost")

    def _lost_since(self, operation: Operation, until: float) -> int:
        """Copies that were lost at a time since the operation began: one at most, as the next disk
        is lost only when the last has been refilled."""
        return any(
            operation.start <= loss.at <= until and loss.key in (None, operation.key)
            for loss in self.losses
        )

    def holders(self, operation: Operation) -> int:
        """Nodes that certainly held, when it was answered, what it wrote or (blocking) showed."""
        if operation.kind == "get":
            promised = self.n - operation.r + 1 if operation.blocking else 0
        else:
            promised = operation.w
        lost = {
            loss.node
            for loss in self.losses
            if operation.start <= loss.at <= operation.end and loss.key in (None, operation.key)
        }
        return max(0, promised - len(lost))

    def _problem(self, line: str) -> None:
        self.problems.append(line)


def _short(dot: Dot) -> str:
    return f"{dot[0].hex()}:{dot[1]}"
