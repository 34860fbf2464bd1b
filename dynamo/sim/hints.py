"""What a node holds for others, read from its disk as anybody could who has it in hand.

Knows nothing of how hints come and go.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dynamo.errors import Malformed
from dynamo.sim.history import Copy, copy_on_disk

#: Before the stored record: when it was made.
_CREATED_BYTES: Final = 8


class Place(NamedTuple):
    """Whom a hint is for, and what the key it is of is stored under at its owners."""

    target: str
    storage_key: bytes


def hint_key(target: str, storage_key: bytes) -> bytes:
    """What a hint lies under."""
    name = target.encode()
    return bytes((len(name),)) + name + storage_key


def read_place(key: bytes) -> Place:
    """The place that a hint's key names. Raises Malformed."""
    if not key or len(key) <= 1 + key[0]:
        raise Malformed(f"a hint lies under {key!r}")
    return Place(key[1 : 1 + key[0]].decode(), key[1 + key[0] :])


def hint_copy(data: bytes | None, key: bytes) -> Copy:
    """The copy that a hint is, as `copy_on_disk`: an empty one if it only says that its node owes its
    own record."""
    if data is None:
        return Copy()
    created, stored = data[:_CREATED_BYTES], data[_CREATED_BYTES:]
    copy = copy_on_disk(stored, key + created)
    return Copy() if copy.ids is None and not copy.record and not copy.damaged else copy
