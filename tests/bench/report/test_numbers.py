"""Figures as people read them: nothing that is not all becomes 100 %."""

from __future__ import annotations

import pytest
from made_run import rate

from bench.report.numbers import (
    designed,
    interval,
    listed,
    milliseconds,
    percent,
    seconds_since,
    span,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "—"),
        (float("inf"), "—"),
        (0.0, "0 ms"),
        (0.0082, "8.20 µs"),
        (0.35, "0.35 ms"),
        (34.21, "34.2 ms"),
        (999.4, "999 ms"),
        (1_200.0, "1.20 s"),
        (150_000.0, "150 s"),
    ],
)
def test_a_time_has_the_unit_that_suits_it(value: float | None, text: str) -> None:
    assert milliseconds(value).replace("\N{NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, "—"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.932, "93.2 %"),
        (0.9997, "99.970 %"),
        (0.00031, "0.031 %"),
        (1 - 1e-9, "99.99999990 %"),
    ],
)
def test_what_is_not_all_is_not_100_percent(share: float | None, text: str) -> None:
    assert percent(share).replace("\N{NO-BREAK SPACE}", " ") == text


def test_of_none_seen_the_interval_is_the_rule_of_three() -> None:
    assert interval(rate(0, 5_000)) == "below 0.060\N{NO-BREAK SPACE}% (3/n)"
    assert interval(rate(0, 2)) == "below 100\N{NO-BREAK SPACE}% (3/n)"
    assert interval(rate(0, 0)) == "—"


def test_an_end_that_was_not_reached_is_said() -> None:
    assert span(1.0, None).endswith("not reached")
    assert span(None, None) == "—"


def test_small_helpers() -> None:
    assert designed(0.05) == "50\N{NO-BREAK SPACE}µs"
    assert designed(2_000) == "2\N{NO-BREAK SPACE}s"
    assert seconds_since(500, 1_500_000_500).startswith("\N{MINUS SIGN}1.5")
    assert listed(["a", "b", "c", "d", "e"], at_most=3) == "a, b, c and 2 more"
    assert listed([]) == ""
