"""A Fenwick tree: counts by rank, a prefix summed in O(log n) (Fenwick, 1994). Pure."""

from __future__ import annotations


class Fenwick:
    """Counts at the ranks 0..size-1, all 0 at first."""

    def __init__(self, size: int) -> None:
        self._sums = [0] * (size + 1)
        self.total = 0

    def add(self, rank: int) -> None:
        """One more at this rank."""
        self.total += 1
        rank += 1
        while rank < len(self._sums):
            self._sums[rank] += 1
            rank += rank & -rank

    def below(self, rank: int) -> int:
        """How many there are at ranks lower than this."""
        count = 0
        while rank > 0:
            count += self._sums[rank]
            rank -= rank & -rank
        return count
