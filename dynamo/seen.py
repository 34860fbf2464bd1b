"""A stored record as requests meet it: what it says and what is answered about it, worked out once.

Knows nothing of storage, nor of who asks.
"""

from __future__ import annotations

from dynamo.record import Record, read_record, record_digest
from dynamo.rpc.messages import Body, Digest
from dynamo.stored import Stored


class Seen:
    """One stored record. All of it is worked out when it is first asked for."""

    __slots__ = ("_body", "_digest", "_record", "stored")

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self._record: Record | None = None
        self._body: Body | None = None
        self._digest: Digest | None = None

    def record(self) -> Record:
        """It, decoded. Raises Malformed."""
        if self._record is None:
            self._record = read_record(self.stored.record)
        return self._record

    def body(self) -> Body:
        """The answer to who asks for all of it."""
        if self._body is None:
            self._body = Body(self.stored.record)
        return self._body

    def digest(self) -> Digest:
        """The answer to who asks for its vector and digest. Raises Malformed."""
        if self._digest is None:
            record = self.record()
            self._digest = Digest(record.vector, record_digest(record))
        return self._digest
