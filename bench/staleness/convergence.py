"""After a heal: how long until every replica of a key shows its final version, seen by directed reads.

Of each key: the last directed read that missed what was committed in the end, less the heal; a key some
replica of which was never seen to have it has not converged. Keys that were written after the heal
have no final version to wait for, and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from bench.faults import VERBS
from bench.findings import Convergence
from bench.history import Event
from bench.staleness.budget import Budget
from bench.staleness.freshness import Looked
from bench.staleness.keyed import NEVER, History
from bench.staleness.order import BudgetSpent
from bench.staleness.quantiles import named


def convergences(
    history: History, looked: Sequence[Looked], *, budget: Budget
) -> tuple[Convergence, ...]:
    """One for each "heal" after which some key was read at its replicas. What counts for a heal ends
    when the next fault begins."""
    heals = [event for event in history.events if event.kind == "heal"]
    found = []
    for heal in heals:
        until = min((at for at in _faults(history.events) if at > heal.at), default=NEVER)
        times = [time for one in looked if (time := _converged_ms(one, heal.at, until)) is not None]
        if times:
            known = [time for time in times if not math.isnan(time)]
            trees = _trees(history.events, heal.at, until)
            one = _convergence(heal.at, known, trees, budget)
            found.append(msgspec.structs.replace(one, undecided=len(times) - len(known)))
    return tuple(found)


def _faults(events: Iterable[Event]) -> list[int]:
    """When faults began."""
    return [one.at for one in events if one.kind in VERBS]


def _trees(events: Iterable[Event], heal: int, until: float) -> float | None:
    """When all trees were equal and stayed so: the first time after which nothing else was seen."""
    equal: float | None = None
    for event in events:
        if heal <= event.at < until:
            if event.kind == "trees_differ":
                equal = None
            elif event.kind == "trees_equal" and equal is None:
                equal = (event.at - heal) / 1e6
    return equal


def _converged_ms(one: Looked, heal: int, until: float) -> float | None:
    """None if the key tells nothing of this heal; infinite if it has not converged, also if a replica
    that was asked has never answered since; NaN over budget."""
    key = one.key
    reads = [read for read in key.directed if heal <= read.op.start < until and not read.foreign]
    final = [place for place, op in enumerate(key.writes) if op.outcome == "ok" and op.end < until]
    late = any(op.outcome != "fail" and op.end >= heal and op.start < until for op in key.writes)
    if not reads or not final or late:
        return None
    last_miss: dict[str, int] = {}
    shown: set[str] = set()
    try:
        wanted: list[int] = []
        for place in final:
            wanted = one.order.joined(wanted, [place])
        for read in reads:
            if one.order.uncovered(read.seen, wanted):
                last_miss[read.op.target] = read.op.start
                shown.discard(read.op.target)
            else:
                shown.add(read.op.target)
    except BudgetSpent:
        return math.nan
    silent = {op.target for op in key.unanswered if op.target and heal <= op.start < until}
    if (last_miss.keys() | silent) - shown:
        return math.inf
    return max(((at - heal) / 1e6 for at in last_miss.values()), default=0.0)


def _convergence(
    heal: int, times: Sequence[float], trees: float | None, budget: Budget
) -> Convergence:
    ordered = sorted(times)
    finite = [time for time in ordered if math.isfinite(time)]
    steps = [
        (time, (number + 1) / len(ordered))
        for number, time in enumerate(finite)
        if number + 1 == len(finite) or finite[number + 1] > time
    ]
    return Convergence(
        heal_at=heal,
        keys=len(ordered),
        unconverged=len(ordered) - len(finite),
        points=tuple(_few(steps, budget.points)),
        ms=named(ordered),
        trees_equal_ms=trees,
    )


def _few(steps: Sequence[tuple[float, float]], most: int) -> Sequence[tuple[float, float]]:
    """Evenly, the first and the last among them."""
    if len(steps) <= most:
        return steps
    return [steps[round(number * (len(steps) - 1) / (most - 1))] for number in range(most)]
