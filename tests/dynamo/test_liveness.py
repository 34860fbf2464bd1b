"""The short look at a record sees what the long one does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_strategies import NOW_MS, records

from dynamo.errors import Malformed
from dynamo.liveness import DEAD, LIVE, MIXED, state_of
from dynamo.record import EMPTY, Record, decode_record, encode_record
from dynamo.resolve import view


@given(records(), st.sampled_from((0, NOW_MS, NOW_MS + 1, NOW_MS + 2)))
def test_a_record_is_live_as_its_view_says(record: Record, now_ms: int) -> None:
    shown = len(view(record, now_ms).siblings)
    expected = DEAD if not shown else LIVE if shown == len(record.siblings) else MIXED
    encoded = encode_record(record)
    assert state_of(encoded, now_ms) == expected
    assert state_of(memoryview(b"before" + encoded)[6:], now_ms) == expected


def test_a_record_of_nothing_is_dead() -> None:
    assert state_of(encode_record(EMPTY), NOW_MS) == DEAD


@given(st.binary(max_size=60))
def test_other_bytes_are_malformed_or_a_record(data: bytes) -> None:
    try:
        state = state_of(data, NOW_MS)
    except Malformed:
        with pytest.raises(Malformed):
            decode_record(data)
    else:
        assert state in (LIVE, DEAD, MIXED)
