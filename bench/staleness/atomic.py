"""Atomicity (linearizability of a register) by zones, key by key: the check, Delta, Gamma, scores.

A write of unknown outcome has no end, and is looked at only if a read returned it. Keys whose reads
returned several versions at once are no registers, and are left out. All phases count: zones need the
whole history of a key.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bench.findings import Anomaly, Score, Zones
from bench.history import Op
from bench.staleness.budget import Budget
from bench.staleness.checks import Tally
from bench.staleness.intervals import rate
from bench.staleness.keyed import Key
from bench.staleness.quantiles import named
from bench.staleness.zones import Cluster, Distance, cluster, distance, is_atomic


class _Value(NamedTuple):
    """`op`: its write; of what was there at the beginning (nothing), the first read of it."""

    op: Op
    cluster: Cluster


def atomicity(keys: Iterable[Key], *, budget: Budget) -> tuple[Zones | None, Tally]:
    """Zones are None if no key was looked at. The tally's chances are values, not operations."""
    tally = Tally("atomic", examples=budget.examples)
    found = _Found()
    for key in keys:
        if not key.reads:
            continue
        if any(len(read.seen) > 1 for read in key.reads):
            found.siblings += 1
            continue
        values = _values(key)
        clusters = [value.cluster for value in values]
        found.keys += 1
        for _ in values:
            tally.chance(key.name)
        if is_atomic(clusters):
            found.atomic += 1
            continue
        far = distance(clusters, pairs=budget.pairs)
        if far is None:
            found.over_budget += 1
            tally.broken(_whole_key(tally.name, key, values))
            continue
        found.add(far)
        for number, gamma in enumerate(far.scores):
            if far.partners[number] >= 0:
                anomaly = _anomaly(tally.name, key, values, number, far)
                tally.broken(anomaly)
                found.score(Score(at=anomaly.at, gamma_ms=gamma / 1e6, key=key.name), budget.scores)
    return found.zones(), tally


class _Found:
    """What is summed up over keys."""

    def __init__(self) -> None:
        self.keys = 0
        self.atomic = 0
        self.over_budget = 0
        self.siblings = 0
        self._deltas: list[float] = []
        self._gammas: list[float] = []
        self._scores: list[tuple[float, int, str, Score]] = []

    def add(self, far: Distance) -> None:
        self._deltas.append(far.delta / 1e6)
        self._gammas.append(far.gamma / 1e6)

    def score(self, score: Score, most: int) -> None:
        """Keep the highest; a finite number."""
        heapq.heappush(self._scores, (score.gamma_ms, -score.at, score.key, score))
        if len(self._scores) > most:
            heapq.heappop(self._scores)

    def zones(self) -> Zones | None:
        if not self.keys and not self.siblings:
            return None
        return Zones(
            keys=self.keys,
            atomic=rate(self.atomic, self.keys),
            delta_ms=named(self._deltas),
            gamma_ms=named(self._gammas),
            scores=tuple(
                sorted((one[3] for one in self._scores), key=lambda one: (one.at, one.key))
            ),
            over_budget=self.over_budget,
            siblings=self.siblings,
            unbounded=sum(not math.isfinite(delta) for delta in self._deltas),
        )


def _values(key: Key) -> list[_Value]:
    reads: dict[int, list[Op]] = {}
    for read in key.reads:
        if not read.foreign:
            reads.setdefault(read.seen[0] if read.seen else -1, []).append(read.op)
    values = [
        _Value(op, cluster(op.start, key.ends[place], _spans(reads.get(place, ()))))
        for place, op in enumerate(key.writes)
        if op.outcome == "ok" or place in reads
    ]
    nothing = reads.get(-1)
    if nothing:
        values.insert(0, _Value(nothing[0], cluster(-math.inf, -math.inf, _spans(nothing))))
    return values


def _spans(reads: Iterable[Op]) -> list[tuple[float, float]]:
    return [(read.start, read.end) for read in reads]


def _anomaly(kind: str, key: Key, values: Sequence[_Value], number: int, far: Distance) -> Anomaly:
    mine, other = values[number].op, values[far.partners[number]].op
    return Anomaly(
        kind=kind,
        op=mine.n,
        key=key.name,
        at=mine.end,
        severity_ms=far.scores[number] / 1e6,
        told=f"{_named(mine)} and {_named(other)} were each seen before and after the other"
        if mine is not other
        else f"{_named(mine)} was read before it was written",
        evidence=tuple(sorted({mine.n, other.n})),
    )


def _whole_key(kind: str, key: Key, values: Sequence[_Value]) -> Anomaly:
    return Anomaly(
        kind=kind,
        op=values[0].op.n,
        key=key.name,
        at=values[0].op.start,
        severity_ms=0.0,
        told="values of this key conflict, more of them than were compared",
        evidence=(),
    )


def _named(op: Op) -> str:
    return f"write {op.write}" if op.kind == "write" else "what was there at first"
