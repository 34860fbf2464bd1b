"""The (R, W) table of predicted freshness, coloured, with the cells that were measured beside.

Pure. A table, not a picture: it can be read aloud, copied and printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from bench.findings import Curve
from bench.pbs.prediction import Prediction
from bench.report.numbers import designed, percent

#: Tables drawn: one a time t.
TIMES_MAX: Final = 3
#: Cividis, dark to light, which the colour-blind see as others do: (red, green, blue).
_STOPS: Final = ((0, 34, 78), (63, 77, 107), (124, 123, 120), (187, 174, 109), (254, 232, 56))


class Cell(NamedTuple):
    """`text`: the share predicted; `color`, `ink`: CSS, "" without a prediction. `measured`: what was
    measured in this cell, "" if nothing was."""

    text: str
    color: str
    ink: str
    measured: str


class Heat(NamedTuple):
    """One table: rows are R, columns W, both 1..n."""

    title: str
    n: int
    rows: tuple[tuple[Cell, ...], ...]


def heat_maps(predictions: Sequence[Prediction], curves: Iterable[Curve]) -> list[Heat]:
    """A table for each of some times that all cells name; empty unless one predictor has more
    than one cell. Of several predictors the one with most cells is shown, of equals the last."""
    groups: dict[tuple[object, ...], dict[tuple[int, int], Prediction]] = {}
    for one in predictions:
        group = (one.model, one.n, one.sampling, one.fan_out, one.coordinator)
        groups.setdefault(group, {})[one.r, one.w] = one
    if not groups:
        return []
    cells = max(reversed(groups.values()), key=len)
    if len(cells) < 2:
        return []
    first = next(iter(cells.values()))
    times = [t for t in first.p_fresh if all(t in one.p_fresh for one in cells.values())]
    measured = _measured(curves)
    lowest = min((one.p_fresh[t] for one in cells.values() for t in times), default=0.0)
    return [
        Heat(
            f"t = {designed(float(t))}",
            first.n,
            tuple(
                tuple(
                    _cell(cells.get((r, w)), t, lowest, measured.get((r, w)))
                    for w in range(1, first.n + 1)
                )
                for r in range(1, first.n + 1)
            ),
        )
        for t in _spread(times)
    ]


def _spread(times: Sequence[str]) -> list[str]:
    """The first, and others as far apart as there are."""
    if len(times) <= TIMES_MAX:
        return list(times)
    return [times[number * len(times) // TIMES_MAX] for number in range(TIMES_MAX)]


def told(predictions: Sequence[Prediction]) -> str:
    """Which predictor `heat_maps` shows."""
    counts: dict[tuple[str, str], int] = {}
    for one in predictions:
        counts[one.model, one.sampling] = counts.get((one.model, one.sampling), 0) + 1
    model, sampling = max(reversed(counts), key=lambda name: counts[name])
    return f"{model}, {sampling}"


def _measured(curves: Iterable[Curve]) -> dict[tuple[int, int], Curve]:
    """The curve of each cell whose origin is nearest to that of predictions."""
    order = ("coordinator commit", "client commit")
    found: dict[tuple[int, int], Curve] = {}
    for curve in curves:
        if curve.origin in order:
            there = found.get((curve.r, curve.w))
            if there is None or order.index(curve.origin) < order.index(there.origin):
                found[curve.r, curve.w] = curve
    return found


def _cell(prediction: Prediction | None, t: str, lowest: float, curve: Curve | None) -> Cell:
    measured = "" if curve is None else _near(curve, float(t))
    if prediction is None:
        return Cell("", "", "", measured)
    share = prediction.p_fresh[t]
    red, green, blue = shade((share - lowest) / (1 - lowest) if lowest < 1 else 1.0)
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 118
    return Cell(
        percent(share),
        f"rgb({red}, {green}, {blue})",
        "rgb(0, 0, 0)" if light else "rgb(255, 255, 255)",
        measured,
    )


def _near(curve: Curve, t: float) -> str:
    """What was measured at t: of the bin that holds it, if it has reads."""
    for one in curve.plot:
        if one.from_ms <= t < one.to_ms and one.fresh.of:
            return f"{percent(one.fresh.share)} (n={one.fresh.of:,})"
    return "no reads at this t"


def shade(part: float) -> tuple[int, int, int]:
    """The colour of 0..1."""
    place = min(1.0, max(0.0, part)) * (len(_STOPS) - 1)
    index = min(int(place), len(_STOPS) - 2)
    rest = place - index
    red, green, blue = (
        round(a + (b - a) * rest) for a, b in zip(_STOPS[index], _STOPS[index + 1], strict=True)
    )
    return red, green, blue
