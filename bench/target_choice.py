"""Which target a name means, and how something is carried out on it: a loop, a clock, the target opened.

The one place where the harness knows all targets. Knows nothing of loads or of run directories.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Final, TypeVar

import uvloop

from bench.load.clock import LoadClock, MonotonicClock
from bench.scenario import TARGETS, BadScenario, Scenario
from bench.targets.http import HttpTarget
from bench.targets.nodes import NodesTarget
from bench.targets.protocol import Target
from bench.targets.registers import DelayRegister, NullRegister

MS: Final = 1_000_000
_STOPS: Final = (signal.SIGINT, signal.SIGTERM)
T = TypeVar("T")
Body = Callable[[Target, LoadClock], Awaitable[T]]


def kind_of(target: str) -> str:
    """ "http" for addresses, else the name itself. Raises BadScenario for what is neither."""
    if ":" in target or "/" in target:
        return "http"
    if target not in TARGETS or target == "http":
        named = ", ".join(name for name in TARGETS if name != "http")
        raise BadScenario(
            f"no target {target!r}; there are: {named}, or addresses: http://a:1,http://b:2"
        )
    return target


def check_target(target: str, scenario: Scenario) -> None:
    """Raises BadScenario where the scenario makes no sense on it."""
    kind = kind_of(target)
    if kind not in scenario.targets:
        raise BadScenario(
            f"{scenario.name} cannot be run on {kind}; it can on: {', '.join(scenario.targets)}"
        )


def carry_out(target: str, scenario: Scenario, body: Body[T], *, parent: Path | None = None) -> T:
    """What `body` gives, on an opened target with its clock. `parent`: where nodes keep their data.

    SIGINT, SIGTERM and SIGHUP (not under nohup) cancel it; it may end in an orderly way all the same,
    and target and nodes are closed however it ends. Raises TargetFailed, asyncio.CancelledError, what
    `body` raises.
    """
    kind = kind_of(target)
    if kind == "sim":
        # What simulates takes long to import.
        from bench.targets.simulated import simulate

        return simulate(scenario, body)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_real(target, kind, scenario, body, parent))


async def _real(
    target: str, kind: str, scenario: Scenario, body: Body[T], parent: Path | None
) -> T:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    # The terminal was closed; under nohup that is to end nothing.
    hung_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    stops = (*_STOPS, *hung_up)
    for number in stops:
        loop.add_signal_handler(number, task.cancel)
    try:
        async with (
            MonotonicClock() as clock,
            _opened(target, kind, scenario, clock, parent) as opened,
        ):
            return await body(opened, clock)
    finally:
        for number in stops:
            loop.remove_signal_handler(number)


def _opened(
    target: str, kind: str, scenario: Scenario, clock: LoadClock, parent: Path | None
) -> AbstractAsyncContextManager[Target]:
    cluster = scenario.cluster
    if kind == "nodes":
        return NodesTarget(cluster, scenario.faults, parent=parent)
    if kind == "http":
        addresses = [one.strip() for one in target.split(",") if one.strip()]
        return HttpTarget(addresses, slow=cluster.slow)
    if kind == "delay":
        return nullcontext(DelayRegister(round(cluster.delay_ms * MS), clock.now))
    return nullcontext(NullRegister())
