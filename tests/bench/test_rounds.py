"""Medians, spread and the table of floor and store."""

from __future__ import annotations

import pytest

from bench.rounds import Measured, Spread, cpu_ratios, header, ratios, row, total


def measured(rate: float, cpu: float = 50.0, **errors: int) -> Measured:
    return Measured(rate=rate, cpu_micros=cpu, p50=1.0, p99=9.0, errors=errors)


FLOORS = [measured(1000, 40), measured(100, 50), measured(2000, 60)]
STORES = [measured(500, 80), measured(60, 100), measured(400, 240)]


@pytest.mark.parametrize(
    ("values", "spread"),
    [([3], (3, 3, 3)), ([1, 2], (1.5, 1, 2)), ([9, 1, 4], (4, 1, 9)), ([0, 1, 2, 9], (1.5, 0, 9))],
)
def test_a_spread_is_a_median_between_least_and_most(
    values: list[float], spread: tuple[float, float, float]
) -> None:
    assert Spread.of(values) == spread


def test_each_round_has_its_own_ratio() -> None:
    """A slow round is slow for both; the ratio of the medians would be 0.4."""
    assert ratios(FLOORS, STORES) == (0.5, 0.2, 0.6)
    assert cpu_ratios(FLOORS, STORES) == (0.5, 0.25, 0.5)


def test_a_row_says_the_ratio_what_it_is_of_and_what_went_wrong() -> None:
    line = row(3, "synced", "GET", FLOORS, [*STORES[:2], measured(400, 240, status=7)])
    for cell in ("0.50 0.20..0.60", "1,000 100..2,000", "400 60..500", "50 100", "1.0/9.0 1.0/9.0"):
        assert cell in line
    assert line.startswith("3 ")
    assert line.endswith("7")


def test_columns_are_below_their_names() -> None:
    names, _ = header().splitlines()
    line = row(6, "unsynced", "50/50", FLOORS, STORES)
    for name, cell in (
        ("writes", "unsynced"),
        ("load", "50/50"),
        ("RATIO", "0.50"),
        ("floor req/s", "1,000"),
        ("store req/s", "400"),
        ("errors", "0"),
    ):
        assert line[names.index(name) :].startswith(cell)


def test_errors_are_added_up_by_kind() -> None:
    assert total([measured(1, read=2), measured(1, read=1, status=3)]) == {"read": 3, "status": 3}
