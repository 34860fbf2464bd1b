"""The hash tree of one partition's records: a fixed number of leaves, each the XOR of what stands for
the records that fall into it.

XOR makes an update cheap and order irrelevant: what stood for the old record goes out, what stands for
the new one comes in. Inner nodes are the XOR of their children and are worked out when they are asked
for. What is put in has to be a keyed hash of both key and record (`dynamo.leaf`), or clients could
choose keys that cancel out. After Merkle, and Dynamo 4.7. Knows nothing of records, keys or peers.
"""

from __future__ import annotations

from array import array
from typing import Final, Literal

#: Children of an inner node.
FANOUT: Final = 32
LEAVES_MAX: Final = 1024
#: What a leaf, and so any node, takes in bytes.
HASH_BYTES: Final = 8
#: Leaves of all trees of one class together, at most, if one node owned every partition.
_CLASS_LEAVES_MAX: Final = 1 << 20
#: How this machine lays out a number.
_ORDER: Final[Literal["little", "big"]] = (
    "little" if array("H", (1,)).tobytes() == b"\x01\x00" else "big"
)


def leaves_for(partitions: int) -> int:
    """How many leaves each tree has where there are so many partitions (a power of two): 1,024, fewer
    above 1,024 partitions, and never less than 16. The same on every node of a cluster."""
    return max(16, min(LEAVES_MAX, _CLASS_LEAVES_MAX // partitions))


class Tree:
    """One tree. All keys below `reached` are in it; None: all keys are, and it can be compared.

    `shadow`: another tree of the same partition that is being built to compare this one with, None most
    of the time: it takes the same changes.
    """

    __slots__ = ("leaves", "mask", "reached", "shadow")

    def __init__(self, count: int) -> None:
        """`count`: of leaves, a power of two. It has nothing, and waits to be built."""
        self.leaves = array("Q", bytes(HASH_BYTES * count))
        #: Of a position, the bits that name its leaf.
        self.mask = count - 1
        self.reached: bytes | None = b""
        self.shadow: Tree | None = None

    def __repr__(self) -> str:
        state = "ready" if self.reached is None else f"below {self.reached!r}"
        return f"Tree({len(self.leaves)} leaves, {state}, root={self.root():016x})"

    @property
    def is_ready(self) -> bool:
        """True if it says what is stored."""
        return self.reached is None

    def note(self, key: bytes, position: int, change: int) -> None:
        """A record was written: `change` is what stood for it before, XOR what stands for it now."""
        reached = self.reached
        if reached is None or key < reached:
            self.leaves[position & self.mask] ^= change
        if self.shadow is not None:
            self.shadow.note(key, position, change)

    def has(self, key: bytes) -> bool:
        """True if what is stored under this key is in it already."""
        return self.reached is None or key < self.reached

    def cast_shadow(self) -> Tree:
        """Another tree of the same shape, to be built beside this one; any before it is forgotten."""
        self.shadow = Tree(len(self.leaves))
        return self.shadow

    def settle(self) -> bool:
        """Its shadow, which is built, takes its place; False if they differ."""
        shadow, self.shadow = self.shadow, None
        assert shadow is not None
        assert shadow.is_ready
        same = self.leaves == shadow.leaves
        self.leaves = shadow.leaves
        return same

    def begin(self) -> None:
        """Forget everything: it is to be built anew."""
        self.leaves = array("Q", bytes(HASH_BYTES * len(self.leaves)))
        self.reached = b""
        self.shadow = None

    def root(self) -> int:
        """The XOR of all leaves."""
        return _xor(self.leaves)

    def children(self, level: int, parent: int) -> array[int]:
        """The nodes below node `parent` of `level`; level 0 is the root. The last level's children are
        leaves. Raises IndexError for a node that there is not."""
        widths = level_widths(len(self.leaves))
        if not 0 <= level < len(widths) - 1 or not 0 <= parent < widths[level]:
            raise IndexError(f"there is no node {parent} on level {level}")
        below = widths[level + 1] // widths[level]
        span = len(self.leaves) // widths[level + 1]
        first = parent * below * span
        leaves = self.leaves
        if span == 1:
            return leaves[first : first + below]
        return array(
            "Q",
            [_xor(leaves[at : at + span]) for at in range(first, first + below * span, span)],
        )


def level_widths(leaves: int) -> tuple[int, ...]:
    """How many nodes each level has, from the root down to the leaves."""
    widths = [leaves]
    while widths[-1] > 1:
        widths.append(max(1, widths[-1] // FANOUT))
    return tuple(reversed(widths))


def _xor(values: array[int]) -> int:
    """Of a power of two of values: halves on halves, faster than one after the other."""
    count = len(values)
    folded = int.from_bytes(values.tobytes(), _ORDER)
    while count > 1:
        count //= 2
        bits = 8 * HASH_BYTES * count
        folded = (folded >> bits) ^ (folded & ((1 << bits) - 1))
    return folded
