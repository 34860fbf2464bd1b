"""Counters of one node: nothing is dropped, refused or repaired without one.

Names are `noun_verb` in the project's vocabulary, and are what `/stats` shows. Knows
nothing of time or I/O.
"""

from __future__ import annotations

from collections import defaultdict


class Metrics:
    """Named counts, from 0. `metrics.count["reads"] += 1` is the hot path's way to use it."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count: defaultdict[str, int] = defaultdict(int)

    def snapshot(self) -> dict[str, int]:
        """A copy, sorted by name."""
        return dict(sorted(self.count.items()))
