"""`dynamo-bench compare A B`: two runs side by side, and whether chance alone tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.comparison import Comparison, Pair, Told, compare
from bench.figures import MS, SHARE, Figure
from bench.findings import Analysis
from bench.history import BadHistory, Manifest
from bench.parser import Parser
from bench.report.numbers import MINUS, NONE, milliseconds, number, points
from bench.report_command import ReportFailed, analysis_of
from bench.run_directory import BadDirectory, RunDirectory
from bench.summary import shown, shown_interval

#: Columns: a terminal narrower than the one has no intervals of A and B; a file has the other.
_WIDE: Final = 130
_WIDTH_OF_FILES: Final = 180
_WORDS: Final[dict[Told, tuple[str, str]]] = {
    "unlike": ("differ", "bold red"),
    "alike": ("not told apart", "green"),
    "open": ("no interval", "dim"),
    "only A": ("only in A", "yellow"),
    "only B": ("only in B", "yellow"),
}


def main(arguments: Sequence[str]) -> int:
    """0 whether they differ or not; 1 if one of them cannot be read."""
    parser = Parser(
        prog="dynamo-bench compare",
        description="Two runs side by side: each figure, and whether chance alone tells them apart.",
        epilog="Shares: Newcombe's interval of the difference, 95 %; others: intervals that "
        "do not meet.",
        allow_abbrev=False,
    )
    parser.add_argument("a", metavar="A", type=Path, help="directory of a run that was analysed")
    parser.add_argument("b", metavar="B", type=Path, help="of another")
    parser.add_argument("--all", action="store_true", help="each bin of the curves too")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    asked = parser.parse_args(arguments)
    try:
        found = compare(_read(asked.a), _read(asked.b))
    except (BadDirectory, BadHistory, ReportFailed, OSError) as error:
        return parser.failed(error)
    if asked.json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        console = Console()
        if not console.is_terminal:
            console = Console(width=_WIDTH_OF_FILES)
        print_comparison(found, console, every=asked.all)
    return 0


def _read(path: Path) -> tuple[Manifest, Analysis]:
    run = RunDirectory.open(path)
    return run.manifest(), analysis_of(run)


def print_comparison(found: Comparison, console: Console, *, every: bool = False) -> None:
    """For people; `every`: with each bin of the curves."""
    for warning in found.warnings:
        console.print(Text(f"warning: {warning}", style="bold yellow"))
    for note in found.notes:
        console.print(Text(note, style="dim"))
    wide = console.width >= _WIDE
    columns = ("A", "95 %", "B", "95 %") if wide else ("A", "B")
    table = Table(box=None, pad_edge=False)
    table.add_column("figure", min_width=20)
    for name in (*columns, "B \N{MINUS SIGN} A", "95 %"):
        table.add_column(name, justify="right")
    table.add_column("")
    for one in found.pairs:
        if every or not one.fine:
            table.add_row(*_row(one, wide=wide))
    console.print(table)
    unlike = sum(one.told == "unlike" for one in found.pairs)
    console.print(
        f"{unlike} of {found.judged} figures differ (bins of curves included); where nothing "
        f"differs, about {0.05 * found.judged:.0f} would by chance"
    )


def _row(one: Pair, *, wide: bool) -> list[str | Text]:
    word, style = _WORDS[one.told]
    origin = f" ({one.origin})" if one.origin else ""
    chance = "" if one.p is None else f", p = {one.p:.2g}"
    return [
        escape(one.name + origin),
        *_figure(one.a)[: 2 if wide else 1],
        *_figure(one.b)[: 2 if wide else 1],
        _difference(one),
        _difference_interval(one),
        Text(word + chance, style=style),
    ]


def _figure(one: Figure | None) -> tuple[str, str]:
    return (NONE, NONE) if one is None else (shown(one), shown_interval(one))


def _difference(one: Pair) -> str:
    if one.difference is None:
        return NONE
    if one.unit == SHARE:
        return points(one.difference)
    sign = MINUS if one.difference < 0 else "+"
    size = abs(one.difference)
    if one.unit == MS:
        return f"{sign}{milliseconds(size)}"
    return f"{sign}{size:,.0f}" if one.unit == "count" else f"{sign}{number(size)}/s"


def _difference_interval(one: Pair) -> str:
    if one.low is None or one.high is None:
        return NONE
    return f"{points(one.low).split()[0]} \N{EN DASH} {points(one.high)}"
