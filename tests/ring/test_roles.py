"""Who goes first is shared out evenly among the owners."""

from __future__ import annotations

from collections import Counter
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from ring.roles import choose_leaders


@st.composite
def _rows(draw: st.DrawFn) -> list[list[int]]:
    width = draw(st.integers(1, 4))
    row = st.lists(st.integers(0, 7), min_size=width, max_size=width, unique=True)
    return draw(st.lists(row, min_size=1, max_size=60))


@given(_rows())
def test_each_node_leads_its_part_of_what_it_owns(rows: list[list[int]]) -> None:
    leaders = choose_leaders(rows, 8)
    assert all(leader in row for leader, row in zip(leaders, rows, strict=True))
    owned = Counter(node for row in rows for node in row)
    led = Counter(leaders)
    width = len(rows[0])
    for node, count in owned.items():
        assert count // width <= led[node] <= ceil(count / width)


@given(_rows())
def test_a_fair_choice_is_left_as_it_is(rows: list[list[int]]) -> None:
    leaders = choose_leaders(rows, 8)
    sorted_rows = [
        [leader, *[node for node in row if node != leader]]
        for leader, row in zip(leaders, rows, strict=True)
    ]
    assert choose_leaders(sorted_rows, 8) == leaders
