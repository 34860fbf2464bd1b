"""Which primaries a write does not reach: who stands in for each, and to whom it is owed or missed.

Pure: fed by the write, and tells its tally. Knows nothing of messages or time, nor of what is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from dynamo.stand_ins import DOWN, spare
from dynamo.write_tally import WriteTally
from ring.preference import Plan


class Absences(msgspec.Struct):
    """Of one write. `down`: who is, now and later. `stands_for`: stand-in -> the primary it keeps the
    write for. `missed`: primaries that nobody keeps it for, so far. `owed`: those that the minter notes,
    with the write, that it owes it to. `spares`: who can stand in and does not yet, once somebody has
    to. `hints`: False, and nobody stands in, nor owes it to who has missed it."""

    plan: Plan
    down: AbstractSet[str]
    tally: WriteTally
    stands_for: dict[str, str] = {}
    missed: list[str] = []
    owed: tuple[str, ...] = ()
    spares: Iterator[str] | None = None
    hints: bool = True

    def leave_out(self, absent: Sequence[str]) -> None:
        """Have the primaries that are down stood in for; where nobody can, the minter, if it is one, is
        to note that it owes it to them."""
        for primary in absent:
            self._stand_in(primary, DOWN)
        if self.hints and self.missed and len(absent) < len(self.plan.primaries):
            self.owed = tuple(self.missed)
            self.missed.clear()

    def stand_in_for_all(self) -> str | None:
        """Have every primary stood in for. The first who stands in, None if nobody does."""
        for primary in self.plan.primaries:
            if primary in self.owed:
                continue
            if primary not in self.stands_for.values() and primary not in self.missed:
                self._stand_in(primary, self.tally.reasons.get(primary, DOWN))
        return next(iter(self.stands_for), None)

    def replace(self, node: str, reason: str) -> str | None:
        """Who stands in, from now on, for a primary that cannot store, or in place of a stand-in that
        cannot; None, and that primary has missed the write, if nobody can."""
        primary = self.stands_for.pop(node, None)
        if primary is None:
            return self._stand_in(node, reason)
        self.tally.reasons[node] = reason
        other = self._next_spare()
        if other is None:
            self.tally.fail_stand_in(node, reason)
            self.missed.append(primary)
            return None
        self.stands_for[other] = primary
        return other

    def lose(self, node: str, reason: str, *, is_owed: bool) -> None:
        """A primary or a stand-in does not store, and nobody is asked in its place. `is_owed`: so the
        primary has missed the write."""
        primary = self.stands_for.pop(node, None)
        if primary is None:
            primary = node
            self.tally.fail(node, reason)
        else:
            self.tally.fail_stand_in(node, reason)
        if is_owed:
            self.missed.append(primary)

    def miss_owed(self) -> None:
        """The minter does not note what it was to owe."""
        self.missed.extend(self.owed)
        self.owed = ()

    def present(self, primaries: Iterable[str]) -> list[str]:
        """Those that are to store the write themselves."""
        away = (*self.stands_for.values(), *self.missed, *self.owed)
        return [node for node in primaries if node not in away]

    def target_of(self, stand_in: str) -> int:
        """What messages call the primary that it stands in for."""
        return self.indexes((self.stands_for[stand_in],))[0]

    def indexes(self, nodes: Iterable[str]) -> tuple[int, ...]:
        """What messages call these members."""
        index = self.plan.planner.ring.index
        return tuple([found for found in map(index, nodes) if found is not None])

    def _stand_in(self, primary: str, reason: str) -> str | None:
        node = self._next_spare()
        if node is None:
            self.tally.fail(primary, reason)
            self.missed.append(primary)
            return None
        self.tally.stand_in_for(primary, reason)
        self.stands_for[node] = primary
        return node

    def _next_spare(self) -> str | None:
        if not self.hints:
            return None
        if self.spares is None:
            self.spares = spare(self.plan, self.down)
        return next(self.spares, None)
