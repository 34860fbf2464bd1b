"""Which writes are refused for their stamps."""

from __future__ import annotations

import pytest
from record_strategies import BIRTHS, NOW_MS

from dynamo.hybrid_clock import AHEAD_MS_MAX, stamp_at
from dynamo.last_write import refused_ahead, refused_older
from dynamo.record import (
    EMPTY,
    FORMAT,
    VALUE,
    Content,
    Record,
    Sibling,
    content_hash,
    encode_content,
    encode_record,
)

STAMP = stamp_at(NOW_MS)


def written(birth: int, *, stamp: int = STAMP, written_ms: int = NOW_MS) -> Record:
    content = encode_content(Content(b"%d" % birth))
    hashed = content_hash(VALUE, written_ms, stamp, content)
    sibling = Sibling(BIRTHS[birth], 1, VALUE, written_ms, stamp, 0, hashed, content)
    return Record(FORMAT, ((BIRTHS[birth], 1),), (sibling,))


@pytest.mark.parametrize(
    ("ahead_ms", "is_refused"), [(AHEAD_MS_MAX, False), (AHEAD_MS_MAX + 1, True)]
)
def test_a_write_by_a_clock_too_far_ahead_is_refused(ahead_ms: int, is_refused: bool) -> None:
    refused = refused_ahead(written(0, written_ms=NOW_MS + ahead_ms), STAMP, NOW_MS)
    assert (refused is not None) is is_refused
    if refused is not None:
        assert (refused.code, refused.definite, refused.stamp) == ("ahead", True, STAMP)


def test_a_right_clock_may_stamp_above_a_record_from_the_future() -> None:
    stamp = stamp_at(NOW_MS + 10 * AHEAD_MS_MAX)
    assert refused_ahead(written(0, stamp=stamp), stamp, NOW_MS) is None


def test_a_write_that_another_hides_is_refused_with_what_hides_it() -> None:
    shown = written(1, stamp=STAMP + 1)
    refused = refused_older(written(0), shown)
    assert refused is not None
    assert (refused.code, refused.definite) == ("older", False)
    assert (refused.record, refused.stamp) == (encode_record(shown), STAMP + 1)


@pytest.mark.parametrize("merged", [written(0), written(1, stamp=STAMP - 1), EMPTY])
def test_a_write_that_nothing_hides_counts(merged: Record) -> None:
    assert refused_older(written(0), merged) is None
