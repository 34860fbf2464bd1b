"""Siblings: a version covers itself and what it descends from; blind writes are concurrent.

A version descends from those its writer had seen (`Op.bases`), and from what these descend from. The
closure is never built: frontiers are swept in the order of time, and questions walk only as far as
their answer is, from both ends.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from bench.staleness.keyed import NEVER, Key
from bench.staleness.order import BEHIND_MAX, Asked, BudgetSpent, Judged

#: Of more than so many wanted versions all that is below what was seen is walked over.
_MANY = 1_000


class Siblings:
    """The order of one key's versions. `steps`: how many may be walked over, all questions together."""

    def __init__(self, key: Key, *, steps: int) -> None:
        self._bases = key.bases
        self._steps_left = steps
        self._children = _children(key.bases)
        self._chains = _chains(key.bases, self._children)

    def uncovered(self, seen: Collection[int], wanted: Iterable[int]) -> list[int]:
        """Those wanted from which nothing seen descends. Raises BudgetSpent."""
        missing = dict.fromkeys(wanted)
        for place in seen:
            missing.pop(place, None)
        if not missing or not seen:
            return list(missing)
        self._step(len(missing))
        if len(missing) > _MANY:
            return self._outside(seen, missing)
        return [place for place in missing if not self._is_covered(place, seen)]

    def _is_covered(self, wanted: int, seen: Collection[int]) -> bool:
        """Whether something seen descends from it: walked from both ends at once, since either may be
        a dead end: a version that was lost has no descendants, a stale one no way down to it."""
        down = [place for place in seen if place > wanted]
        if not down:
            return False
        highest, up = max(down), [wanted]
        above, below = {wanted}, set(down)
        # Of each chain the first version reached from below, and the last one reached from above: the
        # last descends from the first if it comes after it.
        first = {self._chains[wanted]: wanted}
        last = {self._chains[place]: place for place in sorted(down)}
        while up and down:
            self._step(1)
            place = up.pop()
            chain = self._chains[place]
            first[chain] = min(place, first.get(chain, place))
            if last.get(chain, -1) >= place:
                return True
            for child in self._children[place]:
                if child <= highest and child not in above:
                    above.add(child)
                    up.append(child)
            place = down.pop()
            chain = self._chains[place]
            last[chain] = max(place, last.get(chain, place))
            if first.get(chain, highest + 1) <= place:
                return True
            for base in self._bases[place]:
                if base >= wanted and base not in below:
                    below.add(base)
                    down.append(base)
        return False

    def _outside(self, seen: Collection[int], missing: dict[int, None]) -> list[int]:
        """The same for very many: all that is below what was seen is walked over once."""
        lowest = min(missing)
        stack = [place for place in seen if place > lowest]
        visited = set(stack)
        while stack:
            place = stack.pop()
            self._step(1)
            missing.pop(place, None)
            for base in self._bases[place]:
                if base >= lowest and base not in visited:
                    visited.add(base)
                    stack.append(base)
        return list(missing)

    def joined(self, old: Sequence[int], new: Sequence[int]) -> list[int]:
        """The maximal ones of both. Raises BudgetSpent."""
        kept = self.uncovered(new, old)
        return kept + self.uncovered(kept, new)

    def judge(
        self, stamps: Sequence[float], asked: Sequence[Asked], *, strict: bool
    ) -> list[Judged]:
        """Each read against the maximal committed writes (`Order.judge`)."""
        order = sorted(
            (p for p, at in enumerate(stamps) if at < NEVER), key=lambda p: (stamps[p], p)
        )
        frontier = _Frontier(self._bases)
        judged: list[Judged] = []
        done = 0
        for at, read in asked:
            while done < len(order) and (
                stamps[order[done]] < at or (not strict and stamps[order[done]] == at)
            ):
                frontier.commit(order[done])
                done += 1
            if not done:
                judged.append(Judged(read, -1, 0, -1))
                continue
            try:
                behind, missed = self._behind(frontier, read.seen, order, done, stamps)
            except BudgetSpent:
                behind, missed = -1, -1
            judged.append(Judged(read, frontier.newest, behind, missed))
        return judged

    def _behind(
        self,
        frontier: _Frontier,
        seen: tuple[int, ...],
        order: Sequence[int],
        done: int,
        stamps: Sequence[float],
    ) -> tuple[int, int]:
        """How many committed writes were missed, and which was stamped first."""
        if self._steps_left <= 0:
            raise BudgetSpent
        if not seen:
            return min(done, BEHIND_MAX), order[0]
        missing = self.uncovered(seen, frontier.beyond(seen))
        if not missing:
            return 0, -1
        return self._count(missing, seen, frontier.committed, stamps)

    def _count(
        self,
        missing: list[int],
        seen: tuple[int, ...],
        committed: Collection[int],
        stamps: Sequence[float],
    ) -> tuple[int, int]:
        """Committed versions that are, or that are below, `missing` and not below `seen`."""
        count, first = 0, missing[0]
        stack, visited = list(missing), set(missing)
        while stack and count < BEHIND_MAX:
            place = stack.pop()
            self._step(1)
            if place in committed:
                count += 1
                first = min(first, place, key=stamps.__getitem__)
            fresh = [base for base in self._bases[place] if base not in visited]
            visited.update(fresh)
            stack += self.uncovered(seen, fresh)
        return count, first

    def _step(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise BudgetSpent


class _Frontier:
    """The maximal committed versions, as commits come. All commits together cost O(writes + bases)."""

    def __init__(self, bases: Sequence[tuple[int, ...]]) -> None:
        self._bases = bases
        self._below = bytearray(len(bases))
        self._maximal: dict[int, None] = {}
        self.committed: set[int] = set()

    def commit(self, place: int) -> None:
        """One more; it may be older than one committed before it, and is not maximal then."""
        self.committed.add(place)
        if self._below[place]:
            return
        self._maximal[place] = None
        stack = [place]
        while stack:
            for base in self._bases[stack.pop()]:
                if not self._below[base]:
                    self._below[base] = 1
                    self._maximal.pop(base, None)
                    stack.append(base)

    @property
    def newest(self) -> int:
        """The maximal one that was stamped last. Raises StopIteration of none."""
        return next(reversed(self._maximal))

    def beyond(self, seen: tuple[int, ...]) -> Collection[int]:
        """The maximal ones that were not returned themselves."""
        return self._maximal.keys() - seen


def _children(bases: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Of each version those that replaced it."""
    children: list[list[int]] = [[] for _ in bases]
    for place, below in enumerate(bases):
        for base in below:
            children[base].append(place)
    return children


def _chains(bases: Sequence[tuple[int, ...]], children: Sequence[Sequence[int]]) -> list[int]:
    """Of each version the chain it is on, called by its first: versions of one chain descend from each
    other. Each is prolonged by the child from which most generations descend, so that no chain ends
    in a version that was lost, and the oldest is the trunk which others soon join."""
    heights = [0] * len(bases)
    heirs = [-1] * len(bases)
    for place in range(len(bases) - 1, -1, -1):
        if children[place]:
            heirs[place] = max(children[place], key=heights.__getitem__)
            heights[place] = heights[heirs[place]] + 1
    chains: list[int] = []
    for place, below in enumerate(bases):
        chains.append(min((chains[base] for base in below if heirs[base] == place), default=place))
    return chains
