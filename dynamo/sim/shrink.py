"""Makes a plan that fails smaller: fewer faults, fewer and smaller bursts, simpler settings.

Delta debugging: A. Zeller and R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input",
2002, section 3 (ddmin). Whether a plan still fails it asks whom it is told to ask. Knows nothing of
how plans are carried out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from dynamo.sim.checks import Finding
from dynamo.sim.plan import Burst, Fault, Plan

_T = TypeVar("_T")

RUNS_MAX: Final = 400
#: What a fault's length is tried at, in seconds.
_SHORTER: Final = (0.05, 0.3, 1.0, 2.0)


def sort_of(finding: Finding) -> str:
    """What two findings have in common that may be of one bug: their invariant, and of a run that
    raised something, what it raised."""
    raised, colon, _ = finding.text.partition(": ")
    return (
        f"{finding.invariant} {raised}"
        if finding.invariant == "bug" and colon
        else finding.invariant
    )


def shrink(
    plan: Plan,
    fails: Callable[[Plan], bool],
    *,
    runs_max: int = RUNS_MAX,
    told: Callable[[str], None] = lambda line: None,
) -> Plan:
    """The smallest plan found that fails, as `plan` does: that is taken for granted.

    `fails` is called at most `runs_max` times, never twice with the same plan. `told` gets a line
    each time that the plan has become smaller.
    """
    shrinking = _Shrinking(plan, fails, runs_max, told)
    while shrinking.round():
        pass
    return shrinking.plan


class _Shrinking:
    """The smallest plan so far, and what was tried."""

    def __init__(
        self,
        plan: Plan,
        fails: Callable[[Plan], bool],
        runs_max: int,
        told: Callable[[str], None],
    ) -> None:
        self.plan = plan
        self._fails = fails
        self._runs = 0
        self._runs_max = runs_max
        self._told = told
        self._harmless: set[Plan] = set()

    def round(self) -> bool:
        """Try everything once. True if the plan has become smaller."""
        before = self.plan
        _fewest(self.plan.faults, lambda some: self._try(faults=some))
        _fewest(self.plan.bursts, lambda some: self._try(bursts=some))
        for index in range(len(self.plan.bursts)):
            self._smaller_burst(index)
        for index in range(len(self.plan.faults)):
            self._shorter_fault(index)
        self._simpler_settings()
        return self.plan != before

    def _try(self, **changes: Any) -> bool:
        """True if the plan so changed fails: then it is the plan. Out of runs nothing fails."""
        changed = msgspec.structs.replace(self.plan, **changes)
        if changed == self.plan:
            return True
        if changed in self._harmless or self._runs >= self._runs_max:
            return False
        self._runs += 1
        if not self._fails(changed):
            self._harmless.add(changed)
            return False
        self.plan = changed
        self._told(
            f"{self._runs} runs: {len(changed.faults)} faults, {len(changed.bursts)} bursts,"
            f" {changed.operations} operations"
        )
        return True

    def _smaller_burst(self, index: int) -> None:
        burst = self.plan.bursts[index]
        for key in burst.keys:
            if len(burst.keys) > 1 and self._try_burst(index, keys=(key,)):
                break
        _lowest(burst.operations, lambda count: self._try_burst(index, operations=count))
        _lowest(burst.clients, lambda count: self._try_burst(index, clients=count))

    def _try_burst(self, index: int, **changes: Any) -> bool:
        bursts: list[Burst] = list(self.plan.bursts)
        bursts[index] = msgspec.structs.replace(bursts[index], **changes)
        return self._try(bursts=tuple(bursts))

    def _shorter_fault(self, index: int) -> None:
        for seconds in _SHORTER:
            faults: list[Fault] = list(self.plan.faults)
            if seconds >= faults[index].seconds:
                return
            faults[index] = msgspec.structs.replace(faults[index], seconds=seconds)
            if self._try(faults=tuple(faults)):
                return

    def _simpler_settings(self) -> None:
        self._try(formed="file")
        _fewest(self.plan.dead, lambda some: self._try(dead=some))
        used = [number for burst in self.plan.bursts for number in burst.keys]
        self._try(keys=max(used, default=0) + 1)


def _fewest(items: tuple[_T, ...], works: Callable[[tuple[_T, ...]], bool]) -> None:
    """ddmin: call `works` with fewer and fewer of them, in their order, until of those with which it
    was true last none can be left out. All of them work."""
    if not items or works(()):
        return
    parts = 2
    while len(items) > 1:
        size = -(-len(items) // parts)
        starts = range(0, len(items), size)
        alone = (items[start : start + size] for start in starts)
        without = (items[:start] + items[start + size :] for start in starts)
        fewer = next((some for some in itertools.chain(alone, without) if works(some)), None)
        if fewer is not None:
            items, parts = fewer, (2 if len(fewer) <= size else max(2, parts - 1))
        elif size > 1:
            parts = min(len(items), parts * 2)
        else:
            return


def _lowest(count: int, works: Callable[[int], bool]) -> None:
    """Call `works` with lower and lower counts, down to 1, in steps that are halved when it is not
    true. `count` works."""
    step = count - 1
    while step > 0:
        if works(count - step):
            count -= step
            step = min(step, count - 1)
        else:
            step //= 2
