"""What exchanges are made of: their budget, records that cannot be merged, who is behind."""

from __future__ import annotations

import asyncio
import random

import pytest
from little_cluster import LoopClock

from dynamo.exchange_budget import CLIENTS_LEAVE, Budget
from dynamo.exchange_keys import behind_of
from dynamo.exchange_stuck import ALONE_FIRST, STUCK_MAX, Stuck
from dynamo.metrics import Metrics
from dynamo.rpc.exchange_messages import LookedAt
from dynamo.sim.loop import run_virtual
from dynamo.version import Vector, birth_bytes, incarnation_bytes

X, Y = (birth_bytes(incarnation_bytes(1, b"12345678"), number) for number in (1, 2))


def budget_of(metrics: Metrics, *, keys: int = 1000, size: int = 1_000_000) -> Budget:
    return Budget(keys=keys, size=size, clock=LoopClock(), sleep=asyncio.sleep, metrics=metrics)


async def seconds_for(budget: Budget, steps: int, *, keys: int = 0, size: int = 0) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(steps):
        await budget.room()
        budget.spent(keys=keys, size=size)
    return loop.time() - began


def test_keys_and_bytes_keep_to_their_rates() -> None:
    async def scene() -> tuple[float, float, float]:
        return (
            await seconds_for(budget_of(Metrics()), 100, keys=100),
            await seconds_for(budget_of(Metrics()), 100, size=100_000),
            await seconds_for(budget_of(Metrics()), 3, size=12 << 20),
        )

    by_keys, by_bytes, large = run_virtual(scene(), random=random.Random(1))
    assert by_keys == pytest.approx(10.0, abs=0.5)
    assert by_bytes == pytest.approx(10.0, abs=0.5)
    assert large == pytest.approx(2 * 12.58, abs=0.5)  # what is larger passes, and is paid off


def test_clients_have_three_quarters_of_it() -> None:
    metrics = Metrics()

    async def clients() -> None:
        while True:
            metrics.count["gets"] += 1
            await asyncio.sleep(0.1)

    async def scene() -> float:
        task = asyncio.get_running_loop().create_task(clients())
        budget = budget_of(metrics)
        await seconds_for(budget, 10, keys=1)
        await asyncio.sleep(0.5)
        taken = await seconds_for(budget, 40, keys=100)
        task.cancel()
        return taken

    assert run_virtual(scene(), random=random.Random(1)) == pytest.approx(
        4.0 * CLIENTS_LEAVE, rel=0.15
    )


def test_a_peer_that_serves_clients_is_made_way_for() -> None:
    async def scene() -> tuple[int, int]:
        budget = budget_of(Metrics())
        freely = budget.batch().count_max
        budget.peer_is_busy()
        return freely, budget.batch().count_max

    freely, busy = run_virtual(scene(), random=random.Random(1))
    assert busy < freely


def test_a_record_that_merging_does_not_make_equal_is_an_alarm_and_left_alone() -> None:
    alarms: list[str] = []
    stuck = Stuck(lambda counter, line: alarms.append(counter))
    elements = (b"a", b"b")
    assert stuck.may_merge(b"k", elements, 0.0)
    assert stuck.may_merge(b"k", elements, 0.0)  # it was not merged: somebody did not answer
    stuck.note_merged(b"k", elements)
    assert alarms == []
    assert not stuck.may_merge(b"k", elements, 1.0)
    assert not stuck.may_merge(b"k", elements, 1.0)
    assert alarms == ["records_stuck"]
    assert stuck.may_merge(b"k", (b"a", b"c"), 1.0)  # it has changed
    after = 1.0 + ALONE_FIRST
    assert stuck.may_merge(b"k", elements, after)
    stuck.note_merged(b"k", elements)
    assert not stuck.may_merge(b"k", elements, after)
    assert alarms == ["records_stuck"] * 2
    assert not stuck.may_merge(b"k", elements, after + ALONE_FIRST)
    assert stuck.may_merge(b"k", elements, after + 2 * ALONE_FIRST)


def test_few_of_them_are_remembered() -> None:
    stuck = Stuck(lambda counter, line: None)
    for number in range(STUCK_MAX + 5):
        stuck.note_merged(b"%d" % number, (b"a", b"b"))
    assert len(stuck) == STUCK_MAX
    assert stuck.may_merge(b"0", (b"a", b"b"), 0.0)


def looked(vector: Vector, digest: bytes) -> LookedAt:
    return LookedAt(b"element!", vector, digest)


@pytest.mark.parametrize(
    ("mine", "theirs", "behind"),
    [
        (looked(((X, 1),), b"d"), looked(((X, 1),), b"d"), (False, False)),
        (looked((), b""), looked((), b""), (False, False)),
        (looked((), b""), looked(((X, 1),), b"d"), (True, False)),
        (looked(((X, 1),), b"d"), looked((), b""), (False, True)),
        (looked(((X, 1),), b"d"), looked(((X, 2),), b"e"), (True, False)),
        (looked(((X, 2),), b"d"), looked(((X, 1),), b"e"), (False, True)),
        (looked(((X, 1),), b"d"), looked(((Y, 1),), b"e"), (True, True)),
        (looked(((X, 1),), b"d"), looked(((X, 1),), b"e"), (True, True)),
    ],
)
def test_who_has_not_seen_all_is_behind(
    mine: LookedAt, theirs: LookedAt, behind: tuple[bool, bool]
) -> None:
    assert behind_of(mine, theirs) == behind
