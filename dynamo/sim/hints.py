"""What a node holds for others, read from its disk as anybody could who has it in hand.

Knows nothing of how hints come and go.
"""

from __future__ import annotations

from typing import NamedTuple

from dynamo.keys import hint_prefix, split_hint_key
from dynamo.sim.history import Copy, copy_on_disk
from dynamo.stored import CREATED_BYTES


class Place(NamedTuple):
    """Whom a hint is for, and what the key it is of is stored under at its owners."""

    target: str
    storage_key: bytes


def hint_key(target: str, storage_key: bytes) -> bytes:
    """What a hint lies under."""
    return hint_prefix(target) + storage_key


def read_place(key: bytes) -> Place:
    """The place that a hint's key names. Raises Malformed."""
    return Place(*split_hint_key(key))


def hint_copy(data: bytes | None, key: bytes) -> Copy:
    """The copy that a hint is, as `copy_on_disk`: an empty one if it only says that its node owes its
    own record."""
    if data is None:
        return Copy()
    created, stored = data[:CREATED_BYTES], data[CREATED_BYTES:]
    copy = copy_on_disk(stored, key + created)
    return Copy() if copy.ids is None and not copy.record and not copy.damaged else copy
