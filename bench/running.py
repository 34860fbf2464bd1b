"""One run of a scenario: target, load, history, and all that is made from it.

Knows nothing of command lines. What is computed from the history is `bench.recompute`'s, which
anybody can run again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TextIO

import msgspec

from bench import provenance
from bench.history import Event, Manifest
from bench.history_file import HistoryWriter
from bench.load.clock import LoadClock
from bench.load.drive import Driven, drive
from bench.load.faulting import check_faults
from bench.load.live import LiveLine
from bench.load.schedule import span
from bench.run_directory import LIVE, RunDirectory
from bench.scenario import BadScenario, Load, Scenario
from bench.target_choice import carry_out, check_target, kind_of
from bench.targets.protocol import Setup, Target, TargetFailed
from bench.workloads import make, wanted

VALUE_BYTES: Final = 100


class Asked(NamedTuple):
    """A run to make. `target`: a name, or addresses. `parent`: where nodes keep their data."""

    scenario: Scenario
    target: str
    out: Path
    force: bool = False
    parent: Path | None = None


class Interrupted(Exception):
    """The run was cut short before it had begun."""


def measure(asked: Asked, *, live: TextIO | None = None) -> Driven:
    """The run directory has the manifest, the history and what the nodes measured of themselves.

    `live`: where a line is told each second; the run directory keeps them in any case. A run that is
    cut short (SIGINT, SIGTERM) is kept, and void. Raises BadScenario before anything is started;
    BadDirectory, TargetFailed, OSError, Interrupted.
    """
    scenario = asked.scenario
    check_target(asked.target, scenario)
    make(*_workload(scenario), n=scenario.cluster.n, nodes=scenario.cluster.nodes)
    directory = RunDirectory.create(asked.out, force=asked.force)
    run = _Run(asked, directory, live)
    try:
        return carry_out(asked.target, scenario, run.on, parent=asked.parent)
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise Interrupted("interrupted") from None


class _Run:
    def __init__(self, asked: Asked, directory: RunDirectory, live: TextIO | None) -> None:
        self._asked = asked
        self._directory = directory
        self._live = live
        self._name = provenance.run_name(asked.scenario.name)
        self._machine = provenance.machine()

    async def on(self, target: Target, clock: LoadClock) -> Driven:
        """The run, on this target."""
        scenario = self._asked.scenario
        name, options = _workload(scenario)
        asks = wanted(name, options, n=scenario.cluster.n)
        _check(scenario, target, directed=asks.directed)
        workload = make(name, options, n=scenario.cluster.n, nodes=len(target.nodes))
        load = scenario.load
        if asks.rate is not None:
            load = msgspec.structs.replace(load, rate=asks.rate)
        setup = Setup(
            run=self._name,
            n=scenario.cluster.n,
            properties=scenario.cluster.properties,
            value_bytes=asks.value_bytes or VALUE_BYTES,
        )
        began_wall = provenance.wall_time()

        def write_unfinished() -> None:
            # Who kills the harness has a run all the same: what was seen until then, and void.
            self._directory.write_manifest(
                self._manifest(target, _unfinished(load, clock.now()), began_wall)
            )

        write_unfinished()
        with self._directory.history_writer() as history, self._told() as live:
            driven = await drive(
                target,
                workload,
                load,
                setup=setup,
                clock=clock,
                sink=history.add,
                seed=scenario.seed,
                faults=scenario.faults,
                live=live,
                ready=write_unfinished,  # with the properties that the bucket has by then
            )
            await self._keep_wars(target, history, driven)
        self._directory.write_manifest(self._manifest(target, driven, began_wall))
        return driven

    @contextmanager
    def _told(self) -> Iterator[LiveLine]:
        with ExitStack() as stack:
            out = self._live or stack.enter_context(open(os.devnull, "w"))
            yield stack.enter_context(LiveLine(out, self._directory.path / LIVE))

    async def _keep_wars(self, target: Target, history: HistoryWriter, driven: Driven) -> None:
        if not target.capabilities.wars or driven.cut:
            return
        try:
            wars = await target.wars()
        except TargetFailed as error:
            told = f"what the nodes measured of themselves could not be asked: {error}"
            history.add(Event(kind="note", at=driven.measured[1], told=told))
            return
        if wars is not None:
            self._directory.write_wars(wars)

    def _manifest(self, target: Target, driven: Driven, began_wall: str) -> Manifest:
        asked = self._asked
        scenario = asked.scenario
        return Manifest(
            run=self._name,
            scenario_name=scenario.name,
            target=kind_of(asked.target),
            seed=scenario.seed,
            commit=provenance.commit(),
            versions=provenance.versions(),
            machine=self._machine,
            clock="virtual" if asked.target == "sim" else "CLOCK_MONOTONIC",
            began_at=driven.began_at,
            began_wall=began_wall,
            measured=driven.measured,
            nodes=target.nodes,
            replicas=scenario.cluster.n,
            scenario=msgspec.to_builtins(scenario),
            configuration={
                "capabilities": msgspec.to_builtins(target.capabilities),
                "properties": dict(target.properties),
                "foreign": driven.foreign,
                "ended_late": driven.ended_late,
                "given_up": driven.given_up,
                "late": driven.late,
                "lost_contexts": driven.lost_contexts,
                "unfinished": driven.unfinished,
            },
            operations=driven.operations,
            dropped=driven.dropped,
            in_flight_max=driven.in_flight_max,
            lag_ms_p99=driven.lag_ms_p99,
            lag_ms_max=driven.lag_ms_max,
            cpu_seconds=driven.cpu_seconds,
            void=driven.void,
        )


def _unfinished(load: Load, now: int) -> Driven:
    """What is said of a run until it has come to its end; times as far as they can be known."""
    times = span(load, now)
    return Driven(
        began_at=now,
        measured=(times.measured, times.end),
        operations=0,
        dropped=0,
        in_flight_max=0,
        lag_ms_p99=0.0,
        lag_ms_max=0.0,
        cpu_seconds=0.0,
        void="the run did not come to its end",
    )


def _workload(scenario: Scenario) -> tuple[str, dict[str, object]]:
    return scenario.workload, scenario.options


def _check(scenario: Scenario, target: Target, *, directed: bool) -> None:
    """Raises BadScenario where the target lacks what the scenario needs."""
    can = target.capabilities
    check_faults(scenario.faults, scenario.load, target)
    if directed and not can.directed:
        raise BadScenario(
            f"{scenario.name} reads at single replicas, which the target {target.name} cannot do"
        )
    if scenario.cluster.slow and "slow" not in can.verbs:
        raise BadScenario(
            f"{scenario.name} delays messages, which the target {target.name} cannot do"
        )
