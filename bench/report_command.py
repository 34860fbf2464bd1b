"""`dynamo-bench report DIR`: the report of a run, from what its directory holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.findings import Analysis
from bench.history import BadHistory
from bench.parser import Parser
from bench.pbs.agreement import CurveAgreement
from bench.report.material import Material, Predicted, evidence_numbers, pick
from bench.report.render import render
from bench.run_directory import REPORT, BadDirectory, RunDirectory


class ReportFailed(Exception):
    """There is no report to be made of a directory; the message says why."""


def analysis_of(run: RunDirectory) -> Analysis:
    """Raises ReportFailed if the run was not analysed, BadHistory, OSError."""
    analysis = run.analysis()
    if analysis is None:
        raise ReportFailed(
            f"{run.path} was not analysed: do that first, with dynamo-bench analyze {run.path}"
        )
    return analysis


def predictions_of(run: RunDirectory) -> tuple[Predicted, ...]:
    """Raises BadHistory, OSError."""
    return tuple(
        Predicted(
            prediction=one.prediction,
            agreement=None
            if one.agreement is None
            else _convert(one.agreement, run.path / "predictions.json"),
        )
        for one in run.predictions()
    )


def _convert(found: dict[str, object], path: Path) -> CurveAgreement:
    try:
        return msgspec.convert(found, CurveAgreement)
    except msgspec.ValidationError as error:
        raise BadHistory(f"{path}: {error}") from None


def material_of(directory: Path) -> Material:
    """All that a report is made from. A history that is gone or damaged costs the evidence alone, and
    the report says so. Raises ReportFailed."""
    try:
        run = RunDirectory.open(directory)
        manifest, analysis = run.manifest(), analysis_of(run)
        predictions = predictions_of(run)
    except (BadDirectory, BadHistory, OSError) as error:
        raise ReportFailed(str(error)) from error
    remarks = []
    operations = {}
    try:
        operations = pick(run.lines(), evidence_numbers(analysis))
        if run.cut:
            remarks.append(f"The history is not whole: {run.cut}")
    except (BadHistory, OSError) as error:
        remarks.append(f"The evidence of anomalies could not be read: {error}")
    return Material(manifest, analysis, predictions, operations, str(directory), tuple(remarks))


def rendered(directory: Path) -> str:
    """The report, as HTML. Raises ReportFailed."""
    return render(material_of(directory))


def main(arguments: Sequence[str]) -> int:
    """Writes the file; exit code 1 if there is no report to be made."""
    parser = Parser(
        prog="dynamo-bench report",
        description="Write the report of a run: one HTML file that needs nothing else.",
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", type=Path, help="of a run that was analysed")
    parser.add_argument("--out", metavar="FILE", type=Path, help=f"instead of DIR/{REPORT}")
    asked = parser.parse_args(arguments)
    out = asked.out if asked.out is not None else asked.directory / REPORT
    try:
        page = rendered(asked.directory)
        part = out.with_name(out.name + ".part")
        part.write_text(page, "utf-8")
        part.replace(out)
    except (ReportFailed, OSError) as error:
        return parser.failed(error)
    print(out)
    return 0
