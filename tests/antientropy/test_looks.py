"""What counts as missed: never a write that is under way, always one that was lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antientropy.looks import Look, Verdict, judge

DEADLINE = 10.0
A, B, C = b"a", b"b", b"c"


def first(mine: bytes = A, theirs: bytes = B, **behind: bool) -> Look:
    return Look(0.0, mine, theirs, behind.get("mine_behind"), behind.get("theirs_behind"))


@pytest.mark.parametrize(
    ("before", "now", "pull", "push", "again"),
    [
        # Nobody is behind any more.
        (first(), Look(10.0, B, B, False, False), False, False, False),
        # Nothing has changed: whoever is behind was so then.
        (first(), Look(10.0, A, B, True, False), True, False, False),
        (first(), Look(10.0, A, B, False, True), False, True, False),
        (first(), Look(10.0, A, B, True, True), True, True, False),
        # Too early.
        (first(), Look(9.9, A, B, True, False), False, False, True),
        # The other has changed: what this side lacks may be on its way.
        (first(), Look(10.0, A, C, True, False), False, False, True),
        # This side has changed, and may change on.
        (first(), Look(10.0, C, B, True, False), False, False, True),
        # It was behind then, whatever the other has done since.
        (first(mine_behind=True, theirs_behind=False), Look(10.0, A, C, True, False), True, 0, 0),
        # It was not behind then.
        (first(mine_behind=False, theirs_behind=True), Look(10.0, A, C, True, False), 0, 0, True),
        # Of two that have both missed something, one has changed.
        (first(mine_behind=True, theirs_behind=True), Look(10.0, A, C, True, True), True, 0, True),
    ],
)
def test_a_side_counts_if_it_was_behind_and_has_not_changed(
    before: Look, now: Look, pull: bool, push: bool, again: bool
) -> None:
    verdict = judge(before, now, DEADLINE)
    assert (verdict.pull, verdict.push) == (bool(pull), bool(push))
    assert (verdict.again is not None) == bool(again)


def test_a_look_that_comes_too_early_leaves_the_first_as_it_is() -> None:
    assert judge(first(), Look(5.0, A, B, True, False), DEADLINE).again == first()


#: A write: when it is made, at which side, how long it takes to the other; None: it never gets there.
writes = st.lists(
    st.tuples(
        st.floats(0.0, 60.0),
        st.booleans(),
        st.one_of(st.none(), st.floats(0.0, DEADLINE, exclude_max=True)),
    ),
    min_size=1,
    max_size=8,
)


def seen_at(
    history: list[tuple[float, bool, float | None]], side: bool, at: float
) -> frozenset[int]:
    """The writes that a side holds at a time."""
    held = set()
    for number, (made, where, takes) in enumerate(history):
        arrives = made if where == side else None if takes is None else made + takes
        if arrives is not None and arrives <= at:
            held.add(number)
    return frozenset(held)


def look(history: list[tuple[float, bool, float | None]], at: float, *, knows: bool) -> Look:
    mine, theirs = seen_at(history, False, at), seen_at(history, True, at)
    here, there = (repr(sorted(held)).encode() for held in (mine, theirs))
    if not knows:
        return Look(at, here, there)
    return Look(at, here, there, not mine >= theirs, not theirs >= mine)


def looks(
    history: list[tuple[float, bool, float | None]], start: float
) -> list[tuple[float, Verdict]]:
    """As an exchange does it: the first look knows elements alone, and each that decides nothing is the
    first of the next."""
    before: Look | None = look(history, start, knows=False)
    at = start
    found = []
    for _ in range(8):
        if before is None:
            break
        at += DEADLINE
        verdict = judge(before, look(history, at, knows=True), DEADLINE)
        found.append((at, verdict))
        if verdict.pull or verdict.push:
            break
        before = verdict.again
    return found


@settings(max_examples=500, deadline=None)
@given(writes, st.floats(0.0, 60.0))
def test_a_side_that_only_waits_for_what_is_under_way_never_counts(
    history: list[tuple[float, bool, float | None]], start: float
) -> None:
    for at, verdict in looks(history, start):
        for side, counts in ((False, verdict.pull), (True, verdict.push)):
            if counts:
                lacks = seen_at(history, not side, at) - seen_at(history, side, at)
                assert any(history[number][2] is None for number in lacks)


@settings(max_examples=500, deadline=None)
@given(writes, st.floats(0.0, 60.0))
def test_what_was_lost_always_counts_once_nobody_writes(
    history: list[tuple[float, bool, float | None]], start: float
) -> None:
    quiet = max(made + (takes or 0.0) for made, _, takes in history)
    start += quiet
    mine, theirs = seen_at(history, False, start), seen_at(history, True, start)
    verdict = judge(
        look(history, start, knows=False), look(history, start + DEADLINE, knows=True), DEADLINE
    )
    assert verdict == Verdict(not mine >= theirs, not theirs >= mine, None)
