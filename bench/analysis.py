"""From a history to all that it says: every figure of a report, computed again from the lines alone.

Pure: the same lines in any order, the same seed and budget give the same analysis.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from bench.findings import Analysis
from bench.history import Line, Manifest
from bench.staleness.atomic import atomicity
from bench.staleness.availability import availability
from bench.staleness.behind import staleness
from bench.staleness.budget import Budget
from bench.staleness.checks import Tally
from bench.staleness.convergence import convergences
from bench.staleness.freshness import look
from bench.staleness.health import health
from bench.staleness.judge import expectations, judge
from bench.staleness.keyed import History, take_apart
from bench.staleness.latencies import latencies
from bench.staleness.lost import lost_writes
from bench.staleness.pairs import consistent_prefix, pair_guarantees
from bench.staleness.phi import agreements
from bench.staleness.regular import aborted_reads, stale_reads, unacknowledged_reads
from bench.staleness.sessions import session_guarantees
from bench.staleness.set_full import set_full, sets_of
from bench.staleness.timeline import timeline
from bench.staleness.visibility import curves
from bench.staleness.window import windows
from bench.staleness.worst import worst

DEFAULT: Final = Budget()


def analyse(
    manifest: Manifest, lines: Iterable[Line], *, seed: int = 1, budget: Budget = DEFAULT
) -> Analysis:
    """`seed`: of the bootstrap. Expectations of agreement with predictions stay "unknown": `judge` them
    once that is known. Raises BadHistory where the lines contradict themselves."""
    history = take_apart(manifest, lines)
    looked = look(history, budget)
    measured = [one for key in looked for one in key.judged if one.read.op.phase == "measure"]
    examples = budget.examples
    safe, regular = stale_reads(looked, examples=examples)
    zones, atomic = atomicity(history.keys.values(), budget=budget)
    sessions = session_guarantees(looked, examples=examples)
    pairs = pair_guarantees(looked, examples=examples)
    prefix, prefix_told = consistent_prefix(looked, examples=examples)
    sets = sets_of(history)
    lost = lost_writes(looked, sets, examples=examples)
    tallies: list[Tally] = [
        *(safe, regular, atomic, *sessions, *pairs, prefix, lost),
        aborted_reads(looked, examples=examples),
    ]
    told = {"consistent prefix": prefix_told}
    analysis = Analysis(
        run=manifest.run,
        scenario=manifest.scenario_name,
        target=manifest.target,
        curves=curves(history, looked, budget=budget, seed=seed),
        staleness=staleness(measured),
        checks=tuple(tally.check(told.get(tally.name, "")) for tally in tallies),
        zones=zones,
        set_full=set_full(history, sets, budget=budget),
        windows=windows(looked),
        agreements=agreements(looked),
        convergence=convergences(history, looked, budget=budget),
        availability=availability(history.operations),
        latencies=latencies(history.operations),
        seconds=timeline(history.operations, measured, manifest.measured[0]),
        anomalies=worst(tallies),
        events=tuple(history.events),
        health=health(manifest, history.operations),
        foreign_reads=_foreign(history),
        unacknowledged_reads=unacknowledged_reads(looked),
    )
    judged = judge(expectations(manifest), analysis)
    return msgspec.structs.replace(analysis, judged=judged)


def _foreign(history: History) -> int:
    return sum(
        read.foreign for key in history.keys.values() for read in [*key.reads, *key.directed]
    )
