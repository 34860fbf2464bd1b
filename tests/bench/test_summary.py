"""An analysis on a terminal and as CSV."""

from __future__ import annotations

import csv
import io

import msgspec
import pytest
from made_run import empty_analysis, made_analysis, made_latency
from rich.console import Console

from bench.figures import figures, quantile_interval, wilson
from bench.report.verdict import headline
from bench.summary import COLUMNS, print_summary, summary_csv


def printed(**changes: object) -> str:
    out = io.StringIO()
    print_summary(made_analysis(), Console(file=out, width=160))
    return out.getvalue().replace("\N{NO-BREAK SPACE}", " ")


def test_a_summary_says_what_was_asked_and_each_rate_with_its_n() -> None:
    text = printed()
    assert "1 of 3 expectations met" in text
    assert "312 of 8,120" in text
    assert "below 0.060 % (3/n)" in text
    assert "coordinator commit" in text
    assert "53.1 ms \N{EN DASH} not reached" in text


def test_a_property_that_fails_is_no_expectation_that_failed() -> None:
    assert "\N{MULTIPLICATION X} fail" in printed()
    assert "fail: this history breaks it at least once" in printed()


def test_of_nothing_it_says_nothing_was_measured() -> None:
    out = io.StringIO()
    print_summary(empty_analysis(), Console(file=out, width=160))
    assert "Nothing was measured" in out.getvalue()
    out = io.StringIO()
    print_summary(empty_analysis("it lagged"), Console(file=out, width=160))
    assert "This run counts for nothing: it lagged." in out.getvalue()


def test_the_table_has_a_row_a_figure() -> None:
    found = list(csv.DictReader(io.StringIO(summary_csv(made_analysis()))))
    assert list(found[0]) == list(COLUMNS)
    assert len(found) == len(figures(made_analysis()))
    by_name = {(one["name"], one["origin"]): one for one in found}
    row = by_name["fresh R=1 W=1", "coordinator commit"]
    assert float(row["low"]) < float(row["value"]) < float(row["high"])
    assert row["unit"] == "share"
    assert by_name["t99.9 R=1 W=1", "client commit"]["high"] == ""


@pytest.mark.parametrize(("count", "of"), [(0, 10), (10, 10), (3, 7), (1, 100_000)])
def test_wilsons_interval_holds_the_share_and_stays_in_0_to_1(count: int, of: int) -> None:
    low, high = wilson(count, of)
    assert 0 <= low <= count / of <= high <= 1
    assert low == 0 if count == 0 else high == 1 if count == of else low > 0


def test_wilson_is_as_published() -> None:
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_the_interval_of_a_percentile_narrows_with_n_and_holds_its_value() -> None:
    few, many = (made_latency("read", "service", 1.0, n, 400.0) for n in (500, 50_000))
    (low_few, high_few), (low_many, high_many) = (
        quantile_interval(one, "90") for one in (few, many)
    )
    assert low_few is not None
    assert low_many is not None
    assert high_few is not None
    assert high_many is not None
    assert low_few < low_many <= many.ms["90"] <= high_many < high_few
    assert quantile_interval(few, "99.9")[1] is None
    assert quantile_interval(few, "max") == (None, None)


def test_what_was_dropped_is_said_in_the_first_sentence() -> None:
    analysis = made_analysis()
    health = msgspec.structs.replace(analysis.health, dropped=1_400)
    dropped = msgspec.structs.replace(analysis, health=health)
    assert "1,400 arrivals were dropped" in headline(dropped)[0]
    assert "dropped" not in headline(analysis)[0]
