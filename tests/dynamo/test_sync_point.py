"""Who waits for a sync point, for which passes, and what ends the wait."""

from __future__ import annotations

import asyncio

import pytest
from rpc_nodes import ManualClock

from dynamo.errors import HintsUndelivered, NotReady, TooManySyncs
from dynamo.sync_point import WAITERS_MAX, SyncPoints

LEFT = {"b": {"hints": 3, "state": "down", "reason": "not connected"}}


def points(clock: ManualClock | None = None) -> SyncPoints:
    return SyncPoints(clock=clock or ManualClock())


async def waiting(some: SyncPoints, due: dict[str, int] | None) -> asyncio.Task[None]:
    task = asyncio.create_task(some.wait(due, 10.0, left=lambda names: LEFT))
    await asyncio.sleep(0)
    return task


async def test_where_nothing_is_due_nobody_waits() -> None:
    some = points()
    await some.wait({}, 10.0, left=lambda names: {})
    assert len(some) == 0


async def test_a_pass_that_began_before_the_wait_does_not_end_it() -> None:
    some = points()
    task = await waiting(some, {"b": 4, "c": 1})
    some.cleaned("b", 3)
    some.cleaned("c", 1)
    await asyncio.sleep(0)
    assert not task.done()
    some.cleaned("b", 5)
    await task


async def test_at_the_timeout_it_says_what_is_left_and_why() -> None:
    clock = ManualClock()
    task = await waiting(points(clock), {"b": 1})
    clock.advance(11)
    with pytest.raises(HintsUndelivered) as caught:
        await task
    assert caught.value.details == {"undelivered": LEFT}


async def test_what_is_not_counted_yet_is_waited_for() -> None:
    some = points()
    first, second = await waiting(some, None), await waiting(some, None)
    some.cleaned("b", 9)
    some.counted({"b": 10})
    some.counted({})  # for those who came since
    await asyncio.sleep(0)
    assert not first.done()
    some.cleaned("b", 10)
    await asyncio.gather(first, second)


async def test_so_many_wait_and_no_more() -> None:
    clock = ManualClock()
    some = points(clock)
    tasks = [await waiting(some, {"b": 1}) for _ in range(WAITERS_MAX)]
    with pytest.raises(TooManySyncs):
        await some.wait({"b": 1}, 10.0, left=lambda names: {})
    some.cleaned("b", 1)
    await asyncio.gather(*tasks)
    assert (len(some), clock.armed) == (0, 0)


async def test_a_node_that_stops_tells_those_who_wait() -> None:
    some = points()
    task = await waiting(some, {"b": 1})
    some.close()
    with pytest.raises(NotReady):
        await task
    with pytest.raises(NotReady):
        await some.wait({"b": 1}, 10.0, left=lambda names: {})


async def test_a_waiter_that_leaves_leaves_nothing_behind() -> None:
    clock = ManualClock()
    some = points(clock)
    task = await waiting(some, {"b": 1})
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (len(some), clock.armed) == (0, 0)
