"""A uniform sample of what came lately, of bounded size: of pairs of numbers, or of any objects.

Two halves of a window: one that fills by algorithm R (Vitter, "Random Sampling with a Reservoir", ACM
TOMS 1985), and the one before it. Whoever keeps several turns them all at once, so that they tell of
the same time. Pure: time is not known here, and chance is an argument.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


def slot(count: int, size: int, chance: random.Random) -> int:
    """Where the next of `count` that came before goes in a reservoir of `size`; -1 for nowhere."""
    if count < size:
        return count
    at = int(chance.random() * (count + 1))
    return at if at < size else -1


def shares(counts: tuple[int, int], size: int) -> tuple[int, int]:
    """How many to take of each of two samples of up to `size`, of `counts` things, so that all of these
    are as likely to be taken; at most `size` together."""
    total = sum(counts)
    if not total:
        return 0, 0
    most = min(size, *(min(count, size) * total // count for count in counts if count))
    first = round(most * counts[0] / total)
    return min(first, size, counts[0]), min(most - first, size, counts[1])


def spread(count: int, share: int, chance: random.Random) -> Sequence[int]:
    """`share` of `count` positions, each as likely as any other, by one draw: evenly spread from a
    random one on (systematic sampling)."""
    if share >= count:
        return range(count)
    step = count / share if share else 0.0
    start = chance.random() * step
    return [min(int(start + index * step), count - 1) for index in range(share)]


class Window:
    """When the halves of a window begin. Its time is an argument, in seconds."""

    __slots__ = ("_half", "_now_since", "since", "turns_at")

    def __init__(self, seconds: float, now: float) -> None:
        self._half = seconds / 2
        #: Since when what is kept of both halves came.
        self.since = now
        self._now_since = now
        #: When the next half begins.
        self.turns_at = now + self._half

    def turns(self, now: float) -> int:
        """How many halves have passed since this was asked last, as far as that makes a difference: 0,
        1, or 2 where nothing that came before is of the window any more."""
        if now < self.turns_at:
            return 0
        passed = 1 + int((now - self.turns_at) // self._half)
        begun = self.turns_at + (passed - 1) * self._half
        self.since = self._now_since if passed == 1 else begun - self._half
        self._now_since = begun
        self.turns_at = begun + self._half
        return min(passed, 2)


class Objects(Generic[T]):
    """A uniform sample of at most `size` objects of the window."""

    __slots__ = ("_before", "_before_count", "_kept", "count", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: list[T] = []
        self._before: list[T] = []
        #: How many came in this half of the window.
        self.count = 0
        self._before_count = 0

    def add(self, one: T, chance: random.Random) -> None:
        """One more came."""
        at = slot(self.count, self.size, chance)
        self.count += 1
        if at == len(self._kept):
            self._kept.append(one)
        elif at >= 0:
            self._kept[at] = one

    def turn(self) -> None:
        """A half of the window has passed."""
        self._before, self._before_count = self._kept, self.count
        self._kept, self.count = [], 0

    @property
    def seen(self) -> int:
        """How many came in the window."""
        return self.count + self._before_count

    def sample(self, chance: random.Random) -> list[T]:
        """Those that are kept of both halves, as many as make a fair sample."""
        now, before = shares((self.count, self._before_count), self.size)
        return [
            kept[at]
            for kept, share in ((self._before, before), (self._kept, now))
            for at in spread(len(kept), share, chance)
        ]


class Pairs:
    """The same of pairs of numbers: 16 bytes each."""

    __slots__ = ("_before", "_before_count", "_kept", "count", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept = array("d")
        self._before = array("d")
        #: How many came in this half of the window.
        self.count = 0
        self._before_count = 0

    def add(self, first: float, second: float, chance: random.Random) -> None:
        """One more came."""
        at = slot(self.count, self.size, chance)
        self.count += 1
        kept = self._kept
        if at < 0:
            return
        if 2 * at == len(kept):
            kept.append(first)
            kept.append(second)
        else:
            kept[2 * at] = first
            kept[2 * at + 1] = second

    def turn(self) -> None:
        """A half of the window has passed."""
        self._before, self._before_count = self._kept, self.count
        self._kept, self.count = array("d"), 0

    @property
    def seen(self) -> int:
        """How many came in the window."""
        return self.count + self._before_count

    def sample(self, chance: random.Random) -> list[tuple[float, float]]:
        """As of `Objects`."""
        now, before = shares((self.count, self._before_count), self.size)
        return [
            (kept[2 * at], kept[2 * at + 1])
            for kept, share in ((self._before, before), (self._kept, now))
            for at in spread(len(kept) // 2, share, chance)
        ]
