"""How fast background work may go: a byte rate, what clients ask meanwhile, and what was done lately.

Pure decisions over numbers and times that are handed in. Knows nothing of what is sent, or to whom.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

#: A node that has served no client for so long (seconds) serves none.
QUIET_AFTER: Final = 1.0
#: What is counted for each request of a client, at the node that coordinates it or keeps its key.
CLIENT_COUNTERS: Final = ("gets", "puts", "deletes", "fetches", "mints", "stores")
#: The seconds of which a rate is told.
RATE_SECONDS: Final = 10
#: What may leave at once after a pause, in seconds of the rate.
BURST_SECONDS: Final = 0.25


class Step(NamedTuple):
    """One step of the work: how many records at most, of how many bytes, and how many such batches
    may be under way to one target."""

    count_max: int
    bytes_max: int
    in_flight: int


#: A batch of either size keeps the loop of its sender and of its target for a millisecond or two. Each
#: waits for a sync at the target, which one alone would leave idle meanwhile.
FREELY: Final = Step(count_max=128, bytes_max=64 << 10, in_flight=4)
BESIDE_CLIENTS: Final = Step(count_max=64, bytes_max=32 << 10, in_flight=1)
#: Beside clients, nothing is sent after a batch for so many times as long as it took: where they leave
#: little of the cores or of the disk, batches take longer, and fewer are sent.
PAUSE_FACTOR: Final = 1.0
#: However long a batch took, so much (seconds) is not waited after it: it may have waited for a sync.
PAUSE_MAX: Final = 0.25


def step(*, clients: bool) -> Step:
    """What may be sent at a time; `clients`: here or at the target somebody waits for requests."""
    return BESIDE_CLIENTS if clients else FREELY


def pause_after(took: float, *, clients: bool) -> float:
    """Seconds until the next batch may leave after one that took so many."""
    return min(took * PAUSE_FACTOR, PAUSE_MAX) if clients else 0.0


class TokenBucket:
    """So many bytes a second. One thing larger than that may leave, and is paid off afterwards."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: int, now: float) -> None:
        """`rate`: bytes a second, at least 1. `now`: monotonic seconds."""
        self._rate = rate
        self._burst = rate * BURST_SECONDS
        self._tokens = self._burst
        self._at = now

    def wait(self, now: float) -> float:
        """Seconds until something may leave; 0.0 if it may now."""
        self._fill(now)
        return 0.0 if self._tokens > 0 else (1.0 - self._tokens) / self._rate

    def set_rate(self, rate: int, now: float) -> None:
        """From now on so many bytes a second, at least 1."""
        if rate != self._rate:
            self._fill(now)
            self._rate = rate
            self._burst = rate * BURST_SECONDS

    def take(self, size: int, now: float) -> None:
        """So many bytes leave."""
        self._fill(now)
        self._tokens -= size

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class ClientLoad:
    """Whether a node serves clients, by its counters: as coordinator or for others."""

    __slots__ = ("_count", "_looked_at", "_seen_at", "_total")

    def __init__(self, count: Mapping[str, int]) -> None:
        self._count = count
        self._total = 0
        self._looked_at = self._seen_at = -QUIET_AFTER

    def is_busy(self, now: float) -> bool:
        """True if it has served any within the last second, as far as looks so often can tell."""
        total = sum(self._count.get(name, 0) for name in CLIENT_COUNTERS)
        if total != self._total:
            self._total = total
            # Of what came before the last look but one it cannot be said when it came.
            if now - self._looked_at <= QUIET_AFTER:
                self._seen_at = now
        self._looked_at = now
        return now - self._seen_at < QUIET_AFTER


class Recent:
    """How many things, of how many bytes, were done in each of the last seconds."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque(maxlen=RATE_SECONDS)

    def note(self, count: int, size: int, now: float) -> None:
        """So many were done now."""
        second = int(now)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
        self._seconds[-1][1] += count
        self._seconds[-1][2] += size

    def rates(self, now: float) -> tuple[float, float]:
        """(things, bytes) a second, since the first of the last ten seconds in which there were any."""
        recent = [one for one in self._seconds if one[0] > now - RATE_SECONDS]
        if not recent:
            return 0.0, 0.0
        lasted = max(now - recent[0][0], 1.0)
        return sum(one[1] for one in recent) / lasted, sum(one[2] for one in recent) / lasted
