"""How late the harness's own loop is: a probe due each few milliseconds notes by how much it missed.

A loop that lags measures itself. Probes are due at fixed times, so a standstill of a second counts
as a second's worth of late probes, not as one. Knows nothing of what keeps the loop busy.
"""

from __future__ import annotations

import asyncio
import bisect
import gc
import time
from typing import Final, NamedTuple

from bench.load.clock import LoadClock

#: Between two probes (ns).
EACH: Final = 5_000_000
#: A run counts for nothing above these: a hundredth of its time later than that, or once so late.
P99_MS_MAX: Final = 20.0
MS_MAX: Final = 1_000.0
#: Of the classes that lateness is counted in (ns): 2 % apart, from 10 us to a minute.
_EDGES: Final = tuple(int(10_000 * 1.02**i) for i in range(790))


class Lag(NamedTuple):
    """Milliseconds. `cpu_seconds`: of this process, all threads."""

    probes: int
    p99_ms: float
    max_ms: float
    cpu_seconds: float

    def void(self) -> str:
        """Why a run with this lag counts for nothing, "" if it counts."""
        if self.p99_ms > P99_MS_MAX:
            return (
                f"the harness's own loop lagged: {self.p99_ms:.1f} ms at the 99th percentile,"
                f" more than {P99_MS_MAX:g}"
            )
        if self.max_ms > MS_MAX:
            return (
                f"the harness's own loop stood still for {self.max_ms:.0f} ms, more than {MS_MAX:g}"
            )
        return ""


class LoopWatch:
    """Watches from `begin` to `end`, on the loop that calls them."""

    def __init__(self, clock: LoadClock) -> None:
        self._clock = clock
        self._counts = [0] * (len(_EDGES) + 1)
        self._probes = 0
        self._max = 0
        self._cpu = 0.0
        self._frozen = False
        self._task: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Before anything counts: what is there now is not looked at by the collector any more."""
        gc.collect()
        gc.freeze()
        self._frozen = True

    def begin(self) -> None:
        """From now on."""
        self._cpu = time.process_time()
        self._task = asyncio.get_running_loop().create_task(self._probe(), name="loop watch")

    async def _probe(self) -> None:
        due = self._clock.now()
        while True:
            due += EACH
            await self._clock.sleep_until(due)
            late = max(0, self._clock.now() - due)
            self._counts[bisect.bisect_left(_EDGES, late)] += 1
            self._probes += 1
            self._max = max(self._max, late)
            if self._probes % 64 == 0:
                await asyncio.sleep(0)  # after a standstill all are due: let others run between

    async def end(self) -> Lag:
        """What it saw. May be called without `begin`, and again."""
        task, self._task = self._task, None
        if task is not None:
            self._cpu = time.process_time() - self._cpu
            task.cancel()
            await asyncio.wait((task,))
        if self._frozen:
            self._frozen = False
            gc.unfreeze()
        return Lag(self._probes, self._quantile(0.99) / 1e6, self._max / 1e6, self._cpu)

    def _quantile(self, p: float) -> int:
        """The end of the class that it falls in (ns), never more than the maximum."""
        left = p * self._probes
        for edge, count in zip(_EDGES, self._counts, strict=False):
            left -= count
            if left <= 0:
                return min(edge, self._max)
        return self._max
