"""The simulated clock: skew, drift, jumps, and timers that keep to it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine

from dynamo.sim.clock import EPOCH_MS, SimClock
from dynamo.sim.loop import SimLoop, run_virtual


def here() -> SimLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return loop


def virtually(main: Callable[[], Coroutine[None, None, None]]) -> None:
    run_virtual(main(), random=random.Random(1))


def test_a_wall_clock_is_off_and_jumps_while_the_monotonic_one_goes_on() -> None:
    async def main() -> None:
        clock = SimClock(here(), offset_ms=-500)
        assert clock.wall_ms() == EPOCH_MS - 500
        await asyncio.sleep(2)
        clock.jump(-10_000)
        assert clock.wall_ms() == EPOCH_MS + 2000 - 500 - 10_000
        assert clock.monotonic() == 2

    virtually(main)


def test_a_fast_clock_wakes_early_and_a_slow_one_late() -> None:
    async def main() -> None:
        for rate in (2.0, 0.5):
            before = here().time()
            await SimClock(here(), rate=rate).sleep(3)
            assert abs(here().time() - before - 3 / rate) < 1e-6

    virtually(main)


def test_a_change_of_rate_neither_jumps_nor_loses_a_timer() -> None:
    async def main() -> None:
        clock = SimClock(here())
        woken: list[float] = []
        clock.call_later(10, lambda: woken.append(clock.monotonic()))
        cancelled = clock.call_later(9, lambda: woken.append(-1))
        await asyncio.sleep(4)
        clock.drift(0.1)
        cancelled.cancel()
        assert clock.monotonic() == 4
        await asyncio.sleep(59)
        assert woken == []
        await asyncio.sleep(2)
        assert 10 <= woken[0] < 10.001

    virtually(main)


def test_nobody_is_woken_before_his_time() -> None:
    async def main() -> None:
        chance = random.Random(7)
        for _ in range(500):
            clock = SimClock(here(), rate=chance.uniform(0.3, 3))
            until = clock.monotonic() + chance.uniform(0, 2)
            tries = 0
            while (left := until - clock.monotonic()) > 0:
                tries += 1
                assert tries < 4
                await clock.sleep(left)
            if chance.random() < 0.1:
                clock.drift(chance.uniform(0.3, 3))

    virtually(main)
