"""Tables and numbers as a terminal shows them. Pure: values in, lines out."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

GAP: Final = "  "


class Column(NamedTuple):
    """`drop`: the column with the highest goes first where a table is too wide; 0 never goes."""

    title: str
    drop: int = 0
    right: bool = False


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int | None = None
) -> list[str]:
    """The title line and a line a row, in columns as wide as what is in them.

    Not wider than `width` characters: columns are dropped in their order, then lines are cut.
    """
    cells = [[column.title for column in columns], *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    shown = list(range(len(columns)))
    while width is not None and sum(widths[i] + len(GAP) for i in shown) - len(GAP) > width:
        most = max(shown, key=lambda index: columns[index].drop)
        if not columns[most].drop:
            break
        shown.remove(most)
    return [
        cut(
            GAP.join(
                row[i].rjust(widths[i]) if columns[i].right else row[i].ljust(widths[i])
                for i in shown
            ).rstrip(),
            width,
        )
        for row in cells
    ]


def paragraph(text: str, *, width: int | None = None) -> list[str]:
    """The text in lines of at most `width` characters, the later ones indented."""
    if width is None:
        return [plain(text)]
    # A line of two characters still holds a word, if only letter by letter.
    return textwrap.wrap(plain(text), max(width, 2), subsequent_indent="  " if width > 20 else "")


def cut(line: str, width: int | None) -> str:
    """The line, with dots in place of what is over `width`."""
    if width is None or len(line) <= width:
        return line
    return (line[: max(0, width - 3)] + "...")[:width]


def plain(text: str) -> str:
    """The text in characters that any terminal shows and none acts upon: printable ASCII."""
    if text.isascii() and text.isprintable():
        return text
    return ascii(text)[1:-1]


def show_bytes(size: int | None) -> str:
    """Such as `512 B`, `1.5 GiB`; `-` for None."""
    if size is None:
        return "-"
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def show_seconds(seconds: float) -> str:
    """The two largest units: `9s`, `3m 7s`, `5h 0m`, `2d 4h`."""
    whole = int(seconds)
    for unit, name, lower, lower_name in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if whole >= unit:
            return f"{whole // unit}{name} {whole % unit // lower}{lower_name}"
    return f"{whole}s"


def show_rate(rate: float | None) -> str:
    """Events a second: `0`, `0.5`, `1234`; `-` for None."""
    if rate is None:
        return "-"
    return f"{rate:.0f}" if rate >= 10 or rate == int(rate) else f"{rate:.1f}"


def show_names(names: Sequence[str]) -> str:
    """Such as `n1`, `n1 and n2`, `n1, n2 and n3`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def rates(
    now: Mapping[str, int], before: Mapping[str, int] | None, seconds: float
) -> dict[str, float] | None:
    """By how much each count grew a second; None without an earlier look, or if one went back: then
    it began anew meanwhile."""
    if before is None or seconds <= 0:
        return None
    grown = {name: count - before.get(name, 0) for name, count in now.items()}
    if any(growth < 0 for growth in grown.values()):
        return None
    return {name: growth / seconds for name, growth in grown.items()}
