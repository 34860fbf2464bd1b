"""Routing keys and storage keys."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo.errors import Malformed
from dynamo.keys import (
    BUCKET_BYTES_MAX,
    KEY_BYTES_MAX,
    ROUTING_KEY_BYTES_MAX,
    TYPE_BYTES_MAX,
    after_prefix,
    bucket_prefix,
    first_bucket,
    hint_prefix,
    partition_prefix,
    partition_range,
    routing_key,
    split_hint_key,
    split_routing_key,
    split_storage_key,
)

parts = st.binary(min_size=1, max_size=4)
triples = st.tuples(parts, parts, parts)
Triple = tuple[bytes, bytes, bytes]


def test_keys_have_these_bytes() -> None:
    routing = routing_key(b"default", b"carts", b"alice")
    assert routing == b"\x07\x00\x05defaultcartsalice"
    assert partition_prefix(1, 258) == b"\x00\x01\x00\x00\x01\x02"


@given(triples)
def test_a_routing_key_is_split_into_what_it_was_made_of(triple: Triple) -> None:
    assert split_routing_key(routing_key(*triple)) == triple


@given(triples, triples)
def test_no_two_triples_share_a_routing_key(one: Triple, other: Triple) -> None:
    assert (routing_key(*one) == routing_key(*other)) == (one == other)


@given(triples, parts, triples)
def test_keys_of_a_bucket_are_one_range(first: Triple, key: bytes, other: Triple) -> None:
    bucket_type, bucket, _ = first
    low, high = sorted((routing_key(*first), routing_key(bucket_type, bucket, key)))
    assert not low < routing_key(*other) < high or other[:2] == (bucket_type, bucket)


@given(triples, triples)
def test_a_bucket_is_what_lies_between_its_prefix_and_the_next(one: Triple, other: Triple) -> None:
    prefix = bucket_prefix(*one[:2])
    assert (prefix <= routing_key(*other) < after_prefix(prefix)) == (one[:2] == other[:2])
    assert first_bucket(one[0], len(one[1])) <= prefix < first_bucket(one[0], len(one[1]) + 1)


@given(st.binary(max_size=4), st.binary(max_size=6))
def test_what_follows_a_prefix_is_above_all_that_starts_with_it(prefix: bytes, data: bytes) -> None:
    after = after_prefix(prefix)
    if after:
        assert (prefix <= data < after) == data.startswith(prefix)
    else:
        assert not prefix.strip(b"\xff")


def test_the_longest_parts_fit() -> None:
    triple = (b"t" * TYPE_BYTES_MAX, b"b" * BUCKET_BYTES_MAX, b"k" * KEY_BYTES_MAX)
    routing = routing_key(*triple)
    assert len(routing) == ROUTING_KEY_BYTES_MAX
    assert split_routing_key(routing) == triple


@pytest.mark.parametrize(
    "routing",
    [
        b"",
        b"\x01\x00",
        b"\x01\x00\x01t",
        b"\x01\x00\x01tb",
        b"\x00\x00\x01bk",
        b"\x01\x00\x00tk",
        routing_key(b"t", b"b" * (BUCKET_BYTES_MAX + 1), b"k"),
        routing_key(b"t", b"b", b"k" * (KEY_BYTES_MAX + 1)),
    ],
)
def test_a_routing_key_with_a_part_out_of_bounds_is_malformed(routing: bytes) -> None:
    with pytest.raises(Malformed):
        split_routing_key(routing)


@given(st.binary(max_size=12))
def test_any_bytes_are_a_routing_key_or_malformed(data: bytes) -> None:
    with suppress(Malformed):
        assert routing_key(*split_routing_key(data)) == data


@given(st.binary(max_size=12))
def test_any_bytes_are_a_storage_key_or_malformed(data: bytes) -> None:
    with suppress(Malformed):
        cls, partition, routing = split_storage_key(data)
        assert partition_prefix(cls, partition) + routing == data


@given(st.integers(0, 0xFFFD), st.integers(0, (1 << 32) - 1), parts)
def test_a_partition_is_one_range(cls: int, partition: int, routing: bytes) -> None:
    storage = partition_prefix(cls, partition) + routing
    first, end = partition_range(cls, partition)
    assert first <= storage < end
    assert split_storage_key(storage) == (cls, partition, routing)
    assert end == partition_range(*divmod((cls << 32 | partition) + 1, 1 << 32))[0]


@given(st.binary(max_size=12))
def test_any_bytes_are_a_hint_key_or_malformed(data: bytes) -> None:
    with suppress(Malformed):
        target, storage = split_hint_key(data)
        assert hint_prefix(target) + storage == data
        assert storage


def test_the_hints_of_a_target_are_one_range() -> None:
    targets = ("a", "ab", "b", "n10", "n1", "n2", "x" * 64)
    names = {target: hint_prefix(target) + b"\xff" * 9 for target in targets}
    for target in targets:
        start, end = hint_prefix(target), after_prefix(hint_prefix(target))
        assert [name for name, full in names.items() if start <= full < end] == [target]
        assert split_hint_key(names[target]) == (target, b"\xff" * 9)
