"""Quantiles: exact while there is room, and off by next to nothing beyond."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from bench.pbs.quantiles import Quantiles

SHARES = [Fraction(1, 2), Fraction(9, 10), Fraction(999, 1000)]


def _of(values: list[float], *, keep: bool) -> Quantiles:
    made = Quantiles(len(values), keep=keep)
    half = len(values) // 2
    made.add(np.array(values[:half]))
    made.add(np.array(values[half:]))
    return made


def test_a_quantile_is_the_least_number_with_the_share_at_or_below_it() -> None:
    made = _of([float(value) for value in range(1000, 0, -1)], keep=True)
    assert made.at(*SHARES) == [500.0, 900.0, 999.0]
    assert _of([7.0], keep=True).at(*SHARES) == [7.0, 7.0, 7.0]
    assert _of([0.0, 0.0, 3.0], keep=True).at(Fraction(1, 2)) == [0.0]


def test_what_is_infinite_is_none() -> None:
    for keep in (True, False):
        assert _of([1.0] * 8 + [np.inf] * 2, keep=keep).at(*SHARES)[2] is None


def test_counting_in_buckets_is_off_by_less_than_a_thousandth() -> None:
    values = np.random.default_rng(1).pareto(1.2, 5000).tolist() + [0.0] * 500
    exact, counted = (_of(values, keep=keep).at(*SHARES) for keep in (True, False))
    assert counted == pytest.approx(exact, rel=5e-4)
    assert _of([0.0] * 9 + [1.0], keep=False).at(SHARES[0]) == [0.0]


@pytest.mark.parametrize("keep", [True, False])
def test_a_curve_is_the_share_at_or_below_each_number(keep: bool) -> None:
    rng = np.random.default_rng(2)
    values = np.where(rng.random(10_000) < 0.4, 0.0, rng.exponential(3.0, 10_000))
    curve = _of(values.tolist(), keep=keep).curve(100)
    assert curve[0][0] == 0.0
    assert curve[0][1] == pytest.approx((values == 0).mean())
    for t, share in curve:
        assert share == pytest.approx((values <= t * 1.0005).mean(), abs=0.002)
    assert [t for t, _ in curve] == sorted({t for t, _ in curve})
    assert curve[-1][1] == 1.0
