"""Drives a load of HTTP at nodes and says what came back: requests a second, errors, latency.

With wrk where it is installed, else over sockets of our own, of which a Python process can drive
fewer. Connections are spread evenly over all nodes, each with one request at a time. Every reply is
looked at: wrk counts those above 399, the driver of our own all that are not the one that is due.
Knows nothing of what is behind the addresses.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import uvloop

from bench.workload import Exchange, Workload, stream, wrk_script

#: Beyond its time, before it is given up.
PATIENCE_SECONDS: Final = 20.0
_STOPS: Final = (signal.SIGINT, signal.SIGTERM)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class DriverFailed(Exception):
    """The load could not be driven; the message says why."""


class Result(NamedTuple):
    """`errors`: what went wrong, and how often. `p50`, `p99`: of the latency, in milliseconds."""

    requests: int
    seconds: float
    errors: dict[str, int]
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds if self.seconds else 0.0


def find_wrk() -> str | None:
    """Where wrk is installed, or None."""
    return shutil.which("wrk")


def drive(
    workload: Workload,
    addresses: Sequence[str],
    *,
    connections: int,
    seconds: float,
    seed: int,
    wrk: str | None,
) -> Result:
    """Drive for so many seconds (whole ones with wrk, at least one). Raises DriverFailed."""
    if wrk is not None:
        return _drive_wrk(wrk, workload, addresses, connections, max(1, round(seconds)), seed)
    chance = random.Random(seed)
    exchanges = stream(workload, chance)
    return send(exchanges, addresses, connections=connections, seconds=seconds)


# wrk -------------------------------------------------------------------------------------------


def _drive_wrk(
    wrk: str,
    workload: Workload,
    addresses: Sequence[str],
    connections: int,
    seconds: int,
    seed: int,
) -> Result:
    with tempfile.TemporaryDirectory(prefix="dynamo-bench-") as directory:
        script = Path(directory) / "load.lua"
        script.write_text(wrk_script(workload, addresses, seed=seed), encoding="ascii")
        command = [wrk, f"-t{len(addresses)}", f"-c{max(connections, len(addresses))}"]
        command += [f"-d{seconds}s", "-s", str(script), f"http://{addresses[0]}"]
        try:
            done = subprocess.run(  # noqa: S603 - wrk, as it was found
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds + PATIENCE_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise DriverFailed(f"wrk did not end: {error}") from None
    if done.returncode:
        raise DriverFailed(f"wrk failed: {done.stderr or done.stdout}")
    return parse_wrk(done.stdout)


def parse_wrk(output: str) -> Result:
    """The result that the script of `bench.workload` printed last. Raises DriverFailed."""
    lines = output.rstrip().splitlines()
    try:
        said = json.loads(lines[-1])
        return Result(
            requests=said["requests"],
            seconds=said["micros"] / 1e6,
            errors={
                name: said[name]
                for name in ("connect", "read", "write", "status", "timeout")
                if said[name]
            },
            p50=said["p50"] / 1e3,
            p99=said["p99"] / 1e3,
        )
    except (IndexError, KeyError, ValueError, TypeError) as error:
        raise DriverFailed(f"wrk printed no result ({error!r}):\n{output}") from None


# Sockets of our own ------------------------------------------------------------------------------


def send(
    exchanges: Iterator[Exchange],
    addresses: Sequence[str],
    *,
    connections: int,
    seconds: float = math.inf,
) -> Result:
    """Send the requests until none is left or the time is up; for the main thread.

    Raises DriverFailed, and KeyboardInterrupt for a signal to stop.
    """
    handlers = [(number, signal.getsignal(number)) for number in _STOPS]
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_send(exchanges, addresses, connections, seconds))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)


async def _send(
    exchanges: Iterator[Exchange], addresses: Sequence[str], connections: int, seconds: float
) -> Result:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    for stop in _STOPS:
        # What a handler raises within a callback would be taken for an error of its connection.
        loop.add_signal_handler(stop, task.cancel)
    began = time.perf_counter()
    load = _Load(exchanges, began + seconds)
    clients = []
    try:
        for number in range(max(connections, len(addresses))):
            host, _, port = addresses[number % len(addresses)].rpartition(":")
            _, client = await loop.create_connection(lambda: _Client(load), host, int(port))
            clients.append(client)
        limit = None if math.isinf(seconds) else seconds + PATIENCE_SECONDS
        async with asyncio.timeout(limit):
            await asyncio.gather(*(client.ended for client in clients))
    except OSError as error:  # a TimeoutError too
        raise DriverFailed(f"the load could not be driven: {error!r}") from None
    finally:
        for client in clients:
            client.transport.close()
    spent = time.perf_counter() - began
    load.latencies.sort()
    return Result(
        requests=len(load.latencies),
        seconds=spent,
        errors=dict(load.errors),
        p50=percentile(load.latencies, 0.50) * 1e3,
        p99=percentile(load.latencies, 0.99) * 1e3,
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed (nearest rank); 0.0 of none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


class _Load:
    """What all connections of one load share."""

    def __init__(self, exchanges: Iterator[Exchange], ends_at: float) -> None:
        self.exchanges = exchanges
        self.ends_at = ends_at
        self.latencies: list[float] = []
        self.errors: Counter[str] = Counter()


class _Client(asyncio.Protocol):
    """One connection: a request, its reply, the next."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._buffer = b""
        self._exchange = Exchange(b"", 0)
        self._sent_at = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._next(time.perf_counter())

    def _next(self, now: float) -> None:
        exchange = next(self._load.exchanges, None) if now < self._load.ends_at else None
        if exchange is None:
            self._end()
            return
        self._exchange, self._sent_at = exchange, now
        self.transport.write(exchange.request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        head_end = buffer.find(b"\r\n\r\n")
        if head_end < 0:
            self._buffer = buffer
            return
        found = _LENGTH.search(buffer, 0, head_end)
        end = head_end + 4 + (int(found[1]) if found else 0)
        if len(buffer) < end:
            self._buffer = buffer
            return
        self._buffer = buffer[end:]
        load, exchange, now = self._load, self._exchange, time.perf_counter()
        if not buffer.startswith(b"HTTP/1.1 "):
            load.errors["no HTTP"] += 1
            self._end()
            return
        load.latencies.append(now - self._sent_at)
        status = int(buffer[9:12])
        if status != exchange.status:
            load.errors[f"status {status}"] += 1
        elif exchange.body is not None and buffer[head_end + 4 : end] != exchange.body:
            load.errors["wrong value"] += 1
        self._next(now)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self._load.errors["connection lost"] += 1
            self._end()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
