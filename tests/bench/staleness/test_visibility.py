"""t-visibility of small histories whose answer is known."""

from __future__ import annotations

import random

import numpy as np
import pytest
from made_history import REGISTER, Made, manifest

from bench.analysis import analyse
from bench.findings import Curve
from bench.staleness.first_time import SHARES, Samples, first_times
from bench.staleness.monotone import pool
from bench.staleness.visibility import plot_edges


def curve(made: Made, origin: str = "client commit", **setup: object) -> Curve:
    found = analyse(manifest(**setup), made.lines).curves  # type: ignore[arg-type]
    return next(one for one in found if one.origin == origin)


def test_a_read_of_the_newest_write_is_fresh_and_of_an_older_one_stale() -> None:
    made = Made()
    made.write(1, 0, 10, w=1)
    made.read(1, 15, 16, r=1)
    made.write(2, 20, 30, w=1, bases=(1,))
    made.read(1, 32, 33, r=1)
    made.read(2, 37.5, 38, r=1)
    found = curve(made)
    assert (found.r, found.w, found.reads, found.writes) == (1, 1, 3, 2)
    assert (found.fresh.count, found.fresh.of) == (2, 3)
    assert [(one.from_ms, one.fresh.count, one.fresh.of) for one in found.fine] == [
        (2.0, 0, 1),
        (5.0, 1, 1),
        (7.0, 1, 1),
    ]
    assert found.fine[2].middle_ms == pytest.approx(7.5)


def test_the_origin_says_from_where_t_counts() -> None:
    made = Made()
    made.write(1, 0, 10, committed=8)
    made.read(0, 15, 20, began=16)
    assert curve(made, "client commit").fine[0].middle_ms == pytest.approx(5)
    assert curve(made, "coordinator commit").fine[0].middle_ms == pytest.approx(8)
    assert curve(made, "write start").fine[0].middle_ms == pytest.approx(15)


def test_a_read_counts_for_the_coordinator_what_the_client_did_not_know_yet() -> None:
    made = Made()
    made.write(1, 0, 10, committed=5)
    made.read(0, 7, 12, began=8)
    assert [one.origin for one in analyse(manifest(), made.lines).curves] == [
        "coordinator commit",
        "write start",
    ]
    assert curve(made, "coordinator commit").fresh.count == 0


def test_without_stamps_there_is_no_curve_of_the_coordinator() -> None:
    made = Made()
    made.write(1, 0, 10, committed=5)
    made.write(2, 20, 30)
    made.read(1, 31, 32, began=31)
    assert "coordinator commit" not in [
        one.origin for one in analyse(manifest(), made.lines).curves
    ]


def test_what_does_not_count_is_said() -> None:
    made = Made()
    made.read(0, 0, 1, r=1)
    made.write(1, 5, 10, w=1)
    made.read(0, 15, 16, r=1, outcome="fail", why="timeout")
    made.read((1, -1), 17, 18, r=1)
    made.read(1, 19, 20, r=1)
    made.read(0, 21, 22, r=1, phase="after")
    made.read(0, 21, 22, r=1, target="b")
    found = curve(made)
    assert found.left_out == {"before any commit": 1, "foreign value": 1, "no answer": 1}
    assert (found.fresh.count, found.reads) == (1, 1)


def test_an_unknown_write_is_not_committed_and_may_be_returned() -> None:
    made = Made()
    made.write(1, 0, 1)
    made.write(2, 5, 6, outcome="unknown", bases=(1,))
    made.read(1, 10, 11)
    made.read(2, 12, 13)
    made.read(1, 14, 15)
    assert curve(made).fresh.count == 3


def test_with_siblings_every_maximal_write_must_be_covered() -> None:
    made = Made()
    made.write(1, 0, 1)
    made.write(2, 2, 3)  # blind: a sibling
    made.read((2,), 5, 6)
    made.read((1, 2), 7, 8)
    made.write(3, 10, 11, bases=(1, 2))
    made.read((3,), 12, 13)
    made.read((1, 2), 14, 15)
    assert [one.fresh.count for one in curve(made).fine] == [1, 0, 0, 1]


def test_where_the_last_write_wins_the_newer_covers_and_overlaps_are_accepted() -> None:
    made = Made()
    made.write(1, 0, 10, session=1)
    made.write(2, 5, 12, session=2)
    made.read((1,), 20, 21)
    made.read((2,), 22, 23)
    made.write(3, 30, 31, session=1)
    made.read((2,), 35, 36)
    made.read((3,), 37, 38)
    assert curve(made, properties=REGISTER).fresh.count == 3
    assert curve(made).fresh.count == 0


def test_a_descendant_covers_over_versions_that_nobody_acknowledged() -> None:
    made = Made()
    made.write(1, 0, 1)
    made.write(2, 2, 3, outcome="unknown", bases=(1,))
    made.write(3, 4, 5, outcome="unknown", bases=(2,))
    made.read((3,), 6, 7)
    assert curve(made).fresh.count == 1


def test_a_register_that_shows_writes_after_50_ms_has_its_step_there() -> None:
    made, chance = Made(), random.Random(1)
    for number in range(4_000):
        key, at = f"k{number}", number * 10.0
        made.write(number + 1, at, at + 1, key=key, r=0, w=1)
        after = chance.uniform(0, 100)
        made.read(number + 1 if after >= 50 else 0, at + 1 + after, at + 2 + after, key=key, r=1)
    found = curve(made, target="delay")
    assert all(one.fitted == (one.from_ms >= 50) for one in found.fine)
    for quantile in found.quantiles:
        assert quantile.t_ms == pytest.approx(50, abs=0.2)
        assert quantile.low_ms is not None
        assert quantile.low_ms == pytest.approx(50, abs=0.5)


def test_t_p_is_the_first_time_at_which_the_monotone_fit_reaches_p() -> None:
    chance = random.Random(7)
    for _ in range(300):
        size = chance.randrange(1, 60)
        at = sorted(float(chance.randrange(40)) for _ in range(size))
        fresh = [float(chance.random() < t / 30) for t in at]
        instants = sorted(set(at))
        groups = [[f for t, f in zip(at, fresh, strict=True) if t == one] for one in instants]
        fitted = pool([sum(g) / len(g) for g in groups], [float(len(g)) for g in groups])
        samples = Samples(np.array(at), np.array(fresh), np.arange(size))
        found = first_times(samples, resamples=0, generator=np.random.default_rng(1))
        for p, quantile in zip(SHARES, found, strict=True):
            first = next((n for n, fit in enumerate(fitted) if fit >= p - 1e-9), None)
            if first is not None and sum(map(len, groups[first:])) < 1 / (1 - p) - 1e-6:
                first = None
            assert quantile.t_ms == (None if first is None else instants[first])


def test_the_bootstrap_draws_all_reads_of_a_write_together() -> None:
    # Twenty reads each of two writes, one always fresh, one never: resampled by read the share would be
    # near one half; by write it is 0, one half or 1.
    at = np.tile(np.arange(20.0), 2)
    samples = Samples(at, np.repeat([0.0, 1.0], 20), np.repeat([0, 1], 20))
    found = first_times(samples, resamples=200, generator=np.random.default_rng(1))
    assert (found[0].t_ms, found[0].low_ms, found[0].high_ms) == (0.0, 0.0, None)
    assert (found[1].t_ms, found[1].low_ms) == (None, 0.0)


def test_where_all_reads_are_fresh_nothing_is_known_before_the_first() -> None:
    at = np.array([0.3, 0.4, 2.0])
    samples = Samples(at, np.ones(3), np.arange(3))
    found = first_times(samples, resamples=200, generator=np.random.default_rng(1))[0]
    assert (found.t_ms, found.low_ms, found.high_ms) == (0.3, 0.0, 0.3)


def test_the_same_seed_gives_the_same_interval() -> None:
    made, chance = Made(), random.Random(2)
    for number in range(200):
        made.write(number + 1, number, number + 0.5, key=str(number))
        after = chance.random() * 9
        seen = number + 1 if chance.random() < after / 9 else 0
        made.read(seen, number + 1 + after, number + 20, key=str(number))
    one, two, other = (analyse(manifest(), made.lines, seed=seed).curves for seed in (3, 3, 4))
    assert one == two
    assert one[0].quantiles != other[0].quantiles
    assert one[0].plot == other[0].plot


def test_edges_of_the_plot_have_eight_bins_a_decade() -> None:
    edges = plot_edges(50)
    assert edges[:2] == [0.0, 0.1]
    assert edges[-2] <= 50 < edges[-1]
    assert [edge for edge in edges if edge in (0.1, 1, 10)] == [0.1, 1.0, 10.0]
