"""How long client requests took: fixed buckets by operation and status, kept up by one call a request.

Everything since the start, and the last minute apart, in steps of five seconds. Knows nothing of
HTTP but that a status has a class; time is an argument.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Final

#: What a client asked for. OTHER is everything that is not about one object.
GET, PUT, DELETE, OTHER = range(4)
OPERATIONS: Final = ("get", "put", "delete", "other")
#: Of final replies.
STATUS_CLASSES: Final = ("2xx", "3xx", "4xx", "5xx")

#: Upper ends of the buckets, in seconds; what takes longer is counted in one more.
BOUNDS: Final = (
    *(0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.0007),
    *(0.001, 0.0015, 0.002, 0.003, 0.005, 0.007),
    *(0.01, 0.015, 0.02, 0.03, 0.05, 0.07),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.7),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)
WINDOW_S: Final = 60.0
SLICE_S: Final = 5.0


class Histogram:
    """Counts of durations by bucket, their sum and the longest, in seconds. `bounds`: upper ends of the
    buckets, in order."""

    __slots__ = ("bounds", "counts", "longest", "sum")

    def __init__(self, bounds: Sequence[float] = BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.longest = 0.0

    def __repr__(self) -> str:
        return f"Histogram({self.count} in {self.sum:.3f} s, longest {self.longest:.6f} s)"

    @property
    def count(self) -> int:
        """How many durations there are."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Seconds; 0.0 of none."""
        return self.sum / count if (count := self.count) else 0.0

    def note(self, taken: float) -> None:
        """Count one duration in."""
        self.counts[bisect_left(self.bounds, taken)] += 1
        self.sum += taken
        self.longest = max(self.longest, taken)

    def add(self, other: Histogram) -> None:
        """Count in what `other`, of the same bounds, has."""
        self.counts = [mine + more for mine, more in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum
        self.longest = max(self.longest, other.longest)

    def quantile(self, q: float) -> float:
        """The duration that a share `q` (0..1) does not exceed, as if durations were spread evenly
        within a bucket; seconds, 0.0 of none. Never above the longest."""
        rank = q * self.count
        below = 0
        for index, count in enumerate(self.counts):
            if count and below + count >= rank:
                low = self.bounds[index - 1] if index else 0.0
                high = self.bounds[index] if index < len(self.bounds) else self.longest
                return min(self.longest, low + (high - low) * max(0.0, rank - below) / count)
            below += count
        return 0.0


#: A histogram for each operation and status class.
_Grid = tuple[tuple[Histogram, ...], ...]


class RequestTimes:
    """The times of all requests of one server.

    `monotonic`: seconds from an arbitrary start. Holds a dozen slices of the last minute, and one
    sum of all before them.
    """

    __slots__ = ("_before", "_ended", "_monotonic", "_now", "_until")

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._before = _grid()
        #: What is in full slices, with the time each ended, oldest first.
        self._ended: list[tuple[float, _Grid]] = []
        self._now = _grid()
        self._until = monotonic() + SLICE_S

    def note(self, operation: int, status: int, began: float) -> None:
        """A final reply of this status (200..599) was made to what began then (monotonic).

        The hot path's one call.
        """
        now = self._monotonic()
        if now >= self._until:
            self._turn(now)
        taken = now - began
        times = self._now[operation][status // 100 - 2]
        times.counts[bisect_left(BOUNDS, taken)] += 1
        times.sum += taken
        if taken > times.longest:
            times.longest = taken

    def since_start(self, operation: int, status_class: int) -> Histogram:
        """All of an operation and a status class (an index of STATUS_CLASSES)."""
        grids = (self._before, *(grid for _, grid in self._ended), self._now)
        return _sum(grid[operation][status_class] for grid in grids)

    def last_minute(self, operation: int) -> Histogram:
        """What was answered within the last minute, less up to five seconds of its beginning; of any
        status."""
        oldest = self._monotonic() - WINDOW_S + SLICE_S
        slices = (*self._ended, (self._until, self._now))
        return _sum(times for until, grid in slices if until >= oldest for times in grid[operation])

    def _turn(self, now: float) -> None:
        """Begin a new slice, and add the oldest to what was before."""
        self._ended.append((self._until, self._now))
        if len(self._ended) > WINDOW_S // SLICE_S:
            _, oldest = self._ended.pop(0)
            for sums, more in zip(self._before, oldest, strict=True):
                for total, times in zip(sums, more, strict=True):
                    total.add(times)
        self._now = _grid()
        self._until = now + SLICE_S


def _grid() -> _Grid:
    return tuple(tuple(Histogram() for _ in STATUS_CLASSES) for _ in OPERATIONS)


def _sum(parts: Iterable[Histogram]) -> Histogram:
    total = Histogram()
    for part in parts:
        total.add(part)
    return total
