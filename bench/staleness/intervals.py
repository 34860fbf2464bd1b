"""Intervals of a rate. Pure arithmetic; knows nothing of what is counted."""

from __future__ import annotations

import math
from typing import Final

from bench.findings import Rate

#: Of a two-sided interval of 95 %.
Z95: Final = 1.959963984540054


def wilson(count: int, of: int, z: float = Z95) -> tuple[float, float]:
    """The score interval (E. B. Wilson, JASA 22, 1927) of `count` in `of`, within 0..1; all of it
    for none. Raises ValueError unless 0 <= count <= of."""
    if not 0 <= count <= of:
        raise ValueError(f"{count} of {of} is no rate")
    if of == 0:
        return 0.0, 1.0
    share, square = count / of, z * z
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = z * math.sqrt(share * (1 - share) / of + square / (4 * of * of)) / (1 + square / of)
    low = 0.0 if count == 0 else max(0.0, middle - half)
    high = 1.0 if count == of else min(1.0, middle + half)
    return low, high


def rule_of_three(of: int) -> float:
    """What a rate is below, at 95 %, if none was seen in `of` (Hanley, Lippman-Hand, JAMA 1983)."""
    return min(1.0, 3 / of) if of else 1.0


def rate(count: int, of: int) -> Rate:
    """`count` of `of` with its interval; of none seen it ends at 3/n, of all seen it begins at 1 - 3/n.

    Both are one-sided bounds of 95 %, as is the rule of three.
    """
    low, high = wilson(count, of)
    if count == 0:
        high = rule_of_three(of)
    elif count == of:
        low = 1 - rule_of_three(of)
    return Rate(count=count, of=of, low=low, high=high)
