"""Digests and deltas: who reads them knows what both knew, and bytes that are not ours are Malformed."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo.cluster.rumour import decode_delta, decode_digest, encode_delta, encode_digest
from dynamo.cluster.view import NUMBER_MAX, Entry, View
from dynamo.errors import Malformed

NAMES = tuple("abcdefgh")
ENTRIES = st.builds(
    Entry,
    st.one_of(st.integers(1, 3), st.integers(1, NUMBER_MAX)),
    st.one_of(st.integers(0, 300), st.integers(0, NUMBER_MAX)),
    st.sampled_from([None, "", "a:1", "b:2"]),
) | st.just(Entry())
VIEWS = st.lists(ENTRIES, min_size=8, max_size=8).map(lambda entries: View(NAMES, entries))


def take(view: View, told: list[tuple[int, int, int, str | None, bool]]) -> None:
    """All of it, as it is."""
    for index, start, heartbeat, address, _ in told:
        known = view.entry(index)
        if start > known.start:
            view.set(index, Entry(start, heartbeat, address))
        elif start == known.start:
            view.set(
                index,
                Entry(
                    start,
                    max(heartbeat, known.heartbeat),
                    known.address if known.address is not None else address,
                ),
            )


def shown(view: View) -> list[tuple[int, int]]:
    return [(entry.start, entry.heartbeat) for entry in view.entries()]


@given(VIEWS, VIEWS)
def test_after_one_exchange_both_know_the_later_of_each(asker: View, answerer: View) -> None:
    highest = [max(pair) for pair in zip(shown(asker), shown(answerer), strict=True)]
    sent = asker.copy()
    data, more = encode_digest(asker, 0, 10_000)
    assert more == 0
    digest = decode_digest(data)
    delta, more = encode_delta(answerer, digest, 0, 10_000)
    assert more == 0
    take(answerer, digest.told)
    take(asker, decode_delta(delta, sent))
    assert shown(asker) == shown(answerer) == highest


@given(VIEWS, VIEWS)
def test_who_lacks_an_address_is_told_it_by_whoever_knows(asker: View, answerer: View) -> None:
    digest = decode_digest(encode_digest(asker, 0, 10_000)[0])
    delta, _ = encode_delta(answerer, digest, 0, 10_000)
    told = {index: address for index, _, _, address, _ in decode_delta(delta, asker)}
    for index, (mine, theirs) in enumerate(zip(asker.entries(), answerer.entries(), strict=True)):
        if theirs.start == mine.start > 0 and mine.address is None:
            assert told.get(index) == theirs.address


@given(VIEWS, st.integers(40, 90))
def test_windows_that_follow_each_other_say_all(view: View, bytes_max: int) -> None:
    begin = 0
    said: dict[int, tuple[int, int]] = {}
    for _ in range(20):
        data, begin = encode_digest(view, begin, bytes_max)
        assert len(data) <= bytes_max
        said |= {index: (start, beat) for index, start, beat, _, _ in decode_digest(data).told}
        if not begin:
            break
    assert [said[index] for index in range(8)] == shown(view)
    nothing = decode_digest(encode_digest(View(NAMES), 0, 1000)[0])
    begin = 0
    news: dict[int, tuple[object, ...]] = {}
    for _ in range(20):
        delta, begin = encode_delta(view, nothing, begin, bytes_max)
        assert len(delta) <= bytes_max
        news |= {told[0]: told[1:4] for told in decode_delta(delta, View(NAMES))}
        if not begin:
            break
    assert news == {i: tuple(entry) for i, entry in enumerate(view.entries()) if entry.start}


def test_fresh_addresses_are_said_in_the_digest_as_far_as_they_have_room() -> None:
    view = View(NAMES, [Entry(1, 1, "host:7400")] * 8)
    data, _ = encode_digest(view, 0, 1000, fresh={1, 2, 5}, addresses_bytes_max=25)
    assert [told[3] for told in decode_digest(data).told] == [
        None,
        "host:7400",
        "host:7400",
        *[None] * 5,
    ]


@given(st.binary(max_size=200) | st.lists(st.integers(0, 255), max_size=40).map(bytes))
def test_any_bytes_are_a_digest_and_a_delta_or_malformed(data: bytes) -> None:
    sent = View(NAMES, [Entry(1, 1, "")] * 8)
    for decode in (decode_digest, lambda data: decode_delta(data, sent)):
        with contextlib.suppress(Malformed):
            decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x04",
        b"\x00\x80",
        b"\x00\x06\x01\x05a:1",
        b"\x00\x06\x01\xff\xff\xff\xff\x07a:1",
        b"\x00\x06\x01\x01\xff",
        b"\x00\x04\x80\x00",
        b"\x00" + b"\xff" * 11,
    ],
    ids=bytes.hex,
)
def test_a_damaged_digest_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_digest(data)


def test_memory_is_bounded_by_the_bytes_that_came() -> None:
    data = b"\xff\xff\xff\xff\x0f" + b"\x04\x01" * 8_000
    tracemalloc.start()
    digest = decode_digest(data)
    encode_delta(View(NAMES), digest, 0, 4000)
    decode_delta(b"\x03\x01\x01\x00" * 4_000, View(NAMES))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(digest.told) == 8_000
    assert peak < 200 * len(data)
