"""A clock that jumps ahead is not believed at once; one that goes back is."""

from __future__ import annotations

from dynamo.believed_time import BELIEVED_AFTER, JUMP_MS, BelievedTime

HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS
WALL = 1_700_000_000_000


def test_a_clock_that_goes_on_is_followed() -> None:
    time = BelievedTime(WALL, 5.0)
    for second in range(0, 10_000, 10):
        drifting = WALL + int(second * 1001)
        assert time.now_ms(drifting, 5.0 + second) == drifting
    assert not time.doubts


def test_a_jump_ahead_is_believed_once_it_has_lasted() -> None:
    time = BelievedTime(WALL, 0.0)
    for second in range(10, int(BELIEVED_AFTER) + 10, 10):
        assert time.now_ms(WALL + YEAR_MS + second * 1000, float(second)) == WALL + second * 1000
        assert time.doubts
    later = BELIEVED_AFTER + 10.0
    assert time.now_ms(WALL + YEAR_MS + int(later * 1000), later) == WALL + YEAR_MS + 3_610_000
    assert not time.doubts


def test_a_jump_that_is_taken_back_was_never_believed() -> None:
    time = BelievedTime(WALL, 0.0)
    assert time.now_ms(WALL + YEAR_MS, 10.0) == WALL + 10_000
    assert time.now_ms(WALL + 20_000, 20.0) == WALL + 20_000
    assert not time.doubts
    assert time.now_ms(WALL + YEAR_MS, BELIEVED_AFTER + 15.0) < WALL + 2 * HOUR_MS


def test_a_clock_that_goes_back_is_followed_at_once() -> None:
    time = BelievedTime(WALL, 0.0)
    assert time.now_ms(WALL - HOUR_MS, 1.0) == WALL - HOUR_MS
    assert time.now_ms(WALL + 2000, 2.0) == WALL - HOUR_MS + 1000


def test_the_least_that_is_a_jump_is_none() -> None:
    time = BelievedTime(WALL, 0.0)
    assert time.now_ms(WALL + 1000 + JUMP_MS, 1.0) == WALL + 1000 + JUMP_MS
    assert time.now_ms(WALL + 2001 + 2 * JUMP_MS, 2.0) == WALL + 2000 + JUMP_MS
