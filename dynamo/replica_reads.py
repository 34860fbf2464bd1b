"""What one node answers to who reads its copy: a record, a page of a partition.

Reads storage and never writes it: records through the replica, which puts aside what is damaged. What
a power loss could take back is not shown before it is on disk. Knows nothing of what other replicas
hold.
"""

from __future__ import annotations

from typing import Final

from dynamo.commit import GroupCommit
from dynamo.errors import DynamoError, StorageCorrupt
from dynamo.keys import partition_prefix, partition_range
from dynamo.metrics import Metrics
from dynamo.ports import Call, Storage
from dynamo.record import encode_record, merge
from dynamo.refill_marks import Partition
from dynamo.refusing import DAMAGED, REFILLING
from dynamo.replica import Replica
from dynamo.rpc.messages import Body, Digest, Fetch, Page, Reply, Scan
from dynamo.seen import Seen
from dynamo.stamped import stamped
from dynamo.stored import Stored, decode_stored

PAGE_BYTES_MAX: Final = 4 << 20
PAGE_ENTRIES_MAX: Final = 10_000

ABSENT_BODY: Final = Body(b"")
ABSENT_DIGEST: Final = Digest((), b"")


class ReplicaReads:
    """Handlers of the requests that read, over one node's replica."""

    def __init__(
        self, *, replica: Replica, storage: Storage, commit: GroupCommit, metrics: Metrics
    ) -> None:
        self._replica = replica
        self._refusing = replica.refusing
        self._storage = storage
        self._commit = commit
        self._count = metrics.count

    def fetch_at_once(self, message: Fetch) -> Reply | None:
        """The answer to a Fetch where nothing is in its way; else None, for `on_fetch` to deal with."""
        replica = self._replica
        place = (message.cls, message.partition)
        prefix = replica.prefixes.get(place)
        if prefix is None or message.epoch < replica.changed_epochs[place]:
            return None
        storage_key = prefix + message.key
        if replica.refilling or replica.damaged or storage_key in replica.unsynced:
            return None
        if message.epoch > self._refusing.epoch:
            return None  # `on_fetch` knows whose it is
        try:
            seen = replica.look(storage_key)
            if seen is None:
                reply: Reply = ABSENT_BODY if message.body else ABSENT_DIGEST
            else:
                reply = seen.body() if message.body else seen.digest()
        except DynamoError:
            return None  # `on_fetch` meets it again, and says so
        self._count["fetches"] += 1
        if message.measured:
            reply = stamped(reply, replica.wall_ns())
        return reply

    def on_fetch(self, message: Fetch, call: Call) -> None:
        """Answer with the record or its vector and digest, once what was met is on disk."""
        at_once = self.fetch_at_once(message)
        if at_once is not None:
            call.reply(at_once)
            return
        replica = self._replica
        place = (message.cls, message.partition)
        if message.hinted and place not in replica.prefixes:
            self._fetch_hinted(message, call)
            return
        if self.refuses_reads(place, message.epoch, call):
            return
        storage_key = replica.prefixes[place] + message.key
        try:
            seen = replica.look(storage_key)
            if replica.damaged and storage_key in replica.damaged:
                self._refusing.refuse(call, DAMAGED)
                return
            reply: Reply
            if seen is None:
                reply = ABSENT_BODY if message.body else ABSENT_DIGEST
            else:
                reply = seen.body() if message.body else seen.digest()
        except DynamoError as error:
            self._refusing.refuse_error(call, error)
            return
        self._count["fetches"] += 1
        if message.measured:
            reply = stamped(reply, replica.wall_ns())
        pending = replica.unsynced.get(storage_key)
        if pending is None:
            call.reply(reply)
            return
        self._count["fetches_waited"] += 1
        replica.when_synced(pending, storage_key, call, lambda: call.reply(reply))

    def _fetch_hinted(self, message: Fetch, call: Call) -> None:
        """Answer with all that this node, which owns nothing of the key, holds of it for others, merged;
        once that is on disk."""
        replica = self._replica
        refused = replica.refuses_place((message.cls, message.partition), message.epoch)
        if refused is not None:
            self._refusing.refuse(call, refused)
            return
        storage_key = partition_prefix(message.cls, message.partition) + message.key
        try:
            found = replica.hints.look_for_all(storage_key)
            reply = _merged([seen for _, seen in found], body=message.body)
        except DynamoError as error:
            self._refusing.refuse_error(call, error)
            return
        self._count["fetches_hinted"] += 1

        def synced(error: DynamoError | None) -> None:
            if error is None:
                call.reply(reply)
            else:
                self._refusing.refuse_unsynced(call, error)

        unsynced = replica.hints.unsynced
        pending = max((unsynced.get(hint_key, 0) for hint_key, _ in found), default=0)
        self._commit.when_synced(pending, synced)

    def on_scan(self, message: Scan, call: Call) -> None:
        """Answer with a page of a partition's records, once all of them are on disk."""
        replica = self._replica
        place = (message.cls, message.partition)
        self._heed(message.epoch, call)
        prefix = replica.prefixes.get(place)
        if prefix is None or message.epoch < replica.changed_epochs[place]:
            self._refusing.refuse(call, self._refusing.not_mine(owned=prefix is not None))
            return
        if replica.is_back(place):
            self._refusing.refuse(call, REFILLING)
            return
        start, end = partition_range(message.cls, message.partition)
        if message.after:
            start = prefix + message.after + b"\0"
        bytes_max = min(max(message.bytes_max, 1), PAGE_BYTES_MAX)
        try:
            found = self._storage.scan(
                "records", start, end, count_max=PAGE_ENTRIES_MAX, bytes_max=bytes_max
            )
        except DynamoError as error:
            self.refuse_unread(place, call, error)
            return
        entries: list[tuple[bytes, bytes]] = []
        skipped = 0
        for storage_key, data in found:
            try:
                stored = decode_stored(storage_key, data)
            except StorageCorrupt:
                replica.put_aside(storage_key, data)
                skipped += 1
                continue
            entries.append((storage_key[len(prefix) :], stored.record))
        size = sum(len(key) + len(data) for key, data in found)
        more = len(found) >= PAGE_ENTRIES_MAX or size >= bytes_max
        last = found[-1][0][len(prefix) :] if more else b""
        self._count["scans"] += 1
        whole = replica.is_whole(place, call.peer)
        self.reply_synced(call, Page(tuple(entries), more, skipped, last, whole))

    # For who reads many records (`dynamo.replica_listing`) --------------------------------------

    def refuses_reads(self, place: Partition, epoch: int, call: Call) -> bool:
        """True, and the call is answered, if this partition counts toward no read here."""
        replica = self._replica
        self._heed(epoch, call)
        prefix = replica.prefixes.get(place)
        mark = replica.refilling.get(place)
        if prefix is None or epoch < replica.changed_epochs[place]:
            self._refusing.refuse(call, self._refusing.not_mine(owned=prefix is not None))
        elif mark is not None and not mark.serving:
            self._refusing.refuse(call, REFILLING)
        else:
            return False
        return True

    def _heed(self, epoch: int, call: Call) -> None:
        if epoch > self._refusing.epoch:
            self._replica.on_later_epoch(call.peer, epoch)

    def refuse_unread(self, place: Partition, call: Call, error: DynamoError) -> None:
        """A range of the partition could not be read."""
        if isinstance(error, StorageCorrupt):
            self._replica.doubt(place, error.message)
        self._refusing.refuse_error(call, error)

    def reply_synced(self, call: Call, reply: Reply) -> None:
        """Answer once all that is stored now is on disk."""

        def synced(error: DynamoError | None) -> None:
            if error is None:
                call.reply(reply)
            else:
                self._refusing.refuse_unsynced(call, error)

        self._commit.when_synced(self._storage.write_number, synced)


def _merged(found: list[Seen], *, body: bool) -> Body | Digest:
    """The answer that all of these together give. Raises Malformed."""
    if not found:
        return ABSENT_BODY if body else ABSENT_DIGEST
    merged = found[0]
    if len(found) > 1:
        record = merged.record()
        for seen in found[1:]:
            record = merge(record, seen.record())
        merged = Seen(Stored(b"", 0, encode_record(record)))
    return merged.body() if body else merged.digest()
