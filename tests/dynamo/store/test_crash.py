"""A storage that is cut off at any point comes back with a prefix of its writes that has every one
that was synced (I11). With real processes and real kills."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import storage_writer
from storage_history import apply, check_prefix, dump
from storages import open_rocks, rocks

SOURCES = (Path(__file__).parents[3], Path(storage_writer.__file__).parent)


async def test_every_step_of_a_write_can_be_the_last(memory_path: Path) -> None:
    live = _made(memory_path / "steps")
    storage = await open_rocks(live)
    synced = 0
    for number in range(30):
        apply(storage, number)
        await _check_image(live, synced, number + 1)
        if number % 3 == 2:
            await storage.flush()
            synced = number + 1
            await _check_image(live, synced, synced)
    await storage.close()
    await _check_image(live, 30, 30)


async def test_the_unsynced_end_of_the_log_can_be_cut_anywhere(memory_path: Path) -> None:
    live = _made(memory_path / "live")
    storage = await open_rocks(live)
    for number in range(10):
        apply(storage, number)
    await storage.flush()
    (log,) = (live / "db").glob("*.log")
    safe = log.stat().st_size
    for number in range(10, 20):
        apply(storage, number)
    reached = set()
    for size in range(safe, log.stat().st_size, 17):
        image = _copy(live)
        os.truncate(image / "db" / log.name, size)
        async with rocks(image, existed=True) as cut:
            assert cut.opening.state == "clean"
            reached.add(check_prefix(dump(cut), 20))
        shutil.rmtree(image)
    assert reached == set(range(10, 20))
    await storage.close()


def test_a_process_killed_again_and_again_keeps_what_it_synced(tmp_path: Path) -> None:
    chance = random.Random(1)
    acked = 0
    for run in range(6):
        with _writer(tmp_path, run) as writer:
            assert writer.stdout is not None
            first = writer.stdout.readline()
            time.sleep(chance.random() * 0.3)
            writer.kill()
            rest = writer.stdout.read()
        assert int(first) >= acked
        acked = int((first + rest).rpartition(b"\n")[0].split()[-1])
    assert acked > 100
    asyncio.run(_check(tmp_path, acked, sys.maxsize))


def test_a_disk_seen_at_any_moment_is_clean(memory_path: Path) -> None:
    """Stops the whole process in the midst of writes, flushes and compactions, and looks."""
    chance = random.Random(2)
    live = _made(memory_path / "seen")
    said = b"0\n"
    with _writer(live, 0) as writer:
        assert writer.stdout is not None
        os.set_blocking(writer.stdout.fileno(), False)
        try:
            while len(list((live / "db").glob("*.sst"))) < 6:
                for _ in range(8):
                    time.sleep(chance.random() * 0.1)
                    writer.send_signal(signal.SIGSTOP)
                    os.waitpid(writer.pid, os.WUNTRACED)
                    said += writer.stdout.read() or b""
                    image = _copy(live)
                    writer.send_signal(signal.SIGCONT)
                    acked = int(said.rpartition(b"\n")[0].split()[-1])
                    asyncio.run(_check(image, acked, sys.maxsize))
                    shutil.rmtree(image)
        finally:
            writer.kill()


def _writer(directory: Path, seed: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, storage_writer.__file__, str(directory), str(seed)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, SOURCES))},
    )


async def _check_image(live: Path, count_min: int, count_max: int) -> None:
    """Copy the directory as it is now, under the open storage, and open the copy."""
    image = _copy(live)
    await _check(image, count_min, count_max)
    shutil.rmtree(image)


async def _check(directory: Path, count_min: int, count_max: int) -> None:
    async with rocks(directory, existed=count_min > 0) as storage:
        assert storage.opening.state == "clean", storage.opening
        assert check_prefix(dump(storage), count_max) >= count_min


def _copy(live: Path) -> Path:
    image = live.with_name("image")
    shutil.copytree(live, image)
    return image


def _made(path: Path) -> Path:
    path.mkdir()
    return path
