"""`dynamo-bench short`: a few minutes of everything, to see that all of it works here.

Too short to publish from: each step says by how many reads its figures stand. Reads the command line
and prints.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from rich.console import Console
from rich.markup import escape

from bench import predict
from bench.command import INTERRUPTED, told
from bench.findings import Analysis
from bench.parser import FAILED, Parser
from bench.recompute import recompute
from bench.report.material import Predicted
from bench.report_command import predictions_of
from bench.run_directory import REPORT, RunDirectory
from bench.running import Asked, measure
from bench.scene_files import find, names
from bench.target_choice import check_target

#: "void": nothing was shown, since the harness did not keep time.
Came = Literal["fine", "failed", "void", "cut"]
COLOURS: Final = {"pass": "green", "fail": "red", "unknown": "yellow"}
#: The one report that is worth a look, among those that are made.
SHOWN: Final = "partition-heal-nodes"


class Step(NamedTuple):
    """One run. `target`: "" for the scenario's first. `settings`: as of `--set`."""

    scenario: str
    target: str = ""
    settings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.scenario}-{self.target}" if self.target else self.scenario


#: Two cells of the grid (strict quorums are among the controls), with 4,000 reads of each: fewer tell
#: nothing.
_GRID: Final = ("options.cells=[[1,1],[2,1]]", "load.duration=60", "load.rate=140")
STEPS: Final = (
    Step("pbs-grid", "nodes", _GRID),
    Step("healthy", "nodes", ("load.duration=10",)),
    Step("partition-heal", "nodes", ("load.duration=20",)),
    Step("partition-heal", "sim"),
)


def main(arguments: Sequence[str]) -> int:
    """0 if nothing failed and no run was void."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    console = Console(highlight=False)
    begin = time.monotonic()
    failed: list[str] = []
    void: list[str] = []
    with told(parser.prog):
        for step in (*_controls(), *STEPS):
            came = _take(step, asked, console)
            if came == "cut":
                return INTERRUPTED
            if came == "void":
                void.append(step.name)
            elif came == "failed":
                failed.append(step.name)
    console.print("[bold]predictions[/] of PBS, from the published fit LNKD-DISK")
    predict.main(["--model", "LNKD-DISK", "--grid", "--trials", "200000"])
    console.print(f"all of it took {time.monotonic() - begin:.0f} s")
    if failed:
        console.print(f"[red]not as expected[/]: {', '.join(failed)}", soft_wrap=True)
    if void:
        console.print(
            f"[yellow]void[/], this machine was too busy: {', '.join(void)}", soft_wrap=True
        )
    console.print(f"a report to open: {asked.out / SHOWN / REPORT}", soft_wrap=True)
    return FAILED if failed or void else 0


def _controls() -> Iterator[Step]:
    for name in names():
        if find(name).control:
            yield Step(name, settings=("load.duration=6",))


def _take(step: Step, asked: argparse.Namespace, console: Console) -> Came:
    """How it came out."""
    scenario = find(step.scenario, step.settings)
    target = step.target or scenario.targets[0]
    check_target(target, scenario)
    console.print(f"[bold]{scenario.name}[/] on {target}")
    begin = time.monotonic()
    out = asked.out / step.name
    driven = measure(Asked(scenario, target, out, force=True))
    if driven.cut:
        return "cut"
    directory = RunDirectory.open(out)
    analysis = recompute(directory)
    tell(analysis, console)
    tell_predictions(predictions_of(directory), console)
    took = time.monotonic() - begin
    console.print(f"  {took:.0f} s; report: {out / REPORT}", soft_wrap=True)
    if driven.void:
        return "void"
    return "failed" if any(one.verdict == "fail" for one in analysis.judged) else "fine"


def tell(analysis: Analysis, console: Console) -> None:
    """What was expected, and what came of it; how fresh reads were."""
    for curve in analysis.curves:
        if curve.origin == "client commit":
            rate = curve.fresh
            console.print(
                f"  fresh R={curve.r} W={curve.w}: {rate.count} of {rate.of}"
                f" ({rate.low:.2%} to {rate.high:.2%})"
            )
    for one in analysis.judged:
        colour = COLOURS[one.verdict]
        console.print(
            f"  [{colour}]{one.verdict:8}[/]{escape(f'{one.expectation}: {one.told}')}",
            soft_wrap=True,
        )
    if analysis.health.void:
        console.print(f"  [red]void[/]    {escape(analysis.health.void)}", soft_wrap=True)


def tell_predictions(predicted: Sequence[Predicted], console: Console) -> None:
    """How each prediction agrees."""
    for one in predicted:
        if one.agreement is None:
            continue
        colour = COLOURS[one.agreement.verdict]
        where = f"{one.prediction.model}, {one.prediction.sampling}"
        cell = f"R={one.prediction.r} W={one.prediction.w}"
        console.print(
            f"  [{colour}]{one.agreement.verdict:8}[/]{cell} as predicted ({where}):"
            f" {escape(one.agreement.told)}",
            soft_wrap=True,
        )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="dynamo-bench short",
        description="Some minutes of everything: controls, a grid, faults, predictions, reports.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path(".dynamo-bench"),
        help="the runs are kept there, in place of those before (default: %(default)s)",
    )
    return parser
