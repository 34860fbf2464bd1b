"""Shrinking: what is left of a plan still fails, and nothing in it can be left out."""

from __future__ import annotations

from collections.abc import Callable

import crew_work
import msgspec
import pytest

from dynamo.sim.checks import Finding
from dynamo.sim.draw import draw_plan
from dynamo.sim.plan import Burst, Fault, Plan, read_plan, write_plan
from dynamo.sim.run import run_plan
from dynamo.sim.shrink import RUNS_MAX, shrink, sort_of


def plan_of(faults: int = 16, bursts: int = 8) -> Plan:
    return Plan(
        seed=1,
        nodes=("a", "b", "c"),
        replicas=3,
        partitions=4,
        formed="peers",
        keys=5,
        latency_ms=1.0,
        sync_ms=1.0,
        seconds=20.0,
        bursts=tuple(Burst(number, number, 1.0, 4, 30, (1, 3)) for number in range(bursts)),
        faults=tuple(Fault(number, "pause", ("a",), 3.0) for number in range(faults)),
        dead=("a", "b"),
    )


Needed = Callable[[Plan], bool]


def has_faults(*needed: int) -> Needed:
    return lambda plan: {fault.at for fault in plan.faults} >= set(needed)


class Counted:
    """Notes what was asked."""

    def __init__(self, fails: Needed) -> None:
        self.fails = fails
        self.asked: list[Plan] = []

    def __call__(self, plan: Plan) -> bool:
        self.asked.append(plan)
        return self.fails(plan)


@pytest.mark.parametrize("needed", [(), (0,), (15,), (3, 11), (0, 7, 8, 15), tuple(range(16))])
def test_only_the_faults_that_it_takes_are_left(needed: tuple[int, ...]) -> None:
    fails = Counted(has_faults(*needed))
    least = shrink(plan_of(), fails)
    assert [fault.at for fault in least.faults] == list(needed)
    assert least.bursts == ()
    assert len(fails.asked) < RUNS_MAX


def test_what_is_left_is_made_simple() -> None:
    def is_enough(burst: Burst) -> bool:
        return (
            burst.number == 5 and burst.operations >= 7 and burst.clients >= 2 and 3 in burst.keys
        )

    def fails(plan: Plan) -> bool:
        long_enough = any(fault.at == 4 and fault.seconds >= 0.2 for fault in plan.faults)
        return long_enough and any(map(is_enough, plan.bursts))

    least = shrink(plan_of(), fails)
    assert least.bursts == (Burst(5, 5, 1.0, 2, 7, (3,)),)
    assert least.faults == (Fault(4, "pause", ("a",), 0.3),)
    assert (least.formed, least.dead, least.keys) == ("file", (), 4)


def test_nothing_that_it_takes_is_taken_away() -> None:
    least = shrink(plan_of(), lambda plan: plan.formed == "peers" and "b" in plan.dead)
    assert (least.formed, least.dead) == ("peers", ("b",))


def test_a_plan_is_tried_once_and_no_more_than_so_many_are() -> None:
    fails = Counted(has_faults(3, 11))
    shrink(plan_of(), fails)
    assert len(set(fails.asked)) == len(fails.asked)
    few = Counted(has_faults(3, 11))
    least = shrink(plan_of(), few, runs_max=5)
    assert len(few.asked) == 5
    assert has_faults(3, 11)(least)


def test_each_step_is_told() -> None:
    lines: list[str] = []
    shrink(plan_of(), has_faults(3), told=lines.append)
    assert lines[0] == "2 runs: 8 faults, 8 bursts, 240 operations"
    assert lines[-1].endswith("runs: 1 faults, 0 bursts, 0 operations")


def test_what_a_run_raised_belongs_to_the_sort_of_a_finding() -> None:
    assert sort_of(Finding("I2", "a: b")) == "I2"
    one = Finding("bug", "the run raised KeyError: 'x'")
    assert sort_of(one) == "bug the run raised KeyError"
    assert sort_of(one) == sort_of(Finding("bug", "the run raised KeyError: 'y'"))
    assert sort_of(one) != sort_of(Finding("bug", "the run raised Livelock: too many"))


def test_a_planted_bug_shrinks_to_a_write_without_any_fault() -> None:
    def fails(plan: Plan) -> bool:
        return any(finding.invariant == "I1" for finding in run_plan(plan).findings)

    plan = draw_plan(0)
    assert plan.faults
    with crew_work.planted("one_ack_too_few"):
        assert fails(plan)
        least = shrink(plan, fails)
        assert fails(read_plan(write_plan(least)))
    assert (least.faults, least.operations) == ((), 0)
    assert least == msgspec.structs.replace(least, dead=(), formed="file", keys=1)
    assert not fails(least)
