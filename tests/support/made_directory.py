"""A run directory with a run that never was (`made_run`)."""

from __future__ import annotations

from pathlib import Path

import msgspec
from made_run import made_material

from bench.report.material import Material
from bench.run_directory import Predicted, RunDirectory


def write_run(
    path: Path, material: Material | None = None, *, analysed: bool = True
) -> RunDirectory:
    """The directory of this run, or of one with all that there can be."""
    material = made_material() if material is None else material
    run = RunDirectory.create(path)
    run.write_manifest(material.manifest)
    with run.history_writer() as writer:
        for operation in material.operations.values():
            writer.add(operation)
    if analysed:
        run.write_analysis(material.analysis)
        run.write_predictions(
            [
                Predicted(
                    prediction=one.prediction,
                    agreement=None if one.agreement is None else msgspec.to_builtins(one.agreement),
                )
                for one in material.predictions
            ]
        )
    return run
