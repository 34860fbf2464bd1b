"""All that is made from a run's history: analysis, predictions, tables, report.

The same directory gives the same figures, whoever computes them and however often: nothing is drawn
but by a seed, and nothing is taken over from an earlier analysis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from bench.analysis import DEFAULT, analyse
from bench.controls import judge_control
from bench.findings import Analysis, Judged
from bench.history import Line
from bench.latency import Times
from bench.predicting import predict_run, scenario_of
from bench.report_command import rendered
from bench.run_directory import LATENCY, REPORT, SUMMARY, Predicted, RunDirectory
from bench.staleness.budget import Budget
from bench.staleness.judge import judge
from bench.summary import summary_csv


def recompute(
    directory: RunDirectory,
    *,
    seed: int | None = None,
    budget: Budget = DEFAULT,
    report: bool = True,
) -> Analysis:
    """Everything is in the directory, anew. `seed`: of what is drawn, None for the run's own. `report`:
    draw the HTML file too, which takes longest. Raises BadHistory, BadScenario, OSError."""
    manifest = directory.manifest()
    scenario = scenario_of(manifest)
    seed = abs(manifest.seed) if seed is None else seed
    times = Times(manifest.measured[0])
    analysis = analyse(manifest, _noting(times, directory.lines()), seed=seed, budget=budget)
    compared, missing = predict_run(manifest, scenario, analysis.curves, directory.wars(), seed)
    agreed = [one.agreement.verdict for one in compared if one.agreement is not None]
    judged = (
        *judge_control(manifest, scenario, analysis),
        *judge(scenario.expect, analysis, agreed),
        *(Judged(expectation="a prediction", verdict="unknown", told=why) for why in missing),
    )
    analysis = msgspec.structs.replace(analysis, judged=judged)
    directory.write_analysis(analysis)
    directory.write_predictions(
        [
            Predicted(prediction=one.prediction, agreement=msgspec.to_builtins(one.agreement))
            for one in compared
        ]
    )
    directory.write_text(LATENCY, times.log())
    directory.write_text(SUMMARY, summary_csv(analysis))
    if report:
        directory.write_text(REPORT, rendered(directory.path))
    return analysis


def _noting(times: Times, lines: Iterable[Line]) -> Iterator[Line]:
    for line in lines:
        times.note(line)
        yield line
