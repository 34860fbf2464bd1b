"""Pages of several replicas made into one, for keys and for buckets.

What all who were asked show as live is listed, what none of them shows is not; where they differ,
only a read of the key can tell, since a replica may hold the very write that takes the value of
another away. One that holds nothing of a key takes nothing away. Pure: knows nothing of nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dynamo.keys import bucket_prefix
from dynamo.rpc.messages import Buckets, Keys

_LIVE = 1
_DEAD = 2
_MIXED = 4
_DIFFERS = 8


class MergedKeys(NamedTuple):
    """Keys in order. `doubtful`: live at one replica, and not so at another. `last`: the key up to which
    this is all; None if it is all there is."""

    listed: tuple[bytes, ...]
    doubtful: tuple[bytes, ...]
    last: bytes | None


def merge_keys(pages: Sequence[Keys], after: bytes = b"", *, shows_one: bool = False) -> MergedKeys:
    """What pages of one partition, all asked for from `after` on, say together.

    `shows_one`: of live and dead siblings the last write alone is shown, which pages do not tell.
    """
    last = min((page.last for page in pages if page.more), default=None)
    first = pages[0]
    if not first.mixed and all(
        page.live == first.live and not page.dead and not page.mixed and page.more == first.more
        for page in pages
    ):
        return MergedKeys(first.live, (), last)
    seen: dict[bytes, int] = {}
    digests: dict[bytes, bytes] = {}
    for page in pages:
        for key in page.live:
            seen[key] = seen.get(key, 0) | _LIVE
        for key in page.dead:
            seen[key] = seen.get(key, 0) | _DEAD
        for key, digest in page.mixed:
            differs = _DIFFERS if digests.setdefault(key, digest) != digest else 0
            seen[key] = seen.get(key, 0) | _MIXED | differs
    listed: list[bytes] = []
    doubtful: list[bytes] = []
    for key in sorted(seen):
        if key <= after or (last is not None and key > last):
            continue
        states = seen[key]
        if states == _LIVE or (states == _MIXED and not shows_one):
            listed.append(key)
        elif states != _DEAD:
            doubtful.append(key)
    return MergedKeys(tuple(listed), tuple(doubtful), last)


class MergedBuckets(NamedTuple):
    """Buckets, those that are sure to show a value and those that only a look at their keys can tell.
    `next`: the position up to which this is all; None if it is all there is."""

    sure: frozenset[bytes]
    doubtful: frozenset[bytes]
    next: bytes | None


def merge_buckets(
    pages: Sequence[Buckets], bucket_type: bytes, shows_one: Callable[[bytes], bool]
) -> MergedBuckets:
    """What pages of one partition, all asked for from one position on, say together.

    Sure is what all show by the same key in the same state: for that key, `merge_keys` would say so.
    """
    end = min((page.next for page in pages if page.next), default=None)
    shown: dict[bytes, tuple[bytes, bytes]] = {}
    times: dict[bytes, int] = {}
    for page in pages:
        for bucket, key, digest in page.entries:
            if end is not None and bucket_prefix(bucket_type, bucket) >= end:
                continue
            is_told = not (digest and shows_one(bucket))
            if shown.setdefault(bucket, (key, digest)) == (key, digest) and is_told:
                times[bucket] = times.get(bucket, 0) + 1
    sure = frozenset(bucket for bucket, count in times.items() if count == len(pages))
    return MergedBuckets(sure, frozenset(shown) - sure, end)
