"""One thread, its calls in order, their results on the loop."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial

import pytest

from dynamo.store.worker import Worker


async def test_calls_run_one_after_the_other_in_one_other_thread() -> None:
    worker = Worker("test")
    seen: list[int] = []
    threads = set()

    def call(number: int) -> int:
        threads.add(threading.get_ident())
        time.sleep(0.01 if number == 0 else 0)
        seen.append(number)
        return number

    results = await asyncio.gather(*(worker.run(partial(call, n)) for n in range(20)))
    worker.stop()
    assert results == seen == list(range(20))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_what_a_call_raises_reaches_its_caller_and_no_other() -> None:
    worker = Worker("test")
    bad = worker.run(lambda: 1 // 0)
    good = worker.run(lambda: 1)
    with pytest.raises(ZeroDivisionError):
        await bad
    assert await good == 1
    worker.stop()


async def test_a_cancelled_caller_does_not_stop_its_call_or_the_next() -> None:
    worker = Worker("test")
    ran = threading.Event()

    def call() -> None:
        time.sleep(0.01)
        ran.set()

    cancelled = worker.run(call)
    cancelled.cancel()
    assert await worker.run(lambda: 2) == 2
    assert ran.is_set()
    worker.stop()


async def test_stop_waits_for_the_calls_it_was_given() -> None:
    before = threading.active_count()
    worker = Worker("test")
    done: list[int] = []
    pending = [worker.run(partial(done.append, n)) for n in range(5)]
    worker.stop()
    assert done == [0, 1, 2, 3, 4]
    assert threading.active_count() == before
    await asyncio.gather(*pending)
