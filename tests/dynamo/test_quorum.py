"""Tallies: when a quorum is met, when it is lost, and what counts."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo.errors import InvalidArgument
from dynamo.quorum import (
    LOST,
    MET,
    PENDING,
    State,
    resolve_count,
    tell_counts,
    too_few,
)
from dynamo.read_tally import ReadTally
from dynamo.record import EMPTY, VALUE, Record, merge, mint, record_digest
from dynamo.requests import Count
from dynamo.version import birth_bytes, incarnation_bytes
from dynamo.write_tally import WriteTally

BIRTHS = [birth_bytes(incarnation_bytes(1, bytes([i]) * 8), 1) for i in range(4)]


def written(record: Record, birth: int, value: bytes, context: Record = EMPTY) -> Record:
    counter = dict(record.vector).get(BIRTHS[birth], 0) + 1
    return mint(
        record,
        context.vector,
        birth=BIRTHS[birth],
        counter=counter,
        kind=VALUE,
        content=value,
        written_ms=1,
    )


A = written(EMPTY, 0, b"a")
AA = written(A, 0, b"aa", A)
B = written(EMPTY, 1, b"b")


def body(tally: ReadTally, node: str, record: Record) -> None:
    tally.add_body(node, record, record_digest(record))


def digest(tally: ReadTally, node: str, record: Record) -> None:
    tally.add_digest(node, record.vector, record_digest(record))


@pytest.mark.parametrize(
    ("value", "n", "expected"),
    [
        ("default", 3, 7),
        ("one", 3, 1),
        ("quorum", 3, 2),
        ("quorum", 4, 3),
        ("all", 5, 5),
        (2, 3, 2),
    ],
)
def test_counts_and_words_are_resolved(value: Count, n: int, expected: int) -> None:
    assert resolve_count("r", value, n, lowest=1, default=7) == expected


@pytest.mark.parametrize("value", [0, -1, 4, 10**9, True, "two", 1.0, None])
def test_a_count_out_of_range_names_the_range(value: object) -> None:
    with pytest.raises(InvalidArgument, match="r must be 1 to 3"):
        resolve_count("r", cast("Count", value), 3, lowest=1, default=2)


def test_zero_is_a_count_where_it_is_the_lowest() -> None:
    assert resolve_count("pw", 0, 3, lowest=0, default=0) == 0


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("", PENDING),
        ("a", PENDING),
        ("aa", MET),
        ("aaf", MET),
        ("f", PENDING),
        ("ff", LOST),
        ("aff", LOST),
        ("afa", MET),
    ],
)
def test_a_write_of_two_in_three(events: str, expected: State) -> None:
    tally = WriteTally(3, w=2, pw=0, node_confirms=0)
    for number, event in enumerate(events):
        if event == "a":
            tally.ack(f"n{number}")
        else:
            tally.fail(f"n{number}", "gone")
    assert tally.state is expected
    assert tally.received == events.count("a")


@given(st.integers(1, 7), st.data())
def test_a_write_is_lost_exactly_when_it_cannot_be_met_any_more(
    nodes: int, data: st.DataObject
) -> None:
    w, pw, confirms = (data.draw(st.integers(low, nodes)) for low in (1, 0, 0))
    tally = WriteTally(nodes, w=w, pw=pw, node_confirms=confirms)
    acks = fails = 0
    need = max(w, pw, confirms)
    for number, ok in enumerate(data.draw(st.lists(st.booleans(), max_size=nodes))):
        if ok:
            tally.ack(str(number))
            acks += 1
        else:
            tally.fail(str(number), "gone")
            fails += 1
        expected = MET if acks >= need else LOST if nodes - fails < need else PENDING
        assert tally.state is expected


@pytest.mark.parametrize(
    ("needed", "primaries_needed", "told"),
    [
        (4, 0, "3 of 4 nodes are up"),
        (2, 3, "2 of 3 primaries are up"),
        (4, 3, "3 of 4 nodes are up and 2 of 3 primaries are up"),
    ],
)
def test_people_are_told_what_was_too_little_and_nothing_else(
    needed: int, primaries_needed: int, told: str
) -> None:
    counts = too_few(needed=needed, primaries_needed=primaries_needed, primaries=2, fallbacks=1)
    assert counts is not None
    assert tell_counts(counts, "are up") == told


def test_equal_digests_count_at_once() -> None:
    tally = ReadTally(("x", "y", "z"), r=2)
    body(tally, "x", A)
    assert tally.state is PENDING
    digest(tally, "y", A)
    assert tally.state is MET
    assert tally.merged == A


def test_a_replica_that_is_behind_counts_at_once_and_is_stale() -> None:
    tally = ReadTally(("x", "y", "z"), r=2)
    body(tally, "x", AA)
    digest(tally, "y", A)
    assert tally.state is MET
    assert tally.stale() == ("y",)


@pytest.mark.parametrize("ahead", [AA, B], ids=["ahead", "concurrent"])
def test_an_answer_that_is_not_in_hand_counts_only_with_its_body(ahead: Record) -> None:
    tally = ReadTally(("x", "y", "z"), r=2)
    body(tally, "x", A)
    digest(tally, "y", ahead)
    assert tally.state is PENDING
    assert tally.wanting() == ["y"]
    body(tally, "y", ahead)
    assert tally.state is MET
    assert tally.merged == merge(A, ahead)
    assert tally.stale() == (("x",) if ahead is AA else ("x", "y"))


def test_an_announced_answer_is_withdrawn_when_its_replica_is_lost() -> None:
    tally = ReadTally(("x", "y", "z"), r=2)
    body(tally, "x", A)
    digest(tally, "y", AA)
    tally.fail("y", "gone")
    assert tally.state is PENDING
    digest(tally, "z", AA)
    tally.fail("z", "gone")
    assert tally.state is LOST
    assert tally.reasons == {"y": "gone", "z": "gone"}


def test_a_body_that_arrived_is_not_withdrawn() -> None:
    tally = ReadTally(("x", "y"), r=2)
    body(tally, "x", A)
    tally.fail("x", "gone")
    digest(tally, "y", A)
    assert tally.state is MET


def test_digests_alone_never_meet_a_quorum() -> None:
    tally = ReadTally(("x", "y", "z"), r=2)
    digest(tally, "y", A)
    digest(tally, "z", A)
    assert tally.state is PENDING
    assert tally.wanting() == ["y", "z"]


def test_absent_everywhere_needs_no_body() -> None:
    tally = ReadTally(("x", "y", "z"), r=2)
    digest(tally, "y", EMPTY)
    digest(tally, "z", EMPTY)
    assert tally.state is MET
    assert not tally.merged


def test_absent_answers_do_not_count_without_notfound_ok() -> None:
    tally = ReadTally(("x", "y", "z"), r=2, notfound_ok=False)
    body(tally, "x", EMPTY)
    digest(tally, "y", A)
    assert tally.state is PENDING
    body(tally, "y", A)
    digest(tally, "z", EMPTY)
    assert tally.state is LOST
    assert not tally.not_found


def test_without_notfound_ok_absent_everywhere_is_not_found() -> None:
    tally = ReadTally(("x", "y", "z"), r=2, notfound_ok=False)
    body(tally, "x", EMPTY)
    assert tally.state is PENDING
    digest(tally, "y", EMPTY)
    assert tally.state is LOST
    assert tally.not_found


def test_basic_quorum_gives_up_at_a_majority_of_absent_answers() -> None:
    patient = ReadTally(("a", "b", "c", "d", "e"), r=1, notfound_ok=False)
    quick = ReadTally(("a", "b", "c", "d", "e"), r=1, notfound_ok=False, basic_quorum=True)
    for tally in (patient, quick):
        body(tally, "a", EMPTY)
        digest(tally, "b", EMPTY)
        digest(tally, "c", EMPTY)
    assert patient.state is PENDING
    assert quick.state is LOST
    assert quick.not_found


def test_holders_are_those_that_have_seen_all_of_it() -> None:
    tally = ReadTally(("x", "y", "z"), r=2)
    body(tally, "x", A)
    digest(tally, "y", AA)
    digest(tally, "z", B)
    assert tally.holders(A.vector) == ["x", "y"]


RECORDS = [EMPTY, A, AA, B, merge(A, B), merge(AA, B), written(merge(AA, B), 2, b"c", AA)]


@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(RECORDS), st.sampled_from(["d", "b", "f"])),
        max_size=8,
    ),
)
def test_a_met_read_covers_r_answers_and_a_lost_one_cannot(
    r: int, events: list[tuple[int, Record, str]]
) -> None:
    """Against the plain meaning: an answer counts if the merge of the bodies in hand has seen it."""
    tally = ReadTally(("n0", "n1", "n2"), r=r)
    answers: dict[str, Record] = {}
    bodies: dict[str, Record] = {}
    failed: set[str] = set()
    for index, record, kind in events:
        node = f"n{index}"
        if node in failed or node in bodies:
            continue
        if kind == "f":
            tally.fail(node, "gone")
            answers.pop(node, None)
            failed.add(node)
        elif kind == "b":
            answers[node] = bodies[node] = record
            body(tally, node, record)
        elif node not in answers:
            answers[node] = record
            digest(tally, node, record)
    union = EMPTY
    for record in bodies.values():
        union = merge(union, record)
    assert tally.merged == union
    counted = sum(merge(union, record) == union for record in answers.values())
    assert tally.received == counted
    assert (tally.state is MET) == (counted >= r)
    assert (tally.state is LOST) == (counted < r and 3 - len(failed) < r)


@given(
    st.lists(
        st.tuples(st.sampled_from("xyz"), st.sampled_from(RECORDS), st.sampled_from("dbf")),
        max_size=12,
    )
)
def test_what_is_counted_on_the_way_is_what_a_look_at_all_answers_finds(
    events: list[tuple[str, Record, str]],
) -> None:
    """Whatever is said: twice, after a failure, or something else than before."""
    tally = ReadTally("xyz", r=2)
    for node, record, kind in events:
        if kind == "f":
            tally.fail(node, "gone")
        else:
            (body if kind == "b" else digest)(tally, node, record)
        answers = {n: d for n in "xyz" if (d := tally.digest_of(n)) is not None}
        assert tally.merged_digest == (record_digest(tally.merged) if tally.merged else b"")
        behind = tuple(n for n, d in answers.items() if d != tally.merged_digest)
        assert tally.agreed == (not behind)
        assert tally.stale() == behind
        assert set(tally.wanting()) <= set(behind)
