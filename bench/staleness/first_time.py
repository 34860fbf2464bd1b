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
#: Resamples look at no more groups of reads than about so many.
GROUPS_MAX: Final = 2_000
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
    together), 95 %. An end of it that was not reached by the resamples is None. Before the first read
    nothing was seen: an interval that begins there begins at 0."""
    if not len(samples.at):
        return tuple(Quantile(p=p, t_ms=None, low_ms=None, high_ms=None) for p in SHARES)
    order = np.argsort(samples.at, kind="stable")
    at, fresh, label = samples.at[order], samples.fresh[order], samples.label[order]
    # Reads at one instant are one point: no share changes between them.
    firsts = np.flatnonzero(np.r_[True, np.diff(at) > 0])
    exact = _groups(firsts, at)
    point = _first(exact.at, *exact.sums(fresh, np.ones(len(at))))
    coarse = _groups(firsts[:: 1 + len(firsts) // GROUPS_MAX], at)
    drawn: list[Sequence[float]] = []
    writes = int(label.max()) + 1
    for _ in range(resamples):
        times = np.bincount(generator.integers(0, writes, writes), minlength=writes)
        drawn.append(_first(coarse.at, *coarse.sums(fresh, times[label].astype(np.float64))))
    return tuple(
        Quantile(
            p=p,
            t_ms=_none(point[number]),
            low_ms=_from_0(_at([one[number] for one in drawn], _LOW), at[0]),
            high_ms=_none(_at([one[number] for one in drawn], _HIGH)),
        )
        for number, p in enumerate(SHARES)
    )


class _Groups(NamedTuple):
    """Reads, in the order of time, taken together: when each group begins, and where."""

    at: Floats
    firsts: Counts

    def sums(self, fresh: Floats, weights: Floats) -> tuple[Floats, Floats]:
        """Of each group the fresh reads and all of them, weighted."""
        return np.add.reduceat(weights * fresh, self.firsts), np.add.reduceat(weights, self.firsts)


def _groups(firsts: npt.NDArray[Any], at: Floats) -> _Groups:
    return _Groups(at[firsts], firsts)


def _first(at: Floats, fresh: Floats, reads: Floats) -> Sequence[float]:
    """For each share; infinite where it was not reached, or too few reads came after to say so: of
    fewer than 1 / (1 - p) none need be stale."""
    fresh_before, reads_before = np.r_[0.0, np.cumsum(fresh)], np.r_[0.0, np.cumsum(reads)]
    found = []
    for p in SHARES:
        # Rounded: shares that are exactly p must tie, and the first of them counts.
        place = int(np.argmin(np.round(fresh_before - p * reads_before, 6)))
        after = reads_before[-1] - reads_before[place]
        reached = place < len(at) and after >= 1 / (1 - p) - 1e-6
        found.append(float(at[place]) if reached else float("inf"))
    return found


def _at(found: Sequence[float], share: float) -> float:
    ordered = sorted(found)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")


def _from_0(low: float, first: float) -> float | None:
    return 0.0 if low <= first else _none(low)


def _none(value: float) -> float | None:
    return value if value < float("inf") else None
