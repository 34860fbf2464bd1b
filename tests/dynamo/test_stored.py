"""The envelope of a record on disk."""

from __future__ import annotations

from struct import Struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_strategies import BIRTHS

from dynamo.errors import StorageCorrupt
from dynamo.stored import (
    DEAD,
    Stored,
    StoredHint,
    check_stored,
    decode_hint,
    decode_stored,
    encode_hint,
    encode_stored,
)

KEY = b"\x00\x00\x00\x00\x00\x01key"
RECORD = b"\x93\x01\x90\x90"
DATA = encode_stored(KEY, BIRTHS[1], 3, RECORD)

counters = st.integers(1, (1 << 63) - 1)


def test_a_stored_record_has_these_bytes() -> None:
    assert (
        DATA.hex()
        == "02c182a2ff00000000000000030a00000004000000000000000000000000000101010101010101010193019090"
    )
    assert (
        encode_stored(KEY, b"", 0, RECORD, 5, 6, DEAD).hex()
        == "023155a64c000000000000000000000000040000000500000000000000060193019090"
    )


def test_a_record_of_the_first_format_is_still_read() -> None:
    data = bytes.fromhex("0130717d1c00000000000000030a000000040101010101010101010193019090")
    assert decode_stored(KEY, data) == Stored(BIRTHS[1], 3, RECORD, -1, -1)
    assert check_stored(KEY, data) == RECORD
    without_birth = bytes.fromhex("0193d456090000000000000000000000000493019090")
    assert decode_stored(KEY, without_birth) == Stored(b"", 0, RECORD, -1, -1)


@given(st.binary(max_size=30), st.sampled_from(BIRTHS), counters, st.binary(max_size=60))
def test_what_was_stored_is_read_back(
    key: bytes, birth: bytes, counter: int, record: bytes
) -> None:
    data = encode_stored(key, birth, counter, record, 7, (1 << 64) - 1, DEAD)
    assert decode_stored(key, data) == Stored(birth, counter, record, 7, (1 << 64) - 1, DEAD)
    assert decode_stored(key, encode_stored(key, b"", 0, record)) == Stored(b"", 0, record)


@given(st.data())
def test_a_check_in_place_finds_what_decoding_finds(data: st.DataObject) -> None:
    whole = bytearray(DATA)
    for _ in range(data.draw(st.integers(0, 2))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    stored = bytes(whole)[: data.draw(st.sampled_from((len(DATA), len(DATA), 1, 18, 20)))]
    key = data.draw(st.sampled_from((KEY, KEY, b"other")))
    try:
        record = decode_stored(key, stored).record
    except StorageCorrupt:
        with pytest.raises(StorageCorrupt):
            check_stored(key, stored)
    else:
        assert check_stored(key, stored) == record


def test_every_flipped_bit_is_found() -> None:
    for bit in range(8 * len(DATA)):
        flipped = bytearray(DATA)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StorageCorrupt):
            decode_stored(KEY, bytes(flipped))


def test_every_cut_and_extension_is_found() -> None:
    for data in (*(DATA[:size] for size in range(len(DATA))), DATA + b"\x00"):
        with pytest.raises(StorageCorrupt):
            decode_stored(KEY, data)


@pytest.mark.parametrize(("birth_bytes", "record_bytes"), [(255, 4), (10, 5), (10, 3), (9, 4)])
def test_lengths_that_do_not_add_up_are_found_under_a_valid_checksum(
    birth_bytes: int, record_bytes: int
) -> None:
    rest = Struct(">QBI").pack(3, birth_bytes, record_bytes) + BIRTHS[1] + RECORD
    data = Struct(">BI").pack(1, crc32(KEY + rest)) + rest
    with pytest.raises(StorageCorrupt, match="length"):
        decode_stored(KEY, data)


@pytest.mark.parametrize("size", [0, 1, 18, len(DATA), 4096])
def test_a_page_of_zeros_is_no_record(size: int) -> None:
    with pytest.raises(StorageCorrupt):
        decode_stored(KEY, bytes(size))
    with pytest.raises(StorageCorrupt):
        decode_stored(b"", b"\x01" + bytes(size))


@pytest.mark.parametrize("key", [b"", KEY[:-1], KEY + b"\x00", b"\x00\x00\x00\x00\x00\x02key"])
def test_a_value_under_another_key_is_found(key: bytes) -> None:
    with pytest.raises(StorageCorrupt):
        decode_stored(key, DATA)


@given(st.binary(max_size=80))
def test_any_bytes_are_corrupt(data: bytes) -> None:
    for forged in (data, DATA[:5] + data, DATA[:18] + data):
        if forged != DATA:
            with pytest.raises(StorageCorrupt):
                decode_stored(KEY, forged)


@given(st.data())
def test_bytes_swapped_between_two_places_are_found(data: st.DataObject) -> None:
    one, other = (data.draw(st.integers(0, len(DATA) - 1)) for _ in range(2))
    swapped = bytearray(DATA)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    if swapped != DATA:
        with pytest.raises(StorageCorrupt):
            decode_stored(KEY, bytes(swapped))


def test_a_counter_without_a_birth_is_a_bug_of_the_caller() -> None:
    for birth, counter in ((b"", 1), (BIRTHS[1], 0)):
        with pytest.raises(AssertionError):
            encode_stored(KEY, birth, counter, RECORD)


HINT = encode_hint(KEY, 1_700_000_000_000, BIRTHS[1], 7, RECORD)


def test_a_hint_comes_back_with_its_age() -> None:
    found = decode_hint(KEY, HINT)
    assert found == StoredHint(1_700_000_000_000, Stored(BIRTHS[1], 7, RECORD))
    marker = encode_hint(KEY, 5, b"", 0, b"")
    assert decode_hint(KEY, marker) == StoredHint(5, Stored(b"", 0, b""))


@pytest.mark.parametrize("at", range(len(HINT)))
def test_a_bit_flipped_in_a_hint_or_its_age_is_found(at: int) -> None:
    bad = HINT[:at] + bytes([HINT[at] ^ 1]) + HINT[at + 1 :]
    for key, data in ((KEY, bad), (KEY, HINT[:at]), (KEY + b"x", HINT)):
        with pytest.raises(StorageCorrupt):
            decode_hint(key, data)
