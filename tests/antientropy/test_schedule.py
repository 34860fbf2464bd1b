"""Turns have a bound, whoever is down, busy or failing; hours of the day are those that were said."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antientropy.schedule import BACK_OFF_MAX, JITTER, BackOff, Rotation, Timetable, Usable, Window

MINUTE_MS = 60_000


def always(how: Usable) -> Callable[[str], Usable]:
    return lambda peer: how


def turns(
    rotation: Rotation, until: float, usable: Callable[[str], Usable], seed: int = 1
) -> list[tuple[float, str]]:
    """(time, peer) of the visits, with a look as often as something may be due."""
    random = Random(seed)
    found = []
    now = 0.0
    while now < until:
        while (peer := rotation.turn(now, random.uniform(-1, 1), usable)) is not None:
            found.append((now, peer))
        now = max(rotation.due, now + 0.001)
    return found


def test_each_has_its_turn_in_order() -> None:
    rotation = Rotation(10.0, 0.0, 0.0)
    rotation.adopt(("a", "b", "c"))
    assert rotation.turn(9.9, 0.0, always(Usable.YES)) is None
    visits = turns(rotation, 100.0, always(Usable.YES))
    assert [peer for _, peer in visits][:7] == ["a", "b", "c", "a", "b", "c", "a"]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_nobody_waits_longer_than_a_round(count: int, seed: int) -> None:
    peers = [f"n{at}" for at in range(count)]
    rotation = Rotation(10.0, 0.0, 0.0)
    rotation.adopt(peers)
    last = dict.fromkeys(peers, 0.0)
    bound = count * 10.0 * (1 + JITTER) + 0.01
    for now, peer in turns(rotation, 500.0, always(Usable.YES), seed):
        assert now - last[peer] <= bound + (10.0 * (1 + JITTER) if not last[peer] else 0.0)
        last[peer] = now
    assert all(500.0 - at <= bound for at in last.values())


def test_one_that_is_down_costs_no_turn() -> None:
    rotation = Rotation(10.0, 0.0, 0.0)
    rotation.adopt(("a", "b", "c"))
    visits = turns(rotation, 100.0, lambda peer: Usable.NO if peer == "b" else Usable.YES)
    assert [peer for _, peer in visits][:4] == ["a", "c", "a", "c"]


def test_one_that_is_busy_at_its_turn_gets_it_as_soon_as_it_is_free() -> None:
    rotation = Rotation(10.0, 0.0, 0.0)
    rotation.adopt(("a", "b"))
    busy = {"a"}

    def usable(peer: str) -> Usable:
        return Usable.BUSY if peer in busy else Usable.YES

    assert rotation.turn(10.0, 0.0, usable) == "b"
    assert rotation.turn(11.0, 0.0, usable) is None
    busy.clear()
    assert rotation.turn(12.0, 0.0, usable) == "a"
    assert rotation.turn(13.0, 0.0, usable) is None
    busy.add("a")
    assert rotation.turn(20.0, 0.0, usable) == "b"
    rotation.visited("a")
    busy.clear()
    assert rotation.turn(21.0, 0.0, usable) is None


def test_turns_that_were_slept_through_are_not_made_up_for() -> None:
    rotation = Rotation(10.0, 0.0, 0.0)
    rotation.adopt(("a", "b"))
    assert rotation.turn(1000.0, 0.0, always(Usable.YES)) == "a"
    assert rotation.turn(1000.0, 0.0, always(Usable.YES)) is None
    assert rotation.due == 1010.0


def test_a_new_ring_goes_on_where_the_turns_were() -> None:
    rotation = Rotation(10.0, 0.0, 0.0)
    rotation.adopt(("a", "b", "c"))
    assert rotation.turn(10.0, 0.0, always(Usable.YES)) == "a"
    rotation.adopt(("a", "b2", "c"))
    assert rotation.peers == ("a", "b2", "c")
    assert rotation.turn(20.0, 0.0, always(Usable.YES)) == "c"
    rotation.adopt(())
    assert rotation.turn(30.0, 0.0, always(Usable.YES)) is None


def test_jitter_moves_a_turn_by_a_tenth_at_most() -> None:
    gaps: set[float] = set()
    rotation = Rotation(10.0, 0.0, 0.0)
    rotation.adopt(("a",))
    visits = [now for now, _ in turns(rotation, 2000.0, always(Usable.YES))]
    for before, after in pairwise(visits):
        assert 9.0 <= after - before <= 11.0
        gaps.add(round(after - before, 1))
    assert len(gaps) > 10


def test_one_that_fails_is_left_alone_longer_each_time_up_to_a_bound() -> None:
    back_off = BackOff(10.0)
    left = []
    now = 0.0
    for _ in range(6):
        back_off.failed("a", now)
        left.append(back_off.left("a", now))
        now += left[-1]
        assert back_off.left("a", now) == 0.0
    assert left == [10.0, 20.0, 40.0, 40.0, 40.0, 40.0]
    assert max(left) == 10.0 * BACK_OFF_MAX
    assert back_off.left("b", now) == 0.0
    back_off.failed("a", now)
    back_off.clear("a")
    assert back_off.left("a", now) == 0.0
    back_off.failed("a", now)
    assert back_off.left("a", now) == 10.0


@pytest.mark.parametrize(
    ("text", "open_at", "closed_at"),
    [
        ("", (0, 1, 719, 1439), ()),
        ("22:00-06:00", (1320, 1439, 0, 359), (360, 720, 1319)),
        ("01:30-02:00", (90, 119), (89, 120, 1439)),
    ],
)
def test_a_window_is_open_in_its_hours(
    text: str, open_at: tuple[int, ...], closed_at: tuple[int, ...]
) -> None:
    window = Window(text)
    day = 20_000 * 1440
    assert all(window.is_open((day + minute) * MINUTE_MS) for minute in open_at)
    assert not any(window.is_open((day + minute) * MINUTE_MS) for minute in closed_at)


@pytest.mark.parametrize("text", ["22-6", "22:00", "25:00-26:00", "10:75-11:00", "x"])
def test_what_are_no_hours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"hours|HH:MM"):
        Window(text)


def timetable(interval: float = 10.0, far: float = 60.0, hours: str = "") -> Timetable:
    table = Timetable(interval, far, window=Window(hours), now=0.0, jitter=lambda: 0.0)
    table.adopt(("a", "b"), ("x",))
    return table


def begun(
    table: Timetable, until: float, usable: Callable[[str], Usable]
) -> list[tuple[float, str]]:
    found = []
    now = 0.0
    while now <= until:
        while (peer := table.next(now, usable)) is not None:
            found.append((now, peer))
        due = table.due(now)
        assert due is not None
        assert due > now
        now = due
    return found


def test_those_far_away_have_a_cadence_of_their_own() -> None:
    found = begun(timetable(), 125.0, always(Usable.YES))
    assert [now for now, peer in found if peer == "x"] == [60.0, 120.0]
    assert [now for now, peer in found if peer == "a"] == [10.0, 30.0, 50.0, 70.0, 90.0, 110.0]
    near = begun(timetable(far=0.0), 100.0, always(Usable.YES))
    assert {peer for _, peer in near} == {"a", "b"}


def test_one_that_came_up_does_not_wait_for_its_turn() -> None:
    table = timetable()
    table.came_up("b", 2.0, 1.0)
    table.came_up("nobody", 2.0, 1.0)
    assert table.due(2.0) == 3.0
    assert table.next(2.9, always(Usable.YES)) is None
    assert table.next(3.0, always(Usable.YES)) == "b"
    assert table.next(3.0, always(Usable.YES)) is None
    table.came_up("a", 4.0, 1.0)
    assert table.next(5.0, always(Usable.BUSY)) is None
    assert table.due(5.0) == 10.0  # it is free before, or waits no shorter
    assert table.next(6.0, always(Usable.YES)) == "a"
    table.came_up("a", 6.0, 1.0)
    assert table.next(7.0, always(Usable.NO)) is None
    assert table.next(7.5, always(Usable.YES)) is None


def test_nobody_has_a_turn_outside_of_the_hours_or_during_a_pause() -> None:
    table = timetable(hours="22:00-06:00")
    noon = 720 * MINUTE_MS
    assert table.why_not(noon) == ("outside_window", "exchanges run in 22:00-06:00 (UTC) only")
    assert table.why_not(0) == ("running", "")
    table.paused = "somebody said so"
    assert table.why_not(0) == ("paused", "somebody said so")
    off = timetable(0.0, 0.0)
    assert off.why_not(0)[0] == "off"
    assert off.due(0.0) is None
    assert off.next(1000.0, always(Usable.YES)) is None


def test_one_that_failed_is_left_alone_until_it_comes_up() -> None:
    table = timetable()
    table.failed("a", 0.0)
    assert table.left_alone("a", 1.0) == 9.0
    table.came_up("a", 1.0, 1.0)
    assert table.left_alone("a", 1.0) == 0.0
    table.failed("a", 1.0)
    table.is_well("a")
    assert table.left_alone("a", 1.0) == 0.0
