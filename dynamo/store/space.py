"""Watches the free space of a file system against a watermark, cheaply.

Knows nothing of who writes there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dynamo.ports import Clock

CHECK_SECONDS: Final = 0.25
FREE_BYTES_MIN: Final = 256 * 1024 * 1024
FREE_PERCENT_MIN: Final = 2


class SpaceWatch:
    """Whether free space is below `free_bytes_min`; asks the system at most every 250 ms.

    Once below, it stays so until an eighth more than the watermark is free, so that it does not
    flap. `free_bytes_min` None takes the larger of 256 MiB and 2 % of the file system; 0 is never
    below.
    """

    def __init__(
        self,
        path: Path,
        *,
        free_bytes_min: int | None,
        clock: Clock,
        statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
    ) -> None:
        self._path = path
        self._monotonic = clock.monotonic
        self._statvfs = statvfs
        self._min = free_bytes_min
        self._due = -1.0
        self._low = False

    def is_low(self) -> bool:
        """True while space is below the watermark. Raises OSError if the directory cannot be asked
        about, as when it is gone."""
        now = self._monotonic()
        if now >= self._due:
            self._due = now + CHECK_SECONDS
            self._low = self._look()
        return self._low

    def look(self) -> bool:
        """As `is_low`, asking the system now."""
        self._due = -1.0
        return self.is_low()

    def free_bytes(self) -> int:
        """What is free now. Raises OSError if the directory cannot be asked about."""
        found = self._statvfs(self._path)
        return found.f_bavail * found.f_frsize

    def _look(self) -> bool:
        found = self._statvfs(self._path)
        low = self._min
        if low is None:
            size = found.f_blocks * found.f_frsize
            low = max(FREE_BYTES_MIN, size * FREE_PERCENT_MIN // 100)
        if self._low:
            low += low // 8
        return found.f_bavail * found.f_frsize < low
