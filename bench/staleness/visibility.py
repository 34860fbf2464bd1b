"""t-visibility (PBS): how likely a read returns what committed t before it began, or something newer.

A read counts from the newest write that was committed before it (overwriting resets the clock), and
is fresh if each write committed before it is covered by a version it returned. Three origins of t:
the client's commit, the coordinator's (where both stamps came back), the write's start (Wada et al.).
Bailis et al., VLDB 2012; O((writes + reads) log).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from bench.findings import Bin, Curve, Origin
from bench.history import Op
from bench.staleness.budget import Budget
from bench.staleness.first_time import Samples, first_times
from bench.staleness.freshness import Looked
from bench.staleness.intervals import rate
from bench.staleness.keyed import NEVER, History, Key
from bench.staleness.monotone import pool
from bench.staleness.order import Asked, Judged

ORIGINS: Final[tuple[Origin, ...]] = ("client commit", "coordinator commit", "write start")
#: Bins of one millisecond go up to here.
FINE_MS_MAX: Final = 1_000
#: Bins of the plot: so many a decade, from 0.1 ms.
A_DECADE: Final = 8

_Cell = tuple[int, int]


class _Counted(NamedTuple):
    """One read that counts: its cell, tau (ms), whether fresh, and of which write (its number)."""

    cell: _Cell
    at: float
    fresh: bool
    write: int


class _LeftOut(NamedTuple):
    cell: _Cell
    reason: str


def curves(
    history: History, looked: Sequence[Looked], *, budget: Budget, seed: int
) -> tuple[Curve, ...]:
    """One for each origin and each (r, w) that was read; those without a single read are left out."""
    found: list[Curve] = []
    for origin in ORIGINS:
        counted: dict[_Cell, list[_Counted]] = {}
        left_out: dict[_Cell, Counter[str]] = {}
        for one in looked:
            for read in _reads(history, one, origin):
                if isinstance(read, _LeftOut):
                    left_out.setdefault(read.cell, Counter())[read.reason] += 1
                else:
                    counted.setdefault(read.cell, []).append(read)
        for cell in sorted(counted):
            # A stream of its own, so that no curve depends on which others there are.
            chance = np.random.default_rng((seed % 2**64, *cell, ORIGINS.index(origin)))
            reasons = dict(sorted(left_out.get(cell, Counter()).items()))
            found.append(_curve(origin, cell, counted[cell], reasons, budget, chance))
    return tuple(found)


def _reads(history: History, one: Looked, origin: Origin) -> Iterator[_Counted | _LeftOut]:
    """Each undirected read of the phase measured, as it counts for this origin."""
    key = one.key
    stamps = _stamps(key, origin)
    yield from _unanswered(history, key)
    measured = [read for read in key.reads if read.op.phase == "measure"]
    if origin == "coordinator commit":
        if any(op.outcome == "ok" and not op.committed for op in key.writes):
            for read in measured:
                yield _LeftOut(_cell(history, key, read.op, -1), "no coordinator stamp")
            return
        for read in measured:
            if not read.op.began:
                yield _LeftOut(_cell(history, key, read.op, -1), "no coordinator stamp")
        asked = [Asked(read.op.began, read) for read in measured if read.op.began]
        asked.sort(key=lambda one: one.at)
        judged: Iterable[Judged] = one.order.judge(stamps, asked, strict=False)
    elif origin == "write start":
        asked = [Asked(read.op.start, read) for read in measured]
        judged = one.order.judge(stamps, asked, strict=False)
    else:
        judged = (found for found in one.judged if found.read.op.phase == "measure")
    for found in judged:
        yield _count(history, key, found, stamps, coordinator=origin == "coordinator commit")


def _count(
    history: History, key: Key, found: Judged, stamps: Sequence[float], *, coordinator: bool
) -> _Counted | _LeftOut:
    op = found.read.op
    cell = _cell(history, key, op, found.newest)
    if found.read.foreign:
        return _LeftOut(cell, "foreign value")
    if found.newest < 0:
        return _LeftOut(cell, "before any commit")
    if found.behind < 0:
        return _LeftOut(cell, "over budget")
    begun = op.began if coordinator else op.start
    after = (begun - stamps[found.newest]) / 1e6
    return _Counted(cell, after, found.fresh, key.writes[found.newest].write)


def _unanswered(history: History, key: Key) -> Iterator[_LeftOut]:
    committed = key.committed()
    ends = [key.ends[place] for place in committed]
    for op in key.unanswered:
        if op.phase == "measure" and not op.target:
            done = bisect_right(ends, op.start)
            yield _LeftOut(
                _cell(history, key, op, committed[done - 1] if done else -1), "no answer"
            )


def _cell(history: History, key: Key, op: Op, newest: int) -> _Cell:
    """(r, w) of a read and of the write it counts from; of none, of the first write to the key."""
    if newest < 0 and key.writes:
        newest = 0
    return history.r(op), history.w(key.writes[newest]) if newest >= 0 else history.quorums[1]


def _stamps(key: Key, origin: Origin) -> list[float]:
    if origin == "client commit":
        return key.ends
    return [
        NEVER
        if op.outcome != "ok"
        else op.start
        if origin == "write start"
        else op.committed or NEVER
        for op in key.writes
    ]


def _curve(
    origin: Origin,
    cell: _Cell,
    counted: Sequence[_Counted],
    left_out: dict[str, int],
    budget: Budget,
    chance: np.random.Generator,
) -> Curve:
    writes, labels = np.unique([one.write for one in counted], return_inverse=True)
    samples = Samples(
        np.array([one.at for one in counted]),
        np.array([one.fresh for one in counted], dtype=np.float64),
        labels.astype(np.int64),
    )
    return Curve(
        origin=origin,
        r=cell[0],
        w=cell[1],
        reads=len(counted),
        writes=len(writes),
        fresh=rate(sum(one.fresh for one in counted), len(counted)),
        plot=bins(samples, plot_edges(float(samples.at.max()))),
        fine=bins(samples, [float(edge) for edge in range(FINE_MS_MAX + 1)]),
        quantiles=first_times(samples, resamples=budget.resamples, generator=chance),
        left_out=left_out,
    )


def plot_edges(to_ms: float) -> list[float]:
    """0, then from 0.1 ms on A_DECADE edges a decade, until beyond `to_ms`."""
    edges, step = [0.0], 0
    while edges[-1] <= to_ms:
        edges.append(round(10 ** (step / A_DECADE - 1), 6))
        step += 1
    return edges


def bins(samples: Samples, edges: Sequence[float]) -> tuple[Bin, ...]:
    """Those between the edges that hold reads; reads beyond the last edge are in none."""
    places = np.searchsorted(edges, samples.at, side="right") - 1
    inside = (places >= 0) & (places < len(edges) - 1)
    places = places[inside]
    size = len(edges) - 1
    counts = np.bincount(places, minlength=size)
    fresh = np.bincount(places, weights=samples.fresh[inside], minlength=size)
    sums = np.bincount(places, weights=samples.at[inside], minlength=size)
    held = [int(place) for place in np.flatnonzero(counts)]
    fitted = pool(
        [float(fresh[place] / counts[place]) for place in held],
        [float(counts[place]) for place in held],
    )
    return tuple(
        Bin(
            from_ms=edges[place],
            to_ms=edges[place + 1],
            middle_ms=float(sums[place] / counts[place]),
            fresh=rate(round(float(fresh[place])), int(counts[place])),
            fitted=fit,
        )
        for place, fit in zip(held, fitted, strict=True)
    )
