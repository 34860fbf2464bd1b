"""What a report is made from: all that a run directory holds, decoded.

Data only; who reads it from a disk is `bench.report_command`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from bench.findings import Analysis, Curve
from bench.history import Line, Manifest, Op
from bench.pbs.agreement import CurveAgreement
from bench.pbs.prediction import Prediction

#: Anomalies told with their evidence.
WORST: Final = 20
#: Operations told for one anomaly.
EVIDENCE_MAX: Final = 8


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction, and how what was measured agrees with it, if that was asked."""

    prediction: Prediction
    agreement: CurveAgreement | None = None


class Material(NamedTuple):
    """`operations`: those that tell of the worst anomalies, by number. `directory`: how the run is
    called in the commands that compute it again. `remarks`: what was found wrong while reading."""

    manifest: Manifest
    analysis: Analysis
    predictions: tuple[Predicted, ...] = ()
    operations: Mapping[int, Op] = {}
    directory: str = "DIR"
    remarks: tuple[str, ...] = ()


def evidence_numbers(analysis: Analysis) -> set[int]:
    """Numbers of the operations that a report tells of."""
    worst = analysis.anomalies[:WORST]
    return {n for one in worst for n in (one.op, *one.evidence[:EVIDENCE_MAX])}


def pick(lines: Iterable[Line], numbers: set[int]) -> dict[int, Op]:
    """Those operations of a history, by number; goes over all of it once."""
    if not numbers:
        return {}
    return {line.n: line for line in lines if isinstance(line, Op) and line.n in numbers}


def about(curve: Curve, predictions: Iterable[Predicted], n: int) -> list[Predicted]:
    """The predictions of this curve's cell."""
    return [
        one
        for one in predictions
        if (one.prediction.n, one.prediction.r, one.prediction.w) == (n, curve.r, curve.w)
    ]
