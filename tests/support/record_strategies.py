"""Hypothesis strategies for births, vectors and records: few births, low counters, many collisions.

Knows nothing of histories: these records are valid, but no run of the protocol need ever make them.
"""

from __future__ import annotations

from hypothesis import strategies as st

from dynamo.record import (
    EXPIRED_BODY_KEPT_MS,
    FORMAT,
    TOMBSTONE,
    VALUE,
    Content,
    Record,
    Sibling,
    content_hash,
    encode_content,
)
from dynamo.version import (
    COUNTER_MAX,
    Birth,
    Vector,
    birth_bytes,
    incarnation_bytes,
    vector_of,
)

NOW_MS = 1_700_000_000_000
LONG_EXPIRED_MS = NOW_MS - EXPIRED_BODY_KEPT_MS
BIRTHS: tuple[Birth, ...] = tuple(
    birth_bytes(incarnation_bytes(start, bytes([start % 256]) * 8), sequence)
    for start, sequence in ((0, 0), (1, 1), (1, 300), (128, 1))
)
_CONTENTS = tuple(encode_content(Content(value)) for value in (b"x", b"y"))
_EXPIRIES = (0, LONG_EXPIRED_MS, NOW_MS + 1)


def any_births() -> st.SearchStrategy[Birth]:
    numbers = st.integers(0, (1 << 64) - 1)
    return st.builds(
        lambda start, random, sequence: birth_bytes(incarnation_bytes(start, random), sequence),
        numbers,
        st.binary(min_size=8, max_size=8),
        numbers,
    )


def any_vectors() -> st.SearchStrategy[Vector]:
    return st.dictionaries(any_births(), st.integers(1, COUNTER_MAX), max_size=6).map(vector_of)


def small_vectors() -> st.SearchStrategy[Vector]:
    return st.dictionaries(st.sampled_from(BIRTHS), st.integers(1, 3)).map(vector_of)


@st.composite
def siblings_of(draw: st.DrawFn, birth: Birth, counter: int, honest: bool) -> Sibling:
    """A sibling with this dot. Unless `honest`, its hash may be that of other content."""
    kind = draw(st.sampled_from((VALUE, VALUE, TOMBSTONE)))
    expires_ms = draw(st.sampled_from(_EXPIRIES)) if kind == VALUE else 0
    written_ms = draw(st.sampled_from((NOW_MS - 9_000_000, NOW_MS - 8_000_000)))
    content = draw(st.sampled_from(_CONTENTS)) if kind == VALUE else b""
    stamp = draw(st.sampled_from((0, 0, 1, 2)))
    hashed_kind, hashed = (kind, content) if honest else (VALUE, _CONTENTS[0])
    hashed_ms, hashed_stamp = (written_ms, stamp) if honest else (0, 0)
    name = content_hash(hashed_kind, hashed_ms, hashed_stamp, hashed)
    kept = None if expires_ms and draw(st.booleans()) else content
    return Sibling(birth, counter, kind, written_ms, stamp, expires_ms, name, kept)


@st.composite
def records(draw: st.DrawFn, *, honest: bool = True) -> Record:
    """Any valid record: gaps between siblings, a dot with several values, values without body."""
    vector = draw(small_vectors())
    dots = [(birth, n) for birth, counter in vector for n in range(1, counter + 1)]
    held = draw(st.sets(st.sampled_from(dots))) if dots else set()
    values: dict[tuple[Birth, int, bytes, int], Sibling] = {}
    for birth, counter in sorted(held):
        for sibling in draw(st.lists(siblings_of(birth, counter, honest), min_size=1, max_size=2)):
            values[birth, counter, sibling.content_hash, sibling.expires_ms] = sibling
    return Record(FORMAT, vector, tuple(values[name] for name in sorted(values)))
