"""Sealed contexts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_strategies import BIRTHS, any_vectors

from dynamo.context import CONTEXT_BYTES_MAX, ContextSealer, context_bytes, stamp_of
from dynamo.errors import BadContext, RecordFull
from dynamo.version import Vector, birth_bytes, incarnation_bytes, vector_of

SEALER = ContextSealer(cluster_id="cluster", secret=b"secret")
KEY = b"\x07\x00\x05defaultcartsalice"
VECTOR = vector_of({BIRTHS[0]: 1, BIRTHS[3]: 300})
TOKEN = SEALER.seal(KEY, VECTOR)
STAMP = (1 << 63) - 1
STAMPED = SEALER.seal(KEY, VECTOR, STAMP)


def wide_vector(entries: int) -> Vector:
    """`entries` births of 13 bytes, counter 1: 14 bytes an entry."""
    incarnation = incarnation_bytes(1, b"abcdefgh")
    return vector_of({birth_bytes(incarnation, (1 << 21) + n): 1 for n in range(entries)})


def test_a_context_has_these_bytes() -> None:
    assert TOKEN.hex() == (
        "019af05b93f33d158063070cae220bc4230200000000000000000000018001808080808080808001ac02"
    )


def test_a_context_with_a_stamp_has_it_before_the_vector() -> None:
    assert STAMPED[:1] == b"\x02"
    assert STAMPED[17:] == STAMP.to_bytes(8) + TOKEN[17:]


@given(st.binary(max_size=40), any_vectors(), st.just(0) | st.integers(0, STAMP))
def test_a_context_opens_to_what_was_sealed(key: bytes, vector: Vector, stamp: int) -> None:
    token = SEALER.seal(key, vector, stamp)
    assert SEALER.open(key, token) == vector
    assert stamp_of(token) == stamp
    assert len(token) == context_bytes(vector, stamp)


def test_every_node_of_the_cluster_opens_it() -> None:
    other = ContextSealer(cluster_id="cluster", secret=b"secret")
    assert other.open(KEY, TOKEN) == VECTOR


@pytest.mark.parametrize("token", [TOKEN, STAMPED])
def test_every_flipped_bit_is_refused(token: bytes) -> None:
    for bit in range(8 * len(token)):
        flipped = bytearray(token)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadContext):
            SEALER.open(KEY, bytes(flipped))


def test_every_shorter_or_longer_token_is_refused() -> None:
    cut = [whole[:size] for whole in (TOKEN, STAMPED) for size in range(len(whole))]
    for token in (*cut, TOKEN + b"\x00", STAMPED + b"\x00"):
        with pytest.raises(BadContext):
            SEALER.open(KEY, token)


@pytest.mark.parametrize(
    ("cluster_id", "secret", "key"),
    [
        ("cluster", b"secret", KEY[:-1]),
        ("cluster", b"secret", KEY + b"\x02"),
        ("other", b"secret", KEY),
        ("cluste", b"secret", b"r" + KEY),
        ("cluster", b"other", KEY),
    ],
)
def test_another_key_cluster_or_secret_is_refused(
    cluster_id: str, secret: bytes, key: bytes
) -> None:
    with pytest.raises(BadContext):
        ContextSealer(cluster_id=cluster_id, secret=secret).open(key, TOKEN)


def test_bytes_moved_between_key_and_entries_are_refused() -> None:
    head, entries = TOKEN[:17], TOKEN[17:]
    for size in range(1, len(entries)):
        with pytest.raises(BadContext):
            SEALER.open(KEY + entries[:size], head + entries[size:])
        with pytest.raises(BadContext):
            SEALER.open(KEY[:-size], head + KEY[-size:] + entries)


@given(st.binary(max_size=60))
def test_any_bytes_are_refused(token: bytes) -> None:
    for forged in (token, TOKEN[:1] + token, TOKEN[:17] + token):
        if forged != TOKEN:
            with pytest.raises(BadContext):
                SEALER.open(KEY, forged)


def test_a_context_is_never_over_its_limit() -> None:
    most = (CONTEXT_BYTES_MAX - 17 - 2) // 14
    fits, over = wide_vector(most), wide_vector(most + 1)
    assert context_bytes(fits) <= CONTEXT_BYTES_MAX < context_bytes(over)
    assert SEALER.open(KEY, SEALER.seal(KEY, fits)) == fits
    # With six bytes more, and a stamp's eight, it is one byte over.
    wide = vector_of({**dict(fits), fits[0][0]: 1 << 42})
    assert context_bytes(wide) <= CONTEXT_BYTES_MAX < context_bytes(wide, 1)
    assert SEALER.open(KEY, SEALER.seal(KEY, wide)) == wide
    assert SEALER.open(KEY, SEALER.seal(KEY, fits, 1)) == fits
    with pytest.raises(RecordFull):
        SEALER.seal(KEY, wide, 1)
    with pytest.raises(RecordFull) as refused:
        SEALER.seal(KEY, over)
    assert refused.value.details == {"cap": "context_bytes", "limit": CONTEXT_BYTES_MAX}


def test_a_token_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(BadContext, match="too long"):
        SEALER.open(KEY, TOKEN + bytes(CONTEXT_BYTES_MAX))
