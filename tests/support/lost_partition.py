"""Takes a partition from the disk of a node that does not run, as a fault behind its back would.

The engine is as whole as before, and nothing says that anything is gone.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from dynamo.clock import SystemClock
from dynamo.keys import partition_range
from dynamo.metrics import Metrics
from dynamo.node import DATABASE
from dynamo.ports import Write
from dynamo.store.rocks import RocksStorage

_PAGE_BYTES = 1 << 24


def lose_partition(data_dir: Path, cls: int, partition: int) -> int:
    """The records of that partition are gone; returns how many there were."""
    return asyncio.run(_lose(data_dir / DATABASE, *partition_range(cls, partition)))


async def _lose(path: Path, start: bytes, end: bytes) -> int:
    storage = await RocksStorage.open(
        path, clock=SystemClock(), metrics=Metrics(), existed=True, free_space_min=0
    )
    lost = 0
    try:
        while page := storage.scan("records", start, end, count_max=1000, bytes_max=_PAGE_BYTES):
            storage.write([Write("records", key, None) for key, _ in page])
            lost += len(page)
        await storage.flush()
    finally:
        await storage.close()
    return lost
