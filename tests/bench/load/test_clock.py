"""The clock of a load: monotonic, exact to a fraction of a millisecond; sleepers may be cancelled."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

import pytest
import uvloop

from bench.load.clock import MonotonicClock
from bench.load.watch import LoopWatch

MS = 1_000_000


async def lateness() -> float:
    """Median lateness of sleeping 1.3 ms, in milliseconds."""
    async with MonotonicClock() as clock:
        late = []
        for _ in range(40):
            due = clock.now() + 1_300_000
            await clock.sleep_until(due)
            late.append(clock.now() - due)
    assert min(late) >= 0
    return statistics.median(late) / MS


@pytest.mark.skipif(sys.platform != "linux", reason="without timerfd there is no such precision")
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_sleeping_is_not_rounded_to_milliseconds(loop: type[asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        assert min(runner.run(lateness()) for _ in range(5)) < 0.5


async def test_it_is_the_clock_that_all_processes_share() -> None:
    clock = MonotonicClock()
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert before <= clock.now() <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)


async def test_sleepers_wake_in_the_order_of_their_times() -> None:
    woken: list[int] = []
    async with MonotonicClock() as clock:
        now = clock.now() + 100 * MS

        async def sleep(ms: int) -> None:
            await clock.sleep_until(now + ms * MS)
            woken.append(ms)

        await asyncio.gather(*(sleep(ms) for ms in (9, 3, 6, 1, -500)))
        await clock.sleep_until(0)
    assert woken == [-500, 1, 3, 6, 9]


async def test_a_cancelled_sleeper_disturbs_no_other() -> None:
    async with MonotonicClock() as clock:
        now = clock.now()
        first = asyncio.ensure_future(clock.sleep_until(now + 5 * MS))
        second = asyncio.ensure_future(clock.sleep_until(now + 10 * MS))
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert clock.now() >= now + 10 * MS
        left = asyncio.ensure_future(clock.sleep_until(now + 10**12))
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await left


async def test_a_loop_that_stands_still_is_seen_for_as_long_as_it_did() -> None:
    async with MonotonicClock() as clock:
        watch = LoopWatch(clock)
        watch.prepare()
        watch.begin()
        await asyncio.sleep(0.02)
        time.sleep(0.2)  # noqa: ASYNC251 - that is what is to be seen
        await asyncio.sleep(0.02)
        lag = await watch.end()
    assert 150 < lag.max_ms < 2_000
    assert lag.p99_ms > 100
    assert "lagged" in lag.void()
    assert lag.probes > 40
    assert (await watch.end()) == lag
