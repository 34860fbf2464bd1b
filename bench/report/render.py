"""An analysis as one HTML file that needs nothing else: no network, no script, no font.

`render` is a function of its argument alone: the same material gives the same bytes. All text comes
from outside (keys, error messages, names of scenarios) and is escaped; only what `bench.report.paint`
has drawn is not.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from bench.report import heat, numbers, verdict
from bench.report.evidence import tell
from bench.report.freshness_chart import AXES, freshness
from bench.report.latency_chart import spectrum
from bench.report.material import WORST, Material, about
from bench.report.small_charts import agreement, convergence, k_histogram
from bench.report.time_chart import gamma, time_line

#: Curves drawn; the others stand in the tables.
CURVES_MAX = 6
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
    *("read your writes", "monotonic reads", "monotonic writes", "writes follow reads"),
    "consistent prefix",
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
        "anomalies": [tell(one, material.operations, begin) for one in analysis.anomalies[:WORST]],
        "commands": verdict.commands(material),
        "scenario_text": _pretty(manifest.scenario),
        "configuration_text": _pretty(manifest.configuration),
    }


def _curves(material: Material) -> list[dict[str, Any]]:
    found = []
    for number, curve in enumerate(material.analysis.curves, 1):
        predictions = about(curve, material.predictions, material.manifest.replicas)
        if curve.origin == "write start":
            predictions = []
        drawn = number <= CURVES_MAX
        chart = freshness(curve, predictions, name=f"freshness-{number}") if drawn else None
        found.append({"curve": curve, "chart": chart, "predicted": bool(predictions)})
    return found


def _pretty(value: Any) -> str:
    if not value:
        return ""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
