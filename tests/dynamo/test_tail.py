"""The 95th percentile of recent reads, and the budget of hedges."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from dynamo.tail import (
    ASSUMED,
    HEDGES_SAVED_MAX,
    READS_PER_HEDGE,
    SAMPLES_MAX,
    SAMPLES_MIN,
    HedgeBudget,
    Tail,
)

SECONDS = st.floats(min_value=1e-5, max_value=60.0)


@given(st.lists(SECONDS, min_size=SAMPLES_MIN, max_size=SAMPLES_MAX - 1))
def test_the_estimate_is_the_percentile_or_at_most_an_eighth_above(taken: list[float]) -> None:
    tail = Tail()
    for seconds in taken:
        tail.add(seconds)
    seen = sorted(taken[: len(taken) // SAMPLES_MIN * SAMPLES_MIN])
    exact = seen[math.ceil(len(seen) * 0.95) - 1]
    assert exact <= tail.p95 <= exact * 1.125 + 2e-5


def test_too_few_reads_make_no_estimate() -> None:
    tail = Tail()
    for _ in range(SAMPLES_MIN - 1):
        tail.add(0.001)
    assert tail.p95 == ASSUMED
    tail.add(0.001)
    assert 0.001 <= tail.p95 <= 0.00113


def test_one_slow_read_in_a_hundred_moves_nothing_and_one_in_ten_does() -> None:
    rare, often = Tail(), Tail()
    for number in range(2000):
        rare.add(0.2 if number % 100 == 0 else 0.001)
        often.add(0.2 if number % 10 == 0 else 0.001)
    assert rare.p95 < 0.0012
    assert 0.2 <= often.p95 < 0.23


def test_what_was_is_forgotten() -> None:
    tail = Tail()
    for _ in range(5000):
        tail.add(0.1)
    for _ in range(5 * SAMPLES_MAX):
        tail.add(0.001)
    assert tail.p95 < 0.0012


def test_times_outside_the_buckets_count_at_their_ends() -> None:
    for seconds, low, high in ((0.0, 0.0, 1e-5), (1e-9, 0.0, 1e-5), (1e6, 100.0, 129.0)):
        tail = Tail()
        for _ in range(SAMPLES_MIN):
            tail.add(seconds)
        assert low <= tail.p95 <= high


@given(st.lists(st.booleans(), max_size=500))
def test_hedges_stay_within_their_share_and_what_was_saved(wants: list[bool]) -> None:
    budget = HedgeBudget()
    spent = 0
    for reads, wanted in enumerate(wants, 1):
        budget.earn()
        spent += wanted and budget.spend()
        assert spent <= reads / READS_PER_HEDGE + HEDGES_SAVED_MAX


def test_a_spent_budget_comes_back_and_saves_up_no_more_than_its_bound() -> None:
    budget = HedgeBudget()
    assert sum(budget.spend() for _ in range(100)) == HEDGES_SAVED_MAX
    budget.earn(READS_PER_HEDGE - 1)
    assert not budget.spend()
    budget.earn()
    assert budget.spend()
    budget.earn(1_000_000)
    assert sum(budget.spend() for _ in range(100)) == HEDGES_SAVED_MAX
