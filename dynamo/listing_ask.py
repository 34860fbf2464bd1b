"""One page of a partition, from as many of its owners as a read quorum has.

An owner that refuses, does not answer, or had to leave something out is replaced by the next. Knows
nothing of what the pages name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from dynamo.ask import ask_all
from dynamo.metrics import Metrics
from dynamo.ports import Clock, Failure, Transport
from dynamo.rpc.messages import Buckets, Keys, ListBuckets, ListKeys, Reply
from ring.ring import Ring

#: Seconds that an owner has for one page before another is asked.
PAGE_TIMEOUT: Final = 2.0
#: As for reads: a peer that has left a request without any reply for so long (seconds) is asked last.
STALLED_AFTER: Final = 0.25
#: Partitions that one listing asks at a time.
WIDTH: Final = 8


class Run:
    """One listing on its way, in the datacenter and by the ring that it began with.

    `deadline`: monotonic second. `shows_one`: whether a bucket shows the last write alone. `avoided`:
    nodes that failed it, asked last from then on. `whole`: nothing has been left out so far.
    """

    __slots__ = (
        *("avoided", "bucket_type", "class_id", "datacenter", "deadline", "ring", "shows_one"),
        "whole",
    )

    def __init__(
        self,
        ring: Ring,
        datacenter: str,
        *,
        class_id: int,
        bucket_type: bytes,
        deadline: float,
        shows_one: Callable[[bytes], bool],
    ) -> None:
        self.ring = ring
        self.datacenter = datacenter
        self.class_id = class_id
        self.bucket_type = bucket_type
        self.deadline = deadline
        self.shows_one = shows_one
        self.avoided: set[str] = set()
        self.whole = True


class Part(NamedTuple):
    """Names found, in order. `position`: where what follows begins, None where nothing does."""

    names: tuple[bytes, ...]
    position: bytes | None
    done: bool = False


class Pages(NamedTuple):
    """What came. `met`: a quorum of owners answered and left nothing out. `expired`: it is not met, and
    the listing's time is up."""

    pages: tuple[Keys | Buckets, ...]
    met: bool
    expired: bool


class PageAsker:
    """Asks for pages on behalf of one node."""

    def __init__(
        self, *, node_id: str, transport: Transport, clock: Clock, metrics: Metrics
    ) -> None:
        self._node_id = node_id
        self._transport = transport
        self._clock = clock
        self._count = metrics.count

    async def ask(
        self,
        run: Run,
        partition: int,
        message: Callable[[int], ListKeys | ListBuckets],
        is_page: Callable[[Reply], bool],
    ) -> Pages:
        """`message`: made for so many milliseconds. `is_page`: false for a reply that is none, or that
        does not lead on."""
        waiting = self._best_first(
            run.ring.owners(run.class_id, partition, run.datacenter), run.avoided
        )
        quorum = len(waiting) // 2 + 1
        pages: list[Keys | Buckets] = []
        whole = 0
        while whole < quorum and waiting:
            timeout = min(PAGE_TIMEOUT, run.deadline - self._clock.monotonic())
            if timeout <= 0:
                break
            asked = tuple(waiting[: quorum - whole])
            del waiting[: len(asked)]
            request = message(max(1, int(timeout * 1000)))
            answers = await ask_all(self._transport, asked, request, timeout)
            for node in asked:
                answer = answers[node]
                if isinstance(answer, Failure):
                    self._count["listing_pages_missed"] += 1
                    run.avoided.add(node)
                elif isinstance(answer, Keys | Buckets) and is_page(answer):
                    pages.append(answer)
                    whole += not answer.skipped
                    self._count["listing_pages_partial"] += bool(answer.skipped)
                else:
                    self._count["listing_pages_refused"] += 1
        met = whole >= quorum
        return Pages(tuple(pages), met, not met and self._clock.monotonic() >= run.deadline)

    def _best_first(self, owners: Sequence[str], avoided: set[str]) -> list[str]:
        transport, own = self._transport, self._node_id
        return sorted(
            owners,
            key=lambda node: (
                node in avoided,
                node != own and not transport.is_connected(node),
                node != own and transport.stalled_for(node) > STALLED_AFTER,
                node != own,
            ),
        )


async def stop_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """None of the tasks runs any more."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
