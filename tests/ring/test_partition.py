"""Tokens never change, and a partition is an equal arc of them."""

from __future__ import annotations

from collections import Counter

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ring.partition import (
    PARTITIONS_MAX,
    SEED_MAX,
    check_partitions,
    check_seed,
    partition_of,
    token,
)

TOKENS = [
    (b"", 0, 0x0000000000000000),
    (b"", 1, 0x4610ABE56EFF5CB5),
    (b"a", 0, 0x85555565F6597889),
    (b"alice", 0, 0x4F1A4F97E8B355AA),
    (b"alice", 7, 0xB36CDC62CA297DBA),
    (b"alice", SEED_MAX, 0xA7FBD22934E8897F),
    (b"\x07\x00\x05defaultcartsalice", 0x9E3779B9, 0x84D0A903937F68A2),
    (bytes(range(256)), 42, 0x34D6851647FAD219),
]


@pytest.mark.parametrize(("key", "seed", "expected"), TOKENS)
def test_a_token_never_changes(key: bytes, seed: int, expected: int) -> None:
    assert token(key, seed) == expected


@given(st.binary(max_size=100), st.integers(0, SEED_MAX))
def test_a_token_is_the_first_half_of_the_128_bit_hash(key: bytes, seed: int) -> None:
    assert token(key, seed) == mmh3.hash64(key, seed, signed=False)[0]


@pytest.mark.parametrize(
    ("place", "partitions", "expected"),
    [
        (0, 1, 0),
        (2**64 - 1, 1, 0),
        (2**63 - 1, 2, 0),
        (2**63, 2, 1),
        (2**56 - 1, 256, 0),
        (2**56, 256, 1),
        (2**64 - 1, 256, 255),
        (2**64 - 1, PARTITIONS_MAX, PARTITIONS_MAX - 1),
    ],
)
def test_the_top_bits_of_a_token_are_its_partition(
    place: int, partitions: int, expected: int
) -> None:
    assert partition_of(place, partitions) == expected


def test_keys_fall_evenly_into_the_partitions() -> None:
    counts = Counter(partition_of(token(b"key%d" % n, 7), 64) for n in range(64_000))
    assert len(counts) == 64
    # 1,000 expected each; six standard deviations are 190.
    assert all(810 < count < 1_190 for count in counts.values())


@pytest.mark.parametrize("partitions", [-1, 0, 3, 6, 255, PARTITIONS_MAX + 1, 2 * PARTITIONS_MAX])
def test_only_a_power_of_two_within_the_limit_is_a_number_of_partitions(partitions: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        check_partitions(partitions)


def test_every_power_of_two_within_the_limit_is_accepted() -> None:
    for exponent in range(17):
        check_partitions(1 << exponent)


@pytest.mark.parametrize("seed", [-1, SEED_MAX + 1])
def test_a_seed_has_32_bits(seed: int) -> None:
    with pytest.raises(ValueError, match="seed"):
        check_seed(seed)
