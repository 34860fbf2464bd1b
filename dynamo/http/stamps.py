"""When an operation began at its coordinator and when it had enough: for a client that asks.

Nanoseconds of the node's monotonic clock (CLOCK_MONOTONIC), which all processes of one host share: so
a client on the same host can compare them with its own. Knows nothing of what the operation is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from multidict import istr

from dynamo.errors import InvalidArgument
from dynamo.requests import Stamps

ASKS: Final = istr("X-Dynamo-Stamps")


def asked_stamps(headers: Mapping[str, str]) -> Stamps:
    """What is to be filled in for a request with the header ASKS. Raises InvalidArgument."""
    if headers[ASKS].strip() != "1":
        raise InvalidArgument("X-Dynamo-Stamps must be 1", field="X-Dynamo-Stamps", allowed="1")
    return Stamps()


def stamps_fields(stamps: Stamps) -> bytes:
    """Header lines of what is known; none where no coordinator has begun."""
    if not stamps.node:
        return b""
    fields = b"X-Dynamo-Coordinator: %b\r\nX-Dynamo-Began: %d\r\n" % (
        stamps.node.encode("ascii", "replace"),
        _ns(stamps.began),
    )
    if stamps.committed:
        fields += b"X-Dynamo-Committed: %d\r\n" % _ns(stamps.committed)
    return fields


def _ns(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
