"""What "covers" means, and what a read at some time should have shown: the one idea behind all metrics.

Two orders: of siblings (`siblings`), where a version covers those it descends from, and of a register
(`register`), where real time decides. Both answer the same questions, so no metric knows which it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from bench.staleness.keyed import Read

#: More versions behind than this are counted as this many.
BEHIND_MAX: Final = 1_000


class Judged(NamedTuple):
    """What a read should have shown. `newest`: of the maximal committed writes the one stamped last,
    -1 if nothing was committed. `behind`: committed writes newer than what it returned (at most
    BEHIND_MAX); `missed`: of those the one stamped first, -1 for none. `behind` -1: over budget."""

    read: Read
    newest: int
    behind: int
    missed: int

    @property
    def fresh(self) -> bool:
        """Every committed write is covered by something that was returned."""
        return self.behind == 0


class Asked(NamedTuple):
    """A read, and when it counts as begun."""

    at: int
    read: Read


class BudgetSpent(Exception):
    """The versions of this key descend from each other in ways that take too long to follow."""


class Order(Protocol):
    """How the versions of one key follow each other. Versions are places in `Key.writes`."""

    def uncovered(self, seen: Collection[int], wanted: Iterable[int]) -> list[int]:
        """Those wanted that no version seen covers. Raises BudgetSpent."""
        ...

    def joined(self, old: Sequence[int], new: Sequence[int]) -> list[int]:
        """What a read has to cover so that it covers all of both. Raises BudgetSpent."""
        ...

    def judge(
        self, stamps: Sequence[float], asked: Sequence[Asked], *, strict: bool
    ) -> list[Judged]:
        """Each read against the writes stamped before it (`strict`), or also at that instant; a
        write stamped NEVER is not committed. `asked` in the order of time."""
        ...
