"""All that is made from a run's history: analysis, predictions, tables, report.

The same directory gives the same figures, whoever computes them and however often: nothing is drawn
but by the manifest's seed, and nothing is taken over from an earlier analysis.
"""

from __future__ import annotations

import msgspec

from bench.analysis import analyse
from bench.controls import judge_control
from bench.findings import Analysis
from bench.predicting import judge, predict_run, scenario_of, with_judged
from bench.run_directory import Predicted, RunDirectory


def recompute(directory: RunDirectory) -> Analysis:
    """Everything is in the directory, anew. Raises BadHistory, BadScenario, OSError."""
    manifest = directory.manifest()
    scenario = scenario_of(manifest)
    analysis = analyse(manifest, directory.lines(), seed=manifest.seed)
    compared, missing = predict_run(manifest, scenario, analysis.curves, directory.wars())
    judged = [
        *judge_control(manifest, scenario, analysis),
        *judge(scenario, compared, missing),
    ]
    analysis = with_judged(analysis, judged)
    directory.write_predictions(
        [
            Predicted(prediction=one.prediction, agreement=msgspec.to_builtins(one.agreement))
            for one in compared
        ]
    )
    directory.write_analysis(analysis)
    return analysis
