"""What queues among a node's facts have of a record: entries that are written in the record's own batch.

A record whose `Stored.state` is not LIVE waits for something, and is found by its entry when its turn
comes, without looking at all the others. One that is EXPIRING has a body that goes after its time:

    expiry/ + when, milliseconds since 1970, u64 big-endian + storage key -> nothing

It has one entry, for the first body that goes; letting that go writes the next. Entries are only
changed with the record, so none is left behind by it, except where a damaged record was put aside:
whoever works a queue off looks at the record and drops such an entry. Knows nothing of storage engines,
nor of who works a queue off.
"""

from __future__ import annotations

from typing import Final

from dynamo.keys import after_prefix
from dynamo.ports import Write
from dynamo.record import EXPIRED_BODY_KEPT_MS, INT64_MAX, VALUE, Record, read_record
from dynamo.stored import EXPIRING, Stored

EXPIRY_PREFIX: Final = b"expiry/"
EXPIRY_END: Final = after_prefix(EXPIRY_PREFIX)
_TIME_BYTES: Final = 8
_STORAGE_KEY_AT: Final = len(EXPIRY_PREFIX) + _TIME_BYTES


def queue_entries(
    storage_key: bytes, before: Stored | None, record: Record, state: int
) -> list[Write]:
    """What changes in the queues when the record, of this state, takes the place of `before`. Of use
    only where one of the two states is not LIVE."""
    was_ms = 0
    if before is not None and before.state == EXPIRING:
        was_ms = body_goes_ms(read_record(before.record))
    goes_ms = body_goes_ms(record) if state == EXPIRING else 0
    entries: list[Write] = []
    if was_ms != goes_ms:
        if was_ms:
            entries.append(Write("facts", expiry_key(was_ms, storage_key), None))
        if goes_ms:
            entries.append(Write("facts", expiry_key(goes_ms, storage_key), b""))
    return entries


def body_goes_ms(record: Record) -> int:
    """When the first body of the record goes, milliseconds since 1970; 0 for never."""
    first = 0
    for sibling in record.siblings:
        expires_ms = sibling.expires_ms
        if expires_ms and sibling.kind == VALUE and sibling.content is not None:
            goes_ms = min(expires_ms + EXPIRED_BODY_KEPT_MS, INT64_MAX)
            if not first or goes_ms < first:
                first = goes_ms
    return first


def expiry_key(goes_ms: int, storage_key: bytes) -> bytes:
    """Of the entry of a record whose first body goes then."""
    return EXPIRY_PREFIX + goes_ms.to_bytes(_TIME_BYTES) + storage_key


def expired_end(now_ms: int) -> bytes:
    """Behind the entries of all bodies that may go by now."""
    if now_ms < 0:
        return EXPIRY_PREFIX
    return EXPIRY_PREFIX + (min(now_ms, INT64_MAX) + 1).to_bytes(_TIME_BYTES)


def split_expiry_key(entry: bytes) -> bytes:
    """The storage key that an entry of the expiry queue is of."""
    return entry[_STORAGE_KEY_AT:]
