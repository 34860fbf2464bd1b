"""Bucket properties as people give them: what is refused, what follows, what it comes to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo.errors import InvalidArgument, Malformed
from dynamo.properties import (
    DEFAULT_PROPERTIES,
    BucketProperties,
    fill_delete,
    fill_read,
    fill_write,
)
from dynamo.property_schema import (
    NOTHING,
    PROPERTY_NAMES,
    VALUES_BYTES_MAX,
    Own,
    change,
    decode_own,
    effective,
    encode_own,
    policy,
    read_properties,
    show,
)
from dynamo.requests import TTL_S_MAX, ReadOptions, WriteOptions

N = 3
POLICY = ("allow_mult", "last_write_wins", "dvv_enabled")
T, F = True, False
_: None = None
NO_COUNTS: list[object] = [4, 10**30, True, 1.0, None, "2", "two", "ONE", "", [], {}, [1]]
NO_FLAGS: list[object] = [0, 1, "true", None, [], {}, 1.0]


def after(*requests: dict[str, object], of_type: Own = NOTHING) -> Own:
    """What a bucket has of its own after these requests, in order."""
    own = NOTHING
    for one in requests:
        own = change(own, of_type, read_properties(one, N))
    return own


def flags(*values: bool | None) -> dict[str, object]:
    return {name: value for name, value in zip(POLICY, values, strict=True) if value is not None}


@pytest.mark.parametrize(
    ("asked", "comes_to", "conflict"),
    [
        # allow_mult, last_write_wins, dvv_enabled; _ was not given.
        ((_, _, _), (T, F, T), "siblings"),
        ((T, _, _), (T, F, T), "siblings"),
        ((F, _, _), (F, F, T), "lww"),
        ((_, T, _), (F, T, F), "lww"),
        ((_, F, _), (T, F, T), "siblings"),
        ((_, _, T), (T, F, T), "siblings"),
        ((_, _, F), None, "dvv_enabled"),
        ((T, T, _), None, "last_write_wins"),
        ((T, F, _), (T, F, T), "siblings"),
        ((F, T, _), (F, T, F), "lww"),
        ((F, F, _), (F, F, T), "lww"),
        ((T, _, T), (T, F, T), "siblings"),
        ((T, _, F), None, "dvv_enabled"),
        ((F, _, T), (F, F, T), "lww"),
        ((F, _, F), (F, F, F), "lww"),
        ((_, T, T), None, "last_write_wins"),
        ((_, T, F), (F, T, F), "lww"),
        ((_, F, T), (T, F, T), "siblings"),
        ((_, F, F), None, "dvv_enabled"),
        ((T, T, T), None, "last_write_wins"),
        ((T, T, F), None, "last_write_wins"),
        ((T, F, T), (T, F, T), "siblings"),
        ((T, F, F), None, "dvv_enabled"),
        ((F, T, T), None, "last_write_wins"),
        ((F, T, F), (F, T, F), "lww"),
        ((F, F, T), (F, F, T), "lww"),
        ((F, F, F), (F, F, F), "lww"),
    ],
)
def test_what_one_request_says_of_conflicts_is_one_policy_or_refused(
    asked: tuple[bool | None, ...], comes_to: tuple[bool, ...] | None, conflict: str
) -> None:
    if comes_to is None:
        with pytest.raises(InvalidArgument) as caught:
            after(flags(*asked))
        assert caught.value.details["field"] == conflict
        return
    own = after(flags(*asked))
    assert policy(own, NOTHING) == comes_to
    assert effective(own, NOTHING).conflict == conflict


@pytest.mark.parametrize(
    ("of_type", "requests", "comes_to"),
    [
        # The newest request goes first, and what does not fit it is forgotten.
        ((_, _, _), [(T, _, _), (_, T, _)], (F, T, F)),
        ((_, _, _), [(_, T, _), (T, _, _)], (T, F, T)),
        ((_, _, _), [(_, T, _), (_, F, _)], (T, F, T)),
        ((_, _, _), [(F, _, _), (_, T, _), (_, F, _)], (F, F, T)),
        ((_, _, _), [(F, T, F), (_, _, T)], (F, F, T)),
        ((_, _, _), [(_, T, _), (_, _, T)], (T, F, T)),
        ((_, _, _), [(F, _, _), (_, _, F)], (F, F, F)),
        ((_, _, _), [(F, F, F), (T, _, _)], (T, F, T)),
        # The type stands behind the bucket.
        ((F, _, _), [], (F, F, T)),
        ((_, T, _), [], (F, T, F)),
        ((_, T, _), [(T, _, _)], (T, F, T)),
        ((_, T, _), [(F, _, _)], (F, T, F)),
        ((_, T, _), [(_, F, _)], (T, F, T)),
        ((F, _, _), [(_, F, _)], (F, F, T)),
        ((_, T, _), [(_, _, F)], (F, T, F)),
        ((_, T, _), [(_, _, T)], (T, F, T)),
    ],
)
def test_what_was_said_before_stays_as_far_as_it_fits(
    of_type: tuple[bool | None, ...],
    requests: list[tuple[bool | None, ...]],
    comes_to: tuple[bool, ...],
) -> None:
    behind = after(flags(*of_type))
    own = after(*(flags(*one) for one in requests), of_type=behind)
    assert policy(own, behind) == comes_to


def test_siblings_do_not_come_back_without_version_vectors_when_the_type_changes() -> None:
    own = after({"dvv_enabled": False}, of_type=after({"last_write_wins": True}))
    assert policy(own, NOTHING) == (F, F, F)
    assert effective(own, NOTHING).conflict == "lww"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("r", "w", "rw") for value in (0, -1)),
        *((name, -1) for name in ("pr", "pw", "dw", "node_confirms")),
        *(
            (name, value)
            for name in ("r", "w", "pr", "pw", "dw", "rw", "node_confirms")
            for value in NO_COUNTS
        ),
        *((name, value) for name in (*POLICY, "notfound_ok", "basic_quorum") for value in NO_FLAGS),
        *(("n_val", value) for value in (1, 2, 4, 0, -3, True, 3.0, "3", None)),
        *((name, "x") for name in ("precommit", "search_index", "datatype", "consistent")),
        *((name, []) for name in ("precommit", "postcommit", "linkfun", "R", "r ", "")),
        *(("ttl", value) for value in (-1, TTL_S_MAX + 1, 1.0, True, "60", "never", None, [60])),
        ("claimant", "n1"),
        ("write_once", False),
    ],
)
def test_a_property_that_cannot_be_honoured_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_properties({"r": 2, name: value} if name != "r" else {name: value}, N)
    assert caught.value.details["field"] == name
    assert caught.value.details["allowed"]


def test_a_name_from_outside_is_not_shown_in_full() -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_properties({"\ud800" + "x" * 1000: 1}, N)
    assert len(caught.value.details["field"]) < 100
    assert caught.value.message.isascii()


def test_every_property_shown_can_be_sent_back_and_changes_nothing() -> None:
    for own in (NOTHING, after({"last_write_wins": True, "r": 1, "rw": "all", "pw": "one"})):
        shown = show(own, NOTHING, N)
        assert set(shown) == set(PROPERTY_NAMES)
        assert show(change(own, NOTHING, read_properties(shown, N)), NOTHING, N) == shown
        assert effective(change(own, NOTHING, read_properties(shown, N)), NOTHING).conflict == (
            effective(own, NOTHING).conflict
        )


def test_what_nobody_set_is_shown_as_it_works() -> None:
    assert show(NOTHING, NOTHING, N) == {
        "n_val": 3,
        "allow_mult": True,
        "last_write_wins": False,
        "dvv_enabled": True,
        "r": "quorum",
        "w": "quorum",
        "pr": 0,
        "pw": 0,
        "dw": 0,
        "rw": "default",
        "node_confirms": 0,
        "notfound_ok": True,
        "basic_quorum": False,
        "ttl": 0,
    }


def test_a_bucket_goes_before_its_type_and_default_gives_a_count_back() -> None:
    of_type = after({"r": 1, "w": "all", "notfound_ok": False})
    own = after({"r": 3, "basic_quorum": True})
    props = effective(own, of_type)
    assert (props.r, props.w, props.notfound_ok, props.basic_quorum) == (3, "all", False, True)
    assert effective(change(own, of_type, read_properties({"r": "default"}, N)), of_type).r == 1


def test_a_bucket_without_properties_shares_the_default() -> None:
    assert effective(NOTHING, NOTHING) is DEFAULT_PROPERTIES
    assert effective(after({"allow_mult": True}), NOTHING) is DEFAULT_PROPERTIES


def test_the_largest_properties_fit_what_a_message_carries() -> None:
    values: dict[str, Any] = {
        **dict.fromkeys((*POLICY, "notfound_ok", "basic_quorum"), False),
        **dict.fromkeys(("r", "w", "pr", "pw", "dw", "rw", "node_confirms"), "quorum"),
    }
    most = Own(**values)
    assert len(encode_own(most)) < VALUES_BYTES_MAX


_counts = st.one_of(st.integers(1, N), st.sampled_from(["one", "quorum", "all"]))
_given = st.fixed_dictionaries(
    {},
    optional={
        "allow_mult": st.booleans(),
        "last_write_wins": st.booleans(),
        "dvv_enabled": st.booleans(),
        "notfound_ok": st.booleans(),
        "basic_quorum": st.booleans(),
        **dict.fromkeys(("r", "w", "pr", "pw", "dw", "rw", "node_confirms"), _counts),
    },
)


@given(st.lists(st.tuples(st.booleans(), _given), max_size=6))
def test_what_is_given_applies_and_what_is_kept_can_always_be_read_again(
    requests: list[tuple[bool, dict[str, Any]]],
) -> None:
    own = of_type = NOTHING
    for is_type, asked in requests:
        try:
            wanted = read_properties(asked, N)
            if is_type:
                of_type = change(of_type, NOTHING, wanted)
            else:
                own = change(own, of_type, wanted)
        except InvalidArgument:
            continue
        shown = show(of_type, NOTHING, N) if is_type else show(own, of_type, N)
        assert {name: shown[name] for name in asked} == asked
        for kept in (own, of_type):
            assert decode_own(encode_own(kept), N) == kept


@given(st.binary(max_size=100))
def test_any_bytes_are_properties_or_malformed(data: bytes) -> None:
    try:
        decode_own(data, N)
    except Malformed:
        return


@pytest.mark.parametrize(
    "values",
    [{"r": 4}, {"r": 0}, {"allow_mult": True, "last_write_wins": True}, {"pw": "some"}, {"w": 1.5}],
)
def test_properties_that_nobody_can_have_set_are_malformed(values: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        decode_own(msgspec.msgpack.encode(values), N)


def test_properties_of_a_later_version_are_passed_over() -> None:
    assert decode_own(msgspec.msgpack.encode({"r": 2, "later": 5}), N) == Own(r=2)


PROPS = BucketProperties(r=1, w="all", pr=1, pw=2, dw=3, node_confirms=2, notfound_ok=False)


def test_a_time_to_live_is_the_buckets_then_the_types() -> None:
    of_type = after({"ttl": 60})
    assert effective(NOTHING, of_type).ttl == 60
    assert effective(after({"ttl": TTL_S_MAX}), of_type).ttl == TTL_S_MAX
    assert effective(after({"ttl": 0}), of_type).ttl == 0
    assert effective(after({"ttl": 0}, {"ttl": "default"}), of_type).ttl == 60
    assert decode_own(encode_own(of_type), N) == of_type
    assert show(of_type, NOTHING, N)["ttl"] == 60
    props = effective(of_type, NOTHING)
    assert fill_write(WriteOptions(), props, N).ttl_s == 60
    assert fill_write(WriteOptions(ttl_s=0), props, N).ttl_s == 0


def test_a_request_goes_before_the_bucket() -> None:
    asked = ReadOptions(r=2, notfound_ok=True)
    assert fill_read(asked, PROPS, N) == ReadOptions(
        r=2, pr=1, node_confirms=2, notfound_ok=True, basic_quorum=False
    )
    assert fill_read(ReadOptions(), PROPS, N).notfound_ok is False
    written = fill_write(WriteOptions(pw=0), PROPS, N)
    assert (written.w, written.pw, written.dw, written.r) == ("all", 0, 3, 1)


def test_a_delete_asks_its_own_count_first_then_that_of_the_bucket() -> None:
    props = msgspec.structs.replace(PROPS, rw=2)
    deleted = fill_delete(WriteOptions(), props, N)
    assert (deleted.r, deleted.w) == (2, 2)
    deleted = fill_delete(WriteOptions(r=3), props, N)
    assert (deleted.r, deleted.w) == (3, 2)
    deleted = fill_delete(WriteOptions(), PROPS, N)
    assert (deleted.r, deleted.w) == (1, "all")


def test_a_count_above_the_replicas_there_are_stands_for_all() -> None:
    filled = fill_write(WriteOptions(), BucketProperties(w=3, r=3, pw=1), 2)
    assert (filled.w, filled.r, filled.pw) == (2, 2, 1)
    assert fill_write(WriteOptions(w=3), BucketProperties(), 2).w == 3
