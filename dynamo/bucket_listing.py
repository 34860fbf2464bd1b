"""The buckets of a type that hold a live key, at a read quorum of the owners of every partition.

In rounds: a bucket lies in many partitions, so the next few of all of them are merged before any is
named, and each is named once. A bucket that replicas do not agree on is judged by its keys. Knows
nothing of cursors or of how many listings there are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable

from dynamo.key_listing import KeyLister
from dynamo.keys import after_prefix, bucket_prefix
from dynamo.listing_ask import WIDTH, PageAsker, Pages, Part, Run, stop_all
from dynamo.listing_pages import merge_buckets
from dynamo.metrics import Metrics
from dynamo.rpc.messages import LISTED_MAX, Buckets, ListBuckets, Reply


class _Round:
    """What the partitions say together so far. `end`: the position up to which they say all, None for
    all there is. `doubtful`: by bucket, the partitions whose replicas disagree."""

    __slots__ = ("_bucket_type", "_shows_one", "doubtful", "end", "sure")

    def __init__(self, run: Run) -> None:
        self._bucket_type = run.bucket_type
        self._shows_one = run.shows_one
        self.end: bytes | None = None
        self.sure: set[bytes] = set()
        self.doubtful: dict[bytes, list[int]] = {}

    def add(self, partition: int, asked: Pages) -> None:
        """Take in what one partition says."""
        pages = [page for page in asked.pages if isinstance(page, Buckets)]
        if not pages:
            return
        merged = merge_buckets(pages, self._bucket_type, self._shows_one)
        self.sure |= merged.sure
        if asked.met:
            for bucket in merged.doubtful:
                self.doubtful.setdefault(bucket, []).append(partition)
        else:
            self.sure |= merged.doubtful  # nobody can tell; what someone shows is listed
        if merged.next is not None and (self.end is None or merged.next < self.end):
            self.end = merged.next
            self.sure = {bucket for bucket in self.sure if self._is_within(bucket)}
            self.doubtful = {b: at for b, at in self.doubtful.items() if self._is_within(b)}

    def _is_within(self, bucket: bytes) -> bool:
        return self.end is None or bucket_prefix(self._bucket_type, bucket) < self.end

    def unsettled(self) -> list[bytes]:
        """Buckets of which no partition is sure, in order."""
        return _in_order(b for b in self.doubtful if b not in self.sure and self._is_within(b))

    def buckets(self) -> list[bytes]:
        """Buckets that are sure to show a value, in order."""
        return _in_order(bucket for bucket in self.sure if self._is_within(bucket))


class BucketLister:
    """Lists buckets on behalf of one node."""

    def __init__(self, *, asker: PageAsker, keys: KeyLister, metrics: Metrics) -> None:
        self._asker = asker
        self._keys = keys
        self._count = metrics.count

    async def parts(self, run: Run, position: bytes, limit: int) -> AsyncGenerator[Part, None]:
        """The buckets from `position` (b"": the first) on, at most `limit` of them, 0 for all."""
        left = limit
        while True:
            round_ = await self._round(run, position, left)
            if round_ is None:
                run.whole = False
                yield Part((), position, done=True)
                return
            names = round_.buckets()
            end = _past_named(run.bucket_type, names, round_.end)
            if limit and len(names) >= left:
                if len(names) > left:
                    end = bucket_prefix(run.bucket_type, names[left])
                yield Part(tuple(names[:left]), end, done=True)
                return
            left -= len(names) if limit else 0
            yield Part(tuple(names), end, done=end is None)
            if end is None:
                return
            position = end

    async def _round(self, run: Run, position: bytes, limit: int) -> _Round | None:
        """The next buckets; None if time ran out."""
        round_ = _Round(run)
        steps: deque[tuple[int, asyncio.Task[Pages]]] = deque()
        started = 0
        try:
            while started < run.ring.partitions or steps:
                while len(steps) < WIDTH and started < run.ring.partitions:
                    ask = self._ask(run, started, position, round_.end or b"", limit)
                    steps.append((started, asyncio.get_running_loop().create_task(ask)))
                    started += 1
                partition, task = steps.popleft()
                asked = await task
                if asked.expired:
                    return None
                if not asked.met:
                    run.whole = False
                    self._count["listing_pages_incomplete"] += 1
                round_.add(partition, asked)
        finally:
            await stop_all(task for _, task in steps)
        for bucket in round_.unsettled():
            shows = await self._holds_a_key(run, bucket, round_.doubtful[bucket])
            if shows is None:
                return None
            if shows:
                round_.sure.add(bucket)
        return round_

    async def _ask(self, run: Run, partition: int, start: bytes, end: bytes, limit: int) -> Pages:
        count_max = min(limit or LISTED_MAX, LISTED_MAX)

        def message(timeout_ms: int) -> ListBuckets:
            where = (run.class_id, partition, run.ring.epoch, timeout_ms, run.bucket_type)
            return ListBuckets(*where, start, end, count_max)

        def is_page(reply: Reply) -> bool:
            return isinstance(reply, Buckets) and (not reply.next or reply.next > start)

        return await self._asker.ask(run, partition, message, is_page)

    async def _holds_a_key(self, run: Run, bucket: bytes, partitions: Iterable[int]) -> bool | None:
        """True if the bucket shows a value in one of these partitions; None if time ran out."""
        self._count["listing_buckets_read"] += 1
        for partition in partitions:
            after: bytes | None = b""
            while after is not None:
                step = await self._keys.step(run, bucket, partition, after, 0)
                if step.expired:
                    return None
                if step.names:
                    return True
                run.whole = run.whole and step.whole
                after = step.after
        return False


def _past_named(bucket_type: bytes, names: list[bytes], end: bytes | None) -> bytes | None:
    """Where to go on: not amid the keys of a bucket that is named already, or what is live behind would
    name it once more."""
    if end is None or not names:
        return end
    prefix = bucket_prefix(bucket_type, names[-1])
    return after_prefix(prefix) if end.startswith(prefix) else end


def _in_order(buckets: Iterable[bytes]) -> list[bytes]:
    """As their routing keys lie."""
    return sorted(buckets, key=lambda bucket: (len(bucket), bucket))
