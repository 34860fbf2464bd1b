"""What was asked, what came of it, and the figures that say so, ready for a table.

Pure.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from bench.findings import Analysis, Rate, Verdict
from bench.report.material import Material, Predicted
from bench.report.numbers import listed, of, percent, plural

#: Verdict -> (what is printed, its class in report.css).
WORDS: Final[dict[Verdict, tuple[str, str]]] = {
    "pass": ("\N{CHECK MARK} pass", "pass"),
    "fail": ("\N{MULTIPLICATION X} fail", "fail"),
    "unknown": ("? not decided", "unknown"),
}


class Row(NamedTuple):
    """A figure with what it is made of. `keys`: of the keys looked at, None where that says nothing;
    `verdict`: None for a figure that nobody judges."""

    name: str
    rate: Rate
    keys: Rate | None
    verdict: Verdict | None
    told: str


def headline(analysis: Analysis) -> tuple[str, str]:
    """One sentence, and its class in report.css."""
    if analysis.health.void:
        return f"This run counts for nothing: {analysis.health.void}.", "fail"
    came = _what_came(analysis)
    judged = analysis.judged
    if not judged:
        return f"The scenario asks for nothing in particular. {came}".strip(), "unknown"
    passed = [one for one in judged if one.verdict == "pass"]
    failed = [one for one in judged if one.verdict == "fail"]
    open_ = [one for one in judged if one.verdict == "unknown"]
    asked = f"{len(passed)} of {plural(len(judged), 'expectation')} met"
    if len(passed) == len(judged):
        asked = (
            "The one expectation was met"
            if len(judged) == 1
            else f"All {len(judged)} expectations were met"
        )
    parts = [asked]
    if failed:
        parts.append(
            "not met: " + "; ".join(f"{one.expectation} ({one.told})" for one in failed[:3])
        )
    if open_:
        parts.append("not decided: " + listed([one.expectation for one in open_], at_most=3))
    kind = "fail" if failed else "unknown" if open_ else "pass"
    return f"{'; '.join(parts)}. {came}".strip(), kind


#: Else a cap on what is in flight hides, as a closed loop does, how long users would wait.
DROPPED: Final = (
    "{:,} arrivals were dropped, since too many were in flight: no latency has their waiting in it."
)


def _what_came(analysis: Analysis) -> str:
    parts = []
    if analysis.curves:
        curve = analysis.curves[0]
        if curve.fresh.of:
            cell = f"R={curve.r} W={curve.w}"
            share = percent(curve.fresh.share)
            parts.append(f"{share} of {curve.fresh.of:,} reads at {cell} were fresh")
    found = [one for one in analysis.availability if one.ok.of and one.kind in ("read", "write")]
    if found:
        shares = " and ".join(f"{percent(one.ok.share)} of {one.kind}s" for one in found)
        parts.append(f"{shares} succeeded")
    came = f"{', and '.join(parts)}." if parts else "Nothing was measured."
    return f"{came} {DROPPED.format(dropped)}" if (dropped := analysis.health.dropped) else came


def rows(analysis: Analysis) -> list[Row]:
    """Every rate that is judged or that one would ask for first."""
    return [*_curves(analysis), *_checks(analysis), *_others(analysis)]


def _curves(analysis: Analysis) -> Iterator[Row]:
    for curve in analysis.curves:
        name = f"Fresh reads, R={curve.r} W={curve.w}, all t"
        yield Row(name, curve.fresh, None, None, f"t from {curve.origin}")


def _checks(analysis: Analysis) -> Iterator[Row]:
    for check in analysis.checks:
        if not check.violations.of:
            continue
        keys = check.keys if check.keys.of else None
        name = f"{check.name[:1].upper()}{check.name[1:]}: violations"
        yield Row(name, check.violations, keys, check.verdict, check.told)


def idle(analysis: Analysis) -> list[str]:
    """Checks that had no opportunity: a row of each would say nothing."""
    return [check.name for check in analysis.checks if not check.violations.of]


def _others(analysis: Analysis) -> Iterator[Row]:
    if analysis.set_full is not None:
        yield Row("Elements lost", analysis.set_full.lost, None, None, "set-full")
    for one in analysis.availability:
        reasons = listed([f"{why}: {number:,}" for why, number in one.reasons.items()])
        yield Row(f"{one.kind.capitalize()}s available", one.ok, None, None, reasons)


def available(analysis: Analysis, kind: str) -> str:
    """A line to stand beside figures of freshness: how many operations got an answer at all."""
    for one in analysis.availability:
        if one.kind == kind and one.ok.of:
            return (
                f"Availability: {percent(one.ok.share)} of {kind}s ({of(one.ok)}) succeeded; "
                "those that did not are not part of this figure."
            )
    return f"Availability of {kind}s: not measured."


def commands(material: Material) -> list[tuple[str, str]]:
    """(what it does, command): how each figure is computed again from the history, and the run made
    again."""
    directory = shlex.quote(material.directory)
    manifest = material.manifest
    what = f"{shlex.quote(manifest.scenario_name)} --target {shlex.quote(manifest.target)}"
    return [
        (
            "all figures again, from history.jsonl.zst and manifest.json",
            f"dynamo-bench analyze {directory}",
        ),
        ("this report again, from those figures", f"dynamo-bench report {directory}"),
        ("the raw history, a line an operation", f"zstd -dc {directory}/history.jsonl.zst | less"),
        (
            "the same load with the same seed, measured anew",
            f"dynamo-bench run {what} --seed {manifest.seed} --out {directory}-again",
        ),
        ("two runs side by side", f"dynamo-bench compare {directory} {directory}-again"),
    ]


def facts(material: Material) -> list[tuple[str, str]]:
    """What one has to know of a run to judge it, or to make it again."""
    manifest = material.manifest
    load: Any = manifest.scenario.get("load", {})
    seconds = (manifest.measured[1] - manifest.measured[0]) / 1e9
    # The manifest counts all: those of the load, the warm-up and the end too.
    measured = sum(one.ok.of for one in material.analysis.availability)
    machine = manifest.machine
    nodes, replicas = plural(len(manifest.nodes), "node"), plural(manifest.replicas, "replica")
    return [
        ("Date", _date(manifest.began_wall)),
        (
            "Target",
            f"{manifest.target}: {nodes}, {replicas} a key",
        ),
        ("Workload", _workload(manifest.scenario, load)),
        (
            "Measured",
            f"{seconds:g} s, {plural(measured, 'operation')}, warm-up left out",
        ),
        ("Commit", manifest.commit[:12] or "not known"),
        ("Seed", str(manifest.seed)),
        (
            "Machine",
            f"{machine.system}, {plural(machine.cores, 'core')}, load {machine.load_before:.2f} before",
        ),
        (
            "Versions",
            ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items()))
            or "not known",
        ),
        ("Clock", manifest.clock),
        ("Run", manifest.run),
    ]


def _date(text: str) -> str:
    """To the second, in UTC; as it is if it is no date."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text or "not known"
    if at.tzinfo is not None:
        at = at.astimezone(UTC)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _workload(scenario: dict[str, Any], load: Any) -> str:
    name = str(scenario.get("workload", "not known"))
    if not isinstance(load, dict) or not load:
        return name
    loop = load.get("loop", "open")
    asked = (
        f", {load.get('arrivals', 'poisson')} arrivals, {load.get('rate')} a second"
        if loop == "open"
        else ""
    )
    return f"{name}, {loop} loop{asked}, {load.get('sessions')} sessions"


def agreement_rows(predictions: tuple[Predicted, ...]) -> list[Predicted]:
    """Predictions that were held against what was measured."""
    return [one for one in predictions if one.agreement is not None]
