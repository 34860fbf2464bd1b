"""Measurements in the two text formats that Prometheus reads: its own, and OpenMetrics.

Version 0.0.4 of the first, 1.0.0 of the second (prometheus.io/docs/instrumenting/exposition_formats,
openmetrics.io). Pure: values in, bytes out. Knows nothing of what is measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from dynamo.latency import Histogram

Kind = Literal["counter", "gauge", "histogram"]
NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})

TEXT: Final = b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
OPENMETRICS: Final = b"Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
_OPENMETRICS_VERSIONS: Final = ("", "0.0.1", "1.0.0")
_Q: Final = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII)


class Sample(NamedTuple):
    """One line: a value under the family's name, `suffix` and labels."""

    value: float
    labels: Mapping[str, str] = NO_LABELS
    suffix: str = ""


class Metric(NamedTuple):
    """A family. `name` is without `_total`, which the samples of a counter get."""

    name: str
    kind: Kind
    help: str
    samples: Sequence[Sample]


def histogram_samples(histogram: Histogram, labels: Mapping[str, str]) -> list[Sample]:
    """The lines of one histogram: its buckets, each with all below it, its sum and its count."""
    samples = []
    below = 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        below += count
        samples.append(Sample(below, {**labels, "le": _number(bound)}, "_bucket"))
    samples.append(Sample(histogram.sum, labels, "_sum"))
    samples.append(Sample(below, labels, "_count"))
    return samples


def render(metrics: Iterable[Metric], *, openmetrics: bool) -> bytes:
    """The page."""
    lines: list[str] = []
    for metric in metrics:
        total = "_total" if metric.kind == "counter" else ""
        family = metric.name if openmetrics else metric.name + total
        text = _escape(metric.help, quotes=openmetrics)
        lines += (f"# HELP {family} {text}", f"# TYPE {family} {metric.kind}")
        for sample in metric.samples:
            labels = ",".join(
                f'{name}="{_escape(value, quotes=True)}"' for name, value in sample.labels.items()
            )
            shown = f"{{{labels}}}" if labels else ""
            lines.append(f"{metric.name}{sample.suffix or total}{shown} {_number(sample.value)}")
    if openmetrics:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines).encode()


def wants_openmetrics(accept: Sequence[str]) -> bool:
    """True if these Accept headers prefer OpenMetrics, in a version that is written here, to text."""
    best = {True: 0.0, False: 0.0}
    for item in ",".join(accept).lower().split(","):
        media, *parameters = (part.strip() for part in item.split(";"))
        given = {
            name.strip(): value.strip().strip('"')
            for name, _, value in (parameter.partition("=") for parameter in parameters)
        }
        weight = given.get("q", "1")
        q = float(weight) if _Q.fullmatch(weight) else 0.0
        if media == "application/openmetrics-text":
            if given.get("version", "") in _OPENMETRICS_VERSIONS:
                best[True] = max(best[True], q)
        elif media in ("text/plain", "text/*", "*/*"):
            best[False] = max(best[False], q)
    return best[True] > 0 and best[True] >= best[False]


def _escape(text: str, *, quotes: bool) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return repr(value)
