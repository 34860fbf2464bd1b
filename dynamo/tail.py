"""When a read has waited long enough to ask one more replica, and how often that may be.

`Tail` follows the 95th percentile of what reads take, `HedgeBudget` keeps the extra requests within
a share of the reads. Bounded, and cheap enough for each request. Pure: knows no clock, no request.
"""

from __future__ import annotations

import math
from typing import Final

#: What a read is taken to take, in seconds, until enough have been seen.
ASSUMED: Final = 0.05
#: So many samples make an estimate; it is made anew after as many.
SAMPLES_MIN: Final = 32
#: With so many samples all counts are halved: older reads weigh less and less.
SAMPLES_MAX: Final = 1024

#: An extra request for so many reads: 5 %.
READS_PER_HEDGE: Final = 20
#: Extra requests that reads which needed none have saved up, at most.
HEDGES_SAVED_MAX: Final = 10

_QUANTILE: Final = 0.95
#: Each power of two is cut into so many buckets, so that an estimate is at most an eighth too high.
_CUTS: Final = 8
#: Buckets go from 2^-17 s (8 us) to 2^7 s; what is outside counts in the first or last.
_FIRST: Final = -16
_BUCKETS: Final = (7 - _FIRST + 1) * _CUTS


class Tail:
    """`p95`: seconds that 95 of 100 recent reads took at most; ASSUMED while too few were seen."""

    __slots__ = ("_counts", "_fresh", "_samples", "p95")

    def __init__(self) -> None:
        self.p95 = ASSUMED
        self._counts = [0] * _BUCKETS
        self._samples = 0
        #: Samples since the last estimate.
        self._fresh = 0

    def __repr__(self) -> str:
        return f"Tail(p95={self.p95 * 1000:.3f} ms of {self._samples})"

    def add(self, seconds: float) -> None:
        """One read took so long."""
        fraction, exponent = math.frexp(seconds)
        bucket = (exponent - _FIRST) * _CUTS + int((fraction * 2 - 1) * _CUTS)
        # frexp gives 0.0 an exponent of 0: it belongs into the first bucket all the same.
        self._counts[max(0, min(bucket, _BUCKETS - 1)) if seconds > 0 else 0] += 1
        self._samples += 1
        self._fresh += 1
        if self._fresh >= SAMPLES_MIN:
            self._estimate()

    def _estimate(self) -> None:
        self._fresh = 0
        left = self._samples * (1 - _QUANTILE)
        for bucket in range(_BUCKETS - 1, -1, -1):
            left -= self._counts[bucket]
            if left < 0:
                self.p95 = _upper_end(bucket)
                break
        if self._samples >= SAMPLES_MAX:
            self._counts = [count // 2 for count in self._counts]
            self._samples = sum(self._counts)


def _upper_end(bucket: int) -> float:
    octave, cut = divmod(bucket, _CUTS)
    return math.ldexp(1 + (cut + 1) / _CUTS, octave + _FIRST - 1)


class HedgeBudget:
    """Of N reads at most N / READS_PER_HEDGE + HEDGES_SAVED_MAX ask one replica more."""

    __slots__ = ("_reads",)

    def __init__(self) -> None:
        #: Reads that have not been spent on an extra request.
        self._reads = READS_PER_HEDGE * HEDGES_SAVED_MAX

    def __repr__(self) -> str:
        return f"HedgeBudget({self._reads / READS_PER_HEDGE:.2f})"

    def earn(self, reads: int = 1) -> None:
        """So many reads were begun."""
        self._reads = min(self._reads + reads, READS_PER_HEDGE * HEDGES_SAVED_MAX)

    def spend(self) -> bool:
        """True if one extra request may be sent, which is then taken off; False to send none."""
        if self._reads < READS_PER_HEDGE:
            return False
        self._reads -= READS_PER_HEDGE
        return True
