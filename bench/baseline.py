"""`dynamo-bench baseline`: measure some scenarios and keep them, to hold later runs against.

A baseline is a directory of runs, one a scenario, with `baseline.json`: what was measured, of which
commit, on which machine. `--against` an older one says which figures differ by more than chance.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from bench import provenance
from bench.command import INTERRUPTED, told
from bench.compare import print_comparison
from bench.comparison import compare
from bench.figures import figures
from bench.findings import Analysis
from bench.history import BAD_JSON, BadHistory, Machine, Manifest
from bench.parser import FAILED, Parser
from bench.recompute import recompute
from bench.run_directory import BadDirectory, RunDirectory
from bench.running import Asked, measure
from bench.scenario import Scenario
from bench.scene_files import find
from bench.target_choice import check_target

INDEX: Final = "baseline.json"
#: Without faults, with a slow node, with a partition.
SCENARIOS: Final = ("healthy", "slow-replica", "partition-heal")


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario. `figures`: the coarse ones, by name and origin; the run's directory has all."""

    run: str
    target: str
    seed: int
    void: str
    figures: dict[str, float | None]


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """The index. `taken`: ISO 8601, UTC. `scenarios`: by the name of their directory."""

    format: int = 1
    taken: str
    commit: str
    machine: Machine
    scenarios: dict[str, Kept]


def main(arguments: Sequence[str]) -> int:
    """0 if all was measured; 1 if a run was void, or something failed."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    console = Console(highlight=False)
    with told(parser.prog):
        settings = [*asked.set]
        if asked.duration is not None:
            settings.append(f"load.duration={asked.duration}")
        scenarios = [find(name, settings) for name in asked.scenario or SCENARIOS]
        for scenario in scenarios:
            check_target(_target(asked, scenario), scenario)
        before = None if asked.against is None else read_baseline(asked.against)
        taken = _take(scenarios, asked, console)
        if taken is None:
            return INTERRUPTED
        if before is not None:
            _compare(asked.against, before, asked.out, taken, console)
        console.print(f"baseline: {asked.out / INDEX}", soft_wrap=True)
        for name in taken.scenarios:
            line = f"dynamo-bench compare {asked.out / name} DIR"
            console.print(f"to compare a run of {name} with it: {line}", soft_wrap=True)
        return FAILED if any(one.void for one in taken.scenarios.values()) else 0


def read_baseline(path: Path) -> Baseline:
    """Of a directory. Raises BadDirectory, OSError."""
    if not (path / INDEX).is_file():
        raise BadDirectory(f"{path} is no baseline: it has no {INDEX}")
    try:
        return msgspec.json.decode((path / INDEX).read_bytes(), type=Baseline)
    except BAD_JSON as error:
        raise BadDirectory(f"{path / INDEX}: {error}") from None


def _target(asked: argparse.Namespace, scenario: Scenario) -> str:
    return asked.target or scenario.targets[0]


def _take(
    scenarios: Sequence[Scenario], asked: argparse.Namespace, console: Console
) -> Baseline | None:
    """None if it was cut short."""
    kept: dict[str, Kept] = {}
    asked.out.mkdir(parents=True, exist_ok=True)
    for scenario in scenarios:
        target = _target(asked, scenario)
        console.print(f"[bold]{scenario.name}[/] on {target}")
        out = asked.out / scenario.name
        driven = measure(Asked(scenario, target, out, force=asked.force), live=sys.stdout)
        if driven.cut:
            return None
        directory = RunDirectory.open(out)
        analysis = recompute(directory)
        kept[scenario.name] = _kept(directory.manifest(), analysis)
        if driven.void:
            console.print(f"[red]void[/]: {driven.void}")
    taken = Baseline(
        taken=provenance.wall_time(),
        commit=provenance.commit(),
        machine=provenance.machine(),
        scenarios=kept,
    )
    data = msgspec.json.format(msgspec.json.encode(taken), indent=1) + b"\n"
    (asked.out / INDEX).write_bytes(data)
    return taken


def _kept(manifest: Manifest, analysis: Analysis) -> Kept:
    return Kept(
        run=manifest.run,
        target=manifest.target,
        seed=manifest.seed,
        void=manifest.void,
        figures={
            f"{one.name} ({one.origin})" if one.origin else one.name: one.value
            for one in figures(analysis)
            if not one.fine
        },
    )


def _compare(
    old_path: Path, old: Baseline, new_path: Path, new: Baseline, console: Console
) -> None:
    """Raises BadHistory, BadDirectory, OSError."""
    for name in new.scenarios:
        console.print(f"[bold]{name}[/]: {old_path} (A), {new_path} (B)", soft_wrap=True)
        if name not in old.scenarios:
            console.print("  the older one has none")
            continue
        print_comparison(compare(_read(old_path / name), _read(new_path / name)), console)


def _read(path: Path) -> tuple[Manifest, Analysis]:
    directory = RunDirectory.open(path)
    analysis = directory.analysis()
    if analysis is None:
        raise BadHistory(f"{path} was not analysed")
    return directory.manifest(), analysis


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="dynamo-bench baseline",
        description="Measure scenarios and keep them, to hold later runs against.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "scenario", nargs="*", help=f"names or TOML files (default: {' '.join(SCENARIOS)})"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="kept there")
    parser.add_argument("--force", action="store_true", help="write over a baseline that is there")
    parser.add_argument("--target", metavar="TARGET", help="of all (default: each one's first)")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="of each")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of each")
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="an older baseline, to compare with"
    )
    return parser
