"""A process that writes the fixed history for ever: `python storage_writer.py DIRECTORY SEED`.

Goes on where the directory ends. Prints one line a group of writes, after its sync: how many writes
are on disk. Prints `not clean: WHY` and ends if the directory says that it has lost something.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from storage_history import apply, check_prefix, dump
from storages import open_rocks

PAUSE_MAX = 0.002


async def write_for_ever(directory: Path, seed: int) -> None:
    storage = await open_rocks(directory)
    if storage.opening.state != "clean":
        print("not clean:", storage.opening.why, flush=True)
        return
    number = check_prefix(dump(storage), sys.maxsize)
    chance = random.Random(seed)
    while True:
        print(number, flush=True)
        for _ in range(chance.randint(1, 20)):
            apply(storage, number)
            number += 1
        await storage.flush()
        await asyncio.sleep(chance.random() * PAUSE_MAX)


if __name__ == "__main__":
    asyncio.run(write_for_ever(Path(sys.argv[1]), int(sys.argv[2])))
