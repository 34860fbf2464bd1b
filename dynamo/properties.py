"""What a bucket asks of the coordinator: defaults for counts, and how conflicts are shown.

One value a bucket, looked up for each request; what Riak calls bucket properties. What a request says
itself goes first. Knows nothing of HTTP, of where properties are kept or how they travel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from dynamo.requests import Count, ReadOptions, WriteOptions

#: "siblings": concurrent values are all shown. "lww": the one with the highest stamp.
Conflict = Literal["siblings", "lww"]


class BucketProperties(msgspec.Struct, frozen=True, kw_only=True):
    """What applies where a request is silent. Counts and flags as in `dynamo.requests`.

    `rw`: of a delete, in place of `r` for its read and of `w` for its tombstone; "default" leaves
    those as they are. A number above the replicas that a key has, in a cluster with too few members,
    stands for all of them. `ttl`: seconds after which what is written expires, 0 for never.
    """

    conflict: Conflict = "siblings"
    r: Count = "default"
    w: Count = "default"
    pr: Count = "default"
    pw: Count = "default"
    dw: Count = "default"
    rw: Count = "default"
    node_confirms: Count = "default"
    notfound_ok: bool = True
    basic_quorum: bool = False
    ttl: int = 0


DEFAULT_PROPERTIES: Final = BucketProperties()

#: The properties of (bucket type, bucket). Costs no I/O.
PropertiesOf = Callable[[bytes, bytes], BucketProperties]


def default_properties(bucket_type: bytes, bucket: bytes) -> BucketProperties:
    """Those of a bucket that nobody gave any."""
    return DEFAULT_PROPERTIES


def fill_read(asked: ReadOptions, props: BucketProperties, n: int) -> ReadOptions:
    """`asked`, with the bucket's properties where it is silent. `n`: the key's replicas."""
    return msgspec.structs.replace(
        asked,
        r=_first(asked.r, props.r, n),
        pr=_first(asked.pr, props.pr, n),
        node_confirms=_first(asked.node_confirms, props.node_confirms, n),
        notfound_ok=props.notfound_ok if asked.notfound_ok is None else asked.notfound_ok,
        basic_quorum=props.basic_quorum if asked.basic_quorum is None else asked.basic_quorum,
    )


def fill_write(asked: WriteOptions, props: BucketProperties, n: int) -> WriteOptions:
    """As `fill_read`, for a put."""
    return msgspec.structs.replace(
        asked,
        w=_first(asked.w, props.w, n),
        pw=_first(asked.pw, props.pw, n),
        dw=_first(asked.dw, props.dw, n),
        node_confirms=_first(asked.node_confirms, props.node_confirms, n),
        r=_first(asked.r, props.r, n),
        pr=_first(asked.pr, props.pr, n),
        ttl_s=props.ttl if asked.ttl_s is None else asked.ttl_s,
    )


def fill_delete(asked: WriteOptions, props: BucketProperties, n: int) -> WriteOptions:
    """As `fill_read`, for a delete: `rw` goes before the bucket's `r` and `w`."""
    rw = props.rw
    if rw != "default":
        asked = msgspec.structs.replace(asked, r=_first(asked.r, rw, n), w=_first(asked.w, rw, n))
    return fill_write(asked, props, n)


def _first(asked: Count, kept: Count, n: int) -> Count:
    if asked != "default":
        return asked
    return min(kept, n) if isinstance(kept, int) else kept


def with_defaults(known: PropertiesOf, defaults: PropertiesOf | None) -> PropertiesOf:
    """What is known of a bucket; where that is nothing of its own, what `defaults` says."""
    if defaults is None:
        return known

    def properties(bucket_type: bytes, bucket: bytes) -> BucketProperties:
        found = known(bucket_type, bucket)
        return defaults(bucket_type, bucket) if found is DEFAULT_PROPERTIES else found

    return properties
