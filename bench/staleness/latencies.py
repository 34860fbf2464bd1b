"""Three latencies under three names, exact from the history: lag, service, response.

lag: how late it was sent, whatever came of it; service: from sent to answered; response: from when it
was due, which is what a user waits. Of these two only operations that succeeded count: others are in
`availability`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import numpy as np

from bench.findings import Latency
from bench.history import Op

#: As HdrHistogram's percentile spectrum.
PERCENTILES: Final = (
    *(0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 92.5, 95.0, 97.5),
    *(98.0, 99.0, 99.5, 99.75, 99.9, 99.95, 99.99, 99.995, 99.999, 100.0),
)
QUANTILES: Final = {"50": 50.0, "90": 90.0, "99": 99.0, "99.9": 99.9, "99.99": 99.99, "max": 100.0}
Measure = Literal["lag", "service", "response"]
MEASURES: Final[tuple[Measure, ...]] = ("lag", "service", "response")


def latencies(operations: Iterable[Op]) -> tuple[Latency, ...]:
    """Of the reads and writes of the phase measured, directed reads left out."""
    times: dict[str, dict[Measure, list[int]]] = {
        kind: {measure: [] for measure in MEASURES} for kind in ("read", "write")
    }
    for op in operations:
        if op.phase == "measure" and not op.target:
            of_kind = times[op.kind]
            of_kind["lag"].append(op.start - op.intended)
            if op.outcome == "ok":
                of_kind["service"].append(op.end - op.start)
                of_kind["response"].append(op.end - op.intended)
    return tuple(
        _latency(kind, measure, values)
        for kind, of_kind in times.items()
        for measure, values in of_kind.items()
        if values
    )


def _latency(kind: str, measure: Measure, values: Sequence[int]) -> Latency:
    ordered = np.sort(np.array(values, dtype=np.int64))
    return Latency(
        kind=kind,
        measure=measure,
        count=len(ordered),
        ms={name: _at(ordered, percent) for name, percent in QUANTILES.items()},
        spectrum=tuple((percent, _at(ordered, percent)) for percent in PERCENTILES),
    )


def _at(ordered: np.ndarray[tuple[int], np.dtype[np.int64]], percent: float) -> float:
    """The least value (milliseconds) that this share of them does not exceed."""
    place = max(0, int(np.ceil(percent / 100 * len(ordered) - 1e-9)) - 1)
    return float(ordered[place]) / 1e6
