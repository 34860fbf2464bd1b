"""What a replica says and does of records that are to be reaped: which it holds, and drops them.

What makes a drop safe is proved by who asks for it (`antientropy.reaping`). Here is seen to what only
this node can know: that the record still is that very one and is on its disk, that its partition is
whole, and that no message which has arrived, and waits for the storage or its turn, is about the key: a
write of the past may be among them. Nothing is awaited between the look and the drop. Deletes through
the replica, which alone writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from dynamo.commit import GroupCommit
from dynamo.errors import DynamoError, Malformed, StorageCorrupt
from dynamo.hybrid_clock import stamp_at
from dynamo.keys import split_storage_key
from dynamo.metrics import Metrics
from dynamo.ports import Call, Clock, Storage
from dynamo.reap_queue import LONG
from dynamo.record import FORMAT, Record, encode_record, highest_stamp
from dynamo.refill_marks import Partition
from dynamo.replica import Replica
from dynamo.replica_deliver import ReplicaDeliver
from dynamo.rpc.messages import Refused
from dynamo.rpc.reap_messages import Doomed, Drop, Dropped, Held, Holds
from dynamo.seen import Seen
from dynamo.stored import DEAD
from dynamo.version import Vector

OTHER_EPOCH: Final = Refused("stale_epoch", True, "the ring here is of another epoch")


class Candidate(NamedTuple):
    """A record of the queue, as it is now. `used`: births of its siblings' dots."""

    place: Partition
    key: bytes
    digest: bytes
    is_dead: bool
    vector: Vector
    used: frozenset[bytes]


class ReplicaReap:
    """Handlers of Holds and Drop, over one node's replica."""

    def __init__(
        self,
        *,
        replica: Replica,
        deliver: ReplicaDeliver,
        storage: Storage,
        commit: GroupCommit,
        clock: Clock,
        metrics: Metrics,
        start: Callable[[], int],
    ) -> None:
        """`start`: the number of this start of the node."""
        self._start = start
        self._clock = clock
        self._replica = replica
        self._deliver = deliver
        self._storage = storage
        self._commit = commit
        self._count = metrics.count

    # Requests -----------------------------------------------------------------------------------

    def on_holds(self, message: Holds, call: Call) -> None:
        """Answer with which of these records are here as they are, on disk."""
        if self._refuses_epoch(message.epoch, call) or self._takes_no_drop(call):
            return
        judged = [(at, self._judge(doomed)[1]) for at, doomed in enumerate(message.entries)]
        held = tuple(at for at, why in judged if not why)
        refused = tuple((at, why) for at, why in judged if why)
        call.reply(Held(held, self._start(), refused))

    def on_drop(self, message: Drop, call: Call) -> None:
        """Drop those of these records that are still here as they are; answer Dropped once that is on
        disk."""
        replica = self._replica
        if self._refuses_epoch(message.epoch, call) or self._takes_no_drop(call):
            return
        waiting = {*replica.backlog.keys(), *self._deliver.keys()}
        refused: list[tuple[int, str]] = []
        whole: dict[bytes, Seen] = {}
        number = 0
        written: list[bytes] = []
        try:
            for at, doomed in enumerate(message.entries):
                storage_key = _storage_key(replica, doomed)
                seen, why = self._judge(doomed)
                if not why and storage_key in whole:
                    why = "named twice"
                if not why and (doomed.cls, doomed.partition, doomed.key) in waiting:
                    why = "a message about it waits for its turn"
                if why or seen is None:
                    refused.append((at, why))
                elif doomed.births:
                    number = self._shorten(storage_key, seen, doomed.births)
                    written.append(storage_key)
                else:
                    whole[storage_key] = seen
            if whole:
                number = replica.drop([(key, seen.stored) for key, seen in whole.items()])
        except DynamoError as error:
            # Some may be gone: that is for the next round to see.
            replica.refusing.refuse_error(call, error)
            return
        self._count["tombstones_dropped"] += len(whole)
        self._count["births_dropped"] += len(written)
        self._count["drops_refused"] += len(refused)
        self._reply_synced(call, number, [*written, *whole], Dropped(tuple(refused)))

    def _reply_synced(
        self, call: Call, number: int, written: list[bytes], dropped: Dropped
    ) -> None:
        def synced(error: DynamoError | None) -> None:
            if error is not None:
                self._replica.refusing.refuse_unsynced(call, error)
                return
            self._replica.synced(written, number)
            call.reply(dropped)

        self._commit.when_synced(number, synced)

    def _takes_no_drop(self, call: Call) -> bool:
        """True, and the call is refused, while the storage could not let go of anything. Said when it is
        asked what is held, too: else the others would drop what exchanges then give back to them, again
        and again."""
        reason = self._storage.refusal(reserve=True)
        if reason is None:
            return False
        refusing = self._replica.refusing
        refusing.refuse(call, refusing.takes_no_writes(reason))
        return True

    def _refuses_epoch(self, epoch: int, call: Call) -> bool:
        refusing = self._replica.refusing
        if epoch > refusing.epoch:
            self._replica.on_later_epoch(call.peer, epoch)
        if epoch != refusing.epoch or not epoch:
            refusing.refuse(call, OTHER_EPOCH)
            return True
        return False

    # Records ------------------------------------------------------------------------------------

    def _judge(self, doomed: Doomed) -> tuple[Seen | None, str]:
        """The record, and "" if it is here as it is, on disk; or why it is not."""
        replica = self._replica
        place = (doomed.cls, doomed.partition)
        prefix = replica.prefixes.get(place)
        if prefix is None:
            return None, "this node does not own it"
        if place in replica.refilling or replica.must_refill:
            return None, "its partition is being refilled"
        storage_key = prefix + doomed.key
        if storage_key in replica.damaged:
            return None, "it was damaged, and is being mended"
        if replica.unsynced.get(storage_key, 0) > self._commit.synced:
            return None, "it is not on disk yet"
        try:
            seen = replica.look(storage_key)
            if seen is None or seen.digest().digest != doomed.digest:
                return None, "it is another record" if seen is not None else "it is not here"
            if not doomed.births:
                return seen, self._why_not_dead(seen)
            used = {sibling.birth for sibling in seen.record().siblings}
        except (StorageCorrupt, Malformed):
            return None, "it is damaged"
        except DynamoError:
            return None, "it cannot be read now"
        return seen, "" if used.isdisjoint(doomed.births) else "a value of such a birth is there"

    def _why_not_dead(self, seen: Seen) -> str:
        """ "" for a record that nothing depends on any more."""
        if seen.stored.state != DEAD:
            # A body that is still here may be shown, if only by a clock that is behind.
            return "a body of it is still here"
        if stamp_at(self._clock.wall_ms()) < highest_stamp(seen.record()):
            # Where the last write wins, what is minted without it here would be below it, and lose to
            # it should another owner keep it.
            return "its stamp is ahead of this node's clock"
        return ""

    def _shorten(self, storage_key: bytes, seen: Seen, births: tuple[bytes, ...]) -> int:
        """Put the same record without these births in its place; returns the write number."""
        stored, record = seen.stored, seen.record()
        gone = frozenset(births)
        vector = tuple(entry for entry in record.vector if entry[0] not in gone)
        shorter = Record(FORMAT, vector, record.siblings)
        birth, counter = (b"", 0) if stored.birth in gone else (stored.birth, stored.counter)
        return self._replica.shorten(
            storage_key, stored, birth, counter, shorter, encode_record(shorter)
        )

    # For who looks for what can be reaped --------------------------------------------------------

    def candidate(self, storage_key: bytes) -> Candidate | None:
        """What a place in the queue stands for now. Where it stands for nothing, it goes. Raises
        StorageError."""
        replica = self._replica
        cls, partition, key = split_storage_key(storage_key)
        try:
            seen = replica.look(storage_key)
            if seen is not None:
                record = seen.record()
                is_dead = seen.stored.state == DEAD
                if is_dead or len(record.vector) > LONG:
                    used = frozenset(sibling.birth for sibling in record.siblings)
                    digest = seen.digest().digest
                    return Candidate((cls, partition), key, digest, is_dead, record.vector, used)
        except (StorageCorrupt, Malformed):
            return None  # it was put aside, and left the queue with that
        replica.leave_queue(storage_key)
        self._count["reap_facts_void"] += 1
        return None


def _storage_key(replica: Replica, doomed: Doomed) -> bytes:
    return replica.prefixes.get((doomed.cls, doomed.partition), b"") + doomed.key
