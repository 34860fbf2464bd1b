"""An analysis as one HTML file that needs nothing else: no network, no script, no font.

`render` is a function of its argument alone: the same material gives the same bytes. All text comes
from outside (keys, error messages, names of scenarios) and is escaped; only what `bench.report.paint`
has drawn is not.
"""

from __future__ import annotations

import itertools
from importlib import resources
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from bench.findings import Curve, Origin
from bench.report import heat, numbers, verdict
from bench.report.evidence import worst
from bench.report.freshness_chart import AXES, freshness
from bench.report.latency_chart import spectrum
from bench.report.material import Material, Predicted, about
from bench.report.small_charts import agreement, convergence, k_histogram
from bench.report.time_chart import gamma, time_line

#: Curves drawn; the others stand in the tables.
CURVES_MAX = 12
#: Id and title of each section, in order: all are in every report, also those without data.
SECTIONS = (
    ("verdict", "Verdict"),
    ("freshness", "Freshness over time"),
    ("prediction", "Prediction"),
    ("latency", "Latency"),
    ("time", "Time line"),
    ("versions", "Versions behind"),
    ("sessions", "Session guarantees"),
    ("registers", "Registers and zones"),
    ("elements", "Set of elements"),
    ("windows", "Inconsistency windows"),
    ("phi", "Agreement of replicas"),
    ("convergence", "Convergence after the heal"),
    ("availability", "Availability"),
    ("anomalies", "Worst anomalies"),
    ("health", "Health of the harness"),
    ("again", "How to compute this again"),
    ("definitions", "Definitions"),
)
SESSION_CHECKS = (
    *("read your writes", "monotonic reads", "monotonic read pairs"),
    *("monotonic writes", "writes follow reads", "consistent prefix"),
)


def render(material: Material) -> str:
    """The report of one run."""
    files = resources.files("bench.report")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda name: files.joinpath(name).read_text("utf-8")),
    )
    environment.filters.update(
        ms=numbers.milliseconds,
        designed=numbers.designed,
        percent=numbers.percent,
        interval=numbers.interval,
        of=numbers.of,
        count=numbers.count,
        number=numbers.number,
        points=lambda value: numbers.NONE if value is None else f"{value:.2f}",
        plural=numbers.plural,
    )
    style = files.joinpath("report.css").read_text("utf-8")
    page = environment.get_template("report.html").render(
        # The style sheet is this package's own file.
        style=Markup(style),  # noqa: S704
        **_page(material),
    )
    return page.rstrip() + "\n"


def _page(material: Material) -> dict[str, Any]:
    analysis, manifest = material.analysis, material.manifest
    begin = manifest.measured[0]
    said, kind = verdict.headline(analysis)
    predictions = [one.prediction for one in material.predictions]
    maps = heat.heat_maps(predictions, analysis.curves)
    return {
        "m": manifest,
        "a": analysis,
        "sections": SECTIONS,
        "headline": said,
        "headline_kind": kind,
        "facts": verdict.facts(material),
        "remarks": material.remarks,
        "rows": verdict.rows(analysis),
        "idle": verdict.idle(analysis),
        "words": verdict.WORDS,
        "curves": _curves(material),
        "axes": AXES,
        "reads_available": verdict.available(analysis, "read"),
        "predictions": material.predictions,
        "agreed": verdict.agreement_rows(material.predictions),
        "heat_maps": maps,
        "heat_told": heat.told(predictions) if maps else "",
        "spectrum": spectrum(analysis.latencies),
        "time_line": time_line(analysis.seconds, analysis.events, begin),
        "k_histogram": k_histogram(analysis.staleness) if analysis.staleness else None,
        "session_checks": [one for one in analysis.checks if one.name in SESSION_CHECKS],
        "other_checks": [one for one in analysis.checks if one.name not in SESSION_CHECKS],
        "gamma": gamma(analysis.zones.scores, analysis.events, begin) if analysis.zones else None,
        "agreement": agreement(analysis.agreements),
        "convergence": convergence(analysis.convergence),
        "anomalies": worst(analysis.anomalies, material.operations, begin),
        "commands": verdict.commands(material),
        "scenario_text": _pretty(manifest.scenario),
        "configuration_text": _pretty(manifest.configuration),
    }


def _curves(material: Material) -> list[dict[str, Any]]:
    """By cell: the curve that stands for it, and those from other origins."""
    cells: dict[tuple[int, int], list[Curve]] = {}
    for curve in material.analysis.curves:
        cells.setdefault((curve.r, curve.w), []).append(curve)
    found = []
    for cell in sorted(cells):
        predictions = about(cells[cell][0], material.predictions, material.manifest.replicas)
        first, *rest = sorted(
            cells[cell], key=lambda one: _RANKS[bool(predictions)].index(one.origin)
        )
        found.append((first, rest, predictions))
    others = itertools.count(len(found))  # each cell's first curve is drawn before any other
    return [
        {
            "first": _curve(first, predictions, drawn=number < CURVES_MAX),
            "others": [_curve(one, predictions, drawn=next(others) < CURVES_MAX) for one in rest],
        }
        for number, (first, rest, predictions) in enumerate(found)
    ]


#: Which origin stands for a cell: what the client sees; beside predictions what they count from.
_RANKS: dict[bool, tuple[Origin, ...]] = {
    False: ("client commit", "coordinator commit", "write start"),
    True: ("coordinator commit", "client commit", "write start"),
}


def _curve(curve: Curve, predictions: list[Predicted], *, drawn: bool) -> dict[str, Any]:
    """Predictions count from a commit: beside a curve from the write's start they say nothing."""
    if curve.origin == "write start":
        predictions = []
    name = f"freshness-{curve.r}-{curve.w}-{curve.origin.replace(' ', '-')}"
    return {
        "curve": curve,
        "chart": freshness(curve, predictions, name=name) if drawn else None,
        "predicted": bool(predictions),
    }


def _pretty(value: Any) -> str:
    if not value:
        return ""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
