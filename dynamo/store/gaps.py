"""Where scans that begin at the same key again and again can begin instead.

A queue that is worked off from its front leaves a deleted entry for each that it had, and the engine
steps over all of them, a third of a microsecond each, whenever somebody looks for the first that is
left: until it has compacted them away, which may be much later. So it is remembered where the first was;
what is written before it since then moves it back. Knows nothing of the engine.
"""

from __future__ import annotations

from typing import Final

#: Of one family; the oldest is forgotten for another.
GAPS_MAX: Final = 16


class Gaps:
    """Of one family of entries: from some keys on there is nothing, up to others."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def after(self, start: bytes) -> bytes:
        """Nothing is between `start` and this key, which may be `start` itself."""
        return self._ends.get(start, start)

    def note(self, start: bytes, end: bytes) -> None:
        """There is nothing with start <= key < end."""
        self._ends.pop(start, None)
        if len(self._ends) >= GAPS_MAX:
            del self._ends[next(iter(self._ends))]
        self._ends[start] = end

    def written(self, key: bytes) -> None:
        """There may be something under this key from now on."""
        for start, end in self._ends.items():
            if start <= key < end:
                self._ends[start] = key

    def clear(self) -> None:
        """Nothing is known."""
        self._ends.clear()
