"""Stamps: above all that is known, by the wall clock where that is ahead, and never led astray."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dynamo.hybrid_clock import AHEAD_MS_MAX, STAMP_MAX, HybridClock, stamp_at

NOW_MS = 1_700_000_000_000
NOW = stamp_at(NOW_MS)
AHEAD = stamp_at(NOW_MS + AHEAD_MS_MAX)
TOO_FAR = stamp_at(NOW_MS + AHEAD_MS_MAX + 1)

WALLS = st.integers(0, 1 << 46)
STAMPS = st.integers(0, STAMP_MAX)


@pytest.mark.parametrize(
    ("last", "above", "stamp"),
    [
        (0, 0, NOW),
        (NOW - 1, 0, NOW),
        (NOW, 0, NOW + 1),
        (NOW + 7, 0, NOW + 8),
        (NOW, NOW + 9, NOW + 10),
        (NOW + 9, NOW, NOW + 10),
        # A counter that is used up runs over into the milliseconds.
        (NOW + 0xFFFF, 0, stamp_at(NOW_MS + 1)),
        (AHEAD, 0, AHEAD + 1),
        # The clock was set back from further ahead than others follow.
        (TOO_FAR, 0, NOW),
        (TOO_FAR, NOW + 5, NOW + 6),
        # What a record holds has to be passed all the same.
        (0, AHEAD + 5, AHEAD + 6),
        (0, STAMP_MAX - 1, STAMP_MAX),
        (0, STAMP_MAX, None),
    ],
)
def test_the_next_stamp(last: int, above: int, stamp: int | None) -> None:
    clock = HybridClock()
    clock.last = last
    assert clock.next(NOW_MS, above) == stamp


@pytest.mark.parametrize(
    ("stamp", "adopted", "last"),
    [(NOW - 5, True, NOW), (NOW + 5, True, NOW + 5), (AHEAD, True, AHEAD), (TOO_FAR, False, NOW)],
)
def test_what_is_adopted(stamp: int, adopted: bool, last: int) -> None:
    clock = HybridClock()
    clock.last = NOW
    assert clock.adopt(stamp, NOW_MS) is adopted
    assert clock.last == last


@pytest.mark.parametrize("wall_ms", [-1, 0, 1, 1 << 46, 1 << 47, 1 << 62, 1 << 80])
def test_a_stamp_is_an_int64_whatever_the_clock_shows(wall_ms: int) -> None:
    stamp = HybridClock().next(wall_ms, 0)
    assert stamp is not None
    assert 0 < stamp <= STAMP_MAX


@given(st.lists(st.tuples(WALLS, STAMPS, st.booleans()), max_size=20), WALLS, STAMPS)
def test_a_stamp_is_above_what_it_must_be_above_whatever_went_before(
    before: list[tuple[int, int, bool]], wall_ms: int, above: int
) -> None:
    clock = HybridClock()
    for wall, other, is_adopted in before:
        if is_adopted:
            clock.adopt(other, wall)
        else:
            clock.next(wall, other)
    stamp = clock.next(wall_ms, above)
    assert (stamp is None) == (above == STAMP_MAX)
    assert stamp is None or above < stamp <= STAMP_MAX


@given(st.lists(st.integers(NOW_MS - AHEAD_MS_MAX // 2, NOW_MS + AHEAD_MS_MAX // 2), max_size=20))
@example([NOW_MS + AHEAD_MS_MAX // 2, *[NOW_MS - AHEAD_MS_MAX // 2] * 2])
def test_stamps_rise_while_the_clock_is_set_back_and_forth_a_little(walls: list[int]) -> None:
    clock = HybridClock()
    stamps = [clock.next(wall, 0) or 0 for wall in walls]
    assert stamps == sorted(set(stamps))


@given(WALLS, WALLS, STAMPS)
def test_a_clock_without_a_record_is_never_further_ahead_than_others_follow(
    before_ms: int, wall_ms: int, seen: int
) -> None:
    clock = HybridClock()
    clock.next(before_ms, 0)
    clock.adopt(seen, wall_ms)
    stamp = clock.next(wall_ms, 0)
    assert stamp is not None
    assert stamp <= stamp_at(wall_ms + AHEAD_MS_MAX + 1)
