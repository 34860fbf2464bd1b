"""Begins and mends the faults of a run at their times, and notes when it really did.

Whatever happens, what was begun is mended at the end. Knows nothing of how a target does it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final

from bench.faults import VERBS, Fault
from bench.history import Event, Line
from bench.load.clock import LoadClock
from bench.load.schedule import Span, nanoseconds
from bench.scenario import BadScenario, Load
from bench.targets.protocol import Target, TargetFailed
from bench.targets.rules import OF_MESSAGES

#: To mend one fault when the run is cut short (seconds).
MEND_TIMEOUT: Final = 60.0
#: Looks in a row that must show equal trees, and the time between two (ns).
LOOKS: Final = 5
LOOK: Final = 200_000_000


def check_faults(faults: Sequence[Fault], load: Load, target: Target) -> None:
    """Raises BadScenario for faults that cannot be carried out in this load at this target."""
    for number, fault in enumerate(faults, 1):
        where = f"fault {number} ({fault.do})"
        if fault.do not in target.capabilities.verbs:
            known = ", ".join(verb for verb in VERBS if verb in target.capabilities.verbs)
            told = f"{where}: the target {target.name} can do {known or 'none'}"
            if fault.do in OF_MESSAGES:
                told += f"; for {' and '.join(OF_MESSAGES)} start all nodes with --fault-injection"
            raise BadScenario(told)
        if not (math.isfinite(fault.at) and 0 <= fault.at < load.duration):
            raise BadScenario(f"{where}: at = {fault.at} is not within the {load.duration:g} s")
        if fault.until is not None and not fault.at <= fault.until <= load.duration:
            raise BadScenario(
                f"{where}: until = {fault.until} is not from {fault.at:g} to {load.duration:g}"
            )
        if fault.image_at is not None and not 0 <= fault.image_at <= fault.at:
            raise BadScenario(f"{where}: image_at = {fault.image_at} is not from 0 to {fault.at:g}")
        for node in (*fault.nodes, *fault.peers):
            if not 0 <= node < len(target.nodes):
                raise BadScenario(f"{where}: no node {node} among {len(target.nodes)}")


class Faulting:
    """The faults of one run. `healed` is called with the time once all are mended."""

    def __init__(
        self,
        faults: Sequence[Fault],
        target: Target,
        clock: LoadClock,
        sink: Callable[[Line], None],
        healed: Callable[[int], None],
    ) -> None:
        self._faults = faults
        self._target = target
        self._clock = clock
        self._sink = sink
        self._healed = healed
        #: Number of a fault -> when it began, of those that are not mended.
        self._begun: dict[int, int] = {}
        self._left = len(faults)
        self.over = asyncio.Event()
        if not faults:
            self.over.set()

    @property
    def active(self) -> tuple[str, ...]:
        """Verbs of those that have begun and are not mended."""
        return tuple(self._faults[number].do for number in self._begun)

    def works(self, times: Span) -> Iterator[Coroutine[Any, Any, None]]:
        """Each fault's own course, to be started now. They raise TargetFailed."""
        return (self._one(number, times) for number in range(len(self._faults)))

    async def _one(self, number: int, times: Span) -> None:
        fault = self._faults[number]
        if fault.do == "restore":
            image_at = fault.at if fault.image_at is None else fault.image_at
            await self._clock.sleep_until(times.measured + nanoseconds(image_at))
            await self._target.image(fault)
        await self._clock.sleep_until(times.measured + nanoseconds(fault.at))
        self._begun[number] = self._clock.now()
        await self._target.fault(fault)
        until = times.end if fault.until is None else times.measured + nanoseconds(fault.until)
        await self._clock.sleep_until(until)
        await self._target.mend(fault)
        self._note(number, self._clock.now())
        self._left -= 1
        if not self._left:
            at = self._clock.now()
            self._sink(Event(kind="heal", at=at, told="all faults are over"))
            self._healed(at)
            self.over.set()

    def _note(self, number: int, until: int, told: str = "") -> None:
        fault = self._faults[number]
        nodes = tuple(self._target.nodes[node] for node in fault.nodes) or self._target.nodes
        at = self._begun.pop(number)
        self._sink(Event(kind=fault.do, at=at, until=until, nodes=nodes, told=told))

    async def mend_all(self) -> list[str]:
        """Mend what a run that is cut short has left; what could not be mended is told."""
        failed: list[str] = []
        for number in list(self._begun):
            fault = self._faults[number]
            try:
                async with asyncio.timeout(MEND_TIMEOUT):
                    await self._target.mend(fault)
            except (TargetFailed, TimeoutError) as error:
                told = f"{fault.do} was not mended: {error or 'no answer'}"
                failed.append(told)
                self._note(number, 0, told)
            else:
                self._note(number, self._clock.now())
        return failed


async def watch_trees(
    target: Target, clock: LoadClock, sink: Callable[[Line], None], since: int
) -> None:
    """Look again and again whether all hash trees are equal; noted (as "trees_equal") is the first look
    from which on they stayed so. Ends then, or at once where that cannot be asked."""
    first = in_a_row = looks = 0
    while True:
        at = clock.now()
        equal = await target.trees_equal()
        if equal is None:
            return
        looks += 1
        in_a_row = in_a_row + 1 if equal else 0
        if in_a_row == 1:
            first = at
        if in_a_row == LOOKS:
            told = f"{(first - since) / 1e6:.0f} ms after the heal; {looks} looks"
            sink(Event(kind="trees_equal", at=first, told=told))
            return
        await clock.sleep_until(at + LOOK)
