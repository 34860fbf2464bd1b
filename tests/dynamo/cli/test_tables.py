"""Tables and numbers, and how they are redrawn."""

from __future__ import annotations

import pytest

from dynamo.cli.live import frame, seconds_of
from dynamo.cli.tables import (
    Column,
    paragraph,
    plain,
    rates,
    show_bytes,
    show_rate,
    show_seconds,
    table,
)
from dynamo.errors import ConfigError

COLUMNS = (Column("name"), Column("note", drop=2), Column("size", drop=1, right=True))
ROWS = (("a", "first", "1"), ("longer", "", "1000"))


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (None, ["name    note   size", "a       first     1", "longer         1000"]),
        (19, ["name    note   size", "a       first     1", "longer         1000"]),
        (18, ["name    size", "a          1", "longer  1000"]),
        (11, ["name", "a", "longer"]),
        (5, ["name", "a", "lo..."]),
        (2, ["..", "a", ".."]),
    ],
)
def test_a_table_fits_its_width(width: int | None, expected: list[str]) -> None:
    assert table(COLUMNS, ROWS, width=width) == expected


def test_nothing_that_a_terminal_acts_upon_is_shown() -> None:
    odd = "a\x1b[2J\nb\x7f\x85\u202e\udcffé"
    for text in (plain(odd), *table(COLUMNS, [(odd, odd, odd)]), *paragraph(odd, width=10)):
        assert text.isascii()
        assert text.isprintable()


@pytest.mark.parametrize("width", [1, 5, 20, 21, 80])
def test_a_paragraph_fits_its_width(width: int) -> None:
    lines = paragraph("no answer from http://127.0.0.1:8098: connection refused", width=width)
    assert all(len(line) <= max(width, 2) for line in lines)


def test_numbers_are_short() -> None:
    sizes = [show_bytes(size) for size in (None, 0, 1023, 1536, 150 << 30, 1 << 62)]
    assert sizes == ["-", "0 B", "1023 B", "1.5 KiB", "150 GiB", "4096 PiB"]
    spans = [show_seconds(s) for s in (0.9, 59, 187, 18_000, 187_200)]
    assert spans == ["0s", "59s", "3m 7s", "5h 0m", "2d 4h"]
    assert [show_rate(rate) for rate in (None, 0.0, 0.52, 1234.4)] == ["-", "0", "0.5", "1234"]


def test_rates_need_an_earlier_look_of_the_same_start() -> None:
    assert rates({"a": 5}, None, 1.0) is None
    assert rates({"a": 5, "b": 2}, {"a": 1}, 2.0) == {"a": 2.0, "b": 1.0}
    assert rates({"a": 0}, {"a": 1}, 2.0) is None


def test_a_frame_is_drawn_over_the_last_one_and_never_scrolls() -> None:
    assert frame(["a", "b"], None) == "a\nb\n\n"
    assert frame(["a", "b"], 24) == "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"
    drawn = frame([str(i) for i in range(50)], 10)
    assert drawn.count("\n") == 9
    assert "... 42 more lines" in drawn


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x", "", "1e9"])
def test_seconds_have_a_range(text: str) -> None:
    with pytest.raises(ConfigError, match="--watch"):
        seconds_of("--watch", text)
