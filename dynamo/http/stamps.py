"""Headers of who measures: a read of one copy alone; and when an operation began at its coordinator and
when it had enough.

Nanoseconds of the node's monotonic clock (CLOCK_MONOTONIC), which all processes of one host share: so
a client on the same host can compare them with its own. Knows nothing of what the operation is.
"""

from __future__ import annotations

from typing import Final

from multidict import CIMultiDictProxy, istr

from dynamo.errors import InvalidArgument
from dynamo.requests import Stamps

ASKS: Final = istr("X-Dynamo-Stamps")
LOCAL: Final = istr("X-Dynamo-Local")


def asked_stamps(headers: CIMultiDictProxy[str]) -> Stamps:
    """What is to be filled in for a request with the header ASKS. Raises InvalidArgument."""
    check_switch(headers, ASKS)
    return Stamps()


def check_switch(headers: CIMultiDictProxy[str], name: str) -> None:
    """A header that is there is `1`, once; or InvalidArgument is raised."""
    given = headers.getall(name)
    if [value.strip() for value in given] != ["1"]:
        raise InvalidArgument(f"{name} must be 1, once", field=str(name), allowed="1")


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
