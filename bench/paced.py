"""A light, steady load: so many requests a second, however long each takes, and what clients felt.

Unlike `bench.driver`, which asks as fast as it is answered, this leaves most of the machine to others:
it shows what they do to those who ask. A request that is due while its connection is busy is late, and
the wait counts. Knows nothing of what is behind the addresses.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from bench.driver import percentile

CONNECTIONS: Final = 4


class Felt(NamedTuple):
    """Latencies in milliseconds. `errors`: statuses that were not due, and how often."""

    requests: int
    p50: float
    p99: float
    errors: dict[str, int]


class Load:
    """Reads and writes of these keys, in turn, until it is stopped; writes answer a read's context."""

    def __init__(
        self, addresses: Sequence[str], keys: Sequence[str], *, rate: float, seed: int
    ) -> None:
        """`addresses`: "host:port". `rate`: requests a second, all connections together."""
        self._addresses = addresses
        self._keys = keys
        self._interval = CONNECTIONS / rate
        self._seed = seed
        self._stopped = False
        self.latencies: list[float] = []
        self.errors: Counter[str] = Counter()

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True

    def felt(self) -> Felt:
        """What there was since the last call of this."""
        ordered = sorted(self.latencies)
        errors = dict(self.errors)
        self.latencies.clear()
        self.errors.clear()
        p50, p99 = percentile(ordered, 0.5) * 1e3, percentile(ordered, 0.99) * 1e3
        return Felt(len(ordered), p50, p99, errors)

    async def run(self) -> None:
        """Until `stop`. Raises OSError."""
        await asyncio.gather(*(self._connection(number) for number in range(CONNECTIONS)))

    async def _connection(self, number: int) -> None:
        chance = random.Random(f"{self._seed} {number}")
        host, _, port = self._addresses[number % len(self._addresses)].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        due = time.perf_counter() + chance.random() * self._interval
        try:
            while not self._stopped:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                key = chance.choice(self._keys)
                status, context = await _ask(reader, writer, "GET", key, "")
                self._note(due, status, (200, 300, 404))
                due += self._interval
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                status, _ = await _ask(reader, writer, "PUT", key, context)
                self._note(due, status, (204,))
                due += self._interval
        finally:
            writer.close()

    def _note(self, due: float, status: int, expected: Sequence[int]) -> None:
        self.latencies.append(time.perf_counter() - due)
        if status not in expected:
            self.errors[f"status {status}"] += 1


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, key: str, context: str
) -> tuple[int, str]:
    """(status, context) of one request."""
    head = f"{method} /buckets/paced/keys/{key} HTTP/1.1\r\nHost: bench\r\n"
    if context:
        head += f"X-Riak-Vclock: {context}\r\n"
    body = b"v" * 100 if method == "PUT" else b""
    if body:
        head += f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    writer.write(head.encode("ascii") + b"\r\n" + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
    }
    length = int(fields.get("content-length", "0"))
    if length:
        await reader.readexactly(length)
    return int(lines[0].split()[1]), fields.get("x-riak-vclock", "")
