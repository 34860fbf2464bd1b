"""Goes through what a disk had when it went back, page by page, and has it judged or merged back.

Lets the loop go on between two pages, so that a partition of any size holds up nobody. Knows nothing of
what is judged by what (`dynamo.set_back`), nor of when that is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dynamo.keys import partition_prefix
from dynamo.refill_marks import EARLIER_PREFIX, Partition, RefillMark
from dynamo.replica import Replica


class Purge:
    """Of one node's replica."""

    def __init__(self, *, replica: Replica) -> None:
        self._replica = replica
        self._marks = replica.refilling
        self._set_back = replica.set_back

    async def judge(self, place: Partition, mark: RefillMark) -> bool:
        """True once all that was there is judged by what has come since, and nothing is left to be;
        False if the partition was marked anew meanwhile. Raises StorageError: begin again."""
        # In this order: no record is left then that something that comes could take the place of.
        for page in (self._set_back.judge_records, self._set_back.judge_kept):
            after = b""
            while after := page(place, after):
                await asyncio.sleep(0)
                if self._marks.get(place) is not mark:
                    return False
        return True

    async def sweep(self, place: Partition | None) -> None:
        """What was kept of a partition is gone or merged back, unless it is to be judged; None: of all.
        Raises StorageError."""
        prefix = EARLIER_PREFIX + (b"" if place is None else partition_prefix(*place))
        await _through(lambda after: self._set_back.sweep(prefix, after))

    async def count_aside(self) -> None:
        """Know how many records were set aside by starts of before. Raises StorageError."""
        await _through(self._set_back.count_aside)


async def _through(page: Callable[[bytes], bytes]) -> None:
    after = page(b"")
    while after:
        await asyncio.sleep(0)
        after = page(after)
