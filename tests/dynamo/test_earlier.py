"""What of a record of before may stay, as a table and against what merging would do."""

from __future__ import annotations

import pytest

from dynamo.earlier import judge
from dynamo.record import (
    EMPTY,
    FORMAT,
    TOMBSTONE,
    VALUE,
    Record,
    Sibling,
    content_hash,
    decode_record,
    encode_content,
    encode_record,
    merge,
)
from dynamo.record import Content as Value
from dynamo.version import Vector, birth_bytes, incarnation_bytes

OURS = incarnation_bytes(7, b"ours....")
A, B, MINE = (
    birth_bytes(incarnation_bytes(1, b"of a...."), 1),
    birth_bytes(incarnation_bytes(1, b"of b...."), 1),
    birth_bytes(OURS, 1),
)


def sibling(birth: bytes, counter: int, kind: int = VALUE) -> Sibling:
    content = b"" if kind == TOMBSTONE else encode_content(Value(value=b"%d" % counter))
    hashed = content_hash(kind, 0, 0, content)
    return Sibling(birth, counter, kind, 0, 0, 0, hashed, content)


def record(vector: dict[bytes, int], *siblings: Sibling) -> Record:
    kept = tuple(sorted(siblings, key=lambda one: (one.birth, one.counter)))
    return Record(FORMAT, tuple(sorted(vector.items())), kept)


VALUE_OF_A, VALUE_OF_B = sibling(A, 3), sibling(B, 2)
FRESH, DELETED = sibling(MINE, 1), sibling(A, 4, TOMBSTONE)


@pytest.mark.parametrize(
    ("earlier", "known", "kept", "aside", "tombstones"),
    [
        # Nobody knows it.
        (record({A: 3}, VALUE_OF_A), (), EMPTY, (VALUE_OF_A,), 0),
        # Whoever knows it has decided.
        (record({A: 3}, VALUE_OF_A), ((A, 3),), EMPTY, (), 0),
        (record({A: 3, B: 2}, VALUE_OF_A, VALUE_OF_B), ((B, 5),), EMPTY, (VALUE_OF_A,), 0),
        # A birth that has left the vectors, and no value of it.
        (record({A: 3, B: 2}, VALUE_OF_B), ((B, 2),), EMPTY, (), 0),
        # A tombstone that was reaped.
        (record({A: 4}, DELETED), (), EMPTY, (), 1),
        # This node has minted it since, on top of what is long gone, or of what is known.
        (record({A: 3, MINE: 1}, FRESH), (), record({MINE: 1}, FRESH), (), 0),
        (record({A: 3, MINE: 1}, FRESH), ((A, 5),), record({A: 3, MINE: 1}, FRESH), (), 0),
        # Beside a value that nobody knows: what that has replaced stays as it is elsewhere.
        (
            record({A: 3, B: 2, MINE: 1}, VALUE_OF_B, FRESH),
            ((A, 3),),
            record({MINE: 1}, FRESH),
            (VALUE_OF_B,),
            0,
        ),
    ],
)
def test_only_what_others_know_or_was_minted_since_stays(
    earlier: Record, known: Vector, kept: Record, aside: tuple[Sibling, ...], tombstones: int
) -> None:
    judged = judge(earlier, known, (OURS,))
    assert judged.kept == kept
    assert judged.aside.siblings == aside
    assert judged.tombstones == tombstones
    for one in (judged.kept, judged.aside):
        assert not one or decode_record(encode_record(one)) == one


def test_what_stays_takes_nothing_from_who_knows_more() -> None:
    """b's value, which nobody knows, had replaced a's; a fresh write is beside it."""
    others = record({A: 3}, VALUE_OF_A)
    earlier = record({A: 3, B: 2, MINE: 1}, VALUE_OF_B, FRESH)
    assert merge(others, earlier).siblings != (VALUE_OF_A, FRESH)
    judged = judge(earlier, others.vector, (OURS,))
    assert set(merge(others, judged.kept).siblings) == {VALUE_OF_A, FRESH}


def test_a_write_since_still_replaces_what_it_has_seen() -> None:
    others = record({A: 3}, VALUE_OF_A)
    judged = judge(record({A: 3, MINE: 1}, FRESH), others.vector, (OURS,))
    assert merge(others, judged.kept).siblings == (FRESH,)
