"""Formats that come from a disk, a client or a peer: a value or refused, and memory by the bytes.

Each under a checksum or tag that is right: what is behind it is judged all the same.
"""

from __future__ import annotations

from struct import Struct as Layout
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_peak import allowed, peak_of
from message_strategies import nearly
from record_strategies import any_vectors, records

from dynamo.context import CONTEXT_BYTES_MAX, ContextSealer
from dynamo.errors import BadContext, Malformed, StorageCorrupt
from dynamo.record import decode_record, encode_record, read_record
from dynamo.stored import decode_stored, encode_stored
from dynamo.version import encode_vector
from ring.member import Member
from ring.ring import ReplicationClass, Ring

KEY = b"\x07\x00\x05defaultcartsalice"
SEALER = ContextSealer(cluster_id="cluster", secret=b"secret")
RING = Ring.build(
    [Member(name, f"{name}:1") for name in "abc"],
    partitions=8,
    seed=7,
    classes=[ReplicationClass("default", 0, 2)],
).to_bytes()


@given(st.binary(max_size=80) | any_vectors().map(encode_vector), st.booleans(), st.data())
def test_what_is_sealed_as_a_context_is_a_vector_or_refused(
    entries: bytes, stamped: bool, data: st.DataObject
) -> None:
    """By who knows the secret and does not keep to the format."""
    altered = bytearray(entries + data.draw(st.binary(max_size=3)))
    if altered:
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    sealed = bytes(altered)
    tag = (SEALER._stamped_tag if stamped else SEALER._tag)(KEY, sealed)
    token = (b"\x02" if stamped else b"\x01") + tag + sealed
    try:
        vector = SEALER.open(KEY, token)
    except BadContext:
        return
    assert encode_vector(vector) == sealed[8 if stamped else 0 :]


@pytest.mark.parametrize("filler", [b"\0", b"\x80", b"\xff", b"\x01"])
def test_a_context_costs_memory_by_its_bytes(filler: bytes) -> None:
    entries = filler * (CONTEXT_BYTES_MAX - 17)
    token = b"\x01" + SEALER._tag(KEY, entries) + entries

    def open_it() -> None:
        with pytest.raises(BadContext):
            SEALER.open(KEY, token)

    assert peak_of(open_it) <= 2 * allowed(token)


@given(nearly(records().map(encode_record)))
def test_what_is_nearly_a_record_is_one_or_malformed(data: bytes) -> None:
    def decode() -> None:
        try:
            record = decode_record(data)
        except Malformed:
            return
        assert encode_record(record) == data

    assert peak_of(decode) <= 2 * allowed(data)


@given(nearly(records().map(encode_record)))
def test_what_is_read_of_a_disk_without_a_second_look_is_a_record_or_malformed(data: bytes) -> None:
    try:
        read_record(data)
    except Malformed:
        return


@given(
    st.integers(0, (1 << 64) - 1), st.integers(0, 255), st.integers(0, (1 << 32) - 1), st.binary()
)
def test_what_is_stored_under_a_right_checksum_is_of_the_length_it_says_or_corrupt(
    counter: int, birth_bytes: int, record_bytes: int, rest: bytes
) -> None:
    leaf = Layout(">IQB").pack(1, 2, 0)
    body = Layout(">QBI").pack(counter, birth_bytes, record_bytes) + leaf + rest
    data = Layout(">BI").pack(2, crc32(body, crc32(KEY))) + body

    def decode() -> None:
        try:
            stored = decode_stored(KEY, data)
        except StorageCorrupt:
            assert len(rest) != birth_bytes + record_bytes
        else:
            assert stored.birth + stored.record == rest

    assert peak_of(decode) <= allowed(data)


@given(st.binary(max_size=300))
def test_a_stored_record_costs_memory_by_its_bytes(record: bytes) -> None:
    data = encode_stored(KEY, b"", 0, record)
    assert peak_of(lambda: decode_stored(KEY, data)) <= allowed(data)


@settings(max_examples=200)
@given(nearly(st.just(RING)))
def test_what_is_nearly_a_ring_is_one_or_refused(data: bytes) -> None:
    def decode() -> None:
        try:
            ring = Ring.from_bytes(data)
        except ValueError:
            return
        assert ring.to_bytes() == data

    assert peak_of(decode) <= 4 * allowed(data)
