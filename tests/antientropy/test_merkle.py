"""A tree beside a dumb one: what it says when it is ready is what is stored, whatever came between."""

from __future__ import annotations

from functools import reduce
from operator import xor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antientropy.merkle import FANOUT, LEAVES_MAX, Tree, leaves_for, level_widths

LEAVES = 16
PAGE = 3
ELEMENTS = st.integers(1, (1 << 64) - 1)


def position_of(key: bytes) -> int:
    """Several keys fall into one leaf."""
    return key[0] * 7919


class Dumb:
    """Keys and what stands for each."""

    def __init__(self) -> None:
        self.stored: dict[bytes, int] = {}

    def leaves(self) -> list[int]:
        leaves = [0] * LEAVES
        for key, element in self.stored.items():
            leaves[position_of(key) % LEAVES] ^= element
        return leaves

    def write(self, key: bytes, element: int) -> int:
        """`element`: 0 to remove it. Returns the change."""
        before = self.stored.pop(key, 0)
        if element:
            self.stored[key] = element
        return before ^ element

    def page(self, tree: Tree) -> None:
        """Put the next page into a tree that is being built."""
        assert tree.reached is not None
        keys = sorted(key for key in self.stored if key >= tree.reached)[:PAGE]
        for key in keys:
            tree.leaves[position_of(key) & tree.mask] ^= self.stored[key]
        tree.reached = keys[-1] + b"\0" if len(keys) == PAGE else None


KEYS = st.integers(0, 30).map(lambda number: bytes((number,)))
STEPS = st.one_of(
    st.tuples(st.just("write"), KEYS, st.one_of(st.just(0), ELEMENTS)),
    st.tuples(st.sampled_from(("page", "page", "page", "shadow", "settle")), KEYS, ELEMENTS),
    st.tuples(st.sampled_from(("doubt", "lie")), KEYS, ELEMENTS),
)


@given(st.lists(STEPS, max_size=80))
def test_a_ready_tree_says_what_is_stored_unless_somebody_lied(
    steps: list[tuple[str, bytes, int]],
) -> None:
    dumb, tree = Dumb(), Tree(LEAVES)
    lied = False
    for what, key, element in steps:
        if what == "write":
            tree.note(key, position_of(key), dumb.write(key, element))
        elif what == "page" and not tree.is_ready:
            dumb.page(tree)
            lied = False if tree.reached is None else lied
        elif what == "page" and tree.shadow is not None and not tree.shadow.is_ready:
            dumb.page(tree.shadow)
        elif what == "shadow" and tree.is_ready:
            tree.cast_shadow()
        elif what == "settle" and tree.shadow is not None and tree.shadow.is_ready:
            assert tree.settle() is not lied
            lied = False
        elif what == "doubt":
            tree.begin()
            lied = False
        elif what == "lie" and tree.is_ready and not lied:
            tree.leaves[0] ^= element
            lied = True
        if tree.is_ready and not lied:
            assert tree.leaves.tolist() == dumb.leaves()
        assert tree.shadow is None or tree.is_ready


@given(st.lists(ELEMENTS, min_size=LEAVES_MAX, max_size=LEAVES_MAX))
def test_each_node_is_the_xor_of_its_children(leaves: list[int]) -> None:
    tree = Tree(LEAVES_MAX)
    tree.leaves[:] = type(tree.leaves)("Q", leaves)
    widths = level_widths(LEAVES_MAX)
    assert widths == (1, FANOUT, LEAVES_MAX)
    above = [tree.root()]
    for level in range(len(widths) - 1):
        below = [tree.children(level, parent).tolist() for parent in range(widths[level])]
        assert [reduce(xor, children) for children in below] == above
        above = [node for children in below for node in children]
    assert above == leaves


@pytest.mark.parametrize(("level", "parent"), [(-1, 0), (2, 0), (0, 1), (1, FANOUT), (0, -1)])
def test_there_is_no_node_beyond_the_levels(level: int, parent: int) -> None:
    with pytest.raises(IndexError):
        Tree(LEAVES_MAX).children(level, parent)


@pytest.mark.parametrize(
    ("partitions", "leaves"), [(1, 1024), (256, 1024), (1024, 1024), (4096, 256), (1 << 20, 16)]
)
def test_where_partitions_are_many_leaves_are_few(partitions: int, leaves: int) -> None:
    assert leaves_for(partitions) == leaves
    assert level_widths(leaves)[0] == 1


def test_a_doubt_of_a_key_that_is_not_in_it_yet_changes_nothing() -> None:
    tree = Tree(LEAVES)
    tree.reached = b"m"
    assert tree.has(b"l")
    assert not tree.has(b"m")
    tree.reached = None
    assert tree.has(b"z")
