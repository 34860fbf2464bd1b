"""Worker processes: what they find is told, none dies in silence, none is left behind."""

from __future__ import annotations

import os
import time
from contextlib import closing

import crew_work

from dynamo.sim.crew import Died, Task, Told, cores, run_tasks


def run(*tasks: Task, at_once: int = 2, patience: float = 60.0) -> list[Told | Died]:
    return list(run_tasks(tasks, at_once=at_once, patience=patience))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_all_tasks_tell_comes_in_the_order_of_each() -> None:
    told = run(*(Task(crew_work.count, (numbers,)) for numbers in (3, 0, 2)))
    assert sorted(told) == [Told(0, 0), Told(0, 1), Told(0, 2), Told(2, 0), Told(2, 1)]
    assert [event.what for event in told if isinstance(event, Told) and event.task == 0] == [
        0,
        1,
        2,
    ]


def test_a_worker_that_dies_is_never_silent() -> None:
    tasks = [
        Task(crew_work.count_and_die, (1, 0)),
        Task(crew_work.kill_oneself, ()),
        Task(crew_work.raise_something, ()),
    ]
    assert sorted(run(*tasks), key=lambda event: (event.task, str(event))) == [
        Died(0, "ended with exit code 0"),
        Told(0, 0),
        Died(1, "ended with exit code -9"),
        Died(2, "ended with exit code 1"),
    ]


def test_a_worker_that_hangs_is_ended_and_said_to_have_died() -> None:
    told, died = run(Task(crew_work.tell_pid_and_wait, ()), patience=2.0)
    assert died == Died(0, "told nothing for 2 s")
    assert isinstance(told, Told)
    assert isinstance(told.what, int)
    assert not is_alive(told.what)


def test_who_looks_no_further_leaves_no_process_behind() -> None:
    start = time.monotonic()
    tasks = [Task(crew_work.tell_pid_and_wait, ()) for _ in range(2)]
    pids: list[object] = []
    with closing(run_tasks(tasks, at_once=2, patience=60.0)) as events:
        for event in events:
            assert isinstance(event, Told)
            pids.append(event.what)
            if len(pids) == 2:
                break
    assert not any(isinstance(pid, int) and is_alive(pid) for pid in pids)
    assert time.monotonic() - start < 30


def test_there_is_a_core() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
