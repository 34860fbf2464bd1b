"""The walk and the paired pages against a brute-force difference of two dictionaries."""

from __future__ import annotations

from array import array
from hashlib import blake2b
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antientropy.exchange import (
    ABSENT,
    MINE,
    THEIRS,
    LeafNotes,
    PairedPages,
    Side,
    Walk,
    from_bits,
    from_hashes,
    to_bits,
    to_hashes,
)
from antientropy.merkle import Tree

Store = dict[bytes, bytes]


def leaf_of(key: bytes, leaves: int) -> int:
    return int.from_bytes(blake2b(key, digest_size=4).digest()) & (leaves - 1)


def tree_of(store: Store, leaves: int) -> Tree:
    tree = Tree(leaves)
    tree.reached = None
    for key, element in store.items():
        tree.leaves[leaf_of(key, leaves)] ^= int.from_bytes(element)
    return tree


def walk_down(walk: Walk, mine: Tree, theirs: Tree) -> int:
    """Returns how many bytes of hashes the peer has sent."""
    size = 0
    while walk.question is not None:
        level, parents = walk.question
        told = [
            b"".join(to_hashes(tree.children(level, parent)) for parent in parents)
            for tree in (mine, theirs)
        ]
        size += len(told[1])
        walk.answer(*told)
    return size


def pages_of(
    store: Store, wanted: set[int], leaves: int, after: bytes, size: int
) -> tuple[list[tuple[bytes, bytes]], bool, bytes]:
    """As a node answers: it reads `size` records and gives those that are wanted."""
    keys = sorted(key for key in store if key > after)
    read = keys[:size]
    entries = [(key, store[key]) for key in read if leaf_of(key, leaves) in wanted]
    more = len(keys) > size
    return entries, more, read[-1] if more else b""


def compare(mine: Store, theirs: Store, leaves: int, sizes: tuple[int, int]) -> dict[bytes, object]:
    walk = Walk(leaves)
    walk_down(walk, tree_of(mine, leaves), tree_of(theirs, leaves))
    wanted = set(walk.differing)
    pages = PairedPages()
    found: dict[bytes, object] = {}
    held_most = 0
    while wanted and (turn := pages.wants()) is not None:
        side, after = turn
        store, size = (mine, sizes[0]) if side is MINE else (theirs, sizes[1])
        entries, more, last = pages_of(store, wanted, leaves, after, size)
        pages.feed(side, entries, more=more, last=last, same=frozenset())
        found.update({one.key: (one.mine, one.theirs) for one in pages.take()})
        held_most = max(held_most, sum(len(p.entries) for p in pages._sides.values()))
    assert held_most <= max(sizes)
    return found


keys = st.binary(min_size=1, max_size=3)
stores = st.dictionaries(keys, st.integers(0, 3), max_size=60).map(
    # What stands for a record is hashed with its key, or those of two keys could cancel out.
    lambda store: {
        key: blake2b(b"%b %d" % (key, version), digest_size=8).digest()
        for key, version in store.items()
    }
)


@settings(max_examples=200, deadline=None)
@given(
    stores,
    stores,
    st.sampled_from((16, 32, 512, 1024)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_exactly_the_keys_that_differ_are_found(
    mine: Store, theirs: Store, leaves: int, sizes: tuple[int, int]
) -> None:
    expected = {
        key: (mine.get(key, ABSENT), theirs.get(key, ABSENT))
        for key in {*mine, *theirs}
        if mine.get(key) != theirs.get(key)
    }
    assert compare(mine, theirs, leaves, sizes) == expected


@pytest.mark.parametrize("count", [0, 1, 10, 300])
def test_a_walk_asks_for_few_hashes_where_little_differs(count: int) -> None:
    random = Random(count)
    mine = {b"%d" % n: random.randbytes(8) for n in range(5000)}
    theirs = {**mine, **{b"new%d" % n: random.randbytes(8) for n in range(count)}}
    walk = Walk(1024)
    size = walk_down(walk, tree_of(mine, 1024), tree_of(theirs, 1024))
    assert size <= 256 + 256 * count
    assert set(walk.differing) == {leaf_of(b"new%d" % n, 1024) for n in range(count)}


def test_a_second_look_asks_for_the_wanted_leaves_alone() -> None:
    mine, theirs = tree_of({}, 1024), tree_of({}, 1024)
    for leaf in (3, 40, 41, 1000):
        theirs.leaves[leaf] = 7
    walk = Walk(1024, (40, 900))
    assert walk.question == (1, (1, 28))
    walk_down(walk, mine, theirs)
    assert walk.differing == {40: (0, 7)}
    assert Walk(1024, ()).question is None


@pytest.mark.parametrize(
    ("mine", "theirs"), [(b"", b""), (bytes(128), bytes(120)), (bytes(128), bytes(136))]
)
def test_answers_of_another_length_are_no_answers(mine: bytes, theirs: bytes) -> None:
    with pytest.raises(ValueError, match="hashes"):
        Walk(16).answer(mine, theirs)


@pytest.mark.parametrize(
    ("entries", "more", "last"),
    [
        ([(b"b", b""), (b"a", b"")], False, b""),
        ([(b"a", b""), (b"a", b"")], False, b""),
        ([(b"a", b"")], True, b""),
        ([(b"c", b"")], True, b"b"),
        ([], True, b""),
    ],
)
def test_a_page_that_does_not_go_on_is_none(
    entries: list[tuple[bytes, bytes]], more: bool, last: bytes
) -> None:
    with pytest.raises(ValueError, match=r"order|go on"):
        PairedPages().feed(THEIRS, entries, more=more, last=last, same=frozenset())


def test_a_leaf_is_unchanged_if_only_repairs_have_changed_it() -> None:
    notes = LeafNotes(1.0, {3: (10, 20), 9: (30, 40)})
    assert notes.leaves == (3, 9)
    assert (9 in notes, 4 in notes, 10 in notes) == (True, False, False)
    assert notes.unchanged(MINE, to_hashes((10, 31))) == {3}
    notes.repaired(MINE, 9, 30 ^ 31)
    notes.repaired(THEIRS, 3, 5)
    notes.repaired(THEIRS, 4, 5)
    assert notes.unchanged(MINE, to_hashes((10, 31))) == {3, 9}
    assert notes.unchanged(THEIRS, to_hashes((20, 40))) == {9}
    assert notes.unchanged(THEIRS, to_hashes((20 ^ 5, 40))) == {3, 9}
    notes.keep((9,))
    assert len(notes) == 1
    with pytest.raises(ValueError, match="hashes"):
        notes.unchanged(MINE, to_hashes((1, 2)))


@given(st.lists(st.booleans(), max_size=100))
def test_bits_are_read_as_they_were_written(flags: list[bool]) -> None:
    assert from_bits(to_bits(flags), len(flags)) == flags
    with pytest.raises(ValueError, match="bits"):
        from_bits(to_bits(flags) + b"\0", len(flags))


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=40))
def test_hashes_are_read_as_they_were_written(values: list[int]) -> None:
    assert from_hashes(to_hashes(values), len(values)) == tuple(values)


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=64, max_size=64))
def test_a_root_is_the_xor_of_all_leaves(values: list[int]) -> None:
    tree = Tree(64)
    tree.leaves = array("Q", values)
    total = 0
    for value in values:
        total ^= value
    assert tree.root() == total


def test_a_side_says_what_it_is() -> None:
    assert [side.value for side in Side] == ["mine", "theirs"]
    assert "leaves differ" in repr(Walk(16))
    assert "0 leaves" in repr(LeafNotes(0.0, {}))
