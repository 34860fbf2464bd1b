"""Cursors: what one cluster gave, for one listing, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo.cursor import CURSOR_BYTES_MAX, CursorSealer
from dynamo.errors import BadCursor

SEALER = CursorSealer(cluster_id="c", secret=b"secret")
TOKEN = SEALER.seal(b"scope", b"position")


@given(st.binary(max_size=300), st.binary(max_size=1600))
def test_a_cursor_opens_to_its_position(scope: bytes, position: bytes) -> None:
    assert SEALER.open(scope, SEALER.seal(scope, position)) == position


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    flipped = [
        TOKEN[:at] + bytes((TOKEN[at] ^ 1 << bit,)) + TOKEN[at + 1 :]
        for at in range(len(TOKEN))
        for bit in range(8)
    ]
    for token in (*flipped, *(TOKEN[:size] for size in range(len(TOKEN))), TOKEN + b"\x00"):
        with pytest.raises(BadCursor):
            SEALER.open(b"scope", token)


@pytest.mark.parametrize("scope", [b"", b"scop", b"scopeposition", b"other"])
def test_a_cursor_of_another_listing_is_refused(scope: bytes) -> None:
    with pytest.raises(BadCursor):
        SEALER.open(scope, TOKEN)


def test_a_cursor_of_another_cluster_is_refused() -> None:
    for other in (
        CursorSealer(cluster_id="d", secret=b"secret"),
        CursorSealer(cluster_id="c", secret=b"other"),
    ):
        with pytest.raises(BadCursor):
            other.open(b"scope", TOKEN)


def test_what_is_too_long_is_refused_unread() -> None:
    long = SEALER.seal(b"scope", bytes(CURSOR_BYTES_MAX))
    with pytest.raises(BadCursor):
        SEALER.open(b"scope", long)
