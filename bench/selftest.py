"""`dynamo-bench selftest`: run all controls; each must come out as it has to.

A harness that finds nothing where there is something, or something where there is nothing, measures
itself. Reads the command line and prints; what must come of a control is `bench.controls`'.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench.command import INTERRUPTED, told
from bench.parser import FAILED, Parser
from bench.places import place
from bench.recompute import recompute
from bench.run_directory import RunDirectory
from bench.running import Asked, measure
from bench.scene_files import find, names

COLOURS = {"pass": "green", "fail": "red", "unknown": "yellow"}


def main(arguments: Sequence[str]) -> int:
    """0 if all controls behave, 1 if one does not, or could not be run."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    console = Console(highlight=False)
    behaved = []
    with told(parser.prog), place(asked.out) as out:
        for name in _controls():
            done = control(name, out / name, asked, console)
            if done is None:
                return INTERRUPTED
            behaved.append(done)
    console.print(f"{sum(behaved)} of {len(behaved)} controls behave")
    return 0 if behaved and all(behaved) else FAILED


def control(name: str, out: Path, asked: argparse.Namespace, console: Console) -> bool | None:
    """Whether it came out as it has to; None if it was cut short. Raises as `bench.running.measure`."""
    settings = [] if asked.duration is None else [f"load.duration={asked.duration}"]
    scenario = find(name, settings)
    target = asked.target if asked.target in scenario.targets else scenario.targets[0]
    console.print(f"[bold]{name}[/] on {target}: {scenario.told}", soft_wrap=True)
    driven = measure(Asked(scenario, target, out, force=asked.force), live=None)
    if driven.cut:
        return None
    analysis = recompute(RunDirectory.open(out), report=asked.out is not None)
    for one in analysis.judged:
        line = f"{one.verdict:8}[/]{escape(f'{one.expectation}: {one.told}')}"
        console.print(f"  [{COLOURS[one.verdict]}]{line}", soft_wrap=True)
    if driven.void:
        console.print(f"  [red]void[/]    {escape(driven.void)}", soft_wrap=True)
    return not driven.void and {one.verdict for one in analysis.judged} == {"pass"}


def _controls() -> list[str]:
    return [name for name in names() if find(name).control]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="dynamo-bench selftest",
        description="Run all controls: what has to be found is found, and nothing else.",
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the runs there")
    parser.add_argument("--force", action="store_true", help="write over runs that are there")
    parser.add_argument(
        "--target", choices=("nodes", "sim"), help="for those that need a cluster (default: nodes)"
    )
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="of each")
    return parser
