"""Phi: grows with silence, forgives jitter and short pauses, convicts after a few seconds."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo.cluster.phi import THRESHOLD, WINDOW, Phi, phi

SECOND = 1.0
INTERVALS = st.lists(st.floats(min_value=0.0, max_value=1000.0), max_size=2 * WINDOW)


def heard(intervals: list[float]) -> Phi:
    found, now = Phi(SECOND), 1000.0
    found.heartbeat(now)
    for interval in intervals:
        now += interval
        found.heartbeat(now)
    return found


@given(INTERVALS, st.lists(st.floats(min_value=0.0, max_value=1e6), min_size=2))
def test_phi_is_never_negative_and_grows_with_silence(
    intervals: list[float], silences: list[float]
) -> None:
    found = heard(intervals)
    values = [found.after(silence) for silence in sorted(silences)]
    assert all(0.0 <= before <= after < math.inf for before, after in pairwise(values))


@given(INTERVALS)
def test_no_heartbeats_make_it_hasty_or_blind(intervals: list[float]) -> None:
    found = heard(intervals)
    assert 4.0 <= found.limit <= 10.0
    assert found.after(found.limit) == pytest.approx(THRESHOLD)
    assert found.after(4.0) < THRESHOLD <= found.after(10.0)


@given(st.lists(st.floats(min_value=0.5, max_value=1.5), max_size=2 * WINDOW))
def test_jittered_heartbeats_never_convict_and_silence_does_in_four_to_six_seconds(
    intervals: list[float],
) -> None:
    found = heard(intervals)
    assert found.after(1.5) < 1.0
    assert 4.0 <= found.limit <= 6.0


@given(st.lists(st.sampled_from([1.0, 1.3, 0.7]), max_size=2 * WINDOW))
def test_pauses_of_300_ms_leave_no_suspicion(intervals: list[float]) -> None:
    found = heard(intervals)
    assert found.after(1.3) < 1.0
    assert found.limit > 4.0


def test_irregular_heartbeats_earn_patience() -> None:
    steady, lame = heard([1.0] * WINDOW), heard([0.5, 2.5] * WINDOW)
    assert steady.limit < 5.0 < 6.0 < lame.limit


def test_old_intervals_are_forgotten() -> None:
    assert heard([3.0] * WINDOW + [1.0] * WINDOW).limit == heard([1.0] * WINDOW).limit


def test_heartbeats_that_come_at_once_are_one() -> None:
    burst = heard([1.0] * 20 + [2.5, 0.0, 0.0, 0.0, 0.0])
    assert burst.mean == heard([1.0] * 20 + [2.5]).mean


def test_a_pause_of_the_connection_is_no_interval() -> None:
    found = Phi(SECOND)
    found.heartbeat(10.0)
    found.pause()
    found.heartbeat(500.0)
    found.heartbeat(501.0)
    assert found.mean == 1.0


@pytest.mark.parametrize(
    ("deviations", "expected"),
    [(0.0, math.log10(2)), (1.0, 0.799546), (5.0, 6.542645), (30.0, 197.309210), (37.5, 307.339)],
)
def test_phi_is_the_logarithm_of_the_tail(deviations: float, expected: float) -> None:
    assert phi(deviations) == pytest.approx(expected, rel=1e-5)
    assert phi(-50.0) == 0.0
    assert phi(1e6) < math.inf


def test_the_series_takes_over_without_a_step_down() -> None:
    values = [phi(30.0 + step * 1e-12) for step in range(-1000, 1000)]
    assert values == sorted(values)
