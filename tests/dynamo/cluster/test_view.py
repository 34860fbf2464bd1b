"""Views: a join, whatever the order in which rumours come; and what is too much to believe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo.cluster.view import JUMP_MAX, NUMBER_MAX, Entry, View, join

NAMES = ("a", "b", "c")
ENTRIES = st.builds(
    Entry,
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([None, "", "a:1", "a:2"]),
)
VIEWS = st.lists(ENTRIES, min_size=3, max_size=3).map(lambda entries: View(NAMES, entries))


def merged(*views: View) -> View:
    whole = View(NAMES)
    for view in views:
        whole.merge(view)
    return whole


@given(ENTRIES, ENTRIES, ENTRIES)
def test_a_join_of_entries_has_no_order_and_no_count(a: Entry, b: Entry, c: Entry) -> None:
    assert join(a, b) == join(b, a)
    assert join(a, join(b, c)) == join(join(a, b), c)
    assert join(a, a) == a
    assert join(a, join(a, b)) == join(a, b)


@given(VIEWS, VIEWS, VIEWS)
def test_a_merge_of_views_has_no_order_and_no_count(a: View, b: View, c: View) -> None:
    assert merged(a, b, c) == merged(c, a, b) == merged(b, merged(c, a), b)


@given(VIEWS, VIEWS)
def test_beats_that_are_taken_at_once_are_those_that_learning_one_by_one_takes(
    known: View, other: View
) -> None:
    quick, slow = known.copy(), known.copy()
    told = [
        (index, entry.start, entry.heartbeat, entry.address, False)
        for index, entry in enumerate(other.entries())
    ]
    heard, rest = quick.take_beats(told, own=-1)
    for index, start, heartbeat, address, _ in rest:
        quick.learn(index, Entry(start, heartbeat, address))
    slow.merge(other)
    assert quick == slow
    assert all(quick.heartbeats[index] > known.heartbeats[index] for index in heard)


@pytest.mark.parametrize(
    ("told", "judged"),
    [
        (Entry(5, 100, None), "known"),
        (Entry(4, 10**6, "x:1"), "known"),
        (Entry(5, 101, None), "news"),
        (Entry(5, 1, "x:1"), "news"),
        (Entry(6, 0, None), "news"),
        (Entry(5, 100 + JUMP_MAX, None), "news"),
        (Entry(5, 101 + JUMP_MAX, None), "absurd"),
        (Entry(5, 10**12, None), "absurd"),
        (Entry(6, 10**12, None), "absurd"),
        (Entry(5 + JUMP_MAX, 1, None), "news"),
        (Entry(6 + JUMP_MAX, 1, None), "absurd"),
        (Entry(NUMBER_MAX + 1, 1, None), "absurd"),
    ],
)
def test_what_cannot_be_is_not_believed(told: Entry, judged: str) -> None:
    view = View(NAMES, [Entry(5, 100, None)])
    before = view.copy()
    assert view.learn(0, told) == judged
    assert (view == before) == (judged != "news")


def test_a_new_start_takes_the_place_of_the_last_with_its_address() -> None:
    view = View(NAMES, [Entry(5, 100, "old:1")])
    view.learn(0, Entry(6, 1, None))
    assert view.entry(0) == Entry(6, 1, None)
    view.learn(0, Entry(6, 0, "new:1"))
    assert view.entry(0) == Entry(6, 1, "new:1")


def test_a_view_is_printed_in_one_line() -> None:
    assert repr(View(NAMES, [Entry(3, 17, ""), Entry(1, 4, "h:1")])) == "View(a=3.17 b=1.4@h:1 c=?)"
    assert repr(View(["x"] * 1000)).endswith("x=? and 984 more)")
