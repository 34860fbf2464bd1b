"""Intervals: against published values."""

from __future__ import annotations

import pytest

from bench.staleness.intervals import rate, rule_of_three, wilson


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_what_newcombe_printed(count: int, of: int, low: float, high: float) -> None:
    assert wilson(count, of) == pytest.approx((low, high), abs=5e-5)


def test_wilson_mirrors() -> None:
    low, high = wilson(3, 10)
    assert wilson(7, 10) == pytest.approx((1 - high, 1 - low))


def test_of_none_nothing_is_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert rate(0, 0).share is None


@pytest.mark.parametrize(("count", "of"), [(-1, 3), (4, 3), (1, 0)])
def test_what_is_no_rate_is_refused(count: int, of: int) -> None:
    with pytest.raises(ValueError, match="no rate"):
        wilson(count, of)


def test_none_of_n_is_below_three_over_n() -> None:
    assert rule_of_three(1000) == 0.003
    assert rate(0, 1000).high == 0.003
    assert rate(1000, 1000).low == pytest.approx(0.997)
    assert rule_of_three(2) == 1.0
