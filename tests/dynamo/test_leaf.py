"""What stands for a record: of its key and digest, keyed, and read again from what is stored."""

from __future__ import annotations

from array import array
from struct import Struct
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lone_replica import foreign, storage_key
from record_strategies import BIRTHS

from dynamo.leaf import LeafHasher
from dynamo.record import EMPTY, TOMBSTONE, VALUE, Record, encode_record, merge, mint
from dynamo.stored import COPIED_BYTES_MAX, DEAD, EXPIRING, LIVE, decode_stored, encode_stored
from dynamo.version import Vector

HASHER = LeafHasher(b"s" * 32)
KEY = storage_key()
LEAVES = 16


def record(value: bytes = b"v", *, context: Vector = (), kind: int = VALUE) -> Record:
    return foreign(value, context=context, kind=kind)


def siblings() -> Record:
    return merge(record(b"one"), foreign(b"two", sequence=2))


def expiring(*, body: bool) -> Record:
    minted = mint(
        EMPTY,
        (),
        birth=BIRTHS[1],
        counter=1,
        kind=VALUE,
        content=b"\x92\xc4\x01v\xc4\x00",
        written_ms=1,
        expires_ms=5,
    )
    if body:
        return minted
    bare = tuple(msgspec.structs.replace(s, content=None) for s in minted.siblings)
    return msgspec.structs.replace(minted, siblings=bare)


def first_format(key: bytes, encoded: bytes) -> bytes:
    rest = Struct(">QBI").pack(0, 0, len(encoded)) + encoded
    return Struct(">BI").pack(1, crc32(key + rest)) + rest


@pytest.mark.parametrize("value", [b"v", b"v" * COPIED_BYTES_MAX])
def test_a_sealed_record_is_what_the_envelope_is(value: bytes) -> None:
    it = record(value)
    encoded = encode_record(it)
    data, position, change, state = HASHER.seal(KEY, None, BIRTHS[1], 3, it, encoded)
    assert data == encode_stored(KEY, BIRTHS[1], 3, encoded, position, change, state)
    assert HASHER.stand_in(KEY, it) == (position, change, state)
    assert HASHER.position(KEY) == position
    assert HASHER.element(KEY, it) == change


def test_what_changes_is_what_stood_and_what_stands() -> None:
    old, new = record(b"old"), siblings()
    for data in (
        HASHER.seal(KEY, None, b"", 0, old, encode_record(old))[0],
        first_format(KEY, encode_record(old)),
    ):
        before = decode_stored(KEY, data)
        _, position, change, _ = HASHER.seal(KEY, before, b"", 0, new, encode_record(new))
        assert position == HASHER.position(KEY)
        assert change == HASHER.element(KEY, old) ^ HASHER.element(KEY, new)


def test_another_key_record_or_secret_has_another_element() -> None:
    it, other = record(), LeafHasher(b"o" * 32)
    found = {
        HASHER.element(KEY, it),
        HASHER.element(KEY + b"k", it),
        HASHER.element(KEY, record(b"w")),
        HASHER.element(KEY, siblings()),
        HASHER.element(KEY, record(kind=TOMBSTONE)),
        HASHER.element(KEY, record(context=((BIRTHS[2], 1),))),
        other.element(KEY, it),
    }
    assert len(found) == 7
    assert other.position(KEY) != HASHER.position(KEY)
    assert other.mark != HASHER.mark


def test_a_body_that_goes_changes_the_state_and_not_the_element() -> None:
    with_body, without = expiring(body=True), expiring(body=False)
    assert HASHER.stand_in(KEY, with_body)[:2] == HASHER.stand_in(KEY, without)[:2]
    assert [HASHER.stand_in(KEY, it)[2] for it in (with_body, without)] == [EXPIRING, DEAD]


@pytest.mark.parametrize(
    ("it", "state"),
    [
        (record(), LIVE),
        (siblings(), LIVE),
        (record(kind=TOMBSTONE), DEAD),
        (merge(record(kind=TOMBSTONE), foreign(b"", sequence=2, kind=TOMBSTONE)), DEAD),
        (merge(record(kind=TOMBSTONE), foreign(b"v", sequence=2)), LIVE),
        (msgspec.structs.replace(EMPTY, vector=((BIRTHS[1], 1),)), DEAD),
    ],
)
def test_a_record_is_live_while_anything_in_it_can_be_shown(it: Record, state: int) -> None:
    assert HASHER.stand_in(KEY, it)[2] == state


def entries() -> list[tuple[bytes, bytes]]:
    """Of both formats, with bodies of several sizes."""
    found = []
    for number in range(40):
        key = storage_key() + b"%d" % number
        it = siblings() if number % 7 == 0 else record(b"v" * number)
        data = HASHER.seal(key, None, BIRTHS[1], 1, it, encode_record(it))[0]
        found.append((key, first_format(key, encode_record(it)) if number % 5 == 0 else data))
    return found


def dumb(stored: list[tuple[bytes, bytes]]) -> list[int]:
    leaves = [0] * LEAVES
    for key, data in stored:
        position, element = HASHER.compute(key, decode_stored(key, data))
        leaves[position % LEAVES] ^= element
    return leaves


def test_a_page_is_gathered_as_its_records_say() -> None:
    leaves = array("Q", bytes(8 * LEAVES))
    size, damaged = HASHER.gather(entries(), leaves)
    assert size == sum(len(key) + len(data) for key, data in entries())
    assert damaged == []
    assert leaves.tolist() == dumb(entries())


@given(st.lists(st.tuples(st.integers(0, 39), st.integers(0, 10_000), st.integers(0, 7))))
def test_what_is_damaged_is_never_gathered(flips: list[tuple[int, int, int]]) -> None:
    stored = entries()
    for at, byte, bit in flips:
        key, data = stored[at]
        broken = bytearray(data)
        broken[byte % len(data)] ^= 1 << bit
        stored[at] = (key, bytes(broken))
    whole = [entry for entry, before in zip(stored, entries(), strict=True) if entry == before]
    leaves = array("Q", bytes(8 * LEAVES))
    _, damaged = HASHER.gather(stored, leaves)
    assert damaged == [entry for entry in stored if entry not in whole]
    assert leaves.tolist() == dumb(whole)


@pytest.mark.parametrize(
    "data", [b"", b"\x02", bytes(31), bytes(200), first_format(KEY, b"no record")]
)
def test_what_is_no_record_is_damaged(data: bytes) -> None:
    leaves = array("Q", bytes(8 * LEAVES))
    assert HASHER.gather([(KEY, data)], leaves) == (len(KEY) + len(data), [(KEY, data)])
    assert not any(leaves)
