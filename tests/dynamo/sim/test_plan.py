"""Plans of faults: drawn the same for ever, printed, written and read again, each part on its own."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from dynamo.errors import Malformed
from dynamo.sim.plan import (
    DRAWN,
    LOSING,
    OPERATIONS,
    SECONDS,
    Fault,
    draw_plan,
    read_plan,
    write_plan,
)

PLANS = [draw_plan(seed) for seed in range(300)]


def test_a_seed_draws_one_plan() -> None:
    assert draw_plan(7) == draw_plan(7) != draw_plan(8)


def test_every_kind_of_fault_is_drawn_sooner_or_later() -> None:
    drawn = Counter(fault.kind for plan in PLANS for fault in plan.faults)
    assert drawn.keys() == DRAWN.keys()
    assert min(drawn.values()) >= 10


def test_some_seeds_are_calm_and_none_is_mere_noise() -> None:
    counts = sorted(len(plan.faults) for plan in PLANS)
    assert counts[0] <= 1
    assert counts[-1] < 45


def test_clients_make_about_so_many_requests_within_the_time() -> None:
    for plan in PLANS:
        assert plan.operations == OPERATIONS
        assert all(0 <= burst.at <= SECONDS for burst in plan.bursts)
        assert all(0 <= fault.at <= SECONDS + 1 for fault in plan.faults)


def test_who_stays_dead_leaves_a_quorum_and_loses_no_disk() -> None:
    for plan in PLANS:
        assert len(plan.dead) <= (plan.replicas - 1) // 2
        if plan.dead:
            assert not any(fault.kind in LOSING for fault in plan.faults)


def test_a_plan_is_written_and_read_again() -> None:
    for plan in PLANS[:50]:
        assert read_plan(write_plan(plan)) == plan


def test_a_plan_can_be_read_by_a_person() -> None:
    plan = msgspec.structs.replace(
        PLANS[0],
        bursts=PLANS[0].bursts[:1],
        faults=(
            Fault(1.25, "partition", ("a", "b"), 2.0),
            Fault(3.0, "crash_at", ("c",), 0.3, 2, "minted"),
        ),
    )
    head, *lines = str(plan).splitlines()
    assert head.startswith("seed 0: ")
    said = [" ".join(line.split()) for line in lines]
    assert "1.250 s partition a b for 2 s" in said
    assert "3.000 s crash_at c for 0.3 s at minted (2)" in said


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff\xfe", write_plan(PLANS[0])[:-20], b'{"seed": "x"}']
)
def test_what_is_no_plan_is_refused(content: bytes) -> None:
    with pytest.raises(Malformed):
        read_plan(content)
