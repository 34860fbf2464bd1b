"""What a client sees of a record, and conditions."""

from __future__ import annotations

import pytest
from hypothesis import given
from record_strategies import BIRTHS, NOW_MS, records

from dynamo.record import (
    EMPTY,
    FORMAT,
    TOMBSTONE,
    VALUE,
    Content,
    Record,
    Sibling,
    content_hash,
    encode_content,
    merge,
    record_digest,
)
from dynamo.resolve import View, etag, holds, view
from dynamo.rpc.messages import Condition


def sibling(
    birth: int, *, kind: int = VALUE, written_ms: int = NOW_MS, expires_ms: int = 0
) -> Sibling:
    content = encode_content(Content(b"%d" % birth)) if kind == VALUE else b""
    hashed = content_hash(kind, written_ms, 0, content)
    return Sibling(BIRTHS[birth], 1, kind, written_ms, 0, expires_ms, hashed, content)


def record(*siblings: Sibling) -> Record:
    return Record(FORMAT, tuple((s.birth, 1) for s in siblings), siblings)


LIVE, OLDER = sibling(0), sibling(1, written_ms=NOW_MS - 1)
TOMB, EXPIRED = sibling(2, kind=TOMBSTONE), sibling(3, expires_ms=NOW_MS)


@pytest.mark.parametrize(
    ("held", "shown"),
    [
        (EMPTY, View((), False)),
        (record(LIVE), View((LIVE,), False)),
        (record(LIVE, OLDER), View((OLDER, LIVE), False)),
        (record(LIVE, TOMB), View((LIVE,), False)),
        (record(LIVE, EXPIRED), View((LIVE,), False)),
        (record(TOMB), View((), True)),
        (record(EXPIRED), View((), True)),
        (record(TOMB, EXPIRED), View((), True)),
        (Record(FORMAT, ((BIRTHS[0], 1),), ()), View((), True)),
    ],
)
def test_only_live_siblings_are_shown(held: Record, shown: View) -> None:
    assert view(held, NOW_MS) == shown


def test_a_value_is_shown_until_its_expiry() -> None:
    assert view(record(EXPIRED), NOW_MS - 1) == View((EXPIRED,), False)


@given(records())
def test_a_view_is_the_live_siblings_in_order_of_age(held: Record) -> None:
    shown = view(held, NOW_MS)
    assert set(shown.siblings) == {s for s in held.siblings if s.is_live(NOW_MS)}
    ages = [(s.written_ms, s.birth, s.counter, s.content_hash) for s in shown.siblings]
    assert ages == sorted(ages)
    assert shown.deleted == (bool(held) and not shown.siblings)


def test_the_etag_is_the_vtag_of_a_single_value_else_the_digest() -> None:
    for held in (record(LIVE, TOMB), record(LIVE)):
        assert etag(held, view(held, NOW_MS).siblings) == LIVE.vtag()
    for held in (record(LIVE, OLDER), record(TOMB)):
        assert etag(held, view(held, NOW_MS).siblings) == record_digest(held).hex()
    assert etag(EMPTY, ()) == ""


ONE, TWO, GONE = record(LIVE), record(LIVE, OLDER), record(TOMB)
SECOND = NOW_MS // 1000 * 1000


@pytest.mark.parametrize(
    ("condition", "one", "two", "gone", "absent"),
    [
        (Condition(), True, True, True, True),
        (Condition(if_match=("*",)), True, True, False, False),
        (Condition(if_match=(LIVE.vtag(),)), True, False, False, False),
        (Condition(if_match=("other", LIVE.vtag())), True, False, False, False),
        (Condition(if_match=(OLDER.vtag(),)), False, False, False, False),
        (Condition(if_match=(record_digest(TWO).hex(),)), False, True, False, False),
        (Condition(if_match=(record_digest(ONE).hex(),)), False, False, False, False),
        (Condition(if_match=(TOMB.vtag(), record_digest(GONE).hex())), False, False, False, False),
        (Condition(if_match=("",)), False, False, False, False),
        (Condition(if_none_match=("*",)), False, False, True, True),
        (Condition(if_none_match=(LIVE.vtag(),)), False, True, True, True),
        (Condition(if_none_match=(OLDER.vtag(),)), True, True, True, True),
        (Condition(if_none_match=(record_digest(TWO).hex(),)), True, False, True, True),
        (Condition(unmodified_since_ms=SECOND), True, True, True, True),
        (Condition(unmodified_since_ms=SECOND - 1), False, False, True, True),
        (Condition(("*",), ("other",), SECOND), True, True, False, False),
        (Condition(("*",), ("*",), SECOND), False, False, False, False),
        (Condition(("*",), (), SECOND - 1), False, False, False, False),
    ],
)
def test_a_condition_holds_where_all_its_parts_do(
    condition: Condition, one: bool, two: bool, gone: bool, absent: bool
) -> None:
    assert [holds(condition, r, NOW_MS) for r in (ONE, TWO, GONE, EMPTY)] == [
        one,
        two,
        gone,
        absent,
    ]


def test_a_date_covers_its_whole_second() -> None:
    late = record(sibling(0, written_ms=SECOND + 999))
    assert holds(Condition(unmodified_since_ms=SECOND), late, NOW_MS)
    next_second = record(sibling(0, written_ms=SECOND + 1000))
    assert not holds(Condition(unmodified_since_ms=SECOND), next_second, NOW_MS)


def test_a_tombstone_written_later_is_no_modification() -> None:
    held = record(OLDER, sibling(2, kind=TOMBSTONE, written_ms=NOW_MS + 5000))
    assert holds(Condition(unmodified_since_ms=SECOND), held, NOW_MS)


def stamped(birth: int, stamp: int, *, kind: int = VALUE, expires_ms: int = 0) -> Sibling:
    content = encode_content(Content(b"%d" % birth)) if kind == VALUE else b""
    hashed = content_hash(kind, NOW_MS, stamp, content)
    return Sibling(BIRTHS[birth], 1, kind, NOW_MS, stamp, expires_ms, hashed, content)


LOW, HIGH, EVEN = stamped(0, 5), stamped(1, 7), stamped(2, 7)
GONE_LAST, EXPIRED_LAST = stamped(3, 9, kind=TOMBSTONE), stamped(3, 9, expires_ms=NOW_MS)


@pytest.mark.parametrize(
    ("held", "shown"),
    [
        (EMPTY, View((), False)),
        (record(LOW), View((LOW,), False)),
        (record(LOW, HIGH), View((HIGH,), False)),
        (record(LIVE, HIGH), View((HIGH,), False)),
        (record(LOW, HIGH, EVEN), View((EVEN,), False)),
        (record(LOW, HIGH, GONE_LAST), View((), True)),
        (record(LOW, HIGH, EXPIRED_LAST), View((), True)),
        (Record(FORMAT, ((BIRTHS[0], 1),), ()), View((), True)),
    ],
)
def test_where_the_last_write_wins_the_highest_is_all_there_is(held: Record, shown: View) -> None:
    assert view(held, NOW_MS, True) == shown
    if shown.siblings:
        assert etag(held, shown.siblings) == shown.siblings[0].vtag()


@given(records(), records())
def test_the_last_write_of_a_merge_is_the_last_of_either(left: Record, right: Record) -> None:
    """Unless one side has seen the other's and replaced it."""
    merged = merge(left, right)
    shown = view(merged, NOW_MS, True)
    live = [one for one in merged.siblings if one.is_live(NOW_MS)]
    assert len(shown.siblings) <= 1
    if merged.siblings:
        last = max(
            merged.siblings,
            key=lambda s: (s.stamp, s.dot, s.content_hash, s.expires_ms),
        )
        assert shown.siblings == ((last,) if last in live else ())
    assert shown.deleted == (bool(merged) and not shown.siblings)


def test_a_condition_goes_by_the_highest_where_the_last_write_wins() -> None:
    held = record(LOW, HIGH)
    for condition, lww, siblings in (
        (Condition(if_match=(HIGH.vtag(),)), True, False),
        (Condition(if_match=(LOW.vtag(),)), False, False),
        (Condition(if_match=(record_digest(held).hex(),)), False, True),
        (Condition(if_none_match=(LOW.vtag(),)), True, True),
    ):
        assert (holds(condition, held, NOW_MS, True), holds(condition, held, NOW_MS)) == (
            lww,
            siblings,
        )
    gone = record(LOW, GONE_LAST)
    assert holds(Condition(if_none_match=("*",)), gone, NOW_MS, True)
    assert not holds(Condition(if_none_match=("*",)), gone, NOW_MS)
