"""`dynamo-bench analyze DIR`: compute every figure of a run again from its history.

Writes analysis.json (and predictions.json) into the run's directory, and prints what came of it. The
same history, seed and budget give the same figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.analysis import DEFAULT
from bench.findings import Analysis, Check
from bench.history import BadHistory
from bench.parser import Parser
from bench.recompute import recompute
from bench.run_directory import BadDirectory, RunDirectory
from bench.scenario import BadScenario
from bench.staleness.budget import Budget


def main(arguments: Sequence[str]) -> int:
    """The command; its exit code. A check that failed is a finding, not a failure."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    try:
        directory = RunDirectory.open(asked.directory)
        analysis = recompute(directory, seed=asked.seed, budget=asked.budget)
    except (BadDirectory, BadHistory, BadScenario, OSError) as error:
        return parser.failed(error)
    for line in told(analysis, cut=directory.cut):
        print(line)
    return 0


def told(analysis: Analysis, *, cut: str = "") -> Iterator[str]:
    """A summary for people, a line a thing."""
    yield f"{analysis.scenario} on {analysis.target}, run {analysis.run}"
    for warning in (analysis.health.void and f"void: {analysis.health.void}", cut):
        if warning:
            yield warning
    for curve in analysis.curves:
        rate = curve.fresh
        yield (
            f"fresh r={curve.r} w={curve.w} since {curve.origin}: {rate.count} of {rate.of} "
            f"({rate.low * 100:.2f} to {rate.high * 100:.2f} %)"
        )
    yield "; ".join(_check(check) for check in analysis.checks if check.violations.of)
    for judged in analysis.judged:
        yield f"{judged.verdict}: {judged.expectation}: {judged.told}"


def _check(check: Check) -> str:
    return f"{check.name} {check.violations.count}/{check.violations.of}"


def _parser() -> Parser:
    parser = Parser(
        prog="dynamo-bench analyze",
        description="Compute every figure of a run again from its history.",
        allow_abbrev=False,
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="of a run")
    parser.add_argument(
        "--seed", type=_seed, help="of the bootstrap (default: the run's own)", metavar="N"
    )
    parser.add_argument(
        "--budget",
        type=_budget,
        default=DEFAULT,
        metavar="X",
        help="so many times the work of the default before a metric says that it does not know",
    )
    return parser


def _seed(text: str) -> int:
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed < 2**64:
        raise argparse.ArgumentTypeError(f"{text} is no seed: a whole number from 0 to 2^64 - 1")
    return seed


def _budget(text: str) -> Budget:
    try:
        return DEFAULT.scaled(float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text} is no budget: a number above 0, at most 1,000,000"
        ) from None
