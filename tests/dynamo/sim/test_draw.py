"""Plans are drawn the same for ever, and from all that can go wrong."""

from __future__ import annotations

from collections import Counter

import pytest

from dynamo.sim.draw import OPERATIONS, SECONDS, draw_plan
from dynamo.sim.kinds import DRAWN, LOSING
from dynamo.sim.plan import Plan


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    return [draw_plan(seed) for seed in range(300)]


def test_a_seed_draws_one_plan() -> None:
    assert draw_plan(7) == draw_plan(7) != draw_plan(8)


def test_every_kind_of_fault_is_drawn_sooner_or_later(plans: list[Plan]) -> None:
    drawn = Counter(fault.kind for plan in plans for fault in plan.faults)
    assert drawn.keys() == DRAWN.keys()
    assert min(drawn.values()) >= 10


def test_some_seeds_are_calm_and_none_is_mere_noise(plans: list[Plan]) -> None:
    counts = sorted(len(plan.faults) for plan in plans)
    assert counts[0] <= 2
    assert counts[-1] < 60


def test_clients_make_about_so_many_requests_within_the_time(plans: list[Plan]) -> None:
    for plan in plans:
        assert plan.operations == OPERATIONS
        assert all(0 <= burst.at <= SECONDS for burst in plan.bursts)
        assert all(0 <= fault.at <= SECONDS + 1 for fault in plan.faults)


def test_who_stays_dead_leaves_a_quorum_and_loses_no_disk(plans: list[Plan]) -> None:
    for plan in plans:
        assert len(plan.dead) <= (plan.replicas - 1) // 2
        if plan.dead:
            assert not any(fault.kind in LOSING for fault in plan.faults)
