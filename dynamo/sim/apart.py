"""What a simulated disk has of a key only since it went back, and its node keeps apart.

Read off the disk as the node wrote it; believed only of a disk that a fault did set back
(`dynamo.sim.losses`). Knows nothing of what becomes of it.
"""

from __future__ import annotations

from dynamo.errors import StorageCorrupt
from dynamo.keys import PREFIX_BYTES
from dynamo.record import decode_record
from dynamo.refill_marks import EARLIER_PREFIX, GENERATION_BYTES, REFILL_PREFIX, decode_mark
from dynamo.sim.disk import Disk
from dynamo.sim.history import write_of
from dynamo.stored import decode_stored


def is_apart(disk: Disk, storage_key: bytes) -> bool:
    """True if nothing has come for the key since the disk went back, and that is not settled."""
    back = generation(disk, storage_key)
    fact = EARLIER_PREFIX + storage_key + back.to_bytes(GENERATION_BYTES)
    return back > 0 and disk.current("facts", fact) is None


def generation(disk: Disk, storage_key: bytes) -> int:
    """By which its node knows what it has of the key's partition only since the disk went back; 0 if it
    did not, or that is settled."""
    data = disk.current("facts", REFILL_PREFIX + storage_key[:PREFIX_BYTES])
    if data is None:
        return 0
    try:
        return decode_mark(data).back
    except StorageCorrupt:
        return 0


def kept_own(disk: Disk, storage_key: bytes) -> frozenset[int]:
    """Of what a node has on disk of a key and keeps apart, the writes that it has given their dots since
    it went back, though it did not know yet: those stay."""
    data = disk.durable("facts", REFILL_PREFIX + storage_key[:PREFIX_BYTES])
    try:
        mark = None if data is None else decode_mark(data)
        if mark is None or not mark.back:
            return frozenset()
        fact = EARLIER_PREFIX + storage_key + mark.back.to_bytes(GENERATION_BYTES)
        kept = disk.durable("facts", fact)
        if kept is None:
            kept = disk.durable("records", storage_key)
        if not kept:
            return frozenset()
        record = decode_record(decode_stored(storage_key, kept).record)
    except StorageCorrupt:
        return frozenset()
    return frozenset(write_of(one) for one in record.siblings if one.birth.startswith(mark.ours))
