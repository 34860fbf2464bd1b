"""Samples of what came lately: fair, bounded, and of the window alone."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from dynamo.reservoir import Objects, Pairs, Window, shares


def test_all_are_as_likely_to_be_kept() -> None:
    chance = random.Random(7)
    kept: Counter[int] = Counter()
    for _ in range(4000):
        sample: Objects[int] = Objects(5)
        for one in range(20):
            sample.add(one, chance)
        kept.update(sample.sample(chance))
    # Of 4,000 times 5 of 20: 1,000 each, with a standard deviation of 27.
    assert sum(kept.values()) == 20_000
    assert all(abs(count - 1000) < 130 for count in kept.values())


def test_both_halves_of_the_window_are_sampled_as_they_came() -> None:
    chance = random.Random(7)
    ages: Counter[str] = Counter()
    for _ in range(500):
        sample: Objects[str] = Objects(8)
        for _ in range(30):
            sample.add("before", chance)
        sample.turn()
        for _ in range(10):
            sample.add("now", chance)
        ages.update(sample.sample(chance))
    assert ages["before"] == pytest.approx(3 * ages["now"], rel=0.01)


def test_what_is_older_than_the_window_is_gone() -> None:
    chance = random.Random(7)
    sample = Pairs(4)
    for number in range(10):
        sample.add(number, -number, chance)
    sample.turn()
    sample.add(100, -100, chance)
    assert (100, -100) in [*sample.sample(chance), (100, -100)]
    assert sample.seen == 11
    sample.turn()
    assert (sample.sample(chance), sample.seen) == ([(100, -100)], 1)
    sample.turn()
    assert (sample.sample(chance), sample.seen) == ([], 0)


def test_pairs_stay_pairs_and_within_their_bound() -> None:
    chance = random.Random(7)
    sample = Pairs(16)
    for number in range(5000):
        sample.add(number, 2 * number, chance)
        if number % 700 == 0:
            sample.turn()
        found = sample.sample(chance)
        assert len(found) <= 16
        assert all(second == 2 * first for first, second in found)


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (0, 3), (5, 5), (10, 5000), (5000, 10), (9, 7)])
def test_shares_are_of_what_is_there(counts: tuple[int, int]) -> None:
    now, before = shares(counts, 8)
    assert 0 <= now <= min(counts[0], 8)
    assert 0 <= before <= min(counts[1], 8)
    assert now + before <= 8
    if sum(counts) <= 8:
        assert (now, before) == counts


def test_a_window_turns_by_its_time_and_says_since_when_it_is() -> None:
    window = Window(10.0, 100.0)
    assert [window.turns(now) for now in (100.0, 104.9, 105.0, 109.0)] == [0, 0, 1, 0]
    assert window.since == 100.0
    assert (window.turns(110.5), window.since) == (1, 105.0)
    assert (window.turns(173.0), window.since) == (2, 165.0)
    assert (window.turns(174.9), window.turns(175.0), window.since) == (0, 1, 170.0)
