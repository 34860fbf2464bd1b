"""All that is made from a run's history: analysis, predictions, tables, report.

The same directory gives the same figures, whoever computes them and however often: nothing is drawn
but by the manifest's seed, and nothing is taken over from an earlier analysis.
"""

from __future__ import annotations

import msgspec

from bench.analysis import DEFAULT, analyse
from bench.controls import judge_control
from bench.findings import Analysis, Judged
from bench.predicting import predict_run, scenario_of
from bench.run_directory import Predicted, RunDirectory
from bench.staleness.budget import Budget
from bench.staleness.judge import judge


def recompute(
    directory: RunDirectory, *, seed: int | None = None, budget: Budget = DEFAULT
) -> Analysis:
    """Everything is in the directory, anew. `seed`: None for the run's own. Raises BadHistory,
    BadScenario, OSError."""
    manifest = directory.manifest()
    scenario = scenario_of(manifest)
    analysis = analyse(
        manifest, directory.lines(), seed=manifest.seed if seed is None else seed, budget=budget
    )
    compared, missing = predict_run(manifest, scenario, analysis.curves, directory.wars())
    agreed = [one.agreement.verdict for one in compared if one.agreement is not None]
    judged = (
        *judge_control(manifest, scenario, analysis),
        *judge(scenario.expect, analysis, agreed),
        *(Judged(expectation="a prediction", verdict="unknown", told=why) for why in missing),
    )
    analysis = msgspec.structs.replace(analysis, judged=judged)
    directory.write_predictions(
        [
            Predicted(prediction=one.prediction, agreement=msgspec.to_builtins(one.agreement))
            for one in compared
        ]
    )
    directory.write_analysis(analysis)
    return analysis
