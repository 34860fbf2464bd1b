"""Reads the records in replicas' answers; those that came lately are known, and cost nothing.

Knows nothing of who asks for them.
"""

from __future__ import annotations

from typing import Final

from dynamo.memo import Memo
from dynamo.record import EMPTY, Record, decode_record, read_record, record_digest

#: Of records read lately, decoded.
KNOWN_BYTES_MAX: Final = 12 << 20


class KnownRecords:
    """Of one coordinator."""

    __slots__ = ("_known", "_own")

    def __init__(self, *, own: str) -> None:
        """`own`: this node."""
        self._own = own
        self._known: Memo[tuple[Record, bytes]] = Memo(bytes_max=KNOWN_BYTES_MAX)

    def read(self, node: str, data: bytes) -> tuple[Record, bytes]:
        """The record in an answer of a node, b"" for none, and its digest. Raises Malformed."""
        if not data:
            return EMPTY, b""
        known = self._known.get(data, data)
        if known is None:
            # What this node's own replica says was under a checksum of this node.
            record = read_record(data) if node == self._own else decode_record(data)
            known = record, record_digest(record)
            self._known.put(data, data, known)
        return known
