"""The trees of a node: which there are, which are to be built, which begin with what was kept."""

from __future__ import annotations

from array import array

from antientropy.forest import Forest

LEAVES = 16
KEPT = array("Q", range(LEAVES))


def ready(forest: Forest) -> list[bytes]:
    return [name for name, tree in forest.trees.items() if tree.is_ready]


def test_a_new_tree_waits_to_be_built() -> None:
    forest = Forest()
    told: list[int] = []
    forest.on_doubt = lambda: told.append(1)
    forest.adopt((b"a", b"b"), LEAVES)
    assert (list(forest.unready), ready(forest), told) == ([b"a", b"b"], [], [1])


def test_what_was_kept_is_there_at_once_and_only_then() -> None:
    forest = Forest()
    forest.take_over({b"a": KEPT, b"z": KEPT})
    forest.adopt((b"a", b"b"), LEAVES)
    assert ready(forest) == [b"a"]
    assert forest.trees[b"a"].leaves == KEPT
    forest.adopt((b"a", b"b", b"z"), LEAVES)
    assert ready(forest) == [b"a"]


def test_what_was_kept_with_other_leaves_is_not_used() -> None:
    forest = Forest()
    forest.take_over({b"a": KEPT})
    forest.adopt((b"a",), 2 * LEAVES)
    assert list(forest.unready) == [b"a"]


def test_what_is_doubted_before_it_is_there_is_not_used() -> None:
    one, all_ = Forest(), Forest()
    for forest in (one, all_):
        forest.take_over({b"a": KEPT, b"b": KEPT})
    one.doubt(b"a")
    all_.doubt_all()
    for forest in (one, all_):
        forest.adopt((b"a", b"b"), LEAVES)
    assert (ready(one), ready(all_)) == ([b"b"], [])


def test_trees_that_stay_keep_what_they_have() -> None:
    forest = Forest()
    forest.take_over({b"a": KEPT, b"b": KEPT})
    forest.adopt((b"a", b"b"), LEAVES)
    forest.adopt((b"b", b"c"), LEAVES)
    assert (list(forest.trees), ready(forest), list(forest.unready)) == (
        [b"b", b"c"],
        [b"b"],
        [b"c"],
    )


def test_a_doubted_key_dooms_a_tree_that_has_it_and_no_other() -> None:
    forest = Forest()
    forest.adopt((b"a", b"b"), LEAVES)
    forest.trees[b"a"].reached, forest.trees[b"b"].reached = b"ak", None
    forest.unready.clear()
    forest.doubt_key(b"a", b"am")
    assert forest.trees[b"a"].reached == b"ak"
    forest.doubt_key(b"a", b"aa")
    forest.doubt_key(b"b", b"bz")
    forest.doubt_key(b"nobody", b"nobody's")
    assert list(forest.unready) == [b"a", b"b"]
    assert forest.trees[b"a"].reached == b""
