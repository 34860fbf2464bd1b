"""Clients of a simulated cluster that come at their own rate, however the cluster fares, and try again.

Each request is new work: a put of a new key, or a get of an old one. Who gets no answer in time asks the
next node at once, for ever; who is told when to come back does that.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from dynamo.errors import DynamoError
from dynamo.requests import ReadOptions, WriteOptions
from dynamo.sim.chance import stream
from dynamo.sim.cluster import Cluster


class OpenLoop:
    """`rate`: requests a second, of all clients. `patience`: seconds for one try."""

    def __init__(self, cluster: Cluster, *, rate: float, patience: float = 1.0) -> None:
        self._cluster = cluster
        self._rate = rate
        self._patience = patience
        self._random = stream(cluster.seed, "open loop")
        self._nodes = tuple(cluster.nodes)
        self._tasks: set[asyncio.Task[None]] = set()
        self._written = 0
        #: Requests that were carried out, by the virtual second.
        self.done: Counter[int] = Counter()
        #: Tries by what became of them.
        self.tries: Counter[str] = Counter()
        #: Values of which every try so far has failed definitely.
        self.refused: dict[bytes, bytes] = {}
        #: The most requests that a node had in hand, and that waited for its processor.
        self.running_max = 0
        self.queue_max = 0

    async def run(self, seconds: float, *, times: float = 1.0) -> None:
        """Make requests for so long, `times` as many as usual. What has no answer then goes on."""
        loop = self._cluster.loop
        until = loop.time() + seconds
        while True:
            await asyncio.sleep(self._random.expovariate(self._rate * times))
            if loop.time() >= until:
                return
            self._look()
            task = loop.create_task(self._request())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Nobody tries again."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def goodput(self, first: int, last: int) -> float:
        """Requests carried out a second, from one virtual second to another, that one included."""
        return sum(self.done[second] for second in range(first, last + 1)) / (last - first + 1)

    @property
    def waiting(self) -> int:
        """Requests without an answer."""
        return len(self._tasks)

    def _look(self) -> None:
        for node in self._cluster.nodes.values():
            assert node.services is not None
            assert node.process is not None
            self.running_max = max(self.running_max, node.services.admission.running)
            self.queue_max = max(self.queue_max, node.process.waiting)

    async def _request(self) -> None:
        loop = self._cluster.loop
        reads = self._written > 0 and self._random.random() < 0.5
        if reads:
            key = b"k%d" % self._random.randrange(self._written)
        else:
            key = b"k%d" % self._written
            self.refused[key] = b"value of " + key
            self._written += 1
        turn = self._random.randrange(len(self._nodes))
        while True:
            node = self._nodes[turn % len(self._nodes)]
            turn += 1
            try:
                async with asyncio.timeout(self._patience):
                    await self._try(node, key, reads=reads)
            except TimeoutError:
                self.tries["no answer"] += 1
                self.refused.pop(key, None)
            except asyncio.CancelledError:
                self.refused.pop(key, None)
                raise
            except DynamoError as error:
                self.tries[error.code] += 1
                if error.outcome == "unknown":
                    self.refused.pop(key, None)
                await asyncio.sleep(error.details.get("retry_after_ms", 0) / 1000)
            else:
                self.tries["done"] += 1
                self.refused.pop(key, None)
                self.done[int(loop.time())] += 1
                return

    async def _try(self, node: str, key: bytes, *, reads: bool) -> None:
        timeout_ms = int(self._patience * 1000)
        client = f"client {self._random.randrange(20)}"
        if reads:
            options = ReadOptions(timeout_ms=timeout_ms)
            await self._cluster.read(node, key, options, client=client)
        else:
            write = WriteOptions(timeout_ms=timeout_ms)
            await self._cluster.write(node, key, b"value of " + key, b"", write, client=client)
