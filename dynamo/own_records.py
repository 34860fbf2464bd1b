"""The records of one node as its disk has them: read, written, put aside where they are damaged.

`unsynced` tells what a power loss can take back. Marks among the node's own facts tell which records
and partitions may lack writes, until peers have given them back (`dynamo.refill`). Knows nothing of
messages about one key, nor of how records merge; all that is written here the replica asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from antientropy.forest import Forest
from dynamo.commit import GroupCommit
from dynamo.errors import DynamoError, StorageCorrupt, StorageError, StorageRefusesWrites
from dynamo.keys import PREFIX_BYTES
from dynamo.leaf import LeafHasher
from dynamo.memo import Memo
from dynamo.metrics import Metrics
from dynamo.ports import Call, Storage, Write
from dynamo.queues import queue_entries
from dynamo.reap_queue import LONG, Change, ReapQueue
from dynamo.record import Record, read_record
from dynamo.refill_marks import QUARANTINE_PREFIX, Partition, RefillMarks
from dynamo.refusing import Refusing
from dynamo.rpc.messages import Synced
from dynamo.seen import Seen
from dynamo.stored import Stored, decode_stored

log = logging.getLogger(__name__)

#: Of records that were read lately, as they are answered with.
SEEN_BYTES_MAX: Final = 12 << 20


class OwnRecords(RefillMarks):
    """What one node has stored of the keys that it owns."""

    def __init__(
        self, *, storage: Storage, commit: GroupCommit, metrics: Metrics, hasher: LeafHasher
    ) -> None:
        """`hasher`: of the cluster's hash trees."""
        self.hasher = hasher
        #: The hash trees of the partitions that this node owns. Every change of a record is noted there.
        self.forest = Forest()
        self._trees = self.forest.trees
        #: Tombstones that wait to be reaped.
        self.queue = ReapQueue(storage=storage, metrics=metrics)
        self._commit = commit
        #: What is said to who asks for what cannot be had here.
        self.refusing = Refusing(storage=storage, metrics=metrics)
        #: Storage keys whose last write is not known to be on disk, and the number of that write.
        self.unsynced: dict[bytes, int] = {}
        self._seen: Memo[Seen] = Memo(bytes_max=SEEN_BYTES_MAX)
        #: Of the damaged, those of which only this process knows: the mark could not be written.
        self._unmarked: set[bytes] = set()
        #: Called when a record is found damaged, so that it can be mended.
        self.on_damage: Callable[[], None] = _nothing
        #: Called when a partition cannot be read through, and why, so that it can be refilled.
        self.on_unreadable: Callable[[Partition, str], None] = lambda place, why: None
        super().__init__(storage=storage, metrics=metrics, alarm=self.refusing.alarm)

    # Records ------------------------------------------------------------------------------------

    def look(self, storage_key: bytes) -> Seen | None:
        """What is stored, or None. A damaged record is put aside and raised as StorageCorrupt."""
        data: bytes | None = b""
        try:
            data = self._storage.get("records", storage_key)
            if data is None:
                return None
            seen = self._seen.get(storage_key, data)
            if seen is None:
                seen = Seen(decode_stored(storage_key, data))
                self._seen.put(storage_key, data, seen)
            return seen
        except StorageCorrupt:
            self.put_aside(storage_key, data or b"")
            raise

    def load_for_merge(self, storage_key: bytes) -> Stored | None:
        """As `look`, less what was worked out of it; a damaged record counts as gone: what comes in is
        kept beside its mark. Raises StorageRefusesWrites where there is no mark: a start would take
        what comes in for all."""
        try:
            seen = self.look(storage_key)
        except StorageCorrupt:
            if storage_key in self._unmarked:
                reason = self._storage.refusal() or "storage_error"
                raise StorageRefusesWrites(
                    f"a damaged record cannot be put aside ({reason})", reason=reason
                ) from None
            return None
        return None if seen is None else seen.stored

    def put(
        self,
        storage_key: bytes,
        before: Stored | None,
        birth: bytes,
        counter: int,
        record: Record,
        encoded: bytes,
        reserve: bool,
    ) -> int:
        """Write it, unsynced; returns its write number. `before`: what is there, as it was just read;
        `encoded`: the record's bytes. Raises as `Storage.put`."""
        data, position, change, state = self.hasher.seal(
            storage_key, before, birth, counter, record, encoded
        )
        try:
            if state or record.vector[LONG:] or (before is not None and before.state):
                number = self._put_queued(storage_key, before, state, record, data, reserve)
            else:
                number = self._storage.put("records", storage_key, data, reserve=reserve)
        except StorageError as error:
            raise self._failed(storage_key, error) from error
        self.unsynced[storage_key] = number
        tree = self._trees[storage_key[:PREFIX_BYTES]]
        if tree.reached is None and tree.shadow is None:
            tree.leaves[position & tree.mask] ^= change  # as `note`, without a call
        else:
            tree.note(storage_key, position, change)
        return number

    def put_beside(
        self,
        storage_key: bytes,
        before: Stored | None,
        birth: bytes,
        counter: int,
        record: Record,
        encoded: bytes,
        write: Callable[[Sequence[Write]], int],
        *,
        shortened: bool = False,
    ) -> int:
        """As `put`, in a batch with other things: `write` is given these entries of it, and returns the
        number of the write. `shortened`: the vector has lost entries."""
        data, position, change, state = self.hasher.seal(
            storage_key, before, birth, counter, record, encoded
        )
        entries, queued = self._entries(
            storage_key, before, state, record, data, shortened=shortened
        )
        try:
            number = write(entries)
        except StorageError as error:
            raise self._failed(storage_key, error) from error
        if queued is not None:
            self.queue.written(queued)
        self.unsynced[storage_key] = number
        self._trees[storage_key[:PREFIX_BYTES]].note(storage_key, position, change)
        return number

    def reseat(self, storage_key: bytes, stored: Stored) -> None:
        """Write what stands for a record in the trees anew beside it, unsynced: it was worked out with
        another secret. `stored`: as it was just read. Raises StorageError."""
        record = read_record(stored.record)
        birth, counter, encoded = stored.birth, stored.counter, stored.record
        data, _, _, state = self.hasher.seal(storage_key, None, birth, counter, record, encoded)
        self.forest.doubt_key(storage_key[:PREFIX_BYTES], storage_key)
        try:
            # One of the first format may be a tombstone that is in no queue yet.
            self._put_queued(storage_key, stored, state, record, data, False)
        except StorageError as error:
            raise self._failed(storage_key, error) from error

    def _put_queued(
        self,
        storage_key: bytes,
        before: Stored | None,
        state: int,
        record: Record,
        data: bytes,
        reserve: bool,
    ) -> int:
        """Write a record together with what that changes in the queue; raises as `Storage.write`."""
        entries, queued = self._entries(storage_key, before, state, record, data)
        number = self._storage.write(entries, reserve=reserve)
        if queued is not None:
            self.queue.written(queued)
        return number

    def _entries(
        self,
        storage_key: bytes,
        before: Stored | None,
        state: int,
        record: Record,
        data: bytes,
        *,
        shortened: bool = False,
    ) -> tuple[list[Write], Change | None]:
        """The record's entry in its batch, those in the queues, and what the batch does to the queue of
        those that wait to be reaped."""
        entries = [Write("records", storage_key, data)]
        entries += queue_entries(storage_key, before, record, state)
        queued = self.queue.change(storage_key, before, state, record, shortened=shortened)
        if queued is not None:
            entries.append(queued.write)
        return entries, queued

    def shorten(
        self,
        storage_key: bytes,
        before: Stored,
        birth: bytes,
        counter: int,
        record: Record,
        encoded: bytes,
    ) -> int:
        """As `put`, of a record whose vector has lost entries."""

        def write(entries: Sequence[Write]) -> int:
            return self._storage.write(entries, reserve=True)

        return self.put_beside(
            storage_key, before, birth, counter, record, encoded, write, shortened=True
        )

    def drop(self, doomed: Sequence[tuple[bytes, Stored]]) -> int:
        """Delete records that are as they were just read, each with its birth and with its place in the
        queue, unsynced; returns the write number. Raises as `Storage.write`."""
        if not doomed:
            return self._storage.write_number
        queued = [self.queue.removal(storage_key) for storage_key, _ in doomed]
        entries = [Write("records", storage_key, None) for storage_key, _ in doomed]
        entries += [change.write for change in queued]
        try:
            # A disk that is nearly full must be able to let go of them.
            number = self._storage.write(entries, reserve=True)
        except StorageError as error:
            for storage_key, _ in doomed:
                failed = self._failed(storage_key, error)
            raise failed from error
        for (storage_key, stored), change in zip(doomed, queued, strict=True):
            self.queue.written(change)
            self.unsynced[storage_key] = number
            position, element = self._leaf_of(storage_key, stored)
            self._trees[storage_key[:PREFIX_BYTES]].note(storage_key, position, element)
        return number

    def _leaf_of(self, storage_key: bytes, stored: Stored) -> tuple[int, int]:
        """Position and element of a record as it was just read."""
        if stored.position >= 0:
            return stored.position, stored.element
        # It is of the first format.
        record = read_record(stored.record)
        return self.hasher.position(storage_key), self.hasher.element(storage_key, record)

    def leave_queue(self, storage_key: bytes) -> None:
        """What the queue says of this key is not so. Raises as `Storage.write`."""
        queued = self.queue.removal(storage_key)
        self._storage.write((queued.write,), reserve=True)
        self.queue.written(queued)

    def synced(self, storage_keys: Iterable[bytes], number: int) -> None:
        """All writes up to `number` are on disk: forget that those of these keys were not."""
        unsynced = self.unsynced
        for storage_key in storage_keys:
            if unsynced.get(storage_key, number + 1) <= number:
                del unsynced[storage_key]

    def unqueue(self, entry: bytes) -> int:
        """Drop an entry of a queue that no record wants any more; returns the write number. Raises as
        `Storage.write`."""
        return self._storage.write((Write("facts", entry, None),), reserve=True)

    def remove(self, storage_key: bytes, before: Stored, beside: Sequence[Write]) -> int:
        """Delete the record, and its birth with it, in a batch with other things, unsynced; returns the
        write number. `before`: what is there, as it was just read. Nobody may be shown that it is gone
        before that is on disk: the caller sees to it. Raises as `Storage.write`."""
        position, element = self._leaf_of(storage_key, before)
        try:
            queued = self.queue.removal(storage_key)
            entries = (Write("records", storage_key, None), queued.write, *beside)
            # A disk that is nearly full must be able to let go of it.
            number = self._storage.write(entries, reserve=True)
        except StorageError as error:
            raise self._failed(storage_key, error) from error
        self.queue.written(queued)
        self.unsynced.pop(storage_key, None)
        self._trees[storage_key[:PREFIX_BYTES]].note(storage_key, position, element)
        return number

    def _failed(self, storage_key: bytes, error: StorageError) -> StorageError:
        """What a failed write is raised as. Unless it certainly did nothing, its tree is in doubt."""
        if isinstance(error, StorageRefusesWrites):
            return error
        self.forest.doubt(storage_key[:PREFIX_BYTES])
        # If corrupt it is the engine's, not this record's: what it has done with the write is unknown.
        return StorageError(error.message) if isinstance(error, StorageCorrupt) else error

    def sync(self) -> None:
        """See to it that all that is written by now gets to disk, though nobody waits for it."""
        self._commit.when_synced(self._storage.write_number, _nobody_waits)

    def reply_synced(self, number: int, storage_key: bytes, call: Call) -> None:
        """Answer Synced once this write of the key is on disk; refuse the call if it may not be."""

        def synced(error: DynamoError | None) -> None:
            if error is not None:
                self.refusing.refuse_unsynced(call, error)
                return
            if self.unsynced.get(storage_key, number + 1) <= number:
                del self.unsynced[storage_key]
            call.reply(Synced(self._commit.synced))

        self._commit.when_synced(number, synced)

    def when_synced(
        self, number: int, storage_key: bytes, call: Call, then: Callable[[], None]
    ) -> None:
        """Call `then` once this write of the key is on disk; refuse the call if it may not be."""

        def synced(error: DynamoError | None) -> None:
            if error is not None:
                self.refusing.refuse_unsynced(call, error)
                return
            # Its own sync may have failed, and a later one succeeded.
            if self.unsynced.get(storage_key, number + 1) <= number:
                del self.unsynced[storage_key]
            then()

        self._commit.when_synced(number, synced)

    # Damage and refill --------------------------------------------------------------------------

    def put_aside(self, storage_key: bytes, data: bytes) -> None:
        """Put a damaged record aside, so that it is neither served nor lost. Its mark is on disk with
        the next sync; a crash that takes the mark back brings the damage back."""
        if storage_key not in self.damaged:
            self.damaged.add(storage_key)
            self._count["records_quarantined"] += 1
            self._alarm("records_damaged", "a record failed its checksum; it is put aside")
        # What stood for it cannot be known any more.
        self.forest.doubt_key(storage_key[:PREFIX_BYTES], storage_key)
        try:
            queued = self.queue.removal(storage_key)
            self._storage.write(
                (
                    Write("facts", QUARANTINE_PREFIX + storage_key, data),
                    Write("records", storage_key, None),
                    queued.write,
                )
            )
        except StorageError as error:
            # Still known in memory, and met again after a restart: the bytes stay as they were.
            self._unmarked.add(storage_key)
            log.warning("a damaged record could not be put aside: %s", error.message)
        else:
            self.queue.written(queued)
            self._unmarked.discard(storage_key)
        self.on_damage()

    def doubt(self, place: Partition, why: str) -> None:
        """A range of the partition could not be read."""
        # Which keys lie in the damaged block nobody can say: the whole partition is in doubt.
        self._alarm("partitions_damaged", "a partition cannot be read through; it is refilled")
        self.on_unreadable(place, why)

    def mended(self, storage_key: bytes) -> bool:
        """The peers' copies have been merged in: serve the key again. False if what was merged in has
        been damaged meanwhile as well. Raises StorageError."""
        if self.load_for_merge(storage_key) is None:
            return False
        self._storage.write((Write("facts", QUARANTINE_PREFIX + storage_key, None),))
        self.damaged.discard(storage_key)
        self._count["records_mended"] += 1
        return True


SYNCED: Final = Synced()


def _nobody_waits(error: DynamoError | None) -> None:
    """A sync that fails is counted, and stops the node's writes, whoever waits for it."""


def _nothing() -> None:
    """What is called until the node says otherwise."""
