"""The first t from which on a share p of reads is fresh, on the best monotone curve, with its interval.

The monotone fit (`monotone.pool`) of single reads is at least p from the place where the sum of
(fresh - p) over all reads before it is least; so no bins are needed, and a resample costs one pass.
Knows nothing of keys or writes beyond labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.findings import Quantile

#: Shares that are asked for.
SHARES: Final = (0.5, 0.9, 0.99, 0.999)
_LOW, _HIGH = 0.025, 0.975

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class Samples(NamedTuple):
    """Reads: when (milliseconds after the origin), whether fresh, and of which write (0, 1, ...)."""

    at: Floats
    fresh: Floats
    label: Counts


def first_times(
    samples: Samples, *, resamples: int, generator: np.random.Generator
) -> tuple[Quantile, ...]:
    """For each of SHARES; the interval is that of a bootstrap by write (all reads of a write are drawn
    together), 95 %. An end of it that was not reached by the resamples is None."""
    if not len(samples.at):
        return tuple(Quantile(p=p, t_ms=None, low_ms=None, high_ms=None) for p in SHARES)
    order = np.argsort(samples.at, kind="stable")
    sorted_ = Samples(samples.at[order], samples.fresh[order], samples.label[order])
    # Reads at one instant are one point: no share changes between them.
    firsts = np.flatnonzero(np.r_[True, np.diff(sorted_.at) > 0])
    instants = sorted_.at[firsts]
    point = [_first(sorted_, firsts, instants, np.ones(len(order)), p) for p in SHARES]
    drawn: list[list[float]] = [[] for _ in SHARES]
    writes = int(samples.label.max()) + 1
    for _ in range(resamples):
        times = np.bincount(generator.integers(0, writes, writes), minlength=writes)
        weights = times[sorted_.label].astype(np.float64)
        for number, p in enumerate(SHARES):
            drawn[number].append(_first(sorted_, firsts, instants, weights, p))
    return tuple(
        Quantile(
            p=p, t_ms=_none(t), low_ms=_none(_at(found, _LOW)), high_ms=_none(_at(found, _HIGH))
        )
        for p, t, found in zip(SHARES, point, drawn, strict=True)
    )


def _first(
    samples: Samples, firsts: npt.NDArray[Any], instants: Floats, weights: Floats, p: float
) -> float:
    """Infinite where no time was reached, or too few reads came after it to say so: of fewer than
    1 / (1 - p) none need be stale."""
    excess = np.add.reduceat(weights * (samples.fresh - p), firsts)
    # Rounded: shares that are exactly p must tie whatever order they were added in.
    sums = np.round(np.r_[0.0, np.cumsum(excess)], 6)
    place = int(np.argmin(sums))
    if place == len(instants):
        return float("inf")
    after = float(weights[firsts[place] :].sum())
    return float(instants[place]) if after >= 1 / (1 - p) - 1e-6 else float("inf")


def _at(found: Sequence[float], share: float) -> float:
    ordered = sorted(found)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")


def _none(value: float) -> float | None:
    return value if value < float("inf") else None
