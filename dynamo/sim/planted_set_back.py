"""Bugs for disks that went back in time, one function each, as `dynamo.sim.planted` wants them.

Knows nothing of seeds.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dynamo.refill import Refill
from dynamo.refill_marks import Partition, RefillMark, RefillMarks
from dynamo.sim.patches import Patches, Plant


def _old_disk_is_not_purged(patch: Patches) -> None:
    """What a disk had when it went back counts, though peers could tell what became of it."""
    settle = Refill._settle_back

    async def unjudged(self: Refill, place: Partition, mark: RefillMark, *, waits: bool) -> None:
        if mark.whole:
            mark = msgspec.structs.replace(mark, whole=False)
            self._replica.mark_refill(((place, mark),))
        await settle(self, place, mark, waits=waits)

    patch.set(Refill, "_settle_back", unjudged)


def _what_has_come_is_taken_for_old(patch: Patches) -> None:
    """What has come since a disk went back is judged as what it had before."""

    def earlier(self: RefillMarks, storage_key: bytes) -> bool:
        return bool(self.earlier_key(storage_key))

    patch.set(RefillMarks, "is_earlier", earlier)


SET_BACK_BUGS: Final[tuple[tuple[Plant, str], ...]] = (
    (_old_disk_is_not_purged, "what a disk had when it went back is not judged"),
    (_what_has_come_is_taken_for_old, "what came since a disk went back is judged as older"),
)
