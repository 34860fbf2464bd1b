"""Predictions as tables for people, drawn by rich. Prints; knows nothing of how they are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.pbs.prediction import Prediction

#: Of a file, which cannot say how wide it is.
FILE_WIDTH: Final = 120


def print_predictions(predictions: Sequence[Prediction], console: Console | None = None) -> None:
    """All of the same model and n, a row each."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, FILE_WIDTH)
    first = predictions[0]
    several = len({one.sampling for one in predictions}) > 1
    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, collapse_padding=True)
    for name in ("R", "W", *(("drawn",) if several else ())):
        table.add_column(name, justify="left" if name == "drawn" else "right", no_wrap=True)
    headings = [f"t={t}" for t in first.p_fresh]
    headings += ["99 %", "99.9 %", "read\np50", "read\np99.9", "write\np50", "write\np99.9"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    before = (first.r, first.w)
    for one in predictions:
        if several and (one.r, one.w) != before:
            table.add_section()
            before = (one.r, one.w)
        drawn = (one.sampling,) if several else ()
        table.add_row(str(one.r), str(one.w), *drawn, *_figures(one))
    console.print(
        f"{first.model}, n = {first.n}. Of reads that start t ms after a write has committed, how many "
        "% are fresh; from which t 99 % and 99.9 % are; what reads and writes take (ms)."
    )
    console.print(table)
    console.print(_caption(first))


def _figures(one: Prediction) -> list[str]:
    shown = [percent(p) for p in one.p_fresh.values()]
    shown += [_ms(one.t_ms[share]) for share in ("99", "99.9")]
    for latency in (one.read_latency_ms, one.write_latency_ms):
        shown += [_ms(latency.get("50")), _ms(latency.get("99.9"))]
    return shown


def percent(p: float) -> str:
    """100 is only what none was against."""
    if p == 1.0:
        return "100"
    return ">99.99" if p > 0.9999 else f"{100 * p:.2f}"


def _ms(value: float | None) -> str:
    if value is None:
        return "never"
    return "0" if value == 0 else f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:.0f}"


def _caption(first: Prediction) -> str:
    spread = {
        "paper": "all n are asked and the first r answers count",
        "paper-r": "only r replicas are asked",
        "store": "requests spread as this store spreads them",
    }.get(first.fan_out, first.fan_out)
    coordinator = {
        "outside": "coordinators are no replicas",
        "replica": "coordinators are replicas",
    }.get(first.coordinator, first.coordinator)
    told = f"{first.trials:,} trials, seed {first.seed}; {spread}; {coordinator}."
    return f"{told} {first.note[:1].upper()}{first.note[1:]}." if first.note else told
