"""An analysis on a terminal, and as a table for other programs (summary.csv).

Knows nothing of how a figure is computed, and writes to no file.
"""

from __future__ import annotations

import csv
import io
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.figures import MS, SHARE, Figure, figures
from bench.findings import Analysis, Latency, Verdict
from bench.report.numbers import NONE, count, interval, milliseconds, number, of, percent, span
from bench.report.verdict import WORDS, headline, rows

#: Columns of summary.csv.
COLUMNS: Final = ("name", "value", "n", "low", "high", "unit", "origin")
FOUND: Final = "found"
#: Else a fail among the findings looks like one of the run.
BROKEN: Final = "fail: this history breaks it at least once; what was expected is above"
_STYLES: Final[dict[Verdict, str]] = {"pass": "green", "fail": "bold red", "unknown": "yellow"}


def summary_csv(analysis: Analysis) -> str:
    """One row a figure; a figure that was not reached has no value. Shares are 0..1, times
    milliseconds; low and high are of 95 %."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in figures(analysis):
        values = (one.value, one.n, one.low, one.high)
        writer.writerow((one.name, *map(_plain, values), one.unit, one.origin))
    return out.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None else repr(value)


def shown(one: Figure) -> str:
    """A figure's value for people."""
    if one.value is None:
        return "not reached" if one.unit == MS else NONE
    if one.unit == SHARE:
        return percent(one.value)
    if one.unit == MS:
        return milliseconds(one.value)
    return count(one.value) if one.unit == "count" else f"{number(one.value)}/s"


def shown_interval(one: Figure) -> str:
    """Its interval for people."""
    if one.low is None and one.high is None:
        return NONE
    if one.unit == MS:
        return span(one.low, one.high)
    return f"{percent(one.low)} \N{EN DASH} {percent(one.high)}"


def print_summary(analysis: Analysis, console: Console) -> None:
    """What came of a run: the sentence, what was asked, rates with their intervals, t_p, latency."""
    said, kind = headline(analysis)
    style = {"pass": "green", "fail": "bold red"}.get(kind, "yellow")
    console.print(Text(f"{analysis.scenario} on {analysis.target}", style="bold"))
    console.print(Text(said, style=style))
    for table in (_asked(analysis), _rates(analysis), _quantiles(analysis), _latency(analysis)):
        if table.row_count:
            console.print()
            console.print(table)
        if table.title == FOUND and any(one.verdict == "fail" for one in analysis.checks):
            console.print(BROKEN)
    late = analysis.unacknowledged_reads
    if late is not None and late.count:
        console.print(
            f"{of(late)} reads returned a write that had not been acknowledged before they began"
        )
    if analysis.foreign_reads:
        console.print(
            f"{count(analysis.foreign_reads)} reads returned what this run had not written"
        )


def _table(title: str, *columns: str, numbers: int = 0) -> Table:
    """`numbers`: how many of the columns after the first are figures."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if 0 < index <= numbers else "left")
    return table


def _word(verdict: Verdict | None) -> Text:
    return Text("") if verdict is None else Text(WORDS[verdict][0], style=_STYLES[verdict])


def _asked(analysis: Analysis) -> Table:
    table = _table("asked", "expectation", "verdict", "what came")
    for one in analysis.judged:
        table.add_row(escape(one.expectation), _word(one.verdict), escape(one.told))
    return table


def _rates(analysis: Analysis) -> Table:
    table = _table(FOUND, "figure", "rate", "95 %", "count of n", "verdict", "", numbers=3)
    for row in rows(analysis):
        table.add_row(
            escape(row.name),
            percent(row.rate.share),
            interval(row.rate),
            of(row.rate),
            _word(row.verdict),
            escape(row.told),
        )
    return table


def _quantiles(analysis: Analysis) -> Table:
    table = _table("fresh from", "t", "first t", "95 %", "of reads", "origin", numbers=3)
    for curve in analysis.curves:
        for one in curve.quantiles:
            table.add_row(
                f"t{one.p * 100:g} R={curve.r} W={curve.w}",
                "not reached" if one.t_ms is None else milliseconds(one.t_ms),
                span(one.low_ms, one.high_ms),
                count(curve.reads),
                curve.origin,
            )
    return table


def _latency(analysis: Analysis) -> Table:
    names = list(dict.fromkeys(name for one in analysis.latencies for name in one.ms))
    table = _table("latency", "", *map(_percentile, names), "n", numbers=len(names) + 1)
    for one in analysis.latencies:
        table.add_row(*_latency_row(one, names))
    return table


def _percentile(name: str) -> str:
    return f"p{name}" if name[:1].isdigit() else name


def _latency_row(one: Latency, names: list[str]) -> list[str]:
    times = [milliseconds(one.ms.get(name)) for name in names]
    return [f"{one.kind} {one.measure}", *times, count(one.count)]
