"""Pages of several replicas made into one: a table, and a dumb model that merges the records."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo.keys import bucket_prefix
from dynamo.listing_pages import MergedBuckets, MergedKeys, merge_buckets, merge_keys
from dynamo.liveness import DEAD, LIVE, state_of
from dynamo.record import (
    EMPTY,
    TOMBSTONE,
    VALUE,
    Content,
    Record,
    encode_content,
    encode_record,
    merge,
    mint,
    record_digest,
)
from dynamo.resolve import view
from dynamo.rpc.messages import Buckets, Keys
from dynamo.version import Vector, birth_bytes, incarnation_bytes

NOW_MS = 1_700_000_000_000


def page(
    live: str = "", dead: str = "", mixed: str = "", *, digest: bytes = b"d", last: str = ""
) -> Keys:
    """A key a letter."""
    return Keys(
        tuple(letter.encode() for letter in live),
        tuple(letter.encode() for letter in dead),
        tuple((letter.encode(), digest) for letter in mixed),
        bool(last),
        last.encode(),
    )


def merged(listed: str = "", doubtful: str = "", last: str | None = None) -> MergedKeys:
    return MergedKeys(
        tuple(letter.encode() for letter in listed),
        tuple(letter.encode() for letter in doubtful),
        None if last is None else last.encode(),
    )


TABLE = {
    "nothing": ([page(), page()], "", merged()),
    "all show all": ([page("abc"), page("abc")], "", merged("abc")),
    "what one has not got is live": ([page("ab"), page("bc")], "", merged("abc")),
    "dead at all is not listed": ([page("a", "b"), page("a", "b")], "", merged("a")),
    "dead at one, absent at the other": ([page("a", "b"), page("a")], "", merged("a")),
    "live at one, dead at the other": ([page("ab"), page("a", "b")], "", merged("a", "b")),
    "mixed alike": ([page("", "", "m"), page("", "", "m")], "", merged("m")),
    "mixed, absent at the other": ([page("", "", "m"), page()], "", merged("m")),
    "mixed and not alike": (
        [page("", "", "m"), page("", "", "m", digest=b"other")],
        "",
        merged("", "m"),
    ),
    "mixed and live": ([page("", "", "m"), page("m")], "", merged("", "m")),
    "mixed and dead": ([page("", "", "m"), page("", "m")], "", merged("", "m")),
    "the shorter page bounds": (
        [page("ab", last="b"), page("abc", last="c")],
        "",
        merged("ab", "", "b"),
    ),
    "one goes on, one is at its end": (
        [page("ab", last="b"), page("abcd")],
        "",
        merged("ab", "", "b"),
    ),
    "both go on alike": ([page("ab", last="b"), page("ab", last="b")], "", merged("ab", "", "b")),
    "only dead ones read so far": ([page("", "ab", last="b"), page("c")], "", merged("", "", "b")),
    "doubt beyond the bound waits": (
        [page("ac", last="a"), page("a", "c", last="c")],
        "",
        merged("a", "", "a"),
    ),
    "what was not asked for is left out": ([page("abc"), page("bcd", "e")], "b", merged("cd")),
    "three replicas": ([page("ab"), page("a", "c"), page("abc")], "", merged("ab", "c")),
    "one replica": ([page("ab", "c", "m")], "", merged("abm")),
}


@pytest.mark.parametrize("name", TABLE)
def test_pages_make_one(name: str) -> None:
    pages, after, expected = TABLE[name]
    assert merge_keys(pages, after.encode()) == expected
    assert merge_keys(pages[::-1], after.encode()) == expected


# A dumb model: writes reach some replicas, and what is live is what the merge of all shows ---------


class Write(NamedTuple):
    """A write of a key that is minted at one replica and reaches others. `sees`: the replicas that were
    read before it, whose context it hands back."""

    key: int
    kind: int
    minter: int
    reaches: frozenset[int]
    sees: frozenset[int]


REPLICAS = (0, 1)
_who = st.frozensets(st.sampled_from(REPLICAS))
writes = st.lists(
    st.builds(
        Write,
        st.integers(0, 3),
        st.sampled_from((VALUE, VALUE, TOMBSTONE)),
        st.sampled_from(REPLICAS),
        _who,
        _who,
    ),
    max_size=12,
)


def stored(history: list[Write]) -> list[dict[bytes, Record]]:
    """What each replica holds in the end."""
    replicas: list[dict[bytes, Record]] = [{} for _ in REPLICAS]
    counters: dict[tuple[int, int], int] = {}
    for write in history:
        key = b"k%d" % write.key
        seen: Vector = ()
        for at in sorted(write.sees):
            seen = merge(Record(1, seen, ()), replicas[at].get(key, EMPTY)).vector
        counter = counters[write.minter, write.key] = counters.get((write.minter, write.key), 0) + 1
        incarnation = incarnation_bytes(write.minter + 1, b"\x01" * 8)
        minted = mint(
            replicas[write.minter].get(key, EMPTY),
            seen,
            birth=birth_bytes(incarnation, write.key + 1),
            counter=counter,
            kind=write.kind,
            content=encode_content(Content(b"v")) if write.kind == VALUE else b"",
            written_ms=NOW_MS,
        )
        for at in {write.minter, *write.reaches}:
            replicas[at][key] = merge(replicas[at].get(key, EMPTY), minted)
    return replicas


def page_of(records: dict[bytes, Record], after: bytes, count: int) -> Keys:
    """What a replica answers, by what it holds."""
    live, dead, mixed = [], [], []
    found = sorted(key for key in records if key > after)
    for key in found[:count]:
        state = state_of(encode_record(records[key]), NOW_MS)
        if state == LIVE:
            live.append(key)
        elif state == DEAD:
            dead.append(key)
        else:
            mixed.append((key, record_digest(records[key])))
    more = len(found) > count
    return Keys(tuple(live), tuple(dead), tuple(mixed), more, found[count - 1] if more else b"")


@given(history=writes, counts=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_what_is_listed_is_what_the_merged_records_show(
    history: list[Write], counts: tuple[int, int]
) -> None:
    replicas = stored(history)
    whole = {
        key: merge(replicas[0].get(key, EMPTY), replicas[1].get(key, EMPTY))
        for key in {*replicas[0], *replicas[1]}
    }
    shown = sorted(key for key, record in whole.items() if view(record, NOW_MS).siblings)
    listed: list[bytes] = []
    after: bytes | None = b""
    while after is not None:
        pages = [
            page_of(records, after, count) for records, count in zip(replicas, counts, strict=True)
        ]
        found = merge_keys(pages, after)
        read = [key for key in found.doubtful if view(whole[key], NOW_MS).siblings]
        listed += sorted((*found.listed, *read))
        assert found.last is None or found.last > after
        after = found.last
    assert listed == shown


def buckets(*entries: tuple[str, str], next: bytes = b"") -> Buckets:
    """Pairs of bucket and its first key that shows a value; `!` after a key: it is mixed."""
    return Buckets(
        tuple(
            (bucket.encode(), key.rstrip("!").encode(), b"digest" if key.endswith("!") else b"")
            for bucket, key in entries
        ),
        next,
    )


def test_a_bucket_is_sure_where_all_show_it_by_the_same_key() -> None:
    one = buckets(("a", "k"), ("b", "k"), ("c", "k"), ("d", "k!"), ("e", "k!"))
    other = buckets(("a", "k"), ("b", "x"), ("d", "k!"), ("e", "k"))
    found = merge_buckets([one, other], b"t", lambda bucket: False)
    assert found == MergedBuckets(frozenset((b"a", b"d")), frozenset((b"b", b"c", b"e")), None)


def test_buckets_beyond_the_shortest_page_wait() -> None:
    end = bucket_prefix(b"t", b"b")
    found = merge_buckets(
        [buckets(("a", "k"), next=end), buckets(("a", "k"), ("b", "k"), ("aa", "k"))],
        b"t",
        lambda bucket: False,
    )
    assert found == MergedBuckets(frozenset((b"a",)), frozenset(), end)


def test_where_one_value_is_shown_live_beside_dead_is_in_doubt() -> None:
    page = Keys((b"live",), (), ((b"mixed", b"digest"),), False)
    assert merge_keys([page, page]).doubtful == ()
    assert merge_keys([page, page], shows_one=True) == MergedKeys((b"live",), (b"mixed",), None)
    one = buckets(("a", "k"), ("d", "k!"))
    found = merge_buckets([one, one], b"t", lambda bucket: bucket == b"d")
    assert found == MergedBuckets(frozenset((b"a",)), frozenset((b"d",)), None)
