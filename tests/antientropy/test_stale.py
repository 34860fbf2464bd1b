"""Which replicas a read repairs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antientropy.stale import stale


@pytest.mark.parametrize(
    ("answers", "merged", "behind"),
    [
        ({}, b"", ()),
        ({"a": b"", "b": b""}, b"", ()),
        ({"a": b"1", "b": b"1"}, b"1", ()),
        ({"a": b"1", "b": b""}, b"1", ("b",)),
        ({"b": b"1", "c": b"2", "a": b""}, b"2", ("a", "b")),
        ({"a": b"1", "b": b"2"}, b"3", ("a", "b")),
    ],
)
def test_a_replica_is_stale_if_it_is_not_what_all_hold_together(
    answers: dict[str, bytes], merged: bytes, behind: tuple[str, ...]
) -> None:
    assert stale(answers, merged) == behind


@given(st.dictionaries(st.text(max_size=3), st.sampled_from([b"", b"1", b"2"])))
def test_the_order_of_answers_does_not_show(answers: dict[str, bytes]) -> None:
    turned = dict(reversed(answers.items()))
    assert stale(answers, b"2") == stale(turned, b"2") == tuple(sorted(stale(answers, b"2")))


@given(st.dictionaries(st.text(max_size=3), st.binary(max_size=2)), st.binary(max_size=2))
def test_after_a_repair_nobody_is_stale(answers: dict[str, bytes], merged: bytes) -> None:
    repaired = answers | dict.fromkeys(stale(answers, merged), merged)
    assert stale(repaired, merged) == ()
