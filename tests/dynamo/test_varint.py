"""Variable-length integers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo.errors import Malformed
from dynamo.varint import UINT64_MAX, VARINT_PATTERN, read_varint, write_varint


def encoded(number: int) -> bytes:
    out = bytearray()
    write_varint(number, out)
    return bytes(out)


@pytest.mark.parametrize(
    ("number", "data"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        ((1 << 63) - 1, "ffffffffffffffff7f"),
        (UINT64_MAX, "ffffffffffffffffff01"),
    ],
)
def test_numbers_have_these_bytes(number: int, data: str) -> None:
    assert encoded(number).hex() == data
    assert read_varint(bytes.fromhex(data), 0) == (number, len(data) // 2)


@given(st.integers(0, UINT64_MAX), st.binary(max_size=3), st.binary(max_size=3))
def test_a_number_is_read_back_from_the_middle(number: int, before: bytes, after: bytes) -> None:
    data = before + encoded(number)
    assert read_varint(data + after, len(before)) == (number, len(data))


@pytest.mark.parametrize(
    "data",
    ["", "80", "ffffffffffffffffff", "8000", "ac8200", "ffffffffffffffffff02", "80" * 10 + "01"],
)
def test_cut_long_or_padded_numbers_are_malformed(data: str) -> None:
    with pytest.raises(Malformed):
        read_varint(bytes.fromhex(data), 0)


@given(st.binary(max_size=12) | st.lists(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])).map(bytes))
def test_reader_writer_and_pattern_agree_on_any_bytes(data: bytes) -> None:
    try:
        number, end = read_varint(data, 0)
    except Malformed:
        assert re.match(VARINT_PATTERN, data) is None
        return
    assert encoded(number) == data[:end]
    found = re.match(VARINT_PATTERN, data)
    assert found is not None
    assert found.end() == end


@given(st.integers(0, UINT64_MAX))
def test_the_pattern_matches_whatever_is_written(number: int) -> None:
    assert re.fullmatch(VARINT_PATTERN, encoded(number))
