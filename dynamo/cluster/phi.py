"""How surprising the silence of one peer is, by how its heartbeats have come so far.

The phi accrual failure detector: N. Hayashibara, X. Défago, R. Yared and T. Katayama, SRDS 2004.
Phi is -log10 of how likely it is that a heartbeat is still to come after so long a silence, the times
between them taken for normally distributed. Pure: seconds in, numbers out; knows no clock, no peer.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

#: Intervals that are remembered: the last 100 s or so.
WINDOW: Final = 100
#: A silence as surprising as this convicts: one in 10^8 heartbeats comes so late.
THRESHOLD: Final = 8.0
#: Heartbeats that come like clockwork say nothing of the first collection of garbage or full disk
#: queue: the deviation is never taken for less than this part of the interval that is expected.
DEVIATION_MIN: Final = 0.7
#: One interval counts for so many expected ones at most, so that a few long ones do not blind it: no
#: silence goes unnoticed for more than ten expected intervals.
INTERVAL_MAX: Final = 3.0
#: Heartbeats that come closer together than this part of the expected interval are one: those of a
#: peer that was stopped all come at once.
INTERVAL_MIN: Final = 0.1

#: Deviations above the mean at which phi is THRESHOLD.
_THRESHOLD_DEVIATIONS: Final = 5.6120012441747887
#: From here on the tail is computed by its series: `erfc` is 0 soon after.
_SERIES_FROM: Final = 30.0
_US: Final = 1_000_000


class Phi:
    """The heartbeats of one peer. `limit`: seconds of silence at which phi reaches THRESHOLD."""

    __slots__ = ("_deviation_min", "_expected", "_last", "_mean", "_squares", "_sum", "_window")

    def __init__(self, expected: float) -> None:
        """`expected`: seconds between heartbeats, until some have come."""
        self._expected = expected
        self._deviation_min = expected * DEVIATION_MIN
        # Whole microseconds: sums of them are exact, however long they go on.
        self._window: deque[int] = deque()
        self._sum = self._squares = 0
        self._last: float | None = None
        self._mean = expected
        self._add(expected)

    def __repr__(self) -> str:
        return (
            f"Phi(mean={self._mean:.3f}s deviation={self.deviation:.3f}s limit={self.limit:.2f}s"
            f" of {len(self._window)})"
        )

    def heartbeat(self, now: float) -> None:
        """One has come. `now`: seconds; never less than before."""
        last = self._last
        if last is None:
            self._last = now
            return
        interval = now - last
        if interval >= self._expected * INTERVAL_MIN:
            self._last = now
            self._add(min(interval, self._expected * INTERVAL_MAX))

    def pause(self) -> None:
        """The time until the next heartbeat says nothing: the connection is gone."""
        self._last = None

    @property
    def mean(self) -> float:
        """Seconds between heartbeats."""
        return self._mean

    @property
    def deviation(self) -> float:
        """Of the intervals, in seconds; never below its floor."""
        count = len(self._window)
        variance = (count * self._squares - self._sum * self._sum) / (count * count)
        return max(self._deviation_min, math.sqrt(variance) / _US)

    @property
    def limit(self) -> float:
        """Seconds of silence at which phi is THRESHOLD."""
        return self._mean + _THRESHOLD_DEVIATIONS * self.deviation

    def after(self, silence: float) -> float:
        """Phi after so many seconds of silence; 0.0 or more, and grows with it."""
        return phi((silence - self._mean) / self.deviation)

    def _add(self, interval: float) -> None:
        us = round(interval * _US)
        window = self._window
        if len(window) == WINDOW:
            oldest = window.popleft()
            self._sum -= oldest
            self._squares -= oldest * oldest
        window.append(us)
        self._sum += us
        self._squares += us * us
        self._mean = self._sum / len(window) / _US


def phi(deviations: float) -> float:
    """-log10 of how likely a normal variable is to be so many deviations above its mean, or more."""
    if deviations < _SERIES_FROM:
        return max(0.0, -math.log10(math.erfc(deviations / math.sqrt(2)) / 2))
    square = deviations * deviations
    # The asymptotic series (Abramowitz and Stegun, 26.2.12). Broken off after a negative term it is
    # too small, so phi steps up where it takes over, never down.
    series = 1 - 1 / square + 3 / square**2 - 15 / square**3
    density = square / 2 / math.log(10) + math.log10(math.sqrt(2 * math.pi) * deviations)
    return density - math.log10(series)
