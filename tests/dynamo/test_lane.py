"""Passes over a target's hints: where they begin, when they are clean, and what puts them off."""

from __future__ import annotations

import pytest

from dynamo.lane import REFUSED_FIRST, REFUSED_MAX, RETRY_FIRST, RETRY_MAX, Lane


def in_a_pass() -> Lane:
    lane = Lane("t")
    lane.wanted = True
    lane.begin()
    return lane


def test_a_pass_that_met_no_refusal_is_clean() -> None:
    lane = in_a_pass()
    lane.read(b"m", ended=False)
    assert lane.has_work()
    lane.read(b"", ended=True)
    assert not lane.has_work()
    assert lane.end_pass(0.0)
    assert (lane.passes, lane.clean) == (1, 1)
    assert not lane.end_pass(0.0)  # only once


def test_a_pass_does_not_end_while_a_batch_is_under_way() -> None:
    lane = in_a_pass()
    lane.read(b"", ended=True)
    lane.in_flight = 1
    assert not lane.end_pass(0.0)
    lane.in_flight = 0
    assert lane.end_pass(0.0)


def test_what_comes_during_a_pass_is_met_by_another() -> None:
    lane = in_a_pass()
    lane.wanted = True
    lane.read(b"", ended=True)
    assert lane.end_pass(0.0)
    assert lane.has_work()
    lane.begin()
    assert (lane.passes, lane.after) == (2, b"")


def test_a_batch_that_failed_is_begun_again_where_it_began() -> None:
    lane = in_a_pass()
    lane.read(b"d", ended=False)
    lane.read(b"", ended=True)
    lane.go_back(b"b")
    lane.go_back(b"d")  # a later one fails after it
    assert lane.after == b"b"
    assert lane.has_work()


def test_a_pass_with_a_refused_hint_is_not_clean_and_another_is_due_in_a_while() -> None:
    lane = in_a_pass()
    lane.refused["record_full"] += 1
    lane.read(b"", ended=True)
    assert not lane.end_pass(100.0)
    assert lane.clean == 0
    assert not lane.may_send(100.0 + REFUSED_FIRST - 0.1, 2)
    assert lane.may_send(100.0 + REFUSED_FIRST, 2)
    assert "record_full" in lane.why


def test_a_pass_that_left_some_out_is_not_clean() -> None:
    lane = in_a_pass()
    lane.read(b"d", ended=False, left_out=2)
    lane.read(b"", ended=True)
    assert not lane.end_pass(0.0)
    assert lane.may_send(RETRY_FIRST, 2)
    lane.begin()
    lane.read(b"", ended=True)
    assert lane.end_pass(RETRY_FIRST)
    assert lane.clean == 2


@pytest.mark.parametrize(
    ("refused", "first", "most"),
    [(False, RETRY_FIRST, RETRY_MAX), (True, REFUSED_FIRST, REFUSED_MAX)],
)
def test_a_back_off_grows_to_its_bound(refused: bool, first: float, most: float) -> None:
    lane = Lane("t")
    waits = []
    for _ in range(12):
        lane.back_off("why", 0.0, refused=refused)
        waits.append(lane.not_before)
    assert waits[:3] == [first, 2 * first, 4 * first]
    assert waits[-1] == most


def test_a_hint_that_arrives_ends_the_back_off() -> None:
    lane = Lane("t")
    lane.back_off("why", 0.0, refused=False)
    lane.back_off("why", 0.0, refused=False)
    lane.took(3, 300, 5.0)
    lane.goes_on()
    lane.back_off("why", 5.0, refused=False)
    assert lane.not_before == 5.0 + RETRY_FIRST
    assert (lane.delivered, lane.bytes_delivered) == (3, 300)


def test_as_many_batches_are_under_way_as_may() -> None:
    lane = in_a_pass()
    assert lane.may_send(0.0, 2)
    lane.in_flight = 2
    assert not lane.may_send(0.0, 2)
