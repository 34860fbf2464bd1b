"""The retry budget: a tenth of what clients ask, beside a small reserve."""

from __future__ import annotations

import pytest

from dynamo.retry_budget import RESERVE, RetryBudget


def test_a_quiet_node_has_its_reserve() -> None:
    budget = RetryBudget()
    assert [budget.spend() for _ in range(int(RESERVE) + 1)] == [True] * int(RESERVE) + [False]


def test_in_the_long_run_a_tenth_of_the_requests_is_tried_again() -> None:
    budget = RetryBudget()
    made = 0
    for _ in range(10_000):
        budget.earn()
        made += budget.spend()
    assert 1000 - 1 <= made <= 1000 + RESERVE


def test_what_is_not_spent_is_not_kept_beyond_the_reserve() -> None:
    budget = RetryBudget()
    for _ in range(10_000):
        budget.earn()
    assert repr(budget) == "RetryBudget(10.0 of 10)"


@pytest.mark.parametrize(("share", "reserve"), [(-0.1, 10.0), (0.1, 0.5)])
def test_a_budget_that_allows_nothing_is_refused(share: float, reserve: float) -> None:
    with pytest.raises(ValueError, match="share"):
        RetryBudget(share=share, reserve=reserve)
