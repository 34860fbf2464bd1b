"""Resident memory of one real node that holds a million small objects.

A node with its disk, sockets and HTTP runs in a process of its own and is given the objects through
its coordinator, the path of every request less HTTP; then it reads some of them, at random; then it
is started anew. Its memory is read from /proc at each of these points, so this runs on Linux.

    python -m bench.memory [--objects 1000000] [--bytes 100]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import uvloop

from dynamo.config import Settings, build_config
from dynamo.node import Node
from dynamo.record import Content
from dynamo.requests import ReadOptions, WriteOptions
from dynamo.services import NodeServices

WRITERS: Final = 100
READS_MAX: Final = 100_000
BUCKET: Final = (b"default", b"bench")
_FIELDS: Final = ("VmRSS", "RssAnon", "VmHWM")
_MIB: Final = 1024 * 1024


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=100, help="of each value")
    parser.add_argument("--node", metavar="DIR", help=argparse.SUPPRESS)
    parser.add_argument("--rpc", metavar="HOST:PORT", help=argparse.SUPPRESS)
    parser.add_argument("--loaded", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.node is None:
        return _measure(asked.objects, asked.bytes)
    settings = Settings(data_dir=asked.node, http="127.0.0.1:0", rpc=asked.rpc)
    work = _run_node(settings, asked.objects, asked.bytes, loaded=asked.loaded)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)
    return 0


# The process that looks ------------------------------------------------------------------------


def _measure(objects: int, size: int) -> int:
    print(f"one node, {objects:,} objects of {size} bytes; MiB")
    print(f"{'':42}{'resident':>10}{'anonymous':>10}{'peak':>10}{'on disk':>10}")
    with tempfile.TemporaryDirectory(prefix="dynamo-memory-") as directory:
        command = [sys.executable, "-m", "bench.memory", "--node", directory]
        command += ["--rpc", _free_address(), "--objects", str(objects), "--bytes", str(size)]
        for more in ([], ["--loaded"]):
            with subprocess.Popen(  # noqa: S603 - this very program
                [*command, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as node:
                assert node.stdout is not None
                assert node.stdin is not None
                for line in node.stdout:
                    _print_memory(line.strip(), node.pid, Path(directory))
                    node.stdin.write("\n")
                    node.stdin.flush()
            if node.returncode:
                return node.returncode
    return 0


def _print_memory(point: str, pid: int, directory: Path) -> None:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", status, re.MULTILINE))
    resident, anonymous, peak = (int(found[name]) / 1024 for name in _FIELDS)
    disk = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / _MIB
    print(f"{point:42}{resident:10.1f}{anonymous:10.1f}{peak:10.1f}{disk:10.1f}", flush=True)


# The process that is looked at -----------------------------------------------------------------


async def _run_node(settings: Settings, objects: int, size: int, *, loaded: bool) -> None:
    node = Node(build_config(settings, None))
    try:
        await node.start()
        services = node.services
        assert services is not None
        if loaded:
            await _point("started anew")
        else:
            await _point("started, empty")
            spent = await _timed(objects, lambda number: _put(services, number, size))
            await _point(f"loaded, {spent}")
        chance = random.Random(1)
        reads = min(READS_MAX, objects)
        spent = await _timed(reads, lambda number: _get(services, chance.randrange(objects), size))
        await _point(f"read, {spent}")
    finally:
        await node.close()


async def _point(name: str) -> None:
    """Say where we are, and wait until somebody has looked."""
    print(name, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def _timed(count: int, work: Callable[[int], Awaitable[None]]) -> str:
    """Do the work, WRITERS at a time; what one took, in time and in time of all cores."""
    numbers = iter(range(count))
    began, busy = time.monotonic(), time.process_time()

    async def one() -> None:
        for number in numbers:
            await work(number)

    await asyncio.gather(*(one() for _ in range(WRITERS)))
    took, busy = time.monotonic() - began, time.process_time() - busy
    return f"{count / took:,.0f}/s, {busy / count * 1e6:.0f} us of a core each"


async def _put(node: NodeServices, number: int, size: int) -> None:
    content = Content(value=_value(number, size), content_type=b"application/octet-stream")
    await node.put(*BUCKET, _key(number), content, b"", WriteOptions())


async def _get(node: NodeServices, number: int, size: int) -> None:
    found = await node.get(*BUCKET, _key(number), ReadOptions())
    (sibling,) = found.siblings
    if sibling.read().value != _value(number, size):
        raise RuntimeError(f"object {number} is not what was written")


def _key(number: int) -> bytes:
    return b"object-%08d" % number


def _value(number: int, size: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(number).randbytes(size)


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


if __name__ == "__main__":
    sys.exit(main())
