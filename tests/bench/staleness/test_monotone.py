"""Pool-adjacent-violators against the formula of minimax means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.staleness.monotone import pool

SHARES = st.lists(st.tuples(st.integers(0, 10), st.integers(1, 10)), min_size=1, max_size=12)


def dumb(values: list[float], weights: list[float]) -> list[float]:
    """Of each place the greatest, over all begins before it, of the least mean up to an end after it."""

    def mean(begin: int, end: int) -> float:
        part = range(begin, end + 1)
        return sum(values[i] * weights[i] for i in part) / sum(weights[i] for i in part)

    places = range(len(values))
    return [
        max(min(mean(begin, end) for end in places[place:]) for begin in range(place + 1))
        for place in places
    ]


@given(SHARES)
def test_it_is_the_isotonic_regression(pairs: list[tuple[int, int]]) -> None:
    values, weights = [float(v) for v, _ in pairs], [float(w) for _, w in pairs]
    assert pool(values, weights) == pytest.approx(dumb(values, weights))


def test_what_rises_stays_as_it_is() -> None:
    assert pool([0.1, 0.2, 0.9], [1, 5, 1]) == pytest.approx([0.1, 0.2, 0.9])


def test_a_weight_of_zero_takes_what_is_beside_it() -> None:
    assert pool([0.9, 0.2, 0.1, 0.8], [0, 1, 0, 1]) == pytest.approx([0.2, 0.2, 0.2, 0.8])
    assert pool([], []) == []
    assert pool([0.5], [0]) == [0.0]
