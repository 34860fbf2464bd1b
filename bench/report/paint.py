"""How charts look, and how a figure of matplotlib becomes SVG that can stand inside a page.

Every chart is drawn twice, wide and compact, and the page shows what fits. Colours are names: each
stands in the SVG as a variable of the page's style sheet, which knows light, dark and paper. The
same figure gives the same bytes. Knows nothing of what is drawn.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Callable
from typing import Any, Final

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from bench.report.numbers import SPACE, designed

INK: Final = "#1b1f24"
MUTED: Final = "#626a73"
GRID: Final = "#e3e6ea"
SHADE: Final = "#f6e3cf"
# Okabe and Ito's palette, which the colour-blind can tell apart.
BLUE: Final = "#0072b2"
VERMILION: Final = "#d55e00"
GREEN: Final = "#009e73"
PURPLE: Final = "#cc79a7"
SKY: Final = "#56b4e9"
ORANGE: Final = "#e69f00"

#: Colour -> variable of report.css.
VARIABLES: Final = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    SHADE: "--shade",
    BLUE: "--blue",
    VERMILION: "--vermilion",
    GREEN: "--green",
    PURPLE: "--purple",
    SKY: "--sky",
    ORANGE: "--orange",
}
#: Lines are told apart by their pattern too.
DASHES: Final = ("--", ":", "-.", (0, (1, 1)), (0, (6, 2, 1, 2, 1, 2)))
LINES: Final = (VERMILION, GREEN, PURPLE, ORANGE, SKY)

#: Width in points: what one point is in the drawing is one pixel on the page at full width.
WIDE: Final = 1040.0
COMPACT: Final = 346.0
_INCH: Final = 72.0

_STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dynamo-bench",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    # Names of keys and nodes are no formulas.
    "text.parse_math": False,
}

#: Draws into an empty figure; True for the compact one.
Draw = Callable[[Figure, bool], None]


def chart(name: str, label: str, draw: Draw, *, wide: float, compact: float) -> Markup:
    """The chart in both widths, with heights in pixels. `name`: unique in the page; `label`: what
    it shows, for those who do not see it."""
    both = (
        ("wide", f"{name}-w", WIDE, wide, False),
        ("compact", f"{name}-c", COMPACT, compact, True),
    )
    # What is joined here is SVG of matplotlib, which escapes all text in it, and escaped by _inline.
    return Markup("\n").join(
        Markup('<div class="{}">{}</div>').format(
            kind, _inline(ident, label, width, height, draw, small)
        )
        for kind, ident, width, height, small in both
    )


def _inline(name: str, label: str, width: float, height: float, draw: Draw, small: bool) -> Markup:
    size = 10.5 if small else 12.5
    looks: Any = {**_STYLE, "font.size": size, "axes.titlesize": size, "legend.fontsize": size}
    with mpl.rc_context(looks):
        figure = Figure(figsize=(width / _INCH, height / _INCH), layout="constrained")
        draw(figure, small)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return Markup(tidy(buffer.getvalue(), name, label))  # noqa: S704 - see `tidy`


def tidy(svg: str, name: str, label: str) -> str:
    """The element alone: no prolog, no metadata, no address of any kind, its ids its own, its size
    that of the place it stands in, its colours those of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    head, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None, head
    rest = _numbered(rest)
    rest = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', rest)
    rest = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', rest)
    rest = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", rest)
    rest = re.sub(r"#[0-9a-f]{6}\b", _variable, rest)
    # The page's own fonts; matplotlib has kept room for a wider one.
    rest = re.sub(r"font: ([^;\"]*?)([\d.]+px) [^;\"]*", r"font: \1\2 var(--sans)", rest)
    return f'<svg {box[0]} role="img" aria-label="{html.escape(label)}">{rest}'.rstrip()


def _numbered(svg: str) -> str:
    """Ids that are hashes (of coordinates to their last bit, which differs from one drawing to the
    next) by the order in which they come: the same chart has the same bytes."""
    numbers: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        return found[1] + numbers.setdefault(found[2], f"h{len(numbers) + 1}") + found[3]

    return re.sub(r'(id="|href="#|url\(#)([a-z][0-9a-f]{10})([")])', number, svg)


def _variable(found: re.Match[str]) -> str:
    name = VARIABLES.get(found[0])
    return found[0] if name is None else f"var({name})"


def percent_axis(axes: Axes, low: float, high: float = 1.0) -> None:
    """A vertical axis of shares from `low` to `high`, with room for the points at its ends."""
    low = max(0.0, min(low, high - 0.01))
    room = (high - low) * 0.04
    axes.set_ylim(low - room, high + room)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], prune=None))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _percent_tick(y)))


def _percent_tick(share: float) -> str:
    return "" if share > 1 + 1e-9 or share < -1e-9 else f"{round(share * 100, 6):g}{SPACE}%"


def time_ticks(value: float, _: object = None) -> str:
    """A tick of milliseconds."""
    return designed(value)


def seconds_axis(axes: Axes, ticks: int, *, milliseconds: bool = False) -> None:
    """A horizontal axis of seconds, or of milliseconds, with round ticks."""
    axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
    unit = 1.0 if milliseconds else 1000.0
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: designed(x * unit) if x else f"0{SPACE}s")
    )


def log_milliseconds(axes: Axes, which: str, low: float, high: float) -> None:
    """A logarithmic axis of milliseconds. Raises ValueError unless 0 < low < high."""
    if not 0 < low < high:
        raise ValueError(f"no range of a logarithmic axis: {low} to {high}")
    decades = math.log10(high / low)
    subs = (1.0,) if decades > 3 else (1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0)
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(time_ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def legend_above(figure: Figure, axes: Axes, *, columns: int) -> None:
    """The legend over the chart, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    # What was measured first: matplotlib puts points with intervals behind all lines.
    named = sorted(zip(handles, labels, strict=True), key=lambda one: one[1][:8] != "measured")
    if named:
        figure.legend(
            [handle for handle, _ in named],
            [label for _, label in named],
            loc="outside upper left",
            ncols=columns,
            handlelength=2.4,
            columnspacing=1.4,
            borderaxespad=0.2,
        )
