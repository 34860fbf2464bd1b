"""The smaller charts: how many versions behind, convergence after a heal, replicas that agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench.findings import Agreement, Convergence, Staleness
from bench.report.numbers import count, milliseconds, percent
from bench.report.paint import (
    BLUE,
    GREEN,
    MUTED,
    PURPLE,
    VERMILION,
    chart,
    legend_above,
    percent_axis,
    seconds_axis,
    time_ticks,
)

#: Bars of the histogram; what is further behind is one more.
BARS_MAX: Final = 11


def k_histogram(found: Staleness) -> Markup | None:
    """Reads by how many versions behind they were; None where all of them were fresh."""
    bars = [(str(k), number) for k, number in enumerate(found.counts[:BARS_MAX], 1)]
    while len(bars) > 1 and not bars[-1][1]:
        bars.pop()
    beyond = found.beyond + sum(found.counts[len(bars) :])
    if beyond:
        bars.append((f"> {len(bars)}", beyond))
    if len(bars) < 2:
        return None

    def draw(figure: Figure, small: bool) -> None:
        axes = figure.subplots(1, 1)
        colors = [BLUE, *[VERMILION] * (len(bars) - 1)]
        drawn = axes.bar(range(len(bars)), [n for _, n in bars], color=colors, width=0.72)
        axes.bar_label(
            drawn, [_short(n) if small else count(n) for _, n in bars], padding=2, fontsize="small"
        )
        axes.set_yscale("log")
        axes.set_ylim(0.5, max(n for _, n in bars) * 4)
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: count(y) if y >= 1 else ""))
        axes.set_xticks(range(len(bars)), [name for name, _ in bars])
        axes.set_xlim(-0.6, max(len(bars), 5) - 0.4)
        axes.grid(axis="x", visible=False)
        axes.set_xlabel(
            "k (1: fresh)"
            if small
            else "k: 1 is fresh, 2 is one version behind, \N{HORIZONTAL ELLIPSIS}"
        )
        axes.set_ylabel("reads")

    label = "Reads by versions behind: " + ", ".join(f"k {name}: {count(n)}" for name, n in bars)
    return chart("k-histogram", label, draw, wide=270, compact=240)


def _short(number: int) -> str:
    for size, name in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.3g}{name}"
    return str(number)


def convergence(found: Sequence[Convergence]) -> Markup | None:
    """Share of keys that show their last version, over the time since the heal; None without keys."""
    drawn = [one for one in found if one.keys and one.points]
    if not drawn:
        return None

    def draw(figure: Figure, small: bool) -> None:
        axes = figure.subplots(1, 1)
        looks = ((BLUE, "-"), (VERMILION, "--"), (GREEN, ":"))
        right = max(max(one.points[-1][0], one.trees_equal_ms or 0.0, 1.0) for one in drawn)
        for number, one in enumerate(drawn):
            color, line = looks[number % len(looks)]
            name = f" (heal {number + 1})" if len(drawn) > 1 else ""
            _step(axes, one, right, color=color, line=line, label=f"keys converged{name}")
            if one.trees_equal_ms is not None:
                axes.axvline(
                    one.trees_equal_ms, color=PURPLE, linestyle="-.", linewidth=1.5,
                    label=f"all hash trees equal{name}: {milliseconds(one.trees_equal_ms)}",
                )  # fmt: skip
        axes.axhline(1, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        axes.set_xlim(0, right * 1.04)
        percent_axis(axes, 0.0)
        axes.set_ylabel("keys converged")
        axes.set_xlabel("time since the heal")
        seconds_axis(axes, 5 if small else 12, milliseconds=True)
        legend_above(figure, axes, columns=1 if small else 2)

    label = "Share of keys that show their final version, by time since the heal: " + "; ".join(
        f"{one.keys - one.unconverged} of {one.keys} keys in the end" for one in drawn
    )
    return chart("convergence-curve", label, draw, wide=280, compact=270)


def _step(axes: Axes, one: Convergence, right: float, *, color: str, line: str, label: str) -> None:
    times = [0.0, *(t for t, _ in one.points), right]
    shares = [0.0, *(share for _, share in one.points), one.points[-1][1]]
    axes.step(times, shares, where="post", color=color, linestyle=line, label=label)


def agreement(found: Sequence[Agreement]) -> Markup | None:
    """phi over the time since commit; None below two points, which a table says better."""
    drawn = [one for one in found if one.agreed.of]
    if len(drawn) < 2:
        return None

    def draw(figure: Figure, small: bool) -> None:
        axes = figure.subplots(1, 1)
        at = list(range(len(drawn)))
        shares = [one.agreed.count / one.agreed.of for one in drawn]
        errors = [
            [max(0.0, s - one.agreed.low) for s, one in zip(shares, drawn, strict=True)],
            [max(0.0, one.agreed.high - s) for s, one in zip(shares, drawn, strict=True)],
        ]
        axes.errorbar(
            at, shares, yerr=errors, fmt="o-", color=BLUE, capsize=3, elinewidth=1.2, linewidth=1.2
        )
        step = -(-len(drawn) // (6 if small else 14))
        axes.set_xticks(at[::step], [time_ticks(one.after_ms) for one in drawn[::step]])
        lowest = min(one.agreed.low for one in drawn)
        percent_axis(axes, lowest if lowest > 0.9 else 0.1 * int(lowest * 10))
        axes.set_ylabel("probes in which\nall replicas agree")
        axes.set_xlabel(
            "time since client commit"
            if small
            else "time since client commit (steps, not to scale)"
        )

    label = "Share of probes in which all replicas agree: " + ", ".join(
        f"{percent(one.agreed.share)} at {milliseconds(one.after_ms)}" for one in drawn
    )
    return chart("agreement-curve", label, draw, wide=260, compact=240)
