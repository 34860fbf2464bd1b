"""What a scenario must be beyond its shape: numbers that can be, names that there are.

Pure: says what is wrong, reads nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from bench.faults import LEGS, Fault
from bench.load.schedule import check_load
from bench.scenario import TARGETS, BadScenario, Cluster, Expect, Load, Scenario
from bench.staleness.figures import UnknownFigure
from bench.staleness.judge import check_figure

#: Parameters of each kind of delay.
DELAYS: Final[Mapping[str, int]] = {"exponential": 1, "pareto": 2, "constant": 1}
#: What a prediction may be made from.
PREDICT: Final = ("injected", "measured")
NODES_MAX: Final = 64
SECONDS_MAX: Final = 7 * 86_400.0
SEED_MAX: Final = 2**63 - 1


def check(scenario: Scenario, origin: str) -> None:
    """Raises BadScenario with all that is wrong."""
    wrong = list(_wrong(scenario))
    if wrong:
        raise BadScenario(f"{origin}: {'; '.join(wrong)}")


def _wrong(scenario: Scenario) -> Iterator[str]:
    if not scenario.targets:
        yield "targets: none is named"
    for name in scenario.targets:
        if name not in TARGETS:
            yield f"targets: no target {name!r}; there are {', '.join(TARGETS)}"
    yield from _within("seed", scenario.seed, 0, SEED_MAX)
    yield from _load(scenario.load)
    yield from _cluster(scenario.cluster)
    for kind in scenario.predict:
        if kind not in PREDICT:
            yield f"predict: no {kind!r}; there are {', '.join(PREDICT)}"
    for number, fault in enumerate(scenario.faults):
        yield from _fault(fault, f"faults[{number}]", scenario)
    for number, expect in enumerate(scenario.expect):
        yield from _expect(expect, f"expect[{number}]")


def _load(load: Load) -> Iterator[str]:
    try:
        check_load(load)
    except BadScenario as error:
        yield str(error)


def _cluster(cluster: Cluster) -> Iterator[str]:
    yield from _within("cluster.nodes", cluster.nodes, 1, NODES_MAX)
    yield from _within("cluster.n", cluster.n, 1, max(1, cluster.nodes))
    yield from _within("cluster.delay_ms", cluster.delay_ms, 0, SECONDS_MAX * 1e3)
    for name in ("r", "w", "pr", "pw", "dw"):
        count = cluster.properties.get(name)
        if isinstance(count, int) and not isinstance(count, bool):
            yield from _within(f"cluster.properties.{name}", count, 1, cluster.n)
    yield from _legs("cluster.slow", cluster.slow)


def _fault(fault: Fault, where: str, scenario: Scenario) -> Iterator[str]:
    yield from _within(f"{where}.at", fault.at, 0, scenario.load.duration)
    if fault.until is not None:
        yield from _within(f"{where}.until", fault.until, fault.at, SECONDS_MAX, above=True)
    for name, indexes in (("nodes", fault.nodes), ("peers", fault.peers)):
        for index in indexes:
            yield from _within(f"{where}.{name}", index, 0, scenario.cluster.nodes - 1)
    if (fault.do == "slow") != (fault.slow is not None):
        yield f'{where}: `slow` belongs to do = "slow", and is needed there'
    if (fault.do == "restore") != (fault.image_at is not None):
        yield f'{where}: `image_at` belongs to do = "restore", and is needed there'
    elif fault.image_at is not None:
        yield from _within(f"{where}.image_at", fault.image_at, 0, fault.at)
    if fault.slow is not None:
        yield from _legs(f"{where}.slow.legs", fault.slow.legs)


def _legs(where: str, legs: Mapping[str, list[list[Any]]]) -> Iterator[str]:
    for leg, parts in legs.items():
        if leg not in (*LEGS, "*"):
            yield f"{where}: no leg {leg!r}; there are {', '.join(LEGS)} and *"
        if not parts:
            yield f"{where}.{leg}: it has no part"
        for part in parts:
            yield from _part(f"{where}.{leg}", part)


def _part(where: str, part: list[Any]) -> Iterator[str]:
    if len(part) < 2 or part[1] not in DELAYS:
        yield f"{where}: a part is [weight, kind, numbers...], kind one of {', '.join(DELAYS)}"
        return
    numbers = [part[0], *part[2:]]
    if len(part) != 2 + DELAYS[part[1]]:
        yield f"{where}: {part[1]} takes {DELAYS[part[1]]} after its weight and name"
    elif not all(isinstance(one, int | float) and 0 <= one < math.inf for one in numbers):
        yield f"{where}: its numbers must be finite, and none below 0"


def _expect(expect: Expect, where: str) -> Iterator[str]:
    bounds = [one for one in (expect.at_least, expect.at_most) if one is not None]
    try:
        check_figure(expect.figure)
    except UnknownFigure as error:
        yield f"{where}: {error}"
    if not bounds:
        yield f"{where}: it needs at_least or at_most"
    if any(not math.isfinite(one) for one in bounds):
        yield f"{where}: its bounds must be finite"


def _within(
    where: str, value: float, low: float, high: float, *, above: bool = False
) -> Iterator[str]:
    """`above`: it must be above `low`. False of NaN, too."""
    if not (low < value <= high if above else low <= value <= high):
        yield f"{where} is {value}: it must be {'above' if above else 'from'} {low:g} to {high:g}"
