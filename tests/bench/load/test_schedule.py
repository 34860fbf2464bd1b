"""When arrivals are due: a fixed rate or a Poisson process, from the seed and nothing else."""

from __future__ import annotations

import itertools
import random
import statistics

import pytest

from bench.load.schedule import SECOND, arrivals, span
from bench.scenario import Load


def test_constant_arrivals_are_evenly_apart() -> None:
    load = Load(arrivals="constant", rate=100, sessions=3, warmup=1, duration=2)
    times = span(load, 500)
    every = list(arrivals(load, times, random.Random(1)))
    assert len(every) == 300
    assert {b.due - a.due for a, b in itertools.pairwise(every)} == {SECOND // 100}
    assert [one.phase for one in every] == ["warmup"] * 100 + ["measure"] * 200
    assert [one.session for one in every[:4]] == [0, 1, 2, 0]
    assert [one.number for one in every] == list(range(300))


def test_poisson_arrivals_have_its_mean_and_its_spread() -> None:
    load = Load(arrivals="poisson", rate=1000, warmup=0, duration=60)
    every = list(arrivals(load, span(load, 0), random.Random(1)))
    gaps = [b.due - a.due for a, b in itertools.pairwise(every)]
    mean = statistics.fmean(gaps)
    assert mean == pytest.approx(SECOND / 1000, rel=0.02)
    assert statistics.pstdev(gaps) == pytest.approx(mean, rel=0.03)
    counts = [0] * 600
    for one in every:
        counts[one.due * 10 // SECOND] += 1
    assert statistics.pvariance(counts) == pytest.approx(statistics.fmean(counts), rel=0.2)


def test_the_seed_is_all_there_is() -> None:
    load = Load(rate=500, warmup=0, duration=1)
    first, again, other = (
        list(arrivals(load, span(load, 7), random.Random(seed))) for seed in (1, 1, 2)
    )
    assert first == again != other
