"""One node's copy of its partitions: mints and merges. The only writer of storage.

Every read-merge-write is one plain call without an await, so it is atomic without a lock; only the
flush is waited for, through the group commit. An acknowledgement leaves after the write-ahead log
is synced, and `unsynced` tells who reads (`dynamo.replica_reads`) what to wait for: no reply shows
what a power loss can take back (docs/architecture.md). Knows nothing of sockets, quorums or HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from dynamo.backlog import Backlog
from dynamo.commit import GroupCommit
from dynamo.context import CONTEXT_BYTES_MAX, context_bytes
from dynamo.errors import (
    DynamoError,
    Malformed,
    StorageRefusesWrites,
)
from dynamo.hybrid_clock import HybridClock
from dynamo.keys import check_routing_key, partition_prefix
from dynamo.last_write import refused_ahead, refused_older
from dynamo.metrics import Metrics
from dynamo.own_records import SYNCED, OwnRecords, Partition
from dynamo.ports import Call, Clock, Handler, Storage
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
from dynamo.refusing import DAMAGED, LACKS_SOME, REFILLING, STAMPS_USED_UP
from dynamo.resolve import holds
from dynamo.rpc.messages import (
    NO_HINT,
    Mint,
    Minted,
    Refused,
    Store,
)
from dynamo.stored import Stored
from dynamo.version import Vector, birth_bytes, birth_sequence, join
from ring.ring import Ring

log = logging.getLogger(__name__)

#: Share of its time that a mint waits for a storage that is behind, before it is refused.
MINT_WAITS: Final = 0.5


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
    ) -> None:
        """`incarnation`: as `version.incarnation_bytes`, synced before this is called."""
        self._node_id = node_id
        super().__init__(storage=storage, commit=commit, metrics=metrics)
        self._node_id = node_id
        self._clock = clock
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
        self.refusing.epoch = ring.epoch
        self.prefixes = {}
        self.changed_epochs = {}
        for class_ in ring.classes:
            for partition in ring.partitions_of(self._node_id, class_.id):
                place = (class_.id, partition)
                self.prefixes[place] = partition_prefix(class_.id, partition)
                self.changed_epochs[place] = ring.changed_epoch(class_.id, partition)

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
        assert prefix is not None
        storage_key = prefix + message.key
        if message.lww and self.lacks_some(place, storage_key):
            # Its stamp might be below that of a write which is to win over it and is lost here.
            self.refusing.refuse(call, DAMAGED if storage_key in self.damaged else REFILLING)
            return
        try:
            check_routing_key(message.key)
            seen = self.look(storage_key)
            stored = None if seen is None else seen.stored
            record = EMPTY if stored is None else read_record(stored.record)
            if message.seen:
                record = merge(record, decode_record(message.seen))
            now_ms = self._clock.wall_ms()
            if message.condition is not None and not holds(
                message.condition, record, now_ms, message.lww
            ):
                self._count["preconditions_failed"] += 1
                self.refusing.refuse(
                    call,
                    Refused(
                        "precondition_failed",
                        True,
                        "the condition does not hold at the minting replica",
                        record=encode_record(record) if record else b"",
                    ),
                )
                return
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
                    self.refusing.refuse(call, STAMPS_USED_UP)
                    return
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
                self.refusing.refuse(
                    call,
                    Refused(
                        "record_full",
                        True,
                        "the write would pass a cap of the record",
                        record=encode_record(record) if record else b"",
                        limit=cap,
                    ),
                )
                return
            number = self.put(storage_key, birth, counter, encoded, reserve)
        except DynamoError as error:
            size = len(message.content) + len(message.seen)
            self._put_off_or_refuse(self.on_mint, message, call, size, error)
            return
        self._count["mints"] += 1
        if len(minted.siblings) > SIBLINGS_WARN or len(encoded) > RECORD_BYTES_WARN:
            self._count["records_large"] += 1
        call.reply(Minted(encoded, birth, counter), last=False)
        self.reply_synced(number, storage_key, call)

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
            reserve = _is_deleted(message.record)
            refused = self._refusal(place, prefix, message.epoch, message.hint_for, reserve)
        if refused is not None:
            self.refusing.refuse(call, refused)
            return
        assert prefix is not None
        storage_key = prefix + message.key
        try:
            number = self._merge_in(storage_key, message, reserve)
        except DynamoError as error:
            self._put_off_or_refuse(self.on_store, message, call, len(message.record), error)
            return
        self._count["repairs_stored" if message.repair else "stores"] += 1
        if message.lww and type(number) is not Refused and self.lacks_some(place, storage_key):
            number = LACKS_SOME
        if number is None:
            call.reply(SYNCED)
        elif type(number) is int:
            self.reply_synced(number, storage_key, call)
        else:
            assert isinstance(number, Refused)
            self._refuse_synced(storage_key, number, call)

    # Read, merge, write -------------------------------------------------------------------------

    def _merge_in(self, storage_key: bytes, message: Store, reserve: bool) -> int | Refused | None:
        """Write number to wait for, or None if what is on disk already covers the message. A refusal if
        it is a client's write that does not count, for its stamp."""
        stored = self.load_for_merge(storage_key)
        if stored is not None and stored.record == message.record:
            return self.unsynced.get(storage_key)
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
            return self.put(storage_key, b"", 0, message.record, reserve)
        local = read_record(stored.record)
        merged = merge(local, incoming)
        if merged == local:
            if message.lww:
                return refused_older(incoming, merged) or self.unsynced.get(storage_key)
            return self.unsynced.get(storage_key)
        dots = {(s.birth, s.counter) for s in merged.siblings}
        if len(dots) < len(merged.siblings):
            self._alarm("dots_with_two_values", "one dot has two values; both are kept")
        encoded = message.record if merged == incoming else encode_record(merged)
        number = self.put(storage_key, stored.birth, stored.counter, encoded, reserve)
        if message.lww:
            return refused_older(incoming, merged) or number
        return number

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
        if prefix is None or epoch < self.changed_epochs[place]:
            return self.refusing.not_mine(owned=prefix is not None)
        if hint_for != NO_HINT:
            return Refused("hint_refused", True, "this node keeps no hints")
        reason = self._storage.refusal(reserve=reserve)
        return None if reason is None else self.refusing.takes_no_writes(reason)

    def _refuse_synced(self, storage_key: bytes, refused: Refused, call: Call) -> None:
        """Refuse a write for its stamp; once what is told of is on disk, if it is not yet."""
        pending = self.unsynced.get(storage_key) if refused.code == "older" else None
        if pending is None:
            self.refusing.refuse(call, refused)
            return
        self.when_synced(pending, storage_key, call, lambda: self.refusing.refuse(call, refused))

    def _put_off_or_refuse(
        self, handler: Handler, message: Mint | Store, call: Call, size: int, error: DynamoError
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


def _is_deleted(encoded: bytes) -> bool:
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
