"""One node's copy of its partitions: mints and merges. The only writer of storage.

Every read-merge-write is one plain call without an await, so it is atomic without a lock; only the
flush is waited for, through the group commit. An acknowledgement leaves after the write-ahead log
is synced, and `unsynced` tells who reads (`dynamo.replica_reads`) what to wait for: no reply shows
what a power loss can take back (docs/architecture.md). Knows nothing of sockets, quorums or HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from dynamo.backlog import Backlog
from dynamo.commit import GroupCommit
from dynamo.context import CONTEXT_BYTES_MAX, context_bytes
from dynamo.errors import (
    DynamoError,
    Malformed,
    StorageCorrupt,
    StorageError,
    StorageRefusesWrites,
)
from dynamo.hybrid_clock import HybridClock
from dynamo.keys import check_routing_key, partition_prefix
from dynamo.last_write import refused_ahead, refused_older
from dynamo.memo import Memo
from dynamo.metrics import Metrics
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
from dynamo.refusing import DAMAGED, LACKS_SOME, REFILLING, STAMPS_USED_UP, Refusing
from dynamo.resolve import holds
from dynamo.rpc.messages import (
    NO_HINT,
    Mint,
    Minted,
    Refused,
    Store,
    Synced,
)
from dynamo.seen import Seen
from dynamo.stored import Stored, decode_stored, encode_stored
from dynamo.version import Vector, birth_bytes, birth_sequence, join
from ring.ring import Ring

log = logging.getLogger(__name__)

#: Of records that were read lately, as they are answered with.
SEEN_BYTES_MAX: Final = 12 << 20
#: Share of its time that a mint waits for a storage that is behind, before it is refused.
MINT_WAITS: Final = 0.5
REFILL_PREFIX: Final = b"refill/"
#: Every partition is to be marked as soon as it is known which there are.
REFILL_ALL: Final = b"refill-all"
QUARANTINE_PREFIX: Final = b"quarantine/"

Partition = tuple[int, int]


class RefillMark(msgspec.Struct, frozen=True, array_like=True):
    """A partition that may have lost writes. `owed`: peers not yet read. `serving`: counts again."""

    owed: tuple[str, ...]
    serving: bool


class Replica:
    """The records of one node. Handlers are called by the transport, one message each."""

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
        self._storage = storage
        self._commit = commit
        self._clock = clock
        self._count = metrics.count
        #: What is said to who asks for what cannot be had here.
        self.refusing = Refusing(storage=storage, metrics=metrics)
        self._incarnation = incarnation
        self._sequence = 0
        #: Begins anew with each process: a mint goes above the record that it reads from disk.
        self._stamps = HybridClock()
        #: Writes that the storage cannot take yet.
        self.backlog = Backlog(clock=clock, metrics=metrics)
        #: Storage keys whose last write is not known to be on disk, and the number of that write.
        self.unsynced: dict[bytes, int] = {}
        self._seen: Memo[Seen] = Memo(bytes_max=SEEN_BYTES_MAX)
        #: Of the storage keys of each partition that this node owns, and since which epoch it does;
        #: other dicts with each ring.
        self.prefixes: dict[Partition, bytes] = {}
        self.changed_epochs: dict[Partition, int] = {}
        self.refilling: dict[Partition, RefillMark] = {}
        #: Everything is to be refilled, and is not marked yet: there was no ring, or the marks of
        #: before cannot be read.
        self.must_refill = False
        self.damaged: set[bytes] = set()
        #: Of them, those of which only this process knows: the mark could not be written.
        self._unmarked: set[bytes] = set()
        #: Called when a record is found damaged, so that it can be mended.
        self.on_damage: Callable[[], None] = _nothing
        #: Called when a partition cannot be read through, and why, so that it can be refilled.
        self.on_unreadable: Callable[[Partition, str], None] = lambda place, why: None
        #: Called when a dot shows that someone else runs under this incarnation.
        self.on_foreign_dot: Callable[[], None] = _nothing
        self._load_marks()

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
        if message.lww and self._lacks_some(place, storage_key):
            # Its stamp might be below that of a write which is to win over it and is lost here.
            self.refusing.refuse(call, DAMAGED if storage_key in self.damaged else REFILLING)
            return
        try:
            check_routing_key(message.key)
            stored = self._load(storage_key)
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
            number = self._put(storage_key, birth, counter, encoded, reserve)
        except DynamoError as error:
            size = len(message.content) + len(message.seen)
            self._put_off_or_refuse(self.on_mint, message, call, size, error)
            return
        self._count["mints"] += 1
        if len(minted.siblings) > SIBLINGS_WARN or len(encoded) > RECORD_BYTES_WARN:
            self._count["records_large"] += 1
        call.reply(Minted(encoded, birth, counter), last=False)
        self._reply_synced(number, storage_key, call)

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
        if message.lww and type(number) is not Refused and self._lacks_some(place, storage_key):
            number = LACKS_SOME
        if number is None:
            call.reply(SYNCED)
        elif type(number) is int:
            self._reply_synced(number, storage_key, call)
        else:
            assert isinstance(number, Refused)
            self._refuse_synced(storage_key, number, call)

    # Read, merge, write -------------------------------------------------------------------------

    def _load(self, storage_key: bytes) -> Stored | None:
        """What is stored, or None. Raises as `look`."""
        seen = self.look(storage_key)
        return None if seen is None else seen.stored

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

    def _load_for_merge(self, storage_key: bytes) -> Stored | None:
        """As `_load`, but a damaged record counts as gone: what comes in is kept beside the mark.
        Raises StorageRefusesWrites where there is no mark: a start would take what comes in for all."""
        try:
            return self._load(storage_key)
        except StorageCorrupt:
            if storage_key in self._unmarked:
                reason = self._storage.refusal() or "storage_error"
                raise StorageRefusesWrites(
                    f"a damaged record cannot be put aside ({reason})", reason=reason
                ) from None
            return None

    def _merge_in(self, storage_key: bytes, message: Store, reserve: bool) -> int | Refused | None:
        """Write number to wait for, or None if what is on disk already covers the message. A refusal if
        it is a client's write that does not count, for its stamp."""
        stored = self._load_for_merge(storage_key)
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
            return self._put(storage_key, b"", 0, message.record, reserve)
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
        number = self._put(storage_key, stored.birth, stored.counter, encoded, reserve)
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

    def _lacks_some(self, place: Partition, storage_key: bytes) -> bool:
        """True while this copy may have lost writes: of the record, or of the whole partition."""
        mark = self.refilling.get(place)
        return storage_key in self.damaged or (mark is not None and not mark.serving)

    def _put(
        self, storage_key: bytes, birth: bytes, counter: int, encoded: bytes, reserve: bool
    ) -> int:
        stored = encode_stored(storage_key, birth, counter, encoded)
        try:
            number = self._storage.put("records", storage_key, stored, reserve=reserve)
        except StorageCorrupt as error:
            # The engine's, not this record's: what it has done with the write is unknown.
            raise StorageError(error.message) from error
        self.unsynced[storage_key] = number
        return number

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

    def _reply_synced(self, number: int, storage_key: bytes, call: Call) -> None:
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

    def _alarm(self, counter: str, line: str) -> None:
        self._count["alarms"] += 1
        self._count[counter] += 1
        count = self._count[counter]
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, ...: one cause can have many alarms
            log.error("ALARM %s (%s so far): %s", counter, count, line)

    # Damage and refill --------------------------------------------------------------------------

    def put_aside(self, storage_key: bytes, data: bytes) -> None:
        """Put a damaged record aside, so that it is neither served nor lost. Its mark is on disk with
        the next sync; a crash that takes the mark back brings the damage back."""
        if storage_key not in self.damaged:
            self.damaged.add(storage_key)
            self._count["records_quarantined"] += 1
            self._alarm("records_damaged", "a record failed its checksum; it is put aside")
        try:
            self._storage.write(
                (
                    Write("facts", QUARANTINE_PREFIX + storage_key, data),
                    Write("records", storage_key, None),
                )
            )
        except StorageError as error:
            # Still known in memory, and met again after a restart: the bytes stay as they were.
            self._unmarked.add(storage_key)
            log.warning("a damaged record could not be put aside: %s", error.message)
        else:
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
        if self._load_for_merge(storage_key) is None:
            return False
        self._storage.write((Write("facts", QUARANTINE_PREFIX + storage_key, None),))
        self.damaged.discard(storage_key)
        self._count["records_mended"] += 1
        return True

    def mark_refill(self, marks: Iterable[tuple[Partition, RefillMark]]) -> int:
        """Durably note that these partitions may have lost writes; returns the write number.

        Raises StorageError; in memory they are marked all the same.
        """
        writes = []
        for place, mark in marks:
            self.refilling[place] = mark
            writes.append(
                Write("facts", REFILL_PREFIX + partition_prefix(*place), _encode_mark(mark))
            )
        return self._storage.write(writes) if writes else self._storage.write_number

    def note_must_refill(self, must: bool) -> int:
        """Durably note, or forget, that everything is still to be marked; returns the write number.
        Raises StorageError."""
        self.must_refill = must
        return self._storage.write((Write("facts", REFILL_ALL, b"1" if must else None),))

    def refilled(self, place: Partition) -> int:
        """Every peer has been read for this partition: forget the mark."""
        del self.refilling[place]
        self._count["partitions_refilled"] += 1
        return self._storage.write(
            (Write("facts", REFILL_PREFIX + partition_prefix(*place), None),)
        )

    def _load_marks(self) -> None:
        try:
            self._read_marks()
        except StorageCorrupt as error:
            # Which partitions and records were in doubt is not known any more: all are.
            self._alarm("marks_damaged", error.message)
            self.must_refill = True

    def _read_marks(self) -> None:
        for key, value in self._facts(REFILL_PREFIX):
            place = (int.from_bytes(key[:2]), int.from_bytes(key[2:6]))
            self.refilling[place] = _decode_mark(value)
        for key, _ in self._facts(QUARANTINE_PREFIX):
            self.damaged.add(key)
        self.must_refill = self._storage.get("facts", REFILL_ALL) is not None

    def _facts(self, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        start, end = prefix, prefix[:-1] + bytes([prefix[-1] + 1])
        while True:
            page = self._storage.scan("facts", start, end, count_max=1000, bytes_max=1 << 20)
            for key, value in page:
                yield key[len(prefix) :], value
            if not page:
                return
            start = page[-1][0] + b"\0"


SYNCED: Final = Synced()

_encode_mark = msgspec.msgpack.Encoder().encode
_mark_decoder = msgspec.msgpack.Decoder(RefillMark)


def _nothing() -> None:
    """What is called until the node says otherwise."""


def _decode_mark(data: bytes) -> RefillMark:
    try:
        return _mark_decoder.decode(data)
    except msgspec.DecodeError as error:
        raise StorageCorrupt(f"a refill mark cannot be read: {error}") from None


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
