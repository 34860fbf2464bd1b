"""The command `dynamo-bench`: one subcommand a measurement, each in a module of its own.

A module is imported only when it is asked for. Knows nothing of what they measure.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple


class _Command(NamedTuple):
    module: str
    purpose: str


COMMANDS: Final = {
    "analyze": _Command("analyze", "all figures of a run, computed again from its history"),
    "baseline": _Command("baseline", "measure scenarios and keep them, to be compared with"),
    "check-report": _Command("report_check", "is a report whole, in a headless Chromium?"),
    "compare": _Command("compare", "two runs side by side, and what tells them apart"),
    "exchange": _Command("exchange", "what it takes to find d differences among a million keys"),
    "floor": _Command("versus", "requests a second of the store and of the floor, in one run"),
    "gossip": _Command("gossip", "rounds until all know, and bytes a member, with a thousand"),
    "handoff": _Command("handoff", "hints a second to a node that returns, and who feels it"),
    "hotpath": _Command("hotpath", "Python calls and blocks per get and put, counted"),
    "memory": _Command("memory", "resident memory of a node with a million small objects"),
    "placement": _Command("placement", "what it costs to place a large ring and to plan a key"),
    "predict": _Command("predict", "how stale reads would be, of a model or a running cluster"),
    "report": _Command("report_command", "the report of a run: one HTML file"),
    "run": _Command("run", "carry a scenario out on a target, and keep what clients saw"),
    "selftest": _Command("selftest", "do the controls come out as they must?"),
    "short": _Command("short", "a few minutes of everything, to see that it works here"),
    "trees": _Command("trees", "what hash trees cost: memory, a rebuild, each write"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one measurement with the arguments that follow its name; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="dynamo-bench",
        description="Measure the store.",
        epilog="\n".join(f"{name:14}{command.purpose}" for name, command in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=sorted(COMMANDS), metavar="COMMAND")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="its own arguments")
    asked = parser.parse_args(arguments)
    try:
        module = importlib.import_module(f"bench.{COMMANDS[asked.command].module}")
        code: int = module.main(asked.rest)
    except KeyboardInterrupt:
        print(f"dynamo-bench {asked.command}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return code
