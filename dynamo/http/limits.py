"""How much a client may send, and how slowly. Knows nothing of who sends it."""

from __future__ import annotations

from typing import Final

import msgspec

VALUE_BYTES_DEFAULT: Final = 1 << 20
VALUE_BYTES_LIMIT: Final = 8 << 20
CONNECTIONS_DEFAULT: Final = 10_000
CONNECTIONS_RESERVED: Final = 16
TARGET_BYTES_MAX: Final = 8 << 10
FIELD_BYTES_MAX: Final = 24 << 10
FIELDS_MAX: Final = 128
#: Content-Type, Content-Encoding and X-Riak-Meta-* of one object, names and values together.
METADATA_BYTES_MAX: Final = 64 << 10


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one server.

    `header_timeout_s`: from a connection's start, or its last reply, to the end of the next
    headers. `body_silence_s`: the longest wait for the next byte of a body. `body_rate_min`: bytes
    a second that a body must average once `body_silence_s` have passed. `body_hurry_s`,
    `body_hurry_rate_min`: the same while requests take most of the room there is for them (`Admission`),
    so that who sends slowly does not keep out all others. `lingering_s`: for how long
    the rest of a body that was refused is read and dropped, so that the client gets to read the
    refusal. `reply_stall_s`: how long a client may take nothing of a reply that waits for it.
    `connections_max`: open at once; whoever comes above that is told 503 and closed.
    `connections_reserved`: above that, for one request each, about the node itself.
    `reserved_header_s`: what those have for their headers.
    """

    value_bytes_max: int = VALUE_BYTES_DEFAULT
    header_timeout_s: float = 15.0
    body_silence_s: float = 10.0
    body_rate_min: int = 1000
    body_hurry_s: float = 2.0
    body_hurry_rate_min: int = 64_000
    lingering_s: float = 5.0
    reply_stall_s: float = 30.0
    connections_max: int = CONNECTIONS_DEFAULT
    connections_reserved: int = CONNECTIONS_RESERVED
    reserved_header_s: float = 2.0

    def __post_init__(self) -> None:
        if not 1 <= self.value_bytes_max <= VALUE_BYTES_LIMIT:
            raise ValueError(f"value_bytes_max is not within 1 to {VALUE_BYTES_LIMIT}")
        if self.connections_max < 1:
            raise ValueError("connections_max is not above 0")
        if self.connections_reserved < 0:
            raise ValueError("connections_reserved is below 0")
        times = (self.header_timeout_s, self.reserved_header_s, self.body_silence_s)
        rates = (self.body_rate_min, self.body_hurry_rate_min)
        if min(*times, self.body_hurry_s, *rates) <= 0:
            raise ValueError("a timeout or rate is not above 0")
