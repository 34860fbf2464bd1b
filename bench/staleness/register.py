"""A register: one value a key, the last write wins. Real time is the only order that can be known.

u is covered by v unless v's write had ended before u's began: of writes that overlap either may be
the last, so both are accepted. A write of unknown end overlaps all that follow.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence

from bench.history import Op
from bench.staleness.fenwick import Fenwick
from bench.staleness.keyed import NEVER, Key
from bench.staleness.order import BEHIND_MAX, Asked, Judged


class Register:
    """The order of one key's writes. Where one session wrote all of them one after the other, their
    numbers are the order, also of those that follow each other within one instant."""

    def __init__(self, key: Key) -> None:
        self._count = len(key.writes)
        self._alone = _is_one_writer(key.writes)
        self._ends = key.ends
        self._sorted = sorted(key.starts)
        #: Rank of a write's start among all starts.
        self._ranks = (
            list(range(self._count))
            if self._alone
            else [bisect_left(self._sorted, start) for start in key.starts]
        )

    def uncovered(self, seen: Collection[int], wanted: Iterable[int]) -> list[int]:
        """Those wanted that began after everything seen had ended."""
        known = self._known(seen)
        return [place for place in wanted if self._ranks[place] >= known]

    def joined(self, old: Sequence[int], new: Sequence[int]) -> list[int]:
        """The one that began last: what had not ended before it covers all of them."""
        both = [*old, *new]
        return [max(both, key=self._ranks.__getitem__)] if both else []

    def judge(
        self, stamps: Sequence[float], asked: Sequence[Asked], *, strict: bool
    ) -> list[Judged]:
        """Each read against the newest committed write; O((writes + reads) log writes)."""
        order = sorted(
            (p for p, at in enumerate(stamps) if at < NEVER), key=lambda p: (stamps[p], p)
        )
        times = [stamps[place] for place in order]
        latest: list[int] = []  # greatest rank up to there
        for place in order:
            latest.append(max(self._ranks[place], latest[-1] if latest else -1))
        begun = Fenwick(self._count)
        judged: list[Judged] = []
        for at, read in asked:
            done = bisect_left(times, at) if strict else bisect_right(times, at)
            while begun.total < done:
                begun.add(self._ranks[order[begun.total]])
            known = self._known(read.seen)
            if not done or latest[done - 1] < known:
                judged.append(Judged(read, order[done - 1] if done else -1, 0, -1))
                continue
            behind = min(done - begun.below(known), BEHIND_MAX)
            judged.append(Judged(read, order[done - 1], behind, order[bisect_left(latest, known)]))
        return judged

    def _known(self, seen: Collection[int]) -> int:
        """The rank from which on starts are after the end of all that was seen."""
        if not seen:
            return 0
        if self._alone:
            return max(seen) + 1
        end = max(self._ends[place] for place in seen)
        return bisect_right(self._sorted, end)


def _is_one_writer(writes: Sequence[Op]) -> bool:
    """One session, one write after the other, and of each is known what came of it."""
    return all(
        op.outcome != "unknown" and op.session == writes[0].session for op in writes
    ) and all(before.end <= after.start for before, after in itertools.pairwise(writes))
