"""What is there before anything is measured: each key of the workload written once.

Knows nothing of what the keys are for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from bench.load.recorder import Recorder
from bench.load.schedule import SECOND
from bench.targets.protocol import TargetFailed
from bench.workloads.protocol import Arrival

#: Writes beside each other, at most.
AT_ONCE: Final = 64
#: A write that does not succeed is tried so often, after so long (ns).
TRIES: Final = 5
PAUSE: Final = SECOND // 5
#: A target that answers at once still lets others run, after so many keys.
TURN: Final = 64


async def fill(keys: Sequence[str], recorder: Recorder, arrival: Arrival, at_once: int) -> None:
    """Write each key. Raises TargetFailed if one cannot be written."""
    waiting = iter(keys)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, AT_ONCE, len(keys))):
                group.create_task(_some(waiting, recorder, arrival))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _some(waiting: Iterator[str], recorder: Recorder, arrival: Arrival) -> None:
    for number, key in enumerate(waiting, 1):
        await _one(key, recorder, arrival)
        if number % TURN == 0:
            await asyncio.sleep(0)


async def _one(key: str, recorder: Recorder, arrival: Arrival) -> None:
    for left in reversed(range(TRIES)):
        op = await recorder.write(arrival, key)  # due when it starts, as all of this phase
        if op.outcome == "ok":
            return
        if left:
            await recorder.sleep_until(recorder.now() + PAUSE)
    raise TargetFailed(f"the key {key} could not be written before the run: {op.why}")
