"""Records: their bytes, their digest, merge and mint."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_strategies import BIRTHS, LONG_EXPIRED_MS, NOW_MS, records, small_vectors

from dynamo.errors import Malformed
from dynamo.record import (
    EMPTY,
    FORMAT,
    TOMBSTONE,
    VALUE,
    Content,
    Record,
    Sibling,
    content_hash,
    decode_content,
    decode_record,
    encode_content,
    encode_record,
    merge,
    mint,
    record_digest,
    without_expired_bodies,
)
from dynamo.version import Vector, covers_dot, join

A, B, C, _ = BIRTHS
Dot = tuple[bytes, int]


def put(record: Record, birth: bytes, value: bytes, context: Vector = ()) -> Record:
    """One more write of `value`, by the birth's next counter."""
    counter = dict(join(record.vector, context)).get(birth, 0) + 1
    content = encode_content(Content(value))
    return mint(
        record,
        context,
        birth=birth,
        counter=counter,
        kind=VALUE,
        content=content,
        written_ms=NOW_MS,
    )


def values(record: Record) -> list[bytes]:
    return sorted(sibling.read().value for sibling in record.siblings)


# Merge -------------------------------------------------------------------------------------------

any_record = records() | records(honest=False)


@given(any_record, any_record, any_record)
def test_merge_is_commutative_associative_and_idempotent(a: Record, b: Record, c: Record) -> None:
    assert encode_record(merge(a, b)) == encode_record(merge(b, a))
    assert encode_record(merge(merge(a, b), c)) == encode_record(merge(a, merge(b, c)))
    assert merge(a, a) == a
    assert merge(merge(a, b), b) == merge(a, b)


@given(any_record, any_record)
def test_a_merge_is_a_valid_record(a: Record, b: Record) -> None:
    merged = merge(a, b)
    assert decode_record(encode_record(merged)) == merged


@given(any_record, any_record)
def test_merge_takes_each_dot_to_its_higher_state(a: Record, b: Record) -> None:
    """Dot by dot, against unseen < present < removed."""

    def state(record: Record, dot: Dot) -> set[tuple[bytes, int]] | str:
        held = {(s.content_hash, s.expires_ms) for s in record.siblings if s.dot == dot}
        seen = covers_dot(dict(record.vector), *dot)
        return held or ("removed" if seen else "unseen")

    merged = merge(a, b)
    for dot in ((birth, counter) for birth in BIRTHS for counter in range(1, 4)):
        left, right = state(a, dot), state(b, dot)
        if "removed" in (left, right):
            assert state(merged, dot) == "removed"
        elif isinstance(left, set) and isinstance(right, set):
            assert state(merged, dot) == left | right
        else:
            assert state(merged, dot) == (right if left == "unseen" else left)


@given(any_record, any_record)
def test_merge_gives_back_the_very_record_that_gains_nothing(a: Record, b: Record) -> None:
    merged = merge(a, b)
    assert not a or (merged is a) == (merged == a)


@given(records(), records())
def test_equal_digests_stay_equal_under_merge(a: Record, b: Record) -> None:
    late = without_expired_bodies(a, NOW_MS)
    assert record_digest(merge(late, b)) == record_digest(merge(a, b))


def test_one_dot_with_two_values_keeps_both() -> None:
    one, other = put(EMPTY, A, b"one"), put(EMPTY, A, b"other")
    assert one.vector == other.vector
    assert values(merge(one, other)) == [b"one", b"other"]


def test_one_dot_with_two_expiries_keeps_both() -> None:
    one = put(EMPTY, A, b"v")
    other = replace_sibling(one, expires_ms=NOW_MS)
    assert len(merge(one, other).siblings) == 2
    assert len({sibling.vtag() for sibling in merge(one, other).siblings}) == 2


def test_a_value_replaced_at_one_side_goes() -> None:
    old = put(EMPTY, A, b"old")
    new = put(old, B, b"new", old.vector)
    assert values(merge(old, new)) == [b"new"]
    assert merge(new, old) is new


def test_concurrent_writes_stay_beside_each_other() -> None:
    base = put(EMPTY, A, b"base")
    left, right = put(base, A, b"left", base.vector), put(base, B, b"right", base.vector)
    assert values(merge(left, right)) == [b"left", b"right"]


# Mint --------------------------------------------------------------------------------------------


@given(records(), small_vectors())
def test_a_mint_replaces_what_its_context_covers_and_nothing_else(
    record: Record, context: Vector
) -> None:
    birth = b"\x07" + b"new born" + b"\x01"
    minted = put(record, birth, b"new", context)
    covered = dict(context)
    kept = {s for s in record.siblings if not covers_dot(covered, *s.dot)}
    assert {s for s in minted.siblings if s.birth != birth} == kept
    assert [s.read().value for s in minted.siblings if s.birth == birth] == [b"new"]
    assert minted.vector == join(join(record.vector, context), ((birth, 1),))
    assert decode_record(encode_record(minted)) == minted


def test_a_blind_write_covers_no_tombstone() -> None:
    record = put(EMPTY, A, b"v")
    deleted = mint(
        record,
        record.vector,
        birth=A,
        counter=2,
        kind=TOMBSTONE,
        content=b"",
        written_ms=NOW_MS,
    )
    again = put(deleted, B, b"again")
    assert [s.kind for s in again.siblings] == [TOMBSTONE, VALUE]
    assert deleted.siblings[0].read() == Content()


def test_a_context_from_the_future_is_known_at_once() -> None:
    ahead = put(put(EMPTY, B, b"1"), B, b"2")
    minted = put(EMPTY, A, b"new", ahead.vector)
    assert values(merge(minted, ahead)) == [b"new"]


def test_a_counter_that_leaves_a_gap_is_a_bug_of_the_caller() -> None:
    with pytest.raises(AssertionError):
        mint(EMPTY, (), birth=A, counter=2, kind=VALUE, content=b"", written_ms=0)


# Expiry ------------------------------------------------------------------------------------------


def replace_sibling(record: Record, **fields: object) -> Record:
    sibling = msgspec.structs.replace(record.siblings[0], **fields)
    return Record(FORMAT, record.vector, (sibling, *record.siblings[1:]))


def expiring(expires_ms: int) -> Record:
    return replace_sibling(put(EMPTY, A, b"v"), expires_ms=expires_ms)


def test_a_body_goes_an_hour_after_its_expiry_and_not_before() -> None:
    record = expiring(LONG_EXPIRED_MS)
    assert without_expired_bodies(record, NOW_MS - 1) is record
    assert without_expired_bodies(record, NOW_MS).siblings[0].content is None


def test_a_body_that_never_expires_stays() -> None:
    record = expiring(0)
    assert without_expired_bodies(record, NOW_MS) is record


@given(records())
def test_the_digest_does_not_change_when_bodies_go(record: Record) -> None:
    bare = without_expired_bodies(record, NOW_MS)
    assert record_digest(bare) == record_digest(record)
    assert decode_record(encode_record(bare)) == bare


def test_a_body_that_went_does_not_come_back() -> None:
    whole = expiring(LONG_EXPIRED_MS)
    bare = without_expired_bodies(whole, NOW_MS)
    assert merge(bare, whole) == merge(whole, bare) == bare
    other = put(whole, B, b"w")
    assert [s.content is None for s in merge(other, bare).siblings] == [True, False]


@pytest.mark.parametrize(
    ("kind", "content", "expires_ms", "live"),
    [
        (VALUE, b"v", 0, True),
        (VALUE, b"v", 1001, True),
        (VALUE, b"v", 1000, False),
        (VALUE, None, 1001, False),
        (TOMBSTONE, b"", 0, False),
    ],
)
def test_only_a_value_with_a_body_before_its_expiry_is_live(
    kind: int, content: bytes | None, expires_ms: int, live: bool
) -> None:
    sibling = Sibling(A, 1, kind, 0, 0, expires_ms, bytes(16), content)
    assert sibling.is_live(1000) is live


# Digest ------------------------------------------------------------------------------------------


def test_an_absent_record_has_an_empty_digest_and_is_false() -> None:
    assert record_digest(EMPTY) == b""
    assert not EMPTY
    assert put(EMPTY, A, b"v")


def test_the_digest_changes_with_whatever_makes_another_write() -> None:
    record = put(EMPTY, A, b"v")
    others = [
        put(EMPTY, A, b"w"),
        put(EMPTY, B, b"v"),
        put(record, A, b"v", record.vector),
        replace_sibling(record, expires_ms=1),
        Record(FORMAT, record.vector, ()),
        Record(FORMAT, join(record.vector, ((B, 1),)), record.siblings),
    ]
    assert len({record_digest(r) for r in (record, *others)}) == 1 + len(others)


@given(records(), records())
def test_digests_are_equal_for_equal_records_only(a: Record, b: Record) -> None:
    def named(record: Record) -> object:
        return record.vector, [(s.dot, s.expires_ms, s.content_hash) for s in record.siblings]

    assert (record_digest(a) == record_digest(b)) == (named(a) == named(b))


@given(
    st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 3), st.binary(max_size=2)),
    st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 3), st.binary(max_size=2)),
)
def test_a_content_hash_names_kind_times_and_content(
    one: tuple[int, int, int, bytes], other: tuple[int, int, int, bytes]
) -> None:
    assert (content_hash(*one) == content_hash(*other)) == (one == other)


def test_long_and_short_contents_are_hashed_alike() -> None:
    """Two code paths, one hash: golden values on both sides of the boundary."""
    assert content_hash(0, 1, 2, b"x" * 4096).hex() == "4ec1ceadf99d06e4da3e1e994a0fade9"
    assert content_hash(0, 1, 2, b"x" * 4097).hex() == "4b8bcd7f5643b0fa3e8f23f7791a5be9"


# Bytes -------------------------------------------------------------------------------------------


def test_a_record_has_these_bytes() -> None:
    content = encode_content(
        Content(b"v", b"text/plain", b"gzip", ((b"a", b"1"),), (b"dep",)),
    )
    assert (
        content.hex() == "95c40176c40a746578742f706c61696ec404677a69709192c40161c4013191c403646570"
    )
    record = mint(
        EMPTY,
        ((B, 2),),
        birth=A,
        counter=1,
        kind=VALUE,
        content=content,
        written_ms=NOW_MS,
        stamp=5,
        expires_ms=NOW_MS + 1,
    )
    assert encode_record(record).hex() == (
        "93019292c40a000000000000000000000192c40a01010101010101010101029198c40a"
        "000000000000000000000100cf0000018bcfe5680005cf0000018bcfe56801c4108efb"
        "cd34a746a820e0b2a74e67b1ce67c42495c40176c40a746578742f706c61696ec40467"
        "7a69709192c40161c4013191c403646570"
    )
    assert record_digest(record).hex() == "5d5c8a01ef82eacd909d09fc395aace3"
    assert record.siblings[0].vtag() == "15dbd537daa1e0e83b302a"
    assert encode_record(EMPTY).hex() == "93019090"


@given(any_record)
def test_a_record_is_read_back(record: Record) -> None:
    assert decode_record(encode_record(record)) == record


@given(any_record, any_record)
def test_equal_records_and_only_those_are_equal_bytes(a: Record, b: Record) -> None:
    assert (encode_record(a) == encode_record(b)) == (a == b)


@given(
    st.builds(
        Content,
        st.binary(max_size=9),
        st.binary(max_size=9),
        st.binary(max_size=9),
        st.lists(st.tuples(st.binary(max_size=4), st.binary(max_size=4)), max_size=3).map(tuple),
        st.lists(st.binary(max_size=4), max_size=8).map(tuple),
    )
)
def test_a_content_is_read_back(content: Content) -> None:
    assert decode_content(encode_content(content)) == content


any_object = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 1 << 63) | st.binary(max_size=18) | st.text("é"),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text("k", max_size=1), inner),
    max_leaves=20,
)


@given(st.binary(max_size=60) | any_object.map(msgspec.msgpack.encode))
def test_any_bytes_are_a_record_or_malformed(data: bytes) -> None:
    try:
        record = decode_record(data)
    except Malformed:
        return
    assert encode_record(record) == data


@given(st.binary(max_size=60) | any_object.map(msgspec.msgpack.encode))
def test_any_bytes_are_a_content_or_malformed(data: bytes) -> None:
    try:
        content = decode_content(data)
    except Malformed:
        return
    assert decode_content(encode_content(content)) == content


@given(any_record, st.data())
def test_an_altered_record_is_malformed_or_another_record(
    record: Record, data: st.DataObject
) -> None:
    encoded = encode_record(record)
    altered = bytearray(encoded)
    at = data.draw(st.integers(0, len(altered) - 1))
    match data.draw(st.sampled_from(("flip", "cut", "drop", "insert", "repeat"))):
        case "flip":
            altered[at] ^= data.draw(st.integers(1, 255))
        case "cut":
            del altered[at:]
        case "drop":
            del altered[at]
        case "insert":
            altered.insert(at, data.draw(st.integers(0, 255)))
        case "repeat":
            altered += altered[at:]
    try:
        other = decode_record(bytes(altered))
    except Malformed:
        return
    assert encode_record(other) == altered
    assert (other == record) == (altered == encoded)


SIBLING = put(EMPTY, A, b"v").siblings[0]


def but(**fields: object) -> tuple[Vector, tuple[Sibling, ...]]:
    return ((A, 1),), (msgspec.structs.replace(SIBLING, **fields),)


@pytest.mark.parametrize(
    ("why", "vector", "siblings"),
    [
        ("a dot that is not in the vector", (), (SIBLING,)),
        ("a dot beyond the vector", *but(counter=2)),
        ("counter 0", ((A, 0),), ()),
        ("counter 2**63", ((A, 1 << 63),), ()),
        ("not a birth", ((b"?", 1),), ()),
        ("unsorted vector", ((B, 1), (A, 1)), ()),
        ("one birth twice", ((A, 1), (A, 2)), ()),
        ("one value twice", ((A, 1),), (SIBLING, SIBLING)),
        ("unknown kind", *but(kind=2)),
        ("short hash", *but(content_hash=b"short")),
        ("long hash", *but(content_hash=bytes(17))),
        ("negative time", *but(written_ms=-1)),
        ("negative stamp", *but(stamp=-1)),
        ("time over 63 bits", *but(expires_ms=1 << 63)),
        ("a value without body that never expires", *but(content=None)),
        ("a tombstone without body", *but(kind=TOMBSTONE, content=None, expires_ms=1)),
        ("text for bytes", *but(content="v")),
    ],
)
def test_a_record_that_breaks_a_rule_is_malformed(
    why: str, vector: Vector, siblings: tuple[Sibling, ...]
) -> None:
    with pytest.raises(Malformed):
        decode_record(encode_record(Record(FORMAT, vector, siblings)))


def test_unsorted_siblings_are_malformed() -> None:
    record = put(put(EMPTY, A, b"1"), B, b"2")
    turned = Record(FORMAT, record.vector, record.siblings[::-1])
    with pytest.raises(Malformed, match="sorted"):
        decode_record(encode_record(turned))


def test_another_format_is_malformed_by_name() -> None:
    with pytest.raises(Malformed, match="record format 2"):
        decode_record(encode_record(Record(FORMAT + 1, (), ())))


def test_a_longer_form_of_the_same_record_is_malformed() -> None:
    assert decode_record(b"\x93\x01\x90\x90") == EMPTY
    for padded in (
        b"\x93\xcc\x01\x90\x90",
        b"\x93\x01\xdc\x00\x00\x90",
        b"\xdc\x00\x03\x01\x90\x90",
    ):
        with pytest.raises(Malformed):
            decode_record(padded)


@pytest.mark.parametrize(
    "data",
    [
        b"\x93\x01\xdd\xff\xff\xff\xff",
        b"\x93\x01\x90\xdd\x7f\xff\xff\xff",
        b"\x93\x01\x91\x92\xc6\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x93\x01\x90" + b"\x91" * 100_000,
    ],
)
def test_promised_lengths_and_depths_cost_no_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            decode_record(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_record_prints_on_one_line() -> None:
    assert repr(put(EMPTY, A, b"v")) == f"Record([{A.hex()}:1] +{A.hex()}:1)"
    assert repr(EMPTY) == "Record([] empty)"
