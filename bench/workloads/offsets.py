"""Designed offsets: how long after a commit a probe starts. Pure; chance is handed in."""

from __future__ import annotations

import random
from typing import Final, Literal

from bench.workloads.options import Options, milliseconds, share, whole

Grid = Literal["uniform", "log", "list"]
MS: Final = 1_000_000
#: Offsets of a list.
LIST_MAX: Final = 1_000


class Timed(Options, frozen=True, kw_only=True):
    """Options of workloads that probe after a commit. `grid`: "uniform" draws from 0 to `horizon_ms`;
    "log" as often in each decade, from `from_ms` to `horizon_ms`; "list" takes those of `offsets_ms`
    in turn, shuffled anew each round. `at_once`: this share of the drawn ones is 0 instead."""

    grid: Grid = "uniform"
    horizon_ms: float = 100.0
    from_ms: float = 0.1
    offsets_ms: tuple[float, ...] = ()
    at_once: float = 0.0

    def check(self, n: int) -> None:
        """Raises ValueError."""
        super().check(n)
        milliseconds("horizon_ms", self.horizon_ms)
        milliseconds("from_ms", self.from_ms, 0.001)
        share("at_once", self.at_once)
        for offset in self.offsets_ms:
            milliseconds("offsets_ms", offset)
        if self.grid == "list":
            whole("the number of offsets_ms", len(self.offsets_ms), 1, LIST_MAX)
        elif self.offsets_ms:
            raise ValueError(f'offsets_ms is of grid "list", not of "{self.grid}"')
        if self.grid == "log" and self.from_ms >= self.horizon_ms:
            raise ValueError(f"from_ms = {self.from_ms:g} must be below horizon_ms")


class Offsets:
    """The offsets of one run, one after the other."""

    def __init__(self, options: Timed) -> None:
        self._options = options
        self._left: list[float] = []

    def next(self, chance: random.Random) -> int:
        """Nanoseconds after the commit."""
        options = self._options
        if options.grid == "list":
            if not self._left:
                self._left = list(options.offsets_ms)
                chance.shuffle(self._left)
            return round(self._left.pop() * MS)
        if options.at_once and chance.random() < options.at_once:
            return 0
        if options.grid == "uniform":
            return round(chance.random() * options.horizon_ms * MS)
        span = options.horizon_ms / options.from_ms
        return round(float(options.from_ms * span ** chance.random()) * MS)
