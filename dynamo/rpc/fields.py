"""The types of the fields of messages, with the bounds that are checked when one is decoded.

Knows nothing of what the messages say.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from dynamo.keys import (
    BUCKET_BYTES_MAX,
    KEY_BYTES_MAX,
    ROUTING_KEY_BYTES_MAX,
    TYPE_BYTES_MAX,
)

DEADLINE_MS_MAX: Final = 3_600_000
NO_HINT: Final = -1
#: What a scan may ask for in one page; well below the largest message.
SCAN_BYTES_MAX: Final = 32 << 20
CONDITION_TAGS_MAX: Final = 1_024
#: What one page of a listing may name.
LISTED_MAX: Final = 1_000
#: What one message carries of bucket properties: entries, and bytes of what one says.
PROPERTY_ENTRIES_MAX: Final = 500
PROPERTY_BYTES_MAX: Final = 1_024
#: Of a change of bucket properties: what is added to it still fits 64 bits.
CHANGE_MAX: Final = 1 << 62
#: Absent members that one write can be owed to.
OWED_MAX: Final = 64
#: What one message delivers of hints.
DELIVERIES_MAX: Final = 1_000
#: What one message says of the members of the ring.
RUMOUR_BYTES_MAX: Final = 16 << 10

INT64_MAX: Final = (1 << 63) - 1

RoutingKey = Annotated[bytes, Meta(min_length=1, max_length=ROUTING_KEY_BYTES_MAX)]
ClassId = Annotated[int, Meta(ge=0, le=0xFFFE)]
Partition = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
Epoch = Annotated[int, Meta(ge=0, le=INT64_MAX)]
DeadlineMs = Annotated[int, Meta(ge=0, le=DEADLINE_MS_MAX)]
WriteNumber = Annotated[int, Meta(ge=0, le=INT64_MAX)]
Milliseconds = Annotated[int, Meta(ge=0, le=INT64_MAX)]
Stamp = Annotated[int, Meta(ge=0, le=INT64_MAX)]
#: Nanoseconds since 1970; 0 for none.
WallNs = Annotated[int, Meta(ge=0, le=INT64_MAX)]
Kind = Annotated[int, Meta(ge=0, le=1)]
MemberIndex = Annotated[int, Meta(ge=NO_HINT, le=0xFFFF_FFFF)]
TargetIndex = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
Targets = Annotated[tuple[TargetIndex, ...], Meta(max_length=OWED_MAX)]
Key = Annotated[bytes, Meta(max_length=KEY_BYTES_MAX)]
Bucket = Annotated[bytes, Meta(min_length=1, max_length=BUCKET_BYTES_MAX)]
#: Between two routing keys, or at one: what follows a key directly is a byte longer than it.
Position = Annotated[bytes, Meta(max_length=ROUTING_KEY_BYTES_MAX + 1)]
ListedMax = Annotated[int, Meta(ge=1, le=LISTED_MAX)]
Skipped = Annotated[int, Meta(ge=0, le=INT64_MAX)]
Rumours = Annotated[bytes, Meta(max_length=RUMOUR_BYTES_MAX)]
Tags = Annotated[tuple[str, ...], Meta(max_length=CONDITION_TAGS_MAX)]
#: As of `dynamo.record.record_digest`, and others; b"" for none.
DigestBytes = Annotated[bytes, Meta(max_length=64)]
#: What stands for a record in a hash tree, big-endian; zeros for none.
Element = Annotated[bytes, Meta(min_length=8, max_length=8)]
RoutingKeyOrNone = Annotated[bytes, Meta(max_length=ROUTING_KEY_BYTES_MAX)]
BucketType = Annotated[bytes, Meta(min_length=1, max_length=TYPE_BYTES_MAX)]
BucketOrNone = Annotated[bytes, Meta(max_length=BUCKET_BYTES_MAX)]


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=False):
    """A msgpack array: a tag, then the fields in order."""
