"""The live keys of a bucket, partition by partition, each at a read quorum of its owners.

A few partitions are asked ahead, a page each, and only as fast as the caller takes the parts. Where
replicas disagree on a key it is read. Knows nothing of cursors or of how many listings there are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable
from typing import Final, NamedTuple, Protocol

from dynamo.errors import BadCursor, DynamoError
from dynamo.keys import KEY_BYTES_MAX, bucket_prefix
from dynamo.listing_ask import WIDTH, PageAsker, Part, Run, stop_all
from dynamo.listing_pages import merge_keys
from dynamo.metrics import Metrics
from dynamo.ports import Clock
from dynamo.requests import Found, ReadOptions
from dynamo.rpc.messages import LISTED_MAX, Keys, ListKeys, Reply
from ring.ring import Ring

#: A part is given once it holds so many names, or after so long (seconds), so that whoever takes them
#: can tell that nobody waits any more.
PART_NAMES: Final = 500
PART_SECONDS: Final = 1.0
#: A page is asked for so many keys at least, however few are wanted: most may be deleted ones.
PAGE_KEYS_MIN: Final = 50
#: Keys on which replicas disagree that are read at a time.
READS: Final = 8

_PARTITION_BYTES: Final = 4


class Reader(Protocol):
    """`Coordinator.get`."""

    def __call__(
        self, bucket_type: bytes, bucket: bytes, key: bytes, options: ReadOptions, /
    ) -> Awaitable[Found]: ...


class Step(NamedTuple):
    """What a page of a partition gave. `after`: where it goes on, None at its end. `whole`: nothing was
    left out. `expired`: time ran out before it was made."""

    names: tuple[bytes, ...]
    after: bytes | None
    whole: bool
    expired: bool = False


class KeyLister:
    """Lists keys on behalf of one node."""

    def __init__(self, *, asker: PageAsker, read: Reader, clock: Clock, metrics: Metrics) -> None:
        """`read`: reads one key at a quorum, and repairs who is behind."""
        self._asker = asker
        self._read = read
        self._clock = clock
        self._count = metrics.count

    async def parts(
        self, run: Run, bucket: bytes, position: bytes, limit: int
    ) -> AsyncGenerator[Part, None]:
        """The keys from `position` (b"": the first) on, at most `limit` of them, 0 for all."""
        steps: deque[tuple[int, asyncio.Task[Step]]] = deque()
        # With a limit, what is asked ahead may be for nothing.
        width = 1 if limit else WIDTH
        started, after = split_position(run.ring, position)
        names: list[bytes] = []
        left = limit
        given = self._clock.monotonic()
        try:
            while True:
                while len(steps) < width and started < run.ring.partitions:
                    steps.append((started, self._start(run, bucket, started, after, left)))
                    started, after = started + 1, b""
                if not steps:
                    break
                if self._is_due(names, given):
                    yield Part(tuple(names), position)
                    names, given = [], self._clock.monotonic()
                partition, task = steps.popleft()
                step = await task
                if step.expired:
                    run.whole = False
                    yield Part(tuple(names), position, done=True)
                    return
                self._note(run, step)
                position = _following(partition, step.after)
                if limit and len(step.names) >= left:
                    names += step.names[:left]
                    if len(step.names) > left:
                        position = _following(partition, names[-1])
                    is_end = position == _following(run.ring.partitions - 1, None)
                    yield Part(tuple(names), None if is_end else position, done=True)
                    return
                left -= len(step.names) if limit else 0
                names += step.names
                if step.after is not None:
                    more = self._start(run, bucket, partition, step.after, left)
                    steps.appendleft((partition, more))
                else:
                    width = min(width + 1, WIDTH)
            yield Part(tuple(names), None, done=True)
        finally:
            await stop_all(task for _, task in steps)

    def _is_due(self, names: list[bytes], given: float) -> bool:
        return len(names) >= PART_NAMES or self._clock.monotonic() - given >= PART_SECONDS

    def _note(self, run: Run, step: Step) -> None:
        if not step.whole:
            run.whole = False
            self._count["listing_pages_incomplete"] += 1

    def _start(
        self, run: Run, bucket: bytes, partition: int, after: bytes, limit: int
    ) -> asyncio.Task[Step]:
        step = self.step(run, bucket, partition, after, limit)
        return asyncio.get_running_loop().create_task(step)

    async def step(self, run: Run, bucket: bytes, partition: int, after: bytes, limit: int) -> Step:
        """The next keys of one partition. `limit`: how many are wanted, 0 for any number; it gives more
        if there are more in the page."""
        prefix = bucket_prefix(run.bucket_type, bucket)
        count_max = min(max(limit, PAGE_KEYS_MIN) if limit else LISTED_MAX, LISTED_MAX)

        def message(timeout_ms: int) -> ListKeys:
            return ListKeys(
                run.class_id, partition, run.ring.epoch, timeout_ms, prefix, after, count_max
            )

        def is_page(reply: Reply) -> bool:
            return isinstance(reply, Keys) and (not reply.more or reply.last > after)

        asked = await self._asker.ask(run, partition, message, is_page)
        if asked.expired:
            return Step((), after, False, expired=True)
        if not asked.pages:
            return Step((), None, False)
        pages = [page for page in asked.pages if isinstance(page, Keys)]
        merged = merge_keys(pages, after, shows_one=run.shows_one(bucket))
        if not merged.doubtful:
            return Step(merged.listed, merged.last, asked.met)
        if not asked.met:
            # Nobody can tell; what someone shows is listed.
            return Step(tuple(sorted(merged.listed + merged.doubtful)), merged.last, False)
        shown, settled = await self._settle(run, bucket, merged.doubtful)
        return Step(tuple(sorted((*merged.listed, *shown))), merged.last, settled)

    async def _settle(
        self, run: Run, bucket: bytes, keys: tuple[bytes, ...]
    ) -> tuple[list[bytes], bool]:
        """Those of the keys that show a value, and whether all could be read; which also repairs who is
        behind, so that the next listing need not ask again. One that cannot be read is listed."""
        shown: list[bytes] = []
        settled = True
        for start in range(0, len(keys), READS):
            some = keys[start : start + READS]
            answers = await asyncio.gather(*(self._shows(run, bucket, key) for key in some))
            for key, answer in zip(some, answers, strict=True):
                if answer is not False:
                    shown.append(key)
                settled = settled and answer is not None
        return shown, settled

    async def _shows(self, run: Run, bucket: bytes, key: bytes) -> bool | None:
        """Whether a read shows a value; None if it cannot be read."""
        left = run.deadline - self._clock.monotonic()
        if left <= 0:
            return None
        self._count["listing_keys_read"] += 1
        options = ReadOptions(r="quorum", timeout_ms=max(1, int(left * 1000)))
        try:
            found = await self._read(run.bucket_type, bucket, key, options)
        except DynamoError:
            self._count["listing_keys_unread"] += 1
            return None
        return bool(found.siblings)


def _following(partition: int, after: bytes | None) -> bytes:
    """The position after a key of a partition; None: after all of them."""
    if after is None:
        partition, after = partition + 1, b""
    return partition.to_bytes(_PARTITION_BYTES) + after


def split_position(ring: Ring, position: bytes) -> tuple[int, bytes]:
    """(partition, key after which to go on) of a position. Raises BadCursor."""
    partition = int.from_bytes(position[:_PARTITION_BYTES])
    after = position[_PARTITION_BYTES:]
    is_cut = 0 < len(position) < _PARTITION_BYTES
    if is_cut or partition >= ring.partitions or len(after) > KEY_BYTES_MAX:
        raise BadCursor("a cursor does not name a position")
    return partition, after
