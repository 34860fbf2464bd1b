"""What has to wait in the proof that lets tombstones go, and for what."""

from __future__ import annotations

import pytest

from antientropy.reaping import (
    OTHER_REASONS,
    REASONS_MAX,
    Look,
    Tally,
    births_to_go,
    first_look,
    held_by_all,
    is_due,
    reaper_of,
    second_look,
)

A, B = (0, 1), (0, 2)
CLEAN = Look(1, ("", ""), (3, 4))


@pytest.mark.parametrize(
    ("since_ms", "now_ms", "due"),
    [
        (0, 59_999, False),
        (0, 60_000, True),
        (1_000_000, 1_000_000, False),
        (1_060_000, 1_000_000, True),  # some clock was wrong
        (1_059_999, 1_000_000, False),
    ],
)
def test_age_only_spares_work(since_ms: int, now_ms: int, due: bool) -> None:
    assert is_due(since_ms, now_ms, 60) is due


def test_the_first_owner_that_is_up_tries() -> None:
    assert reaper_of(("a", "b", "c"), {"b", "c"}) == "b"
    assert reaper_of(("a",), {"b"}) is None


def test_a_record_goes_on_only_where_all_its_owners_hold_it() -> None:
    owners = [("a", "b"), ("a", "c"), ("b", "c")]
    held: dict[str, dict[int, str] | str] = {
        "a": {0: "", 1: ""},
        "b": {0: "", 2: ""},
        "c": "no answer in time",
    }
    assert held_by_all(owners, held) == ["", "c: no answer in time", "c: no answer in time"]
    assert held_by_all(owners[:1], {"a": {0: ""}, "b": {0: "gone"}}) == ["b: gone"]
    assert held_by_all(owners[:1], {"a": {0: ""}, "b": {}}) == ["b: it says nothing of it"]
    assert held_by_all(owners[:1], {"a": {0: ""}}) == ["b: was not asked"]


@pytest.mark.parametrize(
    ("looks", "waits"),
    [
        ({"a": CLEAN, "b": CLEAN}, {}),
        ({"a": Look(1, ("", "a hint"), (0, 0)), "b": CLEAN}, {B: "a: a hint"}),
        ({"a": "not connected", "b": CLEAN}, {A: "a: not connected", B: "a: not connected"}),
        ({"a": CLEAN}, {A: "b: was not asked", B: "b: was not asked"}),
        (
            {"a": CLEAN, "b": Look(1, ("",), (0,))},
            dict.fromkeys((A, B), "b: its answer is of other partitions"),
        ),
    ],
)
def test_a_place_waits_for_any_member(
    looks: dict[str, Look | str], waits: dict[tuple[int, int], str]
) -> None:
    assert first_look((A, B), ("a", "b"), looks) == waits


@pytest.mark.parametrize(
    ("second", "waits"),
    [
        ({"a": CLEAN, "b": CLEAN}, {}),
        ({"a": CLEAN, "b": Look(1, ("", ""), (3, 5))}, {B: "b took a hint meanwhile"}),
        (
            {"a": CLEAN, "b": Look(2, ("", ""), (3, 4))},
            dict.fromkeys((A, B), "b was started anew meanwhile"),
        ),
        ({"a": CLEAN, "b": "lost"}, dict.fromkeys((A, B), "b: lost")),
        ({"a": Look(1, ("x", ""), (3, 4)), "b": CLEAN}, {A: "a: x"}),
        (
            {"a": CLEAN, "b": Look(1, ("", ""), (3,))},
            dict.fromkeys((A, B), "b: its answer is of other partitions"),
        ),
    ],
)
def test_the_second_look_finds_what_has_come_since_the_first(
    second: dict[str, Look | str], waits: dict[tuple[int, int], str]
) -> None:
    first: dict[str, Look | str] = {"a": CLEAN, "b": CLEAN}
    assert second_look((A, B), ("a", "b"), first, second) == waits


def test_births_of_nobody_that_no_value_needs_may_go() -> None:
    vector = ((b"1aaa1", 1), (b"1aaa2", 2), (b"2bbb1", 3), (b"3ccc1", 4))
    live = (b"2bbb", b"4ddd")
    assert births_to_go(vector, {b"1aaa2"}, live, count_max=9) == (b"1aaa1", b"3ccc1")
    assert births_to_go(vector, {b"1aaa2"}, live, count_max=1) == (b"1aaa1",)
    assert births_to_go(vector, (), (), count_max=9) == ()
    assert births_to_go(vector, (), (b"2bbb", b""), count_max=9) == ()


def test_reasons_are_bounded_and_nothing_is_left_out() -> None:
    tally = Tally()
    for number in range(REASONS_MAX + 10):
        tally.wait(f"reason {number}", 2)
    tally.wait("reason 0")
    assert len(tally.waiting) == REASONS_MAX + 1
    assert (tally.waiting["reason 0"], tally.waiting[OTHER_REASONS]) == (3, 20)
