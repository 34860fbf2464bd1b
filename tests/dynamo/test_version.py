"""Births, dots and version vectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_strategies import any_births, any_vectors, small_vectors

from dynamo.errors import Malformed
from dynamo.varint import read_varint
from dynamo.version import (
    COUNTER_MAX,
    EMPTY_VECTOR,
    RANDOM_BYTES,
    Birth,
    Vector,
    birth_bytes,
    check_birth,
    covers_dot,
    decode_vector,
    descends,
    encode_vector,
    incarnation_bytes,
    join,
    strictly_below,
    vector_bytes,
    vector_of,
)

FIRST = birth_bytes(incarnation_bytes(7, b"abcdefgh"), 1)
SECOND = birth_bytes(incarnation_bytes(300, b"ABCDEFGH"), 200)


def test_births_and_vectors_have_these_bytes() -> None:
    assert FIRST.hex() == "07616263646566676801"
    assert SECOND.hex() == "ac024142434445464748c801"
    vector = vector_of({SECOND: 300, FIRST: 1})
    assert encode_vector(vector).hex() == "02" + FIRST.hex() + "01" + SECOND.hex() + "ac02"
    assert encode_vector(EMPTY_VECTOR) == b"\x00"


@given(any_births())
def test_a_birth_is_a_birth_and_nothing_longer_or_shorter_is(birth: Birth) -> None:
    check_birth(birth)
    for other in (birth[:-1], birth + b"\x00", b"\x80\x00" + birth[1:], b""):
        with pytest.raises(Malformed):
            check_birth(other)


@given(any_births(), any_births())
def test_no_birth_starts_with_another(one: Birth, other: Birth) -> None:
    assert one == other or not one.startswith(other)


@given(any_births(), any_births(), st.integers(0, 1 << 20))
def test_an_incarnation_is_the_prefix_of_its_own_births_only(
    one: Birth, other: Birth, sequence: int
) -> None:
    def incarnation(birth: Birth) -> bytes:
        return birth[: read_varint(birth, 0)[1] + RANDOM_BYTES]

    assert birth_bytes(incarnation(one), sequence).startswith(incarnation(one))
    same = incarnation(one) == incarnation(other)
    assert birth_bytes(incarnation(one), sequence).startswith(incarnation(other)) == same


@given(any_vectors())
def test_a_vector_is_read_back(vector: Vector) -> None:
    data = encode_vector(vector)
    assert decode_vector(data) == vector
    assert vector_bytes(vector) == len(data)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_vector_or_malformed(data: bytes) -> None:
    try:
        vector = decode_vector(data)
    except Malformed:
        return
    assert encode_vector(vector) == data


@given(any_vectors().filter(bool), st.data())
def test_an_altered_vector_is_another_vector_or_malformed(
    vector: Vector, data: st.DataObject
) -> None:
    altered = bytearray(encode_vector(vector))
    at = data.draw(st.integers(0, len(altered) - 1))
    if data.draw(st.booleans()):
        altered[at] ^= data.draw(st.integers(1, 255))
    else:
        del altered[at]
    try:
        other = decode_vector(bytes(altered))
    except Malformed:
        return
    assert other != vector
    assert encode_vector(other) == altered


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "nothing"),
        (b"\x01", "an entry too few"),
        (b"\x00" + FIRST + b"\x01", "an entry too many"),
        (b"\x01" + FIRST + b"\x00", "counter 0"),
        (b"\x01" + FIRST + b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "counter 2**63"),
        (b"\x01" + FIRST + b"\x81\x00", "padded counter"),
        (b"\x01" + FIRST + b"\x01\x00", "trailing byte"),
        (b"\x02" + SECOND + b"\x01" + FIRST + b"\x01", "unsorted"),
        (b"\x02" + FIRST + b"\x01" + FIRST + b"\x02", "one birth twice"),
        (b"\x80\x80\x80\x80\x08" + FIRST + b"\x01", "2**31 entries in a few bytes"),
    ],
)
def test_what_no_vector_encodes_to_is_malformed(data: bytes, why: str) -> None:
    with pytest.raises(Malformed):
        decode_vector(data)


@given(small_vectors(), small_vectors())
def test_join_and_order_agree_with_sets_of_dots(one: Vector, other: Vector) -> None:
    def dots(vector: Vector) -> set[tuple[Birth, int]]:
        return {(birth, n) for birth, counter in vector for n in range(1, counter + 1)}

    assert dots(join(one, other)) == dots(one) | dots(other)
    assert join(one, other) == vector_of(join(one, other))
    assert descends(one, other) == (dots(one) >= dots(other))
    assert strictly_below(one, other) == (dots(one) < dots(other))
    seen = dict(one)
    assert {dot for dot in dots(one) | dots(other) if covers_dot(seen, *dot)} == dots(one)


@given(small_vectors(), small_vectors())
def test_join_gives_back_the_very_vector_that_gains_nothing(one: Vector, other: Vector) -> None:
    joined = join(one, other)
    assert not one or (joined is one) == descends(one, other)


def test_the_highest_counter_fits() -> None:
    vector = vector_of({FIRST: COUNTER_MAX})
    assert decode_vector(encode_vector(vector)) == vector
