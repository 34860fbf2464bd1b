"""What a simulated disk has of a key only since it went back, and its node keeps apart.

Read off the disk as the node wrote it; believed only of a disk that a fault did set back
(`dynamo.sim.losses`). Knows nothing of what becomes of it.
"""

from __future__ import annotations

from dynamo.errors import StorageCorrupt
from dynamo.keys import PREFIX_BYTES
from dynamo.refill_marks import EARLIER_PREFIX, GENERATION_BYTES, REFILL_PREFIX, decode_mark
from dynamo.sim.disk import Disk


def is_apart(disk: Disk, storage_key: bytes) -> bool:
    """True if nothing has come for the key since the disk went back, and that is not settled."""
    data = disk.current("facts", REFILL_PREFIX + storage_key[:PREFIX_BYTES])
    if data is None:
        return False
    try:
        back = decode_mark(data).back
    except StorageCorrupt:
        return False
    fact = EARLIER_PREFIX + storage_key + back.to_bytes(GENERATION_BYTES)
    return back > 0 and disk.current("facts", fact) is None
