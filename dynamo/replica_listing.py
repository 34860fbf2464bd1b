"""What one node's copy of a partition names: keys of a bucket, buckets of a type.

Reads storage and never writes it; what it finds damaged it hands to the replica, which puts it
aside. A page is bounded in entries and in bytes read, so that none holds up the loop, and leaves
once all that it met is on disk. Knows nothing of what other replicas hold.
"""

from __future__ import annotations

from typing import Final

from dynamo.errors import DynamoError, StorageCorrupt
from dynamo.keys import (
    BUCKET_BYTES_MAX,
    PREFIX_BYTES,
    after_prefix,
    bucket_prefix,
    first_bucket,
    partition_range,
    split_routing_key,
)
from dynamo.liveness import DEAD, LIVE, state_of
from dynamo.metrics import Metrics
from dynamo.ports import Call, Clock, Storage
from dynamo.record import read_record, record_digest
from dynamo.replica import Replica
from dynamo.replica_reads import ReplicaReads
from dynamo.rpc.messages import Buckets, Keys, ListBuckets, ListKeys
from dynamo.stored import check_stored

#: Of one page: entries and bytes that are read for it. A page with one larger record passes the latter.
PAGE_ENTRIES_MAX: Final = 500
PAGE_BYTES_MAX: Final = 1 << 20
#: Of one page of buckets: how often it looks for the next bucket, or for more of one.
PAGE_SEEKS_MAX: Final = 400
#: A bucket whose first key shows nothing is read on in pieces of so many entries.
_DEAD_ENTRIES: Final = 50


class ReplicaListing:
    """Handlers of the requests that list, over one node's storage."""

    def __init__(
        self,
        *,
        replica: Replica,
        reads: ReplicaReads,
        storage: Storage,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._replica = replica
        self._reads = reads
        self._storage = storage
        self._clock = clock
        self._count = metrics.count

    def on_list_keys(self, message: ListKeys, call: Call) -> None:
        """Answer with the next keys of a bucket in one partition."""
        place = (message.cls, message.partition)
        if self._reads.refuses_reads(place, message.epoch, call):
            return
        try:
            page = self._key_page(message)
        except DynamoError as error:
            self._reads.refuse_unread(place, call, error)
            return
        self._count["key_pages_listed"] += 1
        self._reads.reply_synced(call, page)

    def on_list_buckets(self, message: ListBuckets, call: Call) -> None:
        """Answer with the next buckets of a type that show a value in one partition."""
        place = (message.cls, message.partition)
        if self._reads.refuses_reads(place, message.epoch, call):
            return
        try:
            page = self._bucket_page(message)
        except DynamoError as error:
            self._reads.refuse_unread(place, call, error)
            return
        self._count["bucket_pages_listed"] += 1
        self._reads.reply_synced(call, page)

    def _key_page(self, message: ListKeys) -> Keys:
        partition, partition_end = partition_range(message.cls, message.partition)
        prefix = partition + message.prefix
        start = prefix + message.after + b"\0" if message.after else prefix
        end = min(after_prefix(prefix), partition_end)
        count_max = min(message.count_max, PAGE_ENTRIES_MAX)
        found = self._storage.scan(
            "records", start, end, count_max=count_max, bytes_max=PAGE_BYTES_MAX
        )
        live: list[bytes] = []
        dead: list[bytes] = []
        mixed: list[tuple[bytes, bytes]] = []
        size = 0
        now_ms = self._clock.wall_ms()
        for storage_key, data in found:
            size += len(storage_key) + len(data)
            seen = self._look(storage_key, data, now_ms)
            if seen is None:
                continue
            state, digest = seen
            key = storage_key[len(prefix) :]
            if state == LIVE:
                live.append(key)
            elif state == DEAD:
                dead.append(key)
            else:
                mixed.append((key, digest))
        more = len(found) >= count_max or size >= PAGE_BYTES_MAX
        last = found[-1][0][len(prefix) :] if more else b""
        skipped = self._damaged(start, prefix + last + b"\0" if more else end)
        return Keys(tuple(live), tuple(dead), tuple(mixed), more, last, skipped)

    def _bucket_page(self, message: ListBuckets) -> Buckets:
        """Reads the first keys of a bucket until one shows a value, then seeks past the bucket.

        Buckets of a type lie apart by the length of their names, other types between them.
        """
        bucket_type = message.bucket_type
        partition, _ = partition_range(message.cls, message.partition)
        start = message.start or first_bucket(bucket_type, 1)
        end = first_bucket(bucket_type, BUCKET_BYTES_MAX + 1)
        if message.end:
            end = min(end, message.end)
        position = start
        entries: list[tuple[bytes, bytes, bytes]] = []
        bytes_left = PAGE_BYTES_MAX
        seeks_left = PAGE_SEEKS_MAX
        count_max = 1
        now_ms = self._clock.wall_ms()
        while position < end:
            if not seeks_left or bytes_left <= 0 or len(entries) >= message.count_max:
                break
            seeks_left -= 1
            found = self._storage.scan(
                "records",
                partition + position,
                partition + end,
                count_max=count_max,
                bytes_max=bytes_left,
            )
            if not found:
                position = end
                break
            count_max = _DEAD_ENTRIES
            for storage_key, data in found:
                bytes_left -= len(storage_key) + len(data)
                routing = storage_key[PREFIX_BYTES:]
                found_type, bucket, key = split_routing_key(routing)
                if found_type != bucket_type:
                    position = _next_of_type(bucket_type, found_type, len(bucket))
                    count_max = 1
                    break
                seen = self._look(storage_key, data, now_ms)
                if seen is not None and seen[0] != DEAD:
                    entries.append((bucket, key, seen[1]))
                    position = after_prefix(bucket_prefix(bucket_type, bucket))
                    count_max = 1
                    break
                position = routing + b"\0"
        finished = position >= end
        skipped = self._damaged(partition + start, partition + (end if finished else position))
        return Buckets(tuple(entries), b"" if finished else position, skipped)

    def _look(self, storage_key: bytes, data: bytes, now_ms: int) -> tuple[int, bytes] | None:
        """(state, digest if mixed) of a record; None if it is damaged."""
        if storage_key in self._replica.damaged:
            return None
        try:
            record = check_stored(storage_key, data)
            state = state_of(record, now_ms)
        except StorageCorrupt:
            self._replica.put_aside(storage_key, data)
            return None
        if state in (LIVE, DEAD):
            return state, b""
        return state, record_digest(read_record(bytes(record)))

    def _damaged(self, start: bytes, end: bytes) -> int:
        """How many records between the two storage keys are damaged here: more may lie under them."""
        return sum(1 for key in self._replica.damaged if start <= key < end)


def _next_of_type(bucket_type: bytes, found_type: bytes, bucket_bytes: int) -> bytes:
    """Where to look on after a routing key of another type of the same length."""
    if found_type < bucket_type:
        return first_bucket(bucket_type, bucket_bytes)
    return first_bucket(bucket_type, bucket_bytes + 1)
