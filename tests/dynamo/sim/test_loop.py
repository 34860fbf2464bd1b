"""The simulated loop: time that jumps, order that comes from the seed, processes that stop and die."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from dynamo.sim.loop import Deadlock, Livelock, Process, SimLoop, current_process, run_virtual

_T = TypeVar("_T")


def virtual(main: Coroutine[Any, Any, _T], seed: int = 1) -> _T:
    return run_virtual(main, random=random.Random(seed))


def here() -> SimLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return loop


# Time and order ---------------------------------------------------------------------------------


def test_an_hour_passes_at_once() -> None:
    async def main() -> float:
        await asyncio.sleep(3600)
        return here().time()

    assert virtual(main()) == 3600


def test_timers_run_in_order_and_those_of_one_instant_as_the_seed_has_it() -> None:
    async def main() -> list[int]:
        order: list[int] = []
        for number in range(20):
            here().call_later(1.0, order.append, number)
        here().call_later(0.5, order.append, -1)
        await asyncio.sleep(2)
        return order

    orders = [virtual(main(), seed) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    assert orders[0][0] == orders[2][0] == -1


def test_call_soon_is_first_in_first_out() -> None:
    async def main() -> list[int]:
        order: list[int] = []
        for number in range(5):
            here().call_soon(order.append, number)
        await asyncio.sleep(0)
        return order

    assert virtual(main()) == [0, 1, 2, 3, 4]


def test_a_cancelled_timer_never_runs_nor_moves_time() -> None:
    async def main() -> float:
        here().call_later(50, pytest.fail, "ran").cancel()
        timers = [here().call_later(9, pytest.fail, "ran") for _ in range(1000)]
        for timer in timers:
            timer.cancel()
        assert len(here()._timers) < 300
        assert here().armed() == []
        await asyncio.sleep(1)
        return here().time()

    assert virtual(main()) == 1


def test_a_set_of_tasks_has_the_order_of_their_creation() -> None:
    async def main() -> list[str]:
        tasks = [asyncio.create_task(asyncio.sleep(1)) for _ in range(7)]
        done, _ = await asyncio.wait(tasks)
        names = [task.get_name() for task in done]
        assert names == [task.get_name() for task in {*reversed(tasks)}]
        return names

    assert virtual(main()) == virtual(main())


def test_nothing_left_to_wait_for_is_a_deadlock_that_names_who_waits() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match=r"1 tasks wait:\n  Task-1 at Event.wait:\d+"):
        virtual(main())


def test_work_without_end_is_a_livelock() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Livelock):
        run_virtual(main(), random=random.Random(1), steps_max=10_000)


def test_what_a_callback_raises_fails_the_run() -> None:
    async def main() -> None:
        here().call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        virtual(main())


def test_an_exception_that_nobody_awaits_fails_the_run() -> None:
    async def wrong() -> None:
        raise LookupError("unseen")

    async def main() -> None:
        task = asyncio.create_task(wrong())
        cycle: list[Any] = [task]
        cycle.append(cycle)
        await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="unseen"):
        virtual(main())


def test_the_result_of_main_or_its_exception_comes_out() -> None:
    async def main(value: int) -> int:
        return 6 // value

    assert virtual(main(2)) == 3
    with pytest.raises(ZeroDivisionError):
        virtual(main(0))


def test_an_executor_runs_here_and_now() -> None:
    async def main() -> int:
        with pytest.raises(KeyError):
            await here().run_in_executor(None, dict[str, int]().__getitem__, "a")
        return await asyncio.to_thread(lambda: 5)

    assert virtual(main()) == 5


def test_there_is_no_way_out() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="no create_connection"):
            await here().create_connection(asyncio.Protocol, "localhost", 1)
        with pytest.raises(RuntimeError, match="no add_reader"):
            here().add_reader(0, print)
        with pytest.raises(RuntimeError, match="no subprocess_exec"):
            await asyncio.create_subprocess_exec("true")

    virtual(main())


def test_tasks_that_are_left_are_cancelled_and_may_take_their_time() -> None:
    ended: list[str] = []

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(5)
            ended.append("lingered")

    async def main() -> None:
        here().create_task(linger())
        await asyncio.sleep(0)

    virtual(main())
    assert ended == ["lingered"]


# Processes --------------------------------------------------------------------------------------


def test_what_a_process_schedules_belongs_to_it() -> None:
    async def main() -> list[Process | None]:
        seen: list[Process | None] = []
        note: Callable[[], None] = lambda: seen.append(current_process())  # noqa: E731

        async def inside() -> None:
            note()
            here().call_soon(note)
            here().call_later(1, note)
            await asyncio.create_task(asyncio.sleep(1))
            note()

        process = here().new_process("a")
        process.call_soon(note)
        process.call_later(1, note)
        await process.spawn(inside())
        await asyncio.sleep(1)
        assert set(seen) == {process}
        note()
        return seen

    seen = virtual(main())
    assert len(seen) == 7
    assert seen[-1] is None


def test_a_paused_process_does_nothing_and_makes_up_for_it_in_order() -> None:
    async def main() -> None:
        process = here().new_process("a")
        order: list[int] = []
        process.call_soon(order.append, 0)
        process.pause()
        for number in range(1, 5):
            process.call_at(number, order.append, number)
        await asyncio.sleep(10)
        assert order == []
        process.call_soon(order.append, 5)
        await asyncio.sleep(0)
        process.call_soon(order.append, 6)
        process.resume()
        await asyncio.sleep(0)
        assert order == [0, 1, 2, 3, 4, 5, 6]

    virtual(main())


def test_the_others_go_on_while_a_process_is_paused() -> None:
    async def tick(counts: dict[str, int], name: str) -> None:
        while True:
            await asyncio.sleep(1)
            counts[name] = counts.get(name, 0) + 1

    async def main() -> None:
        counts: dict[str, int] = {}
        a, b = here().new_process("a"), here().new_process("b")
        tasks = [one.spawn(tick(counts, one.name)) for one in (a, b)]
        await asyncio.sleep(2.5)
        a.pause()
        await asyncio.sleep(2)
        assert counts == {"a": 2, "b": 4}
        a.resume()
        await asyncio.sleep(1.7)
        assert counts == {"a": 4, "b": 6}
        assert all(not task.done() for task in tasks)

    virtual(main())


async def _forever(ended: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(name)


@pytest.mark.parametrize("paused", [False, True])
def test_a_killed_process_never_runs_again(paused: bool) -> None:
    async def main() -> None:
        process = here().new_process("a")
        ended: list[str] = []
        tasks = [process.spawn(_forever(ended, name)) for name in "abc"]
        await asyncio.sleep(0)
        process.call_later(1, ended.append, "timer")
        process.call_soon(ended.append, "soon")
        if paused:
            process.pause()
            await asyncio.sleep(2)
        process.kill()
        with pytest.raises(RuntimeError, match="dying"):
            process.spawn(_forever(ended, "d"))
        await process.gone()
        assert process.state == "dead"
        assert all(task.cancelled() for task in tasks)
        process.call_soon(ended.append, "later")
        await asyncio.sleep(5)
        assert ended == ["a", "b", "c"]

    virtual(main())


def test_who_awaits_a_task_of_a_killed_process_hears_of_it_at_once() -> None:
    async def main() -> float:
        process = here().new_process("a")
        task = process.spawn(asyncio.sleep(60))
        here().call_later(2, process.kill)
        with pytest.raises(asyncio.CancelledError):
            await task
        return here().time()

    assert virtual(main()) == 2


def test_a_kill_ends_groups_gathers_and_shields_too() -> None:
    async def nested() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            await asyncio.gather(*(asyncio.sleep(60) for _ in range(3)))

    async def main() -> None:
        process = here().new_process("a")
        process.spawn(nested())
        process.spawn(asyncio.wait_for(nested(), 30))
        shielded = process.spawn(asyncio.sleep(60))
        process.call_soon(lambda: here().create_task(_shield(shielded)))
        await asyncio.sleep(1)
        assert len(process.tasks()) >= 12
        process.kill()
        await process.gone()
        assert process.tasks() == []
        assert here().time() == 1

    virtual(main())


async def _shield(task: asyncio.Task[None]) -> None:
    await asyncio.shield(task)


def test_a_task_that_dawdles_in_ending_is_cut_short() -> None:
    async def dawdle() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(60)
            pytest.fail("a crash leaves no time")

    async def main() -> None:
        process = here().new_process("a")
        process.spawn(dawdle())
        await asyncio.sleep(1)
        process.kill()
        await process.gone()
        await asyncio.sleep(100)

    virtual(main())


def test_a_task_that_refuses_to_end_is_a_problem() -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async def main() -> None:
        process = here().new_process("a")
        process.spawn(stubborn(), name="mule")
        await asyncio.sleep(1)
        process.kill()
        await process.gone()

    with pytest.raises(AssertionError, match=r"mule at .* did not end with process a"):
        virtual(main())


def test_timers_of_the_dead_do_not_keep_time_going() -> None:
    async def main() -> None:
        process = here().new_process("a")
        process.call_later(1000, print)
        process.kill()
        assert here().armed() == []

    virtual(main())


def test_a_process_may_kill_itself() -> None:
    async def main() -> None:
        process = here().new_process("a")

        async def suicide() -> None:
            process.kill()
            await asyncio.sleep(0)
            pytest.fail("it goes on")

        process.spawn(suicide())
        await process.gone()

    virtual(main())


def test_how_the_tasks_of_the_killed_end_is_no_problem_but_an_earlier_bug_is() -> None:
    async def fail_in_ending() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise OSError("the disk is gone")

    async def fail_before() -> None:
        raise LookupError("a bug")

    async def main(bug: bool) -> None:
        process = here().new_process("a")
        process.spawn(fail_in_ending())
        kept = [process.spawn(fail_before())] if bug else []
        await asyncio.sleep(1)
        process.kill()
        await process.gone()
        kept.clear()
        await asyncio.sleep(1)

    virtual(main(False))
    with pytest.raises(AssertionError, match="a bug"):
        virtual(main(True))


def test_who_spends_time_keeps_what_comes_due_waiting_in_its_order() -> None:
    async def main() -> list[str]:
        loop, seen = here(), []
        process = loop.new_process("a")

        def work(name: str, seconds: float) -> None:
            process.spend(seconds)
            seen.append(f"{name} at {loop.time():g}")

        process.call_at(1.0, work, "first", 2.0)
        process.call_at(1.5, work, "second", 1.0)
        process.call_at(1.6, work, "third", 0.0)
        loop.call_at(1.7, seen.append, "outside")
        process.call_at(2.0, work, "fourth", 0.0).cancel()
        await asyncio.sleep(2.5)
        assert process.waiting == 2
        await asyncio.sleep(5)
        return seen

    assert virtual(main()) == ["first at 1", "outside", "second at 3", "third at 4"]


def test_a_busy_process_that_is_paused_goes_on_when_it_has_both_time_and_leave() -> None:
    async def main() -> list[float]:
        loop, seen = here(), []
        process = loop.new_process("a")
        process.call_at(1.0, process.spend, 3.0)
        process.call_at(2.0, lambda: seen.append(loop.time()))
        loop.call_at(3.0, process.pause)
        loop.call_at(3.5, process.resume)
        process.call_at(5.0, process.spend, 1.0)
        process.call_at(5.5, lambda: seen.append(loop.time()))
        loop.call_at(5.6, process.pause)
        loop.call_at(8.0, process.resume)
        await asyncio.sleep(10)
        return seen

    assert virtual(main()) == [4.0, 8.0]


def test_a_busy_process_can_be_killed() -> None:
    async def main() -> None:
        process = here().new_process("a")
        process.call_soon(process.spend, 100.0)
        process.spawn(asyncio.sleep(1))
        await asyncio.sleep(2)
        process.kill()
        await process.gone()

    virtual(main())
