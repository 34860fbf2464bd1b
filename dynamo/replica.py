"""One node's copy of its partitions: mints and merges. The only writer of storage.

Every read-merge-write is one plain call without an await, so it is atomic without a lock; only the
flush is waited for, through the group commit. An acknowledgement leaves after the write-ahead log
is synced, and `unsynced` tells who reads (`dynamo.replica_reads`) what to wait for: no reply shows
what a power loss can take back (docs/architecture.md). Knows nothing of sockets, quorums or HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Final, Protocol

from dynamo.backlog import Backlog
from dynamo.commit import GroupCommit
from dynamo.config import HINT_BYTES_DEFAULT, HINT_WINDOW_DEFAULT
from dynamo.context import CONTEXT_BYTES_MAX, context_bytes
from dynamo.errors import (
    DynamoError,
    Malformed,
    StorageRefusesWrites,
)
from dynamo.hint_store import HintStore
from dynamo.hybrid_clock import HybridClock
from dynamo.keys import check_routing_key, hint_prefix, partition_prefix
from dynamo.last_write import refused_ahead, refused_older
from dynamo.metrics import Metrics
from dynamo.own_records import SYNCED, OwnRecords, Partition
from dynamo.ports import Call, Clock, Handler, Storage, Write
from dynamo.record import (
    EMPTY,
    RECORD_BYTES_MAX,
    RECORD_BYTES_WARN,
    SIBLINGS_MAX,
    SIBLINGS_WARN,
    TOMBSTONE,
    Record,
    decode_record,
    encode_record,
    highest_stamp,
    merge,
    mint,
    read_record,
)
from dynamo.refusing import DAMAGED, LACKS_SOME, REFILLING, STAMPS_USED_UP, HintRefused
from dynamo.resolve import holds
from dynamo.rpc.messages import (
    NO_HINT,
    Mint,
    Minted,
    Owe,
    Refused,
    Store,
)
from dynamo.seen import Seen
from dynamo.stored import Stored, encode_stored
from dynamo.version import Vector, birth_bytes, birth_sequence, join
from ring.ring import Ring

log = logging.getLogger(__name__)

#: Share of its time that a mint waits for a storage that is behind, before it is refused.
MINT_WAITS: Final = 0.5


class Shelf(Protocol):
    """Where records are read, merged and written: this node's own, or what it keeps for others."""

    #: Keys whose last write is not known to be on disk, and the number of that write.
    unsynced: dict[bytes, int]

    def look(self, storage_key: bytes, /) -> Seen | None:
        """What is stored, or None. Raises StorageCorrupt, StorageError, HintRefused."""
        ...

    def load_for_merge(self, storage_key: bytes, /) -> Stored | None:
        """As `look`, with what is damaged put aside and counted as gone."""
        ...

    def put(
        self, storage_key: bytes, birth: bytes, counter: int, encoded: bytes, reserve: bool, /
    ) -> int:
        """Write it, unsynced; returns its write number. Raises as `Storage.put`, and HintRefused."""
        ...


class Replica(OwnRecords):
    """Mints and merges. Handlers are called by the transport, one message each."""

    def __init__(
        self,
        *,
        node_id: str,
        storage: Storage,
        commit: GroupCommit,
        clock: Clock,
        metrics: Metrics,
        incarnation: bytes,
        hint_window: int = HINT_WINDOW_DEFAULT,
        hint_bytes_max: int = HINT_BYTES_DEFAULT,
        down: AbstractSet[str] = frozenset(),
    ) -> None:
        """`incarnation`: as `version.incarnation_bytes`, synced before this is called. `hint_window`
        (seconds), `hint_bytes_max`: as in the node's configuration. `down`: members that are down in
        this node's opinion, the same object all along."""
        self._node_id = node_id
        super().__init__(storage=storage, commit=commit, metrics=metrics)
        self._node_id = node_id
        self._clock = clock
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
        self._incarnation = incarnation
        self._sequence = 0
        #: Begins anew with each process: a mint goes above the record that it reads from disk.
        self._stamps = HybridClock()
        #: Writes that the storage cannot take yet.
        self.backlog = Backlog(clock=clock, metrics=metrics)
        #: Of the storage keys of each partition that this node owns, and since which epoch it does;
        #: other dicts with each ring.
        self.prefixes: dict[Partition, bytes] = {}
        self.changed_epochs: dict[Partition, int] = {}
        #: Called when a dot shows that someone else runs under this incarnation.
        self.on_foreign_dot: Callable[[], None] = lambda: None

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

    def refuses_place(self, place: Partition, epoch: int) -> Refused | None:
        """For what is asked about a partition, whoever owns it, by a ring of this epoch."""
        ring = self._ring
        if ring is None or ring.class_with(place[0]) is None or place[1] >= ring.partitions:
            return self.refusing.not_mine(owned=False)
        if epoch < ring.changed_epoch(*place):
            return self.refusing.not_mine(owned=True)
        return None

    def renew_incarnation(self, incarnation: bytes) -> None:
        """From now on mint under another incarnation; the births of the old one are left alone."""
        self._incarnation = incarnation
        self._sequence = 0

    def close(self) -> None:
        """Refuse what waits for the storage."""
        self.backlog.close()

    # Requests -----------------------------------------------------------------------------------

    def on_mint(self, message: Mint, call: Call) -> None:
        """Give a write its dot, answer Minted at once and Synced once it is on disk."""
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
            if message.lww and self.lacks_some(place, storage_key):
                # Its stamp might be below that of a write which is to win over it and is lost here.
                self.refusing.refuse(call, DAMAGED if storage_key in self.damaged else REFILLING)
                return
        else:
            shelf, storage_key = self.hints, self._hint_key(message)
        try:
            minted, number = self._mint_into(shelf, storage_key, message, reserve)
        except DynamoError as error:
            size = len(message.content) + len(message.seen)
            self._put_off_or_refuse(self.on_mint, message, call, size, error)
            return
        if type(minted) is Refused:
            self.refusing.refuse(call, minted)
            return
        self._count["mints"] += 1
        call.reply(minted, last=False)
        self.reply_synced(number, storage_key, call)

    def _mint_into(
        self, shelf: Shelf, storage_key: bytes, message: Mint, reserve: bool
    ) -> tuple[Minted | Refused, int]:
        """The write with its dot and the number of what was written; or why there is none, and 0."""
        check_routing_key(message.key)
        seen = shelf.look(storage_key)
        stored = None if seen is None else seen.stored
        record = EMPTY if stored is None else read_record(stored.record)
        if message.seen:
            record = merge(record, decode_record(message.seen))
        now_ms = self._clock.wall_ms()
        if message.condition is not None and not holds(
            message.condition, record, now_ms, message.lww
        ):
            self._count["preconditions_failed"] += 1
            return _condition_failed(record), 0
        # What the client was shown cannot be ahead of this record's own birth, unless this
        # record went back: then that birth must not go on.
        self._check_births(message.context, stored)
        if message.seen:
            self._check_births(record.vector, stored)
        covers, stamp, above = message.context, 0, message.above
        for sibling in record.siblings:
            if sibling.stamp > above:
                above = sibling.stamp
        # A key that has stamps goes on with them while its bucket shows siblings: were the last
        # write to win again, what was written meanwhile would lose to all from before.
        if message.lww or above:
            # However far ahead `above` is: below it the write would be hidden by what it replaces.
            next_stamp = self._stamps.next(now_ms, above)
            if next_stamp is None:
                return STAMPS_USED_UP, 0
            stamp = next_stamp
        if message.lww:
            covers = join(covers, record.vector)
        birth, counter = self._next_dot(stored)
        minted = mint(
            record,
            covers,
            birth=birth,
            counter=counter,
            kind=message.kind,
            content=message.content,
            written_ms=now_ms,
            stamp=stamp,
            expires_ms=message.expires_ms,
        )
        encoded = encode_record(minted)
        cap = _cap_passed(minted, encoded)
        if cap:
            self._count["records_full"] += 1
            return _record_full(record, cap), 0
        if message.owes:
            number = self._put_owing(shelf, storage_key, birth, counter, encoded, reserve, message)
        else:
            number = shelf.put(storage_key, birth, counter, encoded, reserve)
        if len(minted.siblings) > SIBLINGS_WARN or len(encoded) > RECORD_BYTES_WARN:
            self._count["records_large"] += 1
        return Minted(encoded, birth, counter), number

    def on_store(self, message: Store, call: Call) -> None:
        """Merge a record into this node's, answer Synced once the result is on disk.

        A client's write (`lww`) that the result hides is refused as `older` then: what is on disk does
        not show it, so it must not count. Nor does it where a copy was lost and has not been read back:
        what hides it may be what is gone. One by a clock that is too far ahead is not stored. Repairs
        and refills are never refused for their stamps: what has been acknowledged once must get
        wherever it may have been lost, and replicas must agree.
        """
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
        else:
            shelf, storage_key = self.hints, self._hint_key(message)
        try:
            number = self.merge_in(shelf, storage_key, message, reserve)
        except DynamoError as error:
            self._put_off_or_refuse(self.on_store, message, call, len(message.record), error)
            return
        self._count["repairs_stored" if message.repair else "stores"] += 1
        if (
            message.lww
            and shelf is self
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
            if not why and self.look(storage_key) is None:
                why = "nothing"
            if why:
                raise HintRefused(why)
            owed = self.hints.owe(storage_key, targets, (), False)
        except DynamoError as error:
            self._put_off_or_refuse(self.on_owe, message, call, 0, error)
            return
        number = max(owed.number, self.unsynced.get(storage_key, 0))
        if not owed.refused:
            self.reply_synced(number, storage_key, call)
            return
        self._count["hints_left_to_antientropy"] += len(owed.refused)
        why = next(iter(owed.refused.values()))
        none_taken = len(owed.refused) == len(targets)
        self.refusing.refuse(call, self.refusing.no_hint(why, definite=none_taken))

    # Read, merge, write -------------------------------------------------------------------------

    def merge_in(
        self, shelf: Shelf, storage_key: bytes, message: Store, reserve: bool
    ) -> int | Refused | None:
        """Write number to wait for, or None if what is on disk already covers the message. A refusal if
        it is a client's write that does not count, for its stamp. Raises DynamoError."""
        stored = shelf.load_for_merge(storage_key)
        if stored is not None and stored.record == message.record:
            return shelf.unsynced.get(storage_key)
        check_routing_key(message.key)
        incoming = decode_record(message.record)
        if not incoming:
            raise Malformed("a store of an empty record")
        self._check_births(incoming.vector, stored)
        if message.lww or message.repair:
            refused = self._look_at_stamps(incoming, is_write=message.lww)
            if refused is not None:
                return refused
        if stored is None:
            return shelf.put(storage_key, b"", 0, message.record, reserve)
        local = read_record(stored.record)
        merged = merge(local, incoming)
        if merged == local:
            if message.lww:
                return refused_older(incoming, merged) or shelf.unsynced.get(storage_key)
            return shelf.unsynced.get(storage_key)
        dots = {(s.birth, s.counter) for s in merged.siblings}
        if len(dots) < len(merged.siblings):
            self._alarm("dots_with_two_values", "one dot has two values; both are kept")
        encoded = message.record if merged == incoming else encode_record(merged)
        number = shelf.put(storage_key, stored.birth, stored.counter, encoded, reserve)
        if message.lww:
            return refused_older(incoming, merged) or number
        return number

    def _put_owing(
        self,
        shelf: Shelf,
        storage_key: bytes,
        birth: bytes,
        counter: int,
        encoded: bytes,
        reserve: bool,
        message: Mint,
    ) -> int:
        """Write the record and what is owed of it in one batch; returns the write number. What is owed
        and cannot be noted is left to anti-entropy: the write itself is none the worse."""
        place = (message.cls, message.partition)
        targets, why = self._targets(message.owes, place, message.epoch)
        if why or shelf is not self:
            self._count["hints_not_kept"] += len(message.owes)
            return shelf.put(storage_key, birth, counter, encoded, reserve)
        data = encode_stored(storage_key, birth, counter, encoded)
        owed = self.hints.owe(storage_key, targets, (Write("records", storage_key, data),), reserve)
        self._count["hints_not_kept"] += len(owed.refused)
        self.unsynced[storage_key] = owed.number
        return owed.number

    def _look_at_stamps(self, incoming: Record, *, is_write: bool) -> Refused | None:
        """Follow the stamps that come in, or refuse a write by a clock that is too far ahead."""
        stamp = highest_stamp(incoming)
        if not stamp:
            return None
        now_ms = self._clock.wall_ms()
        if is_write:
            refused = refused_ahead(incoming, stamp, now_ms)
            if refused is not None:
                return refused
        if not self._stamps.adopt(stamp, now_ms):
            self._count["stamps_not_adopted"] += 1
        return None

    def _next_dot(self, stored: Stored | None) -> tuple[bytes, int]:
        """The dot of the next mint: this incarnation's birth of the key, or a new birth."""
        if stored is not None and stored.birth.startswith(self._incarnation):
            return stored.birth, stored.counter + 1
        self._sequence += 1
        return birth_bytes(self._incarnation, self._sequence), 1

    def _check_births(self, vector: Vector, stored: Stored | None) -> None:
        """A dot of this incarnation that it never minted: alarm, and a new incarnation at once.

        Someone else runs under this incarnation (a cloned disk or memory), so going on under it
        could mint the same dot twice.
        """
        incarnation = self._incarnation
        for birth, counter in vector:
            if not birth.startswith(incarnation):
                continue
            ours = stored is not None and stored.birth == birth
            if birth_sequence(birth) > self._sequence or (
                ours and stored is not None and counter > stored.counter
            ):
                self._alarm("foreign_dots", "a dot of this incarnation was minted elsewhere")
                self.on_foreign_dot()
                return

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


def _condition_failed(record: Record) -> Refused:
    return Refused(
        "precondition_failed",
        True,
        "the condition does not hold at the minting replica",
        record=encode_record(record) if record else b"",
    )


def _record_full(record: Record, cap: str) -> Refused:
    return Refused(
        "record_full",
        True,
        "the write would pass a cap of the record",
        record=encode_record(record) if record else b"",
        limit=cap,
    )


def is_deleted(encoded: bytes) -> bool:
    """True for a record of nothing but tombstones; False for what is no record."""
    try:
        return all(sibling.kind == TOMBSTONE for sibling in read_record(encoded).siblings)
    except Malformed:
        return False


def _cap_passed(record: Record, encoded: bytes) -> str:
    """The cap that this record passes, or ""."""
    if len(record.siblings) > SIBLINGS_MAX:
        return "siblings"
    if len(encoded) > RECORD_BYTES_MAX:
        return "record_bytes"
    if len(record.vector) > VECTOR_ENTRIES_SAFE and (
        context_bytes(record.vector, highest_stamp(record)) > CONTEXT_BYTES_MAX
    ):
        return "context_bytes"
    return ""


#: Below this many entries no context can pass its cap, whatever its numbers: 16 KiB over the
#: longest entry (10 + 8 + 10 bytes of birth, 10 of counter), less the token's head.
VECTOR_ENTRIES_SAFE: Final = 400
