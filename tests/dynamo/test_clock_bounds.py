"""What is believed of a peer's clock: what is proven, and no more."""

from __future__ import annotations

import random

import pytest

from dynamo.clock_bounds import ClockBounds


def noted(bounds: ClockBounds, out: float, back: float, ahead: float) -> tuple[float, float]:
    """What two true ways are measured as, by a peer whose clock is that far ahead."""
    bounds.note(out + ahead, back - ahead)
    return out + ahead - bounds.offset, back - ahead + bounds.offset


def test_a_way_that_takes_long_in_one_direction_is_not_halved() -> None:
    bounds = ClockBounds()
    for _ in range(100):
        assert noted(bounds, 20.0, 0.1, ahead=0.0) == (20.0, 0.1)


@pytest.mark.parametrize("ahead", [3600_000.0, 5.0, -5.0, -3600_000.0])
def test_a_clock_that_must_be_off_is_corrected_until_no_way_takes_less_than_no_time(
    ahead: float,
) -> None:
    chance, bounds = random.Random(3), ClockBounds()
    for number in range(500):
        true = chance.expovariate(1.0), chance.expovariate(1.0)
        out, back = noted(bounds, *true, ahead=ahead)
        assert out > -1e-6
        assert back > -1e-6
        assert out + back == pytest.approx(sum(true), abs=1e-6)
        if number > 400:  # within the fastest way seen
            assert out == pytest.approx(true[0], abs=0.1)


def test_clocks_within_what_the_ways_hide_are_left_alone() -> None:
    bounds = ClockBounds()
    assert noted(bounds, 1.0, 1.0, ahead=0.5) == (1.5, 0.5)


def test_a_clock_that_is_set_is_believed_anew_at_once() -> None:
    bounds = ClockBounds()
    assert bounds.note(1.0, 1.0)
    assert not bounds.note(501.0, -499.0)
    assert bounds.offset == 499.0
    assert not bounds.note(1.0, 1.0)
    assert bounds.offset == 0.0


def test_a_clock_that_drifts_is_followed() -> None:
    chance, bounds = random.Random(3), ClockBounds()
    resets = 0
    for number in range(10_000):
        ahead = number * 0.001
        true = 0.2 + chance.expovariate(5.0), 0.2 + chance.expovariate(5.0)
        resets += not bounds.note(true[0] + ahead, true[1] - ahead)
        out = true[0] + ahead - bounds.offset
        assert -1e-6 < out < sum(true) + 1e-6
        if number % 30 == 29:
            bounds.turn()
    assert resets < 20
