"""Records that two nodes have merged both ways, and in which they differ all the same.

That cannot be while merging is what it should be, so it is an alarm, and such a record is left alone for
longer each time rather than sent to and fro for ever. Knows nothing of records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: Records that are remembered; the oldest is forgotten for another.
STUCK_MAX: Final = 1_000
#: Seconds for which one is left alone, at first and at most.
ALONE_FIRST: Final = 60.0
ALONE_MAX: Final = 3600.0


class _Merged:
    __slots__ = ("alone", "elements", "is_tried", "until")

    def __init__(self, elements: tuple[bytes, bytes]) -> None:
        self.elements = elements
        self.is_tried = True
        self.until = 0.0
        self.alone = ALONE_FIRST


class Stuck:
    """By storage key. `alarm`: as of `Refusing`."""

    __slots__ = ("_alarm", "_merged")

    def __init__(self, alarm: Callable[[str, str], None]) -> None:
        self._alarm = alarm
        self._merged: dict[bytes, _Merged] = {}

    def __len__(self) -> int:
        return len(self._merged)

    def may_merge(self, storage_key: bytes, elements: tuple[bytes, bytes], now: float) -> bool:
        """False for a record that has been merged as it is now, to no effect. `elements`: what stands
        for it here and there."""
        merged = self._merged.get(storage_key)
        if merged is None or merged.elements != elements:
            return True
        if merged.is_tried:
            self._alarm("records_stuck", "a record was merged both ways, and the two still differ")
            merged.is_tried = False
            merged.until = now + merged.alone
            merged.alone = min(merged.alone * 2, ALONE_MAX)
        return now >= merged.until

    def note_merged(self, storage_key: bytes, elements: tuple[bytes, bytes]) -> None:
        """Both sides have what the other had; `elements` as it was before."""
        merged = self._merged.get(storage_key)
        if merged is not None and merged.elements == elements:
            merged.is_tried = True
            return
        if len(self._merged) >= STUCK_MAX:
            del self._merged[next(iter(self._merged))]
        self._merged[storage_key] = _Merged(elements)
