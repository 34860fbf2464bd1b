"""What peers have sent a node since it was started, until it has met every other member.

Until then one of them may still show it that its disk went back: what had come by then is none of what
that disk had before. Of each key the vector of all that came is remembered: what is covered by it and
still there came with it. Knows nothing of where records lie.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dynamo.metrics import Metrics
from dynamo.version import EMPTY_VECTOR, Vector, join

#: Entries of vectors. Where a member is away for days, what comes after so many is forgotten.
ENTRIES_MAX: Final = 50_000


class Arrivals:
    """Of one start of a node."""

    def __init__(self, *, metrics: Metrics) -> None:
        self._count = metrics.count
        self._vectors: dict[bytes, Vector] = {}
        self._entries = 0
        self._met: set[str] = set()
        #: Something may still have to be told from what was there before: what comes is to be noted.
        self.is_open = False

    def __len__(self) -> int:
        return len(self._vectors)

    def open(self) -> None:
        """The disk has a past, and peers may turn out to know more of it."""
        self.is_open = True

    def note(self, storage_key: bytes, vector: Vector) -> None:
        """A record with this vector has come, and is merged in."""
        before = self._vectors.get(storage_key, EMPTY_VECTOR)
        joined = join(before, vector)
        entries = self._entries + len(joined) - len(before)
        if entries > ENTRIES_MAX:
            self._count["arrivals_forgotten"] += 1
            return
        self._entries = entries
        self._vectors[storage_key] = joined

    def met(self, node_id: str, others: Iterable[str]) -> None:
        """A peer has let this node in; with all the others there is nothing left to find out."""
        self._met.add(node_id)
        if self._met.issuperset(others):
            self.close()

    def take(self) -> list[tuple[bytes, Vector]]:
        """What has come of which key, in order."""
        return sorted(self._vectors.items())

    def close(self) -> None:
        """Nothing that comes has to be told from anything any more."""
        self.is_open = False
        self._vectors.clear()
        self._entries = 0
