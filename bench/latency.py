"""Three times under three names, by HdrHistogram: how late, how long in service, how long in all.

Lag is start - intended: what the harness or a busy session was late. Service is end - start, response
end - intended: what a client felt, the waiting included. Lag is of all operations, the two others of
those that succeeded; how many did not is availability's to say, beside it. Nanoseconds, three
significant digits. Pure: operations in, figures and the text of a log out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
from hdrh.log import HistogramLogWriter  # type: ignore[import-untyped]

from bench.findings import Latency
from bench.history import Kind, Line, Op

Measure = Literal["lag", "service", "response"]

SECOND: Final = 1_000_000_000
#: What is longer counts as that long (ns): an hour.
HIGHEST: Final = 3_600 * SECOND
DIGITS: Final = 3
#: Values below 2^11 ns are exact; above, so many leading bits are.
_BITS: Final = 11
#: The figures of a `Latency`, by name.
QUANTILES: Final = (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)
#: Of a spectrum: dense towards 100 %, ten points each time the rest shrinks tenfold.
_SPECTRUM: Final = (0.0, *(100 * (1 - 10 ** (-step / 10)) for step in range(1, 61)), 100.0)


class _Tag(NamedTuple):
    kind: Kind
    measure: Measure

    def __str__(self) -> str:
        return f"{self.kind}-{self.measure}"


_TAGS: Final = tuple(
    _Tag(kind, measure) for kind in ("read", "write") for measure in ("lag", "service", "response")
)


class _Text:
    """What a log is written to: no file."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def write(self, text: str) -> None:
        self.parts.append(text)


class Times:
    """The times of a run, by second of the phase measured, which began at `begin` (ns)."""

    def __init__(self, begin: int) -> None:
        self._begin = begin
        self._values: defaultdict[tuple[int, _Tag], list[int]] = defaultdict(list)

    def note(self, line: Line) -> None:
        """One more line; what is not an operation of the phase measured is passed over, and so are
        directed reads, which ask one replica and are no client's."""
        if not isinstance(line, Op) or line.phase != "measure" or line.target:
            return
        second = (line.end - self._begin) // SECOND
        self._values[second, _Tag(line.kind, "lag")].append(line.start - line.intended)
        if line.outcome == "ok":
            self._values[second, _Tag(line.kind, "service")].append(line.end - line.start)
            self._values[second, _Tag(line.kind, "response")].append(line.end - line.intended)

    def latencies(self) -> tuple[Latency, ...]:
        """One for each kind and measure of which there is any."""
        whole: defaultdict[_Tag, list[int]] = defaultdict(list)
        for (_, tag), values in self._values.items():
            whole[tag] += values
        return tuple(_latency(tag, whole[tag]) for tag in _TAGS if tag in whole)

    def log(self) -> str:
        """A HdrHistogram log, an interval a second and tag ("read-response", ...), by which other tools
        plot and compare: nanoseconds, intervals in seconds from the begin of the phase measured,
        each interval's largest in milliseconds."""
        text = _Text()
        writer = HistogramLogWriter(text)
        writer.output_comment("[values: nanoseconds; times: seconds of the phase measured]")
        writer.output_log_format_version()
        writer.output_legend()
        for second, tag in sorted(self._values, key=lambda each: (each[0], _TAGS.index(each[1]))):
            histogram = _histogram(self._values[second, tag])
            histogram.set_start_time_stamp(second * 1000)
            histogram.set_end_time_stamp(second * 1000 + 1000)
            text.write(f"Tag={tag},")
            writer.output_interval_histogram(histogram)
        return "".join(text.parts)


def latencies(lines: Iterable[Line], begin: int = 0) -> tuple[Latency, ...]:
    """Of all that a history says of the phase measured."""
    times = Times(begin)
    for line in lines:
        times.note(line)
    return times.latencies()


def _latency(tag: _Tag, values: Sequence[int]) -> Latency:
    histogram = _histogram(values)
    at = histogram.get_percentile_to_value_dict(sorted({*QUANTILES, *_SPECTRUM}))
    ms = {f"{percentile:g}": at[percentile] / 1e6 for percentile in QUANTILES}
    return Latency(
        kind=tag.kind,
        measure=tag.measure,
        count=len(values),
        ms={**ms, "max": max(values) / 1e6},
        spectrum=tuple((percentile, at[percentile] / 1e6) for percentile in _SPECTRUM),
    )


def _histogram(values: Sequence[int]) -> Any:
    """Each distinct value is recorded once, with its count: the histogram itself is slow."""
    histogram = HdrHistogram(1, HIGHEST, DIGITS)
    clipped = np.clip(np.asarray(values, dtype=np.int64), 0, HIGHEST)
    dropped = np.maximum(np.frexp(clipped.astype(np.float64))[1] - _BITS, 0)
    coarse, counts = np.unique(clipped >> dropped << dropped, return_counts=True)
    for value, count in zip(coarse.tolist(), counts.tolist(), strict=True):
        histogram.record_value(value, count)
    return histogram
