"""What is under way, told apart by when it began."""

from __future__ import annotations

import pytest

from dynamo.flights import Flights


def test_what_begins_later_is_not_waited_for() -> None:
    flights = Flights()
    with flights.hold() as early:
        generation = flights.begin()
        assert early < generation == flights.now
        with flights.hold() as late:
            assert late == generation
            assert flights.holds_before(generation) == 1
        assert flights.holds_before(generation) == 1
    assert flights.holds_before(generation) == 0


def test_holds_of_one_generation_are_counted() -> None:
    flights = Flights()
    with flights.hold():
        with flights.hold():
            assert flights.holds_before(flights.begin()) == 2
        assert flights.holds_before(flights.begin()) == 1


def test_a_hold_ends_with_whatever_ends_it() -> None:
    flights = Flights()
    with pytest.raises(KeyError), flights.hold():
        raise KeyError
    assert flights.holds_before(flights.begin()) == 0
