"""What covers what, against a dumb second implementation that builds every closure."""

from __future__ import annotations

import random

import pytest
from made_history import MS, REGISTER, Made, manifest

from bench.history import Op
from bench.staleness.keyed import NEVER, Key, take_apart
from bench.staleness.order import Asked, BudgetSpent, Judged
from bench.staleness.register import Register
from bench.staleness.siblings import Siblings


def drawn(chance: random.Random) -> Key:
    """Writes that have seen some of those begun before them, of every outcome, and reads of anything."""
    made = Made()
    writes: list[Op] = []
    for number in range(chance.randrange(1, 9)):
        start = chance.randrange(30)
        bases = tuple(
            one.write for one in writes if one.start < start * MS and chance.random() < 0.3
        )
        outcome = chance.choice(["ok", "ok", "ok", "unknown", "fail"])
        session = chance.randrange(3)
        end = start + chance.randrange(6)
        writes.append(
            made.write(number + 1, start, end, bases=bases, outcome=outcome, session=session)  # type: ignore[arg-type]
        )
    for _ in range(6):
        start = chance.randrange(40)
        seen = tuple(
            one.write for one in writes if one.start <= start * MS and chance.random() < 0.3
        )
        made.read(seen, start, start + 1)
    return take_apart(manifest(), made.lines).keys["k"]


def closure(key: Key, place: int) -> set[int]:
    return {place}.union(*(closure(key, base) for base in key.bases[place]))


def dumb_siblings(key: Key, asked: Asked, *, strict: bool) -> tuple[int, list[int]]:
    """How many committed writes nothing returned covers, and which."""
    covered = set().union(*(closure(key, place) for place in asked.read.seen))
    missed = [
        place
        for place in range(len(key.writes))
        if (key.ends[place] < asked.at or (not strict and key.ends[place] == asked.at))
        and place not in covered
    ]
    return len(missed), missed


def dumb_register(key: Key, asked: Asked, *, strict: bool) -> tuple[int, list[int]]:
    known = max((key.ends[place] for place in asked.read.seen), default=-1.0)
    missed = [
        place
        for place in range(len(key.writes))
        if (key.ends[place] < asked.at or (not strict and key.ends[place] == asked.at))
        and key.starts[place] > known
    ]
    return len(missed), missed


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("register", [False, True])
def test_a_read_misses_what_a_closure_says_it_misses(register: bool, strict: bool) -> None:
    chance = random.Random(1)
    stale = 0
    for _ in range(2_000):
        key = drawn(chance)
        if register and len({op.session for op in key.writes}) == 1:
            continue  # of one writer the numbers are the order, below
        order = Register(key) if register else Siblings(key, steps=10_000)
        asked = [Asked(read.op.start, read) for read in key.reads]
        for question, judged in zip(
            asked, order.judge(key.ends, asked, strict=strict), strict=True
        ):
            dumb = dumb_register if register else dumb_siblings
            count, missed = dumb(key, question, strict=strict)
            assert judged.behind == count
            stale += count > 0
            first = min((key.ends[place] for place in missed), default=NEVER)
            assert (key.ends[judged.missed] if judged.missed >= 0 else NEVER) == first
            wanted = [place for place in range(len(key.writes)) if chance.random() < 0.5]
            uncovered = order.uncovered(question.read.seen, wanted)
            if not register:
                covered = set().union(*(closure(key, place) for place in question.read.seen))
                assert sorted(uncovered) == sorted(set(wanted) - covered)
    assert stale > 1_000


def test_the_newest_committed_is_a_maximal_one() -> None:
    chance = random.Random(3)
    for _ in range(2_000):
        key = drawn(chance)
        asked = [Asked(read.op.start, read) for read in key.reads]
        for judged in Siblings(key, steps=10_000).judge(key.ends, asked, strict=False):
            committed = [place for place, end in enumerate(key.ends) if end <= judged.read.op.start]
            below = set().union(*(closure(key, p) - {p} for p in committed))
            maximal = [place for place in committed if place not in below]
            newest = max(maximal, key=lambda place: (key.ends[place], place), default=-1)
            assert judged.newest == newest


def test_what_both_hold_covers_both() -> None:
    chance = random.Random(4)
    for _ in range(1_000):
        key = drawn(chance)
        for order in (Siblings(key, steps=10_000), Register(key)):
            places = range(len(key.writes))
            old = [place for place in places if chance.random() < 0.4]
            new = [place for place in places if chance.random() < 0.4]
            seen = [place for place in places if chance.random() < 0.4]
            joined = order.joined(old, new)
            assert bool(order.uncovered(seen, joined)) == bool(order.uncovered(seen, [*old, *new]))


def one_read(made: Made, **setup: object) -> Judged:
    key = take_apart(manifest(**setup), made.lines).keys["k"]  # type: ignore[arg-type]
    (read,) = key.reads
    order = Register(key) if setup else Siblings(key, steps=100)
    (judged,) = order.judge(key.ends, [Asked(read.op.start, read)], strict=False)
    return judged


def test_one_writers_numbers_are_the_order_within_one_instant() -> None:
    made = Made()
    for number in range(5):
        made.write(number + 1, 7, 7)
    made.read(2, 7, 7)
    assert one_read(made, properties=REGISTER).behind == 3


def test_a_write_of_unknown_end_covers_all_in_a_register() -> None:
    made = Made()
    made.write(1, 0, 1, outcome="unknown")
    made.write(2, 5, 6, session=2)
    made.read(1, 9, 10)
    assert one_read(made, properties=REGISTER).behind == 0
    assert one_read(made).behind == 1


def test_a_long_chain_is_answered_without_walking_it() -> None:
    made = Made()
    for number in range(20_000):
        made.write(number + 1, number, number + 0.5, bases=(number,) if number else ())
    key = take_apart(manifest(), made.lines).keys["k"]
    order = Siblings(key, steps=10)
    assert order.uncovered((19_999,), (0,)) == []
    assert order.uncovered((0,), (19_999,)) == [19_999]


def test_beyond_its_budget_nothing_is_said() -> None:
    made = Made()
    for number in range(40):
        made.write(number + 1, number, number + 0.5, bases=tuple(range(1, number + 1, 2)))
    made.read(40, 50, 51)
    made.read(3, 52, 53)
    key = take_apart(manifest(), made.lines).keys["k"]
    order = Siblings(key, steps=3)
    asked = [Asked(read.op.start, read) for read in key.reads]
    assert -1 in [one.behind for one in order.judge(key.ends, asked, strict=False)]
    with pytest.raises(BudgetSpent):
        order.uncovered((39, 38), (0, 1, 3))


def test_versions_that_were_lost_make_no_later_read_walk_far() -> None:
    """Every hundredth of 3,000 versions is lost: later reads miss it, and say so in few steps."""
    made = Made()
    newest = 0
    for number in range(1, 3_001):
        made.write(number, number, number + 0.1, bases=(newest,) if newest else ())
        if number % 100:
            newest = number
        made.read(newest, number + 0.2, number + 0.3)
    key = take_apart(manifest(), made.lines).keys["k"]
    order = Siblings(key, steps=500_000)
    asked = [Asked(read.op.start, read) for read in key.reads]
    assert [one.behind for one in order.judge(key.ends, asked, strict=False)] == [
        number // 100 for number in range(1, 3_001)
    ]
