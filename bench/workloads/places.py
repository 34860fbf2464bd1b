"""Which node coordinates an operation. Pure; knows nothing of which nodes are up."""

from __future__ import annotations

import random
from typing import Literal

#: "any": each node alike often. "other": each but the one that coordinated the write. "same": that one.
#: "session": the same for all that a session does. "free": the target's to choose.
Reader = Literal["any", "other", "same", "session", "free"]
Writer = Literal["any", "session", "free"]


def writer_place(choice: Writer, *, session: int, nodes: int, chance: random.Random) -> int | None:
    """Index of the coordinator of a write; None for whichever the target takes."""
    if choice == "free":
        return None
    return session % nodes if choice == "session" else chance.randrange(nodes)


def reader_place(
    choice: Reader, *, written_at: int | None, session: int, nodes: int, chance: random.Random
) -> int | None:
    """Index of the coordinator of a read of what was written at node `written_at` (None: not known)."""
    if choice == "free":
        return None
    if choice == "session":
        return session % nodes
    if choice == "same" and written_at is not None:
        return written_at
    if choice == "other" and written_at is not None and nodes > 1:
        return (written_at + chance.randrange(1, nodes)) % nodes
    return chance.randrange(nodes)
