"""How two nodes find the keys of a partition in which they differ, step by step: a walk down their hash
trees to the leaves, then the keys of those leaves, a page of each side at a time.

Says what to ask next and takes what was answered; the asking is others'. Nothing here holds more of a
partition than its differing leaves and a page of keys of each side. Keys, and what stands for them, are
opaque byte strings. Knows nothing of records, vectors, peers or time.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import Enum
from struct import pack, unpack
from typing import Final, NamedTuple

from antientropy.merkle import HASH_BYTES, level_widths

#: What stands for a key that there is not.
ABSENT: Final = bytes(HASH_BYTES)


class Side(Enum):
    """Whose tree, or whose keys."""

    MINE = "mine"
    THEIRS = "theirs"


MINE, THEIRS = Side.MINE, Side.THEIRS


def to_bits(flags: Sequence[bool]) -> bytes:
    """A bit for each flag; the lowest bit of the first byte is the first."""
    bits = bytearray((len(flags) + 7) // 8)
    for at, flag in enumerate(flags):
        if flag:
            bits[at >> 3] |= 1 << (at & 7)
    return bytes(bits)


def from_bits(bits: bytes, count: int) -> list[bool]:
    """The flags of `to_bits`. Raises ValueError unless it is so many."""
    if len(bits) != (count + 7) // 8:
        raise ValueError(f"{len(bits)} bytes are not {count} bits")
    return [bool(bits[at >> 3] >> (at & 7) & 1) for at in range(count)]


def to_hashes(values: Sequence[int]) -> bytes:
    """8 bytes each, big-endian."""
    return pack(f">{len(values)}Q", *values)


def from_hashes(data: bytes, count: int) -> tuple[int, ...]:
    """The values of `to_hashes`. Raises ValueError unless it is so many."""
    if len(data) != count * HASH_BYTES:
        raise ValueError(f"{len(data)} bytes are not {count} hashes")
    return unpack(f">{count}Q", data)


class Walk:
    """Down two trees of one shape, level by level, to the leaves that differ.

    As long as `question` is not None, ask both sides for the children of those nodes, and `answer`.
    """

    def __init__(self, leaves: int, wanted: Collection[int] | None = None) -> None:
        """`leaves`: of each tree. `wanted`: look at these leaves only, straight away."""
        self._widths = level_widths(leaves)
        self._wanted = None if wanted is None else frozenset(wanted)
        #: Leaves that differ: their hashes here and there, in order.
        self.differing: dict[int, tuple[int, int]] = {}
        #: (level, its nodes) whose children are to be asked for; None at the end.
        self.question: tuple[int, tuple[int, ...]] | None = (0, (0,))
        if wanted is not None:
            level = len(self._widths) - 2
            below = self._widths[-1] // self._widths[-2]
            parents = tuple(sorted({leaf // below for leaf in wanted}))
            self.question = (level, parents) if parents else None

    def __repr__(self) -> str:
        return f"Walk(asks {self.question}, {len(self.differing)} leaves differ)"

    def answer(self, mine: bytes, theirs: bytes) -> None:
        """The children that were asked for, as `to_hashes` writes them. Raises ValueError for anything
        else."""
        assert self.question is not None
        level, parents = self.question
        below = self._widths[level + 1] // self._widths[level]
        ours = from_hashes(mine, len(parents) * below)
        others = from_hashes(theirs, len(parents) * below)
        differing = {}
        for at, (own, other) in enumerate(zip(ours, others, strict=True)):
            if own != other:
                differing[parents[at // below] * below + at % below] = (own, other)
        if level + 2 < len(self._widths):
            self.question = (level + 1, tuple(differing)) if differing else None
            return
        self.question = None
        wanted = self._wanted
        self.differing = {
            leaf: pair for leaf, pair in differing.items() if wanted is None or leaf in wanted
        }


class LeafNotes:
    """What some leaves of a tree were at their first look, here and there, less what is known to have
    been repaired since. A leaf that is as noted has all the keys, as they were then, that no repair has
    changed. 20 bytes a leaf."""

    __slots__ = ("_hashes", "_leaves", "at")

    def __init__(self, at: float, differing: Mapping[int, tuple[int, int]]) -> None:
        """`at`: when the look was (monotonic seconds). `differing`: as of `Walk`."""
        self.at = at
        self._leaves = array("I", differing)
        self._hashes = {
            MINE: array("Q", [mine for mine, _ in differing.values()]),
            THEIRS: array("Q", [theirs for _, theirs in differing.values()]),
        }

    def __len__(self) -> int:
        return len(self._leaves)

    def __contains__(self, leaf: int) -> bool:
        return self._find(leaf) is not None

    def __repr__(self) -> str:
        return f"LeafNotes({len(self)} leaves at {self.at:.3f})"

    @property
    def leaves(self) -> tuple[int, ...]:
        """In order."""
        return tuple(self._leaves)

    def keep(self, leaves: Collection[int]) -> None:
        """The others do not differ any more."""
        kept = [at for at, leaf in enumerate(self._leaves) if leaf in leaves]
        self._leaves = array("I", [self._leaves[at] for at in kept])
        for side, hashes in self._hashes.items():
            self._hashes[side] = array("Q", [hashes[at] for at in kept])

    def repaired(self, side: Side, leaf: int, change: int) -> None:
        """What stood for a key of this leaf, XOR what stands for it now, on that side."""
        at = self._find(leaf)
        if at is not None:
            self._hashes[side][at] ^= change

    def unchanged(self, side: Side, hashes: bytes) -> frozenset[int]:
        """The leaves that are on that side as they were. `hashes`: of all of `leaves`, now. Raises
        ValueError unless it is so many."""
        now = from_hashes(hashes, len(self))
        noted = self._hashes[side]
        return frozenset(
            leaf
            for leaf, before, value in zip(self._leaves, noted, now, strict=True)
            if before == value
        )

    def _find(self, leaf: int) -> int | None:
        at = bisect_left(self._leaves, leaf)
        return at if at < len(self._leaves) and self._leaves[at] == leaf else None


class Differing(NamedTuple):
    """A key, and what stands for it here and there, ABSENT for nothing. `same_mine`, `same_theirs`: the
    leaves of that side which were as noted when it told of this key."""

    key: bytes
    mine: bytes
    theirs: bytes
    same_mine: frozenset[int]
    same_theirs: frozenset[int]


class _Pages:
    """The keys of one side, as far as they were told and not compared yet."""

    __slots__ = ("after", "ended", "entries", "same")

    def __init__(self) -> None:
        self.entries: deque[tuple[bytes, bytes]] = deque()
        #: All keys up to here are told, and no others.
        self.after = b""
        self.ended = False
        self.same: frozenset[int] = frozenset()


class PairedPages:
    """The keys of some leaves on both sides, in order, compared a page at a time."""

    def __init__(self) -> None:
        self._sides = {MINE: _Pages(), THEIRS: _Pages()}
        #: Keys that were compared so far.
        self.compared = 0

    def __repr__(self) -> str:
        mine, theirs = self._sides.values()
        return f"PairedPages({mine.after!r}, {theirs.after!r})"

    def wants(self) -> tuple[Side, bytes] | None:
        """(whose next page is needed, the key that it begins after); None at the end. Never a page of a
        side that keys of are still held."""
        open_sides = [(side, pages) for side, pages in self._sides.items() if not pages.ended]
        if not open_sides:
            return None
        side, pages = min(open_sides, key=lambda one: one[1].after)
        return side, pages.after

    def feed(
        self,
        side: Side,
        entries: Sequence[tuple[bytes, bytes]],
        *,
        more: bool,
        last: bytes,
        same: frozenset[int],
    ) -> None:
        """The next page of that side: keys with what stands for them; `more` to come after `last`.
        `same`: leaves that are as noted. Raises ValueError for what cannot be the next page."""
        pages = self._sides[side]
        before = pages.after
        for key, _ in entries:
            if key <= before:
                raise ValueError("keys are not in order")
            before = key
        if more and (last < before or last <= pages.after):
            raise ValueError("a page does not go on")
        pages.entries.extend(entries)
        pages.same = same
        pages.after = last if more else before
        pages.ended = not more

    def take(self) -> list[Differing]:
        """The keys that differ, as far as both sides have told; they are not given again."""
        mine, theirs = self._sides.values()
        found = []
        for key, own, other in self._told(mine, theirs):
            if own != other:
                found.append(Differing(key, own, other, mine.same, theirs.same))
        return found

    def _told(self, mine: _Pages, theirs: _Pages) -> Iterator[tuple[bytes, bytes, bytes]]:
        while True:
            own = mine.entries[0] if mine.entries else None
            other = theirs.entries[0] if theirs.entries else None
            if own is None and other is None:
                return
            key = min(one[0] for one in (own, other) if one is not None)
            if not all(pages.ended or key <= pages.after for pages in (mine, theirs)):
                return
            held = [ABSENT, ABSENT]
            if own is not None and own[0] == key:
                held[0] = mine.entries.popleft()[1]
            if other is not None and other[0] == key:
                held[1] = theirs.entries.popleft()[1]
            self.compared += 1
            yield key, held[0], held[1]
