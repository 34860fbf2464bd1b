"""One node's copy of its partitions, and what it keeps for absent owners of others. The only writer of
storage, with what it is made of (`dynamo.merging`, `dynamo.own_records`, `dynamo.hint_store`).

Only the flush is waited for, through the group commit. An acknowledgement leaves after the write-ahead
log is synced, and `unsynced` tells who reads (`dynamo.replica_reads`) what to wait for: no reply shows
what a power loss can take back (docs/architecture.md). Knows nothing of sockets, quorums or HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final

from antientropy.merkle import leaves_for
from dynamo.backlog import Backlog
from dynamo.commit import GroupCommit
from dynamo.config import HINT_BYTES_DEFAULT, HINT_WINDOW_DEFAULT
from dynamo.errors import DynamoError, Malformed, StorageRefusesWrites
from dynamo.hint_store import HintStore
from dynamo.keys import hint_prefix, partition_prefix
from dynamo.leaf import LeafHasher
from dynamo.merging import Merging, Put, Shelf
from dynamo.metrics import Metrics
from dynamo.own_records import SYNCED
from dynamo.ports import Call, Clock, Handler, Storage, Write
from dynamo.record import TOMBSTONE, Record, read_record
from dynamo.refill_marks import Partition
from dynamo.refusing import DAMAGED, LACKS_SOME, REFILLING, HintRefused
from dynamo.rpc.messages import NO_HINT, Mint, Owe, Refused, Store
from dynamo.set_back import SetBack
from dynamo.stamped import StampedCall
from dynamo.stored import Stored
from ring.ring import Ring

#: Share of its time that a mint waits for a storage that is behind, before it is refused.
MINT_WAITS: Final = 0.5


class Replica(Merging):
    """Carries out what is asked about a key. Handlers are called by the transport, one message each."""

    def __init__(
        self,
        *,
        node_id: str,
        storage: Storage,
        commit: GroupCommit,
        clock: Clock,
        metrics: Metrics,
        incarnation: bytes,
        hasher: LeafHasher,
        hint_window: int = HINT_WINDOW_DEFAULT,
        hint_bytes_max: int = HINT_BYTES_DEFAULT,
        down: AbstractSet[str] = frozenset(),
    ) -> None:
        """`incarnation`, `hasher`: as of `Merging`. `hint_window`
        (seconds), `hint_bytes_max`: as in the node's configuration. `down`: members that are down in
        this node's opinion, the same object all along."""
        super().__init__(
            storage=storage,
            commit=commit,
            clock=clock,
            metrics=metrics,
            incarnation=incarnation,
            hasher=hasher,
        )
        self._node_id = node_id
        self._ring: Ring | None = None
        #: What is kept for absent owners, and what this node owes to them.
        self.hints = HintStore(
            own=self,
            storage=storage,
            commit=commit,
            clock=clock,
            metrics=metrics,
            window_s=hint_window,
            bytes_max=hint_bytes_max,
            down=down,
        )
        #: Instead of the records themselves, for partitions of a disk that went back.
        self.set_back = SetBack(own=self, storage=storage, metrics=metrics)
        #: Writes that the storage cannot take yet.
        self.backlog = Backlog(clock=clock, metrics=metrics)
        #: Of the storage keys of each partition that this node owns, and since which epoch it does;
        #: other dicts with each ring.
        self.prefixes: dict[Partition, bytes] = {}
        self.changed_epochs: dict[Partition, int] = {}
        #: Called with a peer, and the epoch that its request names, if that is later than the ring's.
        self.on_later_epoch: Callable[[str, int], None] = lambda peer, epoch: None

    # Membership ---------------------------------------------------------------------------------

    def adopt(self, ring: Ring) -> None:
        """Serve the partitions that this ring gives this node."""
        self._ring = ring
        self.refusing.epoch = ring.epoch
        self.prefixes = {}
        self.changed_epochs = {}
        for class_ in ring.classes:
            for partition in ring.partitions_of(self._node_id, class_.id):
                place = (class_.id, partition)
                self.prefixes[place] = partition_prefix(class_.id, partition)
                self.changed_epochs[place] = ring.changed_epoch(class_.id, partition)
        self.forest.adopt(self.prefixes.values(), leaves_for(ring.partitions))

    def refuses_place(self, place: Partition, epoch: int) -> Refused | None:
        """For what is asked about a partition, whoever owns it, by a ring of this epoch."""
        ring = self._ring
        if ring is None or ring.class_with(place[0]) is None or place[1] >= ring.partitions:
            return self.refusing.not_mine(owned=False)
        if epoch < ring.changed_epoch(*place):
            return self.refusing.not_mine(owned=True)
        return None

    def shelf_of(self, place: Partition) -> Shelf:
        """Where records of a partition that this node owns are read and written."""
        return self.set_back if self.is_back(place) else self

    def close(self) -> None:
        """Refuse what waits for the storage."""
        self.backlog.close()

    # Requests -----------------------------------------------------------------------------------

    def on_mint(self, message: Mint, call: Call) -> None:
        """Give a write its dot, answer Minted at once and Synced once it is on disk."""
        if message.epoch > self.refusing.epoch:
            self.on_later_epoch(call.peer, message.epoch)
        place = (message.cls, message.partition)
        prefix = self.prefixes.get(place)
        # A disk that is nearly full must take deletes, or it would never have room again.
        reserve = message.kind == TOMBSTONE
        refused = self._refusal(place, prefix, message.epoch, message.hint_for, reserve)
        if refused is not None:
            self.refusing.refuse(call, refused)
            return
        shelf: Shelf = self
        if message.hint_for == NO_HINT:
            assert prefix is not None
            storage_key = prefix + message.key
            if self.refilling:
                shelf = self.shelf_of(place)
            if message.lww and self.lacks_some(place, storage_key):
                # Its stamp might be below that of a write which is to win over it and is lost here.
                self.refusing.refuse(call, DAMAGED if storage_key in self.damaged else REFILLING)
                return
        else:
            shelf, storage_key = self.hints, self._hint_key(message)
        put: Put = shelf.put if not message.owes else partial(self._put_owing, shelf, message)
        try:
            minted, number = self.mint_into(shelf, storage_key, message, reserve, put)
        except DynamoError as error:
            size = len(message.content) + len(message.seen)
            self._put_off_or_refuse(self.on_mint, message, call, size, error)
            return
        if type(minted) is Refused:
            self.refusing.refuse(call, minted)
            return
        self._count["mints"] += 1
        if message.measured:
            call = StampedCall(call, self.wall_ns())
        call.reply(minted, last=False)
        self.reply_synced(number, storage_key, call)

    def on_store(self, message: Store, call: Call) -> None:
        """Merge a record into this node's, answer Synced once the result is on disk.

        A client's write (`lww`) that the result hides is refused as `older` then: what is on disk does
        not show it, so it must not count. Nor does it where a copy was lost and has not been read back:
        what hides it may be what is gone. One by a clock that is too far ahead is not stored. Repairs
        and refills are never refused for their stamps: what has been acknowledged once must get
        wherever it may have been lost, and replicas must agree.
        """
        if message.epoch > self.refusing.epoch:
            self.on_later_epoch(call.peer, message.epoch)
        place = (message.cls, message.partition)
        prefix = self.prefixes.get(place)
        reserve = False
        refused = self._refusal(place, prefix, message.epoch, message.hint_for, reserve)
        if refused is not None and refused.code == "disk_full":
            reserve = is_deleted(message.record)
            refused = self._refusal(place, prefix, message.epoch, message.hint_for, reserve)
        if refused is not None:
            self.refusing.refuse(call, refused)
            return
        shelf: Shelf = self
        if message.hint_for == NO_HINT:
            assert prefix is not None
            storage_key = prefix + message.key
            if self.refilling:
                shelf = self.shelf_of(place)
        else:
            shelf, storage_key = self.hints, self._hint_key(message)
        try:
            number = self.merge_in(shelf, storage_key, message, reserve)
        except DynamoError as error:
            self._put_off_or_refuse(self.on_store, message, call, len(message.record), error)
            return
        self._count["repairs_stored" if message.repair else "stores"] += 1
        if message.measured:
            call = StampedCall(call, self.wall_ns())
        if (
            message.lww
            and message.hint_for == NO_HINT
            and type(number) is not Refused
            and self.lacks_some(place, storage_key)
        ):
            number = LACKS_SOME
        if number is None:
            call.reply(SYNCED)
        elif type(number) is int:
            self.reply_synced(number, storage_key, call)
        else:
            assert isinstance(number, Refused)
            self._refuse_synced(shelf, storage_key, number, call)

    def on_owe(self, message: Owe, call: Call) -> None:
        """Note that other owners have missed this node's record; answer Synced once it is on disk.

        Markers that cannot be taken are told of by a refusal, definite if none was.
        """
        place = (message.cls, message.partition)
        prefix = self.prefixes.get(place)
        refused = self._refusal(place, prefix, message.epoch, NO_HINT, False)
        if refused is not None:
            self.refusing.refuse(call, refused)
            return
        assert prefix is not None
        storage_key = prefix + message.key
        targets, why = self._targets(message.targets, place, message.epoch)
        try:
            if not why and self.shelf_of(place).look(storage_key) is None:
                why = "nothing"
            if why:
                raise HintRefused(why)
            owed = self.hints.owe(storage_key, targets, (), False)
        except DynamoError as error:
            self._put_off_or_refuse(self.on_owe, message, call, len(message.key), error)
            return
        number = max(owed.number, self.unsynced.get(storage_key, 0))
        if not owed.refused:
            self.reply_synced(number, storage_key, call)
            return
        self._count["hints_left_to_antientropy"] += len(owed.refused)
        self.sync()  # nobody waits for those that were taken
        why = next(iter(owed.refused.values()))
        none_taken = len(owed.refused) == len(targets)
        self.refusing.refuse(call, self.refusing.no_hint(why, definite=none_taken))

    def _put_owing(
        self,
        shelf: Shelf,
        message: Mint,
        storage_key: bytes,
        before: Stored | None,
        birth: bytes,
        counter: int,
        record: Record,
        encoded: bytes,
        reserve: bool,
    ) -> int:
        """Write the record and what is owed of it in one batch; returns the write number. What is owed
        and cannot be noted is left to anti-entropy: the write itself is none the worse."""
        place = (message.cls, message.partition)
        targets, why = self._targets(message.owes, place, message.epoch)
        if why or message.hint_for != NO_HINT:
            self._count["hints_not_kept"] += len(message.owes)
            return shelf.put(storage_key, before, birth, counter, record, encoded, reserve)
        before, beside = self.set_back.part(storage_key, before, record)

        def write(entries: Sequence[Write]) -> int:
            owed = self.hints.owe(storage_key, targets, (*entries, *beside), reserve)
            self._count["hints_not_kept"] += len(owed.refused)
            return owed.number

        return self.put_beside(storage_key, before, birth, counter, record, encoded, write)

    # Refusals -----------------------------------------------------------------------------------

    def _refusal(
        self, place: Partition, prefix: bytes | None, epoch: int, hint_for: int, reserve: bool
    ) -> Refused | None:
        if hint_for != NO_HINT:
            refused = self._refuses_hint(place, prefix, epoch, hint_for)
            if refused is not None:
                return refused
        elif prefix is None or epoch < self.changed_epochs[place]:
            return self.refusing.not_mine(owned=prefix is not None)
        reason = self._storage.refusal(reserve=reserve)
        return None if reason is None else self.refusing.takes_no_writes(reason)

    def _refuses_hint(
        self, place: Partition, prefix: bytes | None, epoch: int, hint_for: int
    ) -> Refused | None:
        """For a write that this node is to keep for another member."""
        refused = self.refuses_place(place, epoch)
        if refused is not None:
            return refused
        if prefix is not None:
            return self.refusing.no_hint("owner")
        _, why = self._targets((hint_for,), place, epoch)
        return self.refusing.no_hint(why) if why else None

    def _targets(
        self, indexes: Iterable[int], place: Partition, epoch: int
    ) -> tuple[tuple[str, ...], str]:
        """(the members of these indexes, "") if each can be owed something of the partition; ((), why
        not) if not."""
        ring = self._ring
        own = None if ring is None else ring.member(self._node_id)
        if ring is None or own is None or epoch != ring.epoch:
            return (), "epoch"
        targets = []
        for index in indexes:
            if not 0 <= index < len(ring.members):
                return (), "unknown_member"
            target = ring.members[index]
            if target.id == self._node_id:
                return (), "itself"
            if not ring.owns(target.id, *place):
                return (), "not_owner"
            if target.datacenter != own.datacenter:
                return (), "datacenter"
            targets.append(target.id)
        return tuple(targets), ""

    def _hint_key(self, message: Mint | Store) -> bytes:
        """Of the hint that the message is about."""
        assert self._ring is not None
        target = self._ring.members[message.hint_for].id
        return hint_prefix(target) + partition_prefix(message.cls, message.partition) + message.key

    def _refuse_synced(
        self, shelf: Shelf, storage_key: bytes, refused: Refused, call: Call
    ) -> None:
        """Refuse a write for its stamp; once what is told of is on disk, if it is not yet."""
        pending = shelf.unsynced.get(storage_key) if refused.code == "older" else None
        if pending is None:
            self.refusing.refuse(call, refused)
            return
        self.when_synced(pending, storage_key, call, lambda: self.refusing.refuse(call, refused))

    def _put_off_or_refuse(
        self,
        handler: Handler,
        message: Mint | Store | Owe,
        call: Call,
        size: int,
        error: DynamoError,
    ) -> None:
        """A write that the storage is too far behind for is tried again: nothing happened, and it
        passes. `size`: bytes that the message holds."""
        is_busy = isinstance(error, StorageRefusesWrites) and (
            error.details["reason"] == "storage_busy"
        )
        # A mint can be made at another primary, if there is time left for it.
        share = MINT_WAITS if type(message) is Mint else 1.0
        if not (is_busy and self.backlog.wait(handler, message, call, size, share=share)):
            self.refusing.refuse_error(call, error)


def is_deleted(encoded: bytes) -> bool:
    """True for a record of nothing but tombstones, and of values whose bodies have gone; False for what
    is no record."""
    try:
        siblings = read_record(encoded).siblings
        return all(one.kind == TOMBSTONE or one.content is None for one in siblings)
    except Malformed:
        return False
