"""Exact quantiles of what was counted, by name. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

#: Name -> share. "max" is the greatest.
NAMES: Final = {"50": 0.5, "90": 0.9, "99": 0.99, "99.9": 0.999, "max": 1.0}


def at_share(ordered: Sequence[float], share: float) -> float:
    """The least value that at least `share` of them do not exceed. Raises IndexError of none."""
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def named(values: Iterable[float]) -> dict[str, float]:
    """Name -> value; {} of none. A quantile that falls among infinite values (not seen to the
    end) is left out."""
    ordered = sorted(values)
    if not ordered:
        return {}
    found = {name: at_share(ordered, share) for name, share in NAMES.items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}
