"""`dynamo-bench run`: carry a scenario out on a target, and keep all that was seen in a directory.

Reads the command line and prints; the run is `bench.running`'s, what is made from it
`bench.recompute`'s.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.command import INTERRUPTED, told
from bench.load.drive import Driven
from bench.parser import Parser
from bench.recompute import recompute
from bench.run_directory import ANALYSIS, REPORT, RunDirectory
from bench.running import Asked, measure
from bench.scenario import Scenario
from bench.scene_files import every, find, names
from bench.summary import print_summary


def main(arguments: Sequence[str]) -> int:
    """One run. 2 for wrong usage, 1 for what failed, was void or not as expected."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    console = Console()
    if asked.list:
        print_scenarios(console)
        return 0
    if asked.scenario is None or asked.out is None:
        parser.error("name a scenario and --out DIR, or ask for the --list")
    with told(parser.prog):
        scenario = _scenario(asked)
        return run(
            Asked(
                scenario,
                asked.target or scenario.targets[0],
                asked.out,
                force=asked.force,
                parent=asked.data_dir,
            ),
            console,
            report=not asked.no_report,
        )


def run(asked: Asked, console: Console, *, report: bool = True) -> int:
    """Measure, compute, print; its exit code. Raises as `measure` and `recompute`."""
    driven = measure(asked, live=sys.stdout)
    if driven.cut:
        console.print(
            f"cut short: what was seen until then is in {asked.out}, and void; to look at it:"
            f" dynamo-bench analyze {asked.out}",
            soft_wrap=True,
            highlight=False,
        )
        return INTERRUPTED
    directory = RunDirectory.open(asked.out)
    analysis = recompute(directory, report=report)
    print_summary(analysis, console)
    if report:
        console.print(f"report: {asked.out / REPORT}", soft_wrap=True, highlight=False)
    console.print(f"figures: {asked.out / ANALYSIS}", soft_wrap=True, highlight=False)
    return 0 if is_as_expected(driven, [one.verdict for one in analysis.judged]) else 1


def is_as_expected(driven: Driven, verdicts: Sequence[str]) -> bool:
    """Whether the run counts, and no expectation failed."""
    return not driven.void and "fail" not in verdicts


def print_scenarios(console: Console) -> None:
    """Those that come with the harness, with what each is for."""
    table = Table(box=None, pad_edge=False)
    for name in ("scenario", "targets", "what it shows"):
        table.add_column(name, no_wrap=name == "scenario")
    for one in every():
        table.add_row(one.name, " ".join(one.targets), one.told)
    console.print(table)


def _scenario(asked: argparse.Namespace) -> Scenario:
    settings = [*asked.set]
    for name in ("rate", "duration"):
        if getattr(asked, name) is not None:
            settings.append(f"load.{name}={getattr(asked, name)}")
    if asked.seed is not None:
        settings.append(f"seed={asked.seed}")
    return find(asked.scenario, settings)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="dynamo-bench run",
        description="Carry a scenario out and keep all that clients saw, to be analysed.",
        epilog=f"scenarios: {', '.join(names())}",
        allow_abbrev=False,
    )
    parser.add_argument("scenario", nargs="?", help="its name, or the path of a TOML file")
    parser.add_argument(
        "--target",
        metavar="TARGET",
        help="nodes (started for it), sim, delay, null, or addresses: http://a:1,http://b:2"
        " (default: the scenario's first)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="a new directory")
    parser.add_argument("--force", action="store_true", help="write over a run that is in DIR")
    parser.add_argument("--seed", type=int, metavar="N", help="of all that is drawn")
    parser.add_argument("--rate", type=float, metavar="N", help="arrivals a second")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="of the phase measured")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change the scenario: load.sessions=4, options.r=2, cluster.properties.w=2",
    )
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="where the nodes keep their data meanwhile"
    )
    parser.add_argument("--no-report", action="store_true", help="draw no report.html")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    return parser
