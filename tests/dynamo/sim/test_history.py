"""Ids are read from records and disks, pasts are closed, dots are remembered."""

from __future__ import annotations

import pytest

from dynamo.errors import Malformed
from dynamo.record import (
    EMPTY,
    TOMBSTONE,
    VALUE,
    Content,
    Record,
    encode_content,
    encode_record,
    mint,
)
from dynamo.sim.history import (
    FOREVER,
    TOMBSTONE_TAG,
    Copy,
    History,
    Operation,
    OperationKind,
    copy_on_disk,
    values_in,
    writes_in,
)
from dynamo.stored import encode_stored
from dynamo.version import Birth, Vector, birth_bytes, incarnation_bytes

AT_A, AT_B = (birth_bytes(incarnation_bytes(1, bytes([one]) * 8), 1) for one in (1, 2))


def with_put(
    record: Record, id: int, birth: Birth = AT_A, context: Vector = (), *, stamp: int = 0
) -> Record:
    content = encode_content(Content(b"%d" % id))
    return _minted(record, birth, context, VALUE, content, 0, stamp=stamp)


def with_delete(record: Record, id: int, birth: Birth = AT_A) -> Record:
    return _minted(record, birth, record.vector, TOMBSTONE, b"", TOMBSTONE_TAG + id)


def _minted(
    record: Record,
    birth: Birth,
    context: Vector,
    kind: int,
    content: bytes,
    expires_ms: int,
    stamp: int = 0,
) -> Record:
    counter = max(dict(record.vector).get(birth, 0), dict(context).get(birth, 0)) + 1
    return mint(
        record,
        context,
        birth=birth,
        counter=counter,
        kind=kind,
        content=content,
        written_ms=1,
        stamp=stamp,
        expires_ms=expires_ms,
    )


def operation(
    id: int, kind: OperationKind = "put", past: frozenset[int] = frozenset()
) -> Operation:
    return Operation(id, kind, b"k", "a", start=id, timeout=1.0, past=past)


def stored(record: Record, counter: int = 1) -> bytes:
    return encode_stored(b"key", AT_A, counter, encode_record(record))


def test_values_and_tombstones_say_which_write_they_are() -> None:
    record = with_put(with_delete(with_put(EMPTY, 4), 7), 12, AT_B)
    assert writes_in(record) == {7, 12}
    assert values_in(record.siblings) == {12}
    assert writes_in(EMPTY) == frozenset()


def test_a_value_that_no_run_wrote_is_malformed() -> None:
    record = _minted(EMPTY, AT_A, (), VALUE, encode_content(Content(b"1x")), 0)
    with pytest.raises(Malformed):
        writes_in(record)


def test_the_ids_of_a_disk_are_those_of_its_record() -> None:
    data = stored(with_put(EMPTY, 3))
    assert copy_on_disk(data, b"key").ids == frozenset((3,))
    assert copy_on_disk(None, b"key") == Copy()


def test_a_damaged_copy_has_no_ids() -> None:
    data = bytearray(stored(with_put(EMPTY, 3)))
    data[-1] ^= 1
    assert copy_on_disk(bytes(data), b"key").ids is None
    assert copy_on_disk(stored(with_put(EMPTY, 3)), b"another key").ids is None
    assert copy_on_disk(stored(with_put(EMPTY, 3)), b"another key").damaged
    assert copy_on_disk(bytes(data), b"key").damaged


def test_half_a_record_under_a_good_checksum_is_wrong_not_damaged() -> None:
    data = encode_stored(b"key", AT_A, 1, encode_record(with_put(EMPTY, 3))[:-2])
    copy = copy_on_disk(data, b"key")
    assert (copy.ids, copy.damaged) == (None, False)
    assert copy.wrong


def test_a_birth_ahead_of_its_record_is_wrong() -> None:
    assert "never saw" in copy_on_disk(stored(with_put(EMPTY, 3), counter=2), b"key").wrong


def test_the_past_of_writes_is_them_and_all_that_they_cover() -> None:
    history = History(n=3)
    history.begin(operation(0))
    history.begin(operation(1, past=history.past_of((0,))))
    history.begin(operation(2))
    history.begin(operation(3, past=history.past_of((1, 2))))
    assert history.past_of((3,)) == {0, 1, 2, 3}
    assert history.past_of((2, 99)) == {2, 99}
    assert history.next_id() == 4


def test_a_lost_disk_is_a_loss_of_each_key_that_was_on_it() -> None:
    history = History(n=2, owners={b"j": ("a", "b"), b"k": ("b", "c"), b"l": ("a", "c")})
    assert [loss.key for loss in history.lose(1.0, "a", why="wipe")] == [b"j", b"l"]
    assert [loss.key for loss in history.lose(2.0, "b", b"k", why="rot")] == [b"k"]
    assert [str(loss) for loss in history.losses[1:]] == [
        "wipe of b'l' at a (1.0000 s)",
        "rot of b'k' at b (2.0000 s)",
    ]


def test_a_dot_is_remembered_for_ever() -> None:
    history = History(n=3)
    assert history.note_dots(with_put(with_put(EMPTY, 1), 2)) == {1, 2}
    assert (history.two_writes, history.two_dots) == ([], [])
    assert [history.was_minted(id) for id in (1, 2, 3)] == [True, True, False]
    for _ in range(2):
        history.note_dots(with_put(EMPTY, 3))
        history.note_dots(with_put(EMPTY, 2, AT_B))
    assert history.two_writes == [((AT_A, 1), 1, 3)]
    assert history.two_dots == [(2, (AT_A, 2), (AT_B, 1))]


def test_a_disk_tells_the_stamp_of_a_write_that_nobody_was_answered_with() -> None:
    history = History(n=3, lww=frozenset((b"k",)))
    for id in range(2):
        history.begin(operation(id))
    history.note_dots(with_put(EMPTY, 0, AT_B, stamp=5))
    disks = {"b": stored(with_put(EMPTY, 1, AT_A, stamp=9))}
    assert history.holders_of(history.operations[0], disks, b"key") == {"b"}


def test_an_answer_is_noted_with_all_that_it_has_and_all_that_it_shows() -> None:
    history = History(n=3)
    get = history.begin(operation(0, "get"))
    record = with_put(with_delete(with_put(EMPTY, 4), 7), 12, AT_B)
    history.note_answer(get, record, record.siblings[1:])
    assert [sorted(ids) for ids in (get.seen, get.shown)] == [[7, 12], [12]]
    history.note_answer(get, _minted(EMPTY, AT_A, (), VALUE, encode_content(Content(b"?")), 0))
    assert len(history.unreadable) == 1


def test_a_holder_has_the_write_or_one_that_covers_it() -> None:
    history = History(n=3)
    put = history.begin(operation(0))
    history.begin(operation(1, past=frozenset((0,))))
    get = history.begin(operation(2, "get"))
    get.seen = frozenset((0, 1))
    first = with_put(EMPTY, 0)
    both = with_put(first, 1, context=first.vector)
    disks = {"a": stored(first), "b": stored(both), "c": stored(first)[:-1], "d": None}
    disks["e"] = stored(with_put(EMPTY, 3))
    assert history.holders_of(put, disks, b"key") == {"a", "b"}
    assert history.holders_of(get, disks, b"key") == {"b"}


def test_a_read_that_found_nothing_has_fewer_answers_behind_it() -> None:
    read = operation(0, "get")
    read.r, read.pr, read.blocking = 2, 3, True
    read.weaken_not_found(3, basic_quorum=False)
    assert (read.r, read.pr, read.blocking) == (1, 0, False)


def test_an_operation_is_one_line() -> None:
    put = operation(1, past=frozenset(range(20)))
    put.w, put.outcome, put.end, put.holders = 2, "ok", 1.5, frozenset("ba")
    assert str(put) == (
        "put 1 of b'k' at a (1.0000 to 1.5000 s), w=2, ok,"
        " covers {0 1 2 3 4 5 6 7 and 12 more}, held by a b"
    )
    put.end = FOREVER
    assert "never answered" in str(put)


def test_a_write_with_a_stamp_covers_all_of_its_key_that_are_below_it() -> None:
    history = History(n=3, lww=frozenset((b"k",)))
    for id in range(3):
        history.begin(operation(id))
    other = history.begin(operation(3))
    other.key = b"other"
    records = {
        id: with_put(EMPTY, id, birth, stamp=stamp)
        for id, birth, stamp in ((0, AT_A, 5), (1, AT_B, 5), (2, AT_A, 9), (3, AT_B, 1))
    }
    for record in records.values():
        history.note_dots(record)
    assert history.below(2) == {0, 1, 2}
    assert history.below(1) == {0, 1}  # of one stamp the higher dot wins
    assert history.below(3) == {3}
    disks = {name: stored(records[id]) for name, id in (("a", 0), ("c", 2))}
    assert history.holders_of(history.operations[0], disks, b"key") == {"a", "c"}
    assert history.holders_of(history.operations[1], disks, b"key") == {"c"}
