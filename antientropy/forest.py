"""The hash trees of one node, by the name of their partition (an opaque byte string).

Knows nothing of records, nor of who owns what: it is told which trees there are to be.
"""

from __future__ import annotations

from collections.abc import Collection

from antientropy.merkle import Tree


class Forest:
    """Trees of one shape. A new one has nothing, and waits to be built."""

    def __init__(self) -> None:
        self.leaves = 0
        #: By name; the same dict all along.
        self.trees: dict[bytes, Tree] = {}

    def __repr__(self) -> str:
        ready = sum(tree.is_ready for tree in self.trees.values())
        return f"Forest({ready} of {len(self.trees)} trees ready, {self.leaves} leaves each)"

    def adopt(self, names: Collection[bytes], leaves: int) -> None:
        """There are to be these trees, of so many leaves each; those that were there stay."""
        if leaves != self.leaves:
            self.trees.clear()
            self.leaves = leaves
        for name in [name for name in self.trees if name not in names]:
            del self.trees[name]
        for name in names:
            if name not in self.trees:
                self.trees[name] = Tree(leaves)

    def doubt(self, name: bytes) -> None:
        """What is stored there is not known for sure: the tree is to be built anew."""
        tree = self.trees.get(name)
        if tree is not None:
            tree.begin()

    def doubt_all(self) -> None:
        """As `doubt`, of every tree."""
        for tree in self.trees.values():
            tree.begin()
