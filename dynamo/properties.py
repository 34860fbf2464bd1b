"""What a bucket asks of the coordinator: defaults for counts, and how conflicts are shown.

One value a bucket, looked up for each request; what Riak calls bucket properties. Knows nothing of
HTTP, of where properties are kept or how they travel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from dynamo.requests import Count

#: "siblings": concurrent values are all shown. "lww": the one with the highest stamp.
Conflict = Literal["siblings", "lww"]


class BucketProperties(msgspec.Struct, frozen=True, kw_only=True):
    """What applies where a request is silent. Counts and flags as in `dynamo.requests`."""

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


DEFAULT_PROPERTIES: Final = BucketProperties()

#: The properties of (bucket type, bucket). Costs no I/O.
PropertiesOf = Callable[[bytes, bytes], BucketProperties]


def default_properties(bucket_type: bytes, bucket: bytes) -> BucketProperties:
    """Those of a bucket that nobody gave any."""
    return DEFAULT_PROPERTIES
