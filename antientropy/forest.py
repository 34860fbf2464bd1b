"""The hash trees of one node, by the name of their partition (an opaque byte string).

Knows nothing of records, nor of who owns what: it is told which trees there are to be, and says which
are to be built.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Mapping

from antientropy.merkle import Tree


class Forest:
    """Trees of one shape. A new one has nothing and waits to be built, unless it was kept."""

    def __init__(self) -> None:
        self.leaves = 0
        #: By name; the same dict all along.
        self.trees: dict[bytes, Tree] = {}
        #: Names of trees that are to be built; those that came first are first.
        self.unready: dict[bytes, None] = {}
        #: How often all were doubted.
        self.upheavals = 0
        #: Called when trees are to be built.
        self.on_doubt: Callable[[], None] = _nothing
        #: Leaves of trees that were kept and are not there yet, by name.
        self._kept: dict[bytes, array[int]] = {}

    def __repr__(self) -> str:
        ready = sum(tree.is_ready for tree in self.trees.values())
        return f"Forest({ready} of {len(self.trees)} trees ready, {self.leaves} leaves each)"

    def take_over(self, kept: Mapping[bytes, array[int]]) -> None:
        """These are the leaves of trees that say what is stored now. Those of them that there are to be
        will be ready at once."""
        self._kept = dict(kept)

    def adopt(self, names: Collection[bytes], leaves: int) -> None:
        """There are to be these trees, of so many leaves each; those that were there stay."""
        if leaves != self.leaves:
            self.trees.clear()
            self.unready.clear()
            self.leaves = leaves
        wanted = frozenset(names)
        for name in [name for name in self.trees if name not in wanted]:
            del self.trees[name]
            self.unready.pop(name, None)
        for name in names:
            if name not in self.trees:
                self.trees[name] = tree = Tree(leaves)
                kept = self._kept.pop(name, None)
                if kept is not None and len(kept) == leaves:
                    tree.leaves, tree.reached = kept, None
                else:
                    self.unready[name] = None
        # What is kept says what was stored when this began, and nothing of what was written since.
        self._kept.clear()
        if self.unready:
            self.on_doubt()

    def doubt(self, name: bytes) -> None:
        """What is stored there is not known for sure: the tree is to be built anew."""
        self._kept.pop(name, None)
        tree = self.trees.get(name)
        if tree is not None:
            tree.begin()
            self.unready[name] = None
            self.on_doubt()

    def doubt_key(self, name: bytes, key: bytes) -> None:
        """What is stored under this key is not known for sure. A tree that has not got there yet will
        read it."""
        tree = self.trees.get(name)
        if tree is None or tree.has(key):
            self.doubt(name)

    def doubt_all(self) -> None:
        """As `doubt`, of every tree."""
        self._kept.clear()
        for tree in self.trees.values():
            tree.begin()
        self.unready.update(dict.fromkeys(self.trees))
        self.upheavals += 1
        self.on_doubt()


def _nothing() -> None:
    """What is called until somebody builds trees."""
