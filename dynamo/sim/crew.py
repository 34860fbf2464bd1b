"""Worker processes: each runs one function and tells what it finds; none is left behind.

They are fresh interpreters (nothing that a run leaves in memory reaches another worker), Ctrl-C does
not reach them, and they end when whoever started them is gone. Knows nothing of what they do.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Final, NamedTuple

#: Seconds that a worker gets to end when it is told to.
_END_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 1.0

Tell = Callable[[object], None]


class Task(NamedTuple):
    """`work(tell, *arguments)`, in a process of its own. All of it must be picklable."""

    work: Callable[..., None]
    arguments: tuple[Any, ...]


class Told(NamedTuple):
    """What a task told; `task` is its index."""

    task: int
    what: object


class Died(NamedTuple):
    """The task's process ended before its work did."""

    task: int
    why: str


class _Done(NamedTuple):
    """The work returned."""


class _Worker(NamedTuple):
    task: int
    process: SpawnProcess
    #: When it was last heard of: one item.
    heard: list[float]


def cores() -> int:
    """How many processes can run at once."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_tasks(
    tasks: Sequence[Task], *, at_once: int, patience: float
) -> Generator[Told | Died, None, None]:
    """Yield what the tasks tell, as it comes, until all have ended. Closing it ends them at once.

    A process that tells nothing for `patience` seconds is killed, and said to have died.
    """
    waiting = deque(enumerate(tasks))
    running: dict[Connection, _Worker] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                index, task = waiting.popleft()
                end, process = _start(task)
                running[end] = _Worker(index, process, [time.monotonic()])
            ready = multiprocessing.connection.wait(list(running), timeout=_LOOK_SECONDS)
            for end in list(running):
                worker = running[end]
                if end in ready:
                    worker.heard[0] = time.monotonic()
                    event = _hear(end, worker)
                    if isinstance(event, Told):
                        yield event
                        continue
                elif time.monotonic() > worker.heard[0] + patience:
                    event = Died(worker.task, f"told nothing for {patience:g} s")
                else:
                    continue
                del running[end]
                _stop(end, worker.process)
                if event is not None:
                    yield event
    finally:
        for end, worker in running.items():
            _stop(end, worker.process)


def _start(task: Task) -> tuple[Connection, SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    end, other = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(other, task), daemon=True)
    # The mask is inherited: who is asked to stop by Ctrl-C is the one that started them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    # With our copy open, the end of the process would not be the end of the pipe.
    other.close()
    return end, process


def _run(end: Connection, task: Task) -> None:
    """The worker's whole life."""
    try:
        task.work(end.send, *task.arguments)
        end.send(_Done())
    except BrokenPipeError:
        # Whoever wanted to know is gone.
        return


def _hear(end: Connection, worker: _Worker) -> Told | Died | None:
    """What it said; None: it is done."""
    try:
        what = end.recv()
    except (EOFError, OSError):
        worker.process.join(_END_SECONDS)
        return Died(worker.task, f"ended with exit code {worker.process.exitcode}")
    return None if isinstance(what, _Done) else Told(worker.task, what)


def _stop(end: Connection, process: SpawnProcess) -> None:
    end.close()
    process.terminate()
    process.join(_END_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
    process.close()
