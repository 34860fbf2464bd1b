"""Figures as people read them: few digits, a sensible unit, never a rounding that hides a violation.

Pure, and knows nothing of where a figure comes from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.findings import Rate

#: Between a number and its unit: they stay on one line.
SPACE = "\N{NO-BREAK SPACE}"
DASH = "\N{EN DASH}"
NONE = "\N{EM DASH}"
MINUS = "\N{MINUS SIGN}"


def milliseconds(value: float | None) -> str:
    """A time given in milliseconds: "8 µs", "0.35 ms", "34 ms", "1.20 s"; a dash for none."""
    if value is None or not math.isfinite(value):
        return NONE
    size = abs(value)
    if size >= 1000:
        return f"{_digits(value / 1000)}{SPACE}s"
    if size >= 0.1 or value == 0:
        return f"{_digits(value) if value else 0}{SPACE}ms"
    return f"{_digits(value * 1000)}{SPACE}µs"


def designed(value: float) -> str:
    """A time (ms) that someone has chosen, mostly a round one: "50 µs", "2 ms", "5 s"."""
    size = abs(value)
    if size >= 1000:
        text = f"{value / 1000:.4g}{SPACE}s" if size >= 1e6 else f"{value / 1000:.3g}{SPACE}s"
    elif size >= 1 or value == 0:
        text = f"{value:.3g}{SPACE}ms"
    else:
        text = f"{value * 1000:.3g}{SPACE}µs"
    return text.replace("-", MINUS)


def _digits(value: float) -> str:
    """Three significant digits, and all those before the point."""
    size = abs(value)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:,.{decimals}f}"


def percent(share: float | None) -> str:
    """A share 0..1: "93.2 %", "99.97 %", "0.031 %". What is not all is never shown as 100 %, what is
    not nothing never as 0 %."""
    return NONE if share is None else f"{_percent_digits(share)}{SPACE}%"


def _percent_digits(share: float) -> str:
    if share <= 0:
        return "0"
    if share >= 1:
        return "100"
    rest = min(share, 1 - share) * 100
    decimals = 1 if rest >= 1 else min(8, 1 - math.floor(math.log10(rest)))
    return f"{share * 100:.{decimals}f}"


def points(share: float | None) -> str:
    """A difference of shares, in percentage points, with its sign."""
    if share is None:
        return NONE
    size = abs(share) * 100
    decimals = 2 if size >= 0.1 or size == 0 else 4
    return f"{share * 100:+.{decimals}f}{SPACE}points".replace("-", MINUS)


def interval(rate: Rate) -> str:
    """Its Wilson interval; of none seen also the rule of three."""
    if not rate.of:
        return NONE
    if rate.count == 0:
        return f"below {percent(min(1.0, 3 / rate.of))} (3/n)"
    low, high = _percent_digits(rate.low), _percent_digits(rate.high)
    return f"{low} {DASH} {high}{SPACE}%"


def span(low: float | None, high: float | None) -> str:
    """An interval of milliseconds; an end that was not reached is said so."""
    if low is None and high is None:
        return NONE
    left = "not reached" if low is None else milliseconds(low)
    right = "not reached" if high is None else milliseconds(high)
    return f"{left} {DASH} {right}"


def count(value: float) -> str:
    """A number of things."""
    return f"{value:,.0f}"


def rate(value: float | None, unit: str = "/s") -> str:
    """So many a second."""
    return NONE if value is None else f"{_digits(value)}{unit}"


def of(one: Rate) -> str:
    """ "3 of 12,345"."""
    return f"{count(one.count)} of {count(one.of)}"


def seconds_since(at: int, begin: int) -> str:
    """A stamp (ns) as seconds since `begin`, to a tenth of a millisecond."""
    value = (at - begin) / 1e9
    return f"{value:,.4f}{SPACE}s".replace("-", MINUS)


def short(text: str, most: int) -> str:
    """At most so many characters: a chart has no more room."""
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def plural(number: int, one: str, many: str = "") -> str:
    """ "1 read", "2 reads"."""
    return f"{count(number)}{SPACE}{one if number == 1 else many or one + 's'}"


def listed(names: Sequence[str], *, at_most: int = 4) -> str:
    """ "a, b and c"; beyond `at_most` the number of the others."""
    if not names:
        return ""
    kept = list(names[:at_most])
    if len(names) > at_most:
        kept.append(f"{len(names) - at_most} more")
    return kept[0] if len(kept) == 1 else f"{', '.join(kept[:-1])} and {kept[-1]}"


def number(value: float | None) -> str:
    """Three significant digits, without a unit."""
    return NONE if value is None else _digits(value)
