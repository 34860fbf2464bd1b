"""Quantiles of as many numbers as one likes, in bounded memory. Pure.

As long as there is room every number is kept, and a quantile is one of them. Beyond that they are
counted in buckets, 2,048 for each power of two, so that a quantile is off by 0.03 % at most.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import numpy as np

from bench.pbs.fits import Floats

#: Bits of a double's fraction that are dropped: 11 of 52 are left.
_SHIFT: Final = 41
_LEAST: Final = 2.0**-30
_GREATEST: Final = 2.0**50


def _bucket_of(value: float) -> int:
    return int(np.float64(value).view(np.int64)) >> _SHIFT


_FIRST: Final = _bucket_of(_LEAST)
#: The first is for all below _LEAST, the last for all that is infinite, or as good as.
_BUCKETS: Final = _bucket_of(_GREATEST) - _FIRST + 1


class Quantiles:
    """Of `total` numbers, none of them negative, which are all to be added before one is asked for."""

    def __init__(self, total: int, *, keep: bool) -> None:
        self._total = total
        self._added = 0
        self._kept = np.empty(total if keep else 0)
        self._is_sorted = False
        self._counts = np.zeros(0 if keep else _BUCKETS, dtype=np.int64)

    def __repr__(self) -> str:
        how = "kept" if len(self._kept) else "counted"
        return f"Quantiles({self._added}/{self._total} {how})"

    def add(self, values: Floats) -> None:
        """More of them."""
        if len(self._kept):
            self._kept[self._added : self._added + len(values)] = values
        else:
            within = np.clip(values, _LEAST, _GREATEST)
            buckets = (within.view(np.int64) >> _SHIFT) - _FIRST
            self._counts += np.bincount(buckets, minlength=_BUCKETS)
        self._added += len(values)

    def rank_of(self, share: Fraction) -> int:
        """How many numbers make this share, at least one."""
        return max(1, -(-self._total * share.numerator // share.denominator))

    def at(self, *shares: Fraction) -> list[float | None]:
        """Of each share (0 to 1), the least number that so many are at or below; None if it is
        infinite."""
        assert self._added == self._total
        ranks = [self.rank_of(share) for share in shares]
        if len(self._kept):
            if not self._is_sorted:
                self._kept.partition([rank - 1 for rank in ranks])
            found = [float(self._kept[rank - 1]) for rank in ranks]
        else:
            found = [
                _middle(int(bucket))
                for bucket in np.searchsorted(np.cumsum(self._counts), ranks, side="left")
            ]
        return [value if np.isfinite(value) else None for value in found]

    def curve(self, points: int) -> tuple[tuple[float, float], ...]:
        """(number, share of those at or below it), in steps of equal shares, and finer to the end; what
        is infinite is left out."""
        if len(self._kept) and not self._is_sorted:
            self._kept.sort()
            self._is_sorted = True
        shares = {Fraction(step, points) for step in range(1, points + 1)}
        shares.update(1 - Fraction(1, points * 2**step) for step in range(1, 12))
        found: dict[float, float] = {}
        for share, value in zip(sorted(shares), self.at(*sorted(shares)), strict=True):
            if value is not None:
                found[value] = float(share)
        if 0.0 in found:
            found[0.0] = self._share_of_zero()
        return tuple(found.items())

    def _share_of_zero(self) -> float:
        if len(self._kept):
            return float(np.searchsorted(self._kept, 0.0, side="right")) / self._total
        return float(self._counts[0]) / self._total


def _middle(bucket: int) -> float:
    if bucket <= 0:
        return 0.0
    if bucket >= _BUCKETS - 1:
        return float("inf")
    low, high = (np.int64((bucket + end + _FIRST) << _SHIFT).view(np.float64) for end in (0, 1))
    return float(low + high) / 2
