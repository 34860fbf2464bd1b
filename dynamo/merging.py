"""Read, merge, write: how a record changes, by a mint or by what another node has of it.

Each step is one plain call without an await, so it is atomic without a lock. It reads and writes one
shelf: this node's own records, or the hints that it keeps for others; each hint has a birth of its own.
Knows nothing of who asks, nor of partitions and their owners: the replica does (`dynamo.replica`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from dynamo.arrivals import Arrivals
from dynamo.commit import GroupCommit
from dynamo.context import CONTEXT_BYTES_MAX, context_bytes
from dynamo.errors import Malformed, StorageCorrupt
from dynamo.hybrid_clock import HybridClock
from dynamo.keys import check_routing_key
from dynamo.last_write import refused_ahead, refused_older
from dynamo.leaf import LeafHasher
from dynamo.metrics import Metrics
from dynamo.own_records import OwnRecords
from dynamo.ports import Clock, Storage
from dynamo.record import (
    EMPTY,
    RECORD_BYTES_MAX,
    RECORD_BYTES_WARN,
    SIBLINGS_MAX,
    SIBLINGS_WARN,
    Record,
    decode_record,
    encode_record,
    highest_stamp,
    merge,
    mint,
    read_record,
    without_expired,
    without_expired_bodies,
)
from dynamo.refusing import STAMPS_USED_UP
from dynamo.resolve import holds
from dynamo.rpc.messages import NO_HINT, Mint, Minted, Refused, Store
from dynamo.seen import Seen
from dynamo.stored import Stored
from dynamo.version import Dot, Vector, birth_bytes, birth_sequence, join

#: So many incarnations of one process are told from others.
INCARNATIONS_MAX: Final = 64


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
        self,
        storage_key: bytes,
        before: Stored | None,
        birth: bytes,
        counter: int,
        record: Record,
        encoded: bytes,
        reserve: bool,
        /,
    ) -> int:
        """Write it, unsynced; returns its write number. `before`: what is there, as it was just read.
        Raises as `Storage.put`, and HintRefused."""
        ...


#: As `Shelf.put`.
Put = Callable[[bytes, Stored | None, bytes, int, Record, bytes, bool], int]


class Merging(OwnRecords):
    """What mints and merges, under one incarnation."""

    def __init__(
        self,
        *,
        storage: Storage,
        commit: GroupCommit,
        clock: Clock,
        metrics: Metrics,
        incarnation: bytes,
        hasher: LeafHasher,
    ) -> None:
        """`incarnation`: as `version.incarnation_bytes`, synced before this is called. `hasher`: of the
        cluster's hash trees."""
        super().__init__(storage=storage, commit=commit, metrics=metrics, hasher=hasher)
        self._clock = clock
        #: Of the node's clock.
        self.wall_ns = clock.wall_ns
        self._incarnation = incarnation
        #: Those of this process, the last of them if there were many.
        self.incarnations: tuple[bytes, ...] = (incarnation,)
        #: What has come since the start, while that has to be told from what was there.
        self.arrivals = Arrivals(metrics=metrics)
        self._sequence = 0
        #: Begins anew with each process: a mint goes above the record that it reads from disk.
        self._stamps = HybridClock()
        #: Called when a dot shows that someone else runs under this incarnation.
        self.on_foreign_dot: Callable[[], None] = lambda: None

    @property
    def incarnation(self) -> bytes:
        """What the births that it takes begin with."""
        return self._incarnation

    def renew_incarnation(self, incarnation: bytes) -> None:
        """From now on mint under another incarnation; the births of the old one are left alone."""
        self._incarnation = incarnation
        self.incarnations = (*self.incarnations, incarnation)[-INCARNATIONS_MAX:]
        self._sequence = 0

    def forget_incarnations(self) -> None:
        """What was minted under those before this one is of a past that this node may have lost."""
        self.incarnations = self.incarnations[-1:]

    def mint_into(
        self, shelf: Shelf, storage_key: bytes, message: Mint, reserve: bool, put: Put
    ) -> tuple[Minted | Refused, int]:
        """The write with its dot and the number of what was written; or why there is none, and 0.

        `put`: that of the shelf, or what also writes beside it. Raises DynamoError.
        """
        check_routing_key(message.key)
        seen = shelf.look(storage_key)
        stored = None if seen is None else seen.stored
        record = EMPTY if stored is None else read_record(stored.record)
        if message.seen:
            record = merge(record, decode_record(message.seen))
        now_ms = self._clock.wall_ms()
        condition = message.condition
        # By the clock of who has read the record for it: one request is judged by one clock.
        if condition is not None and not holds(
            condition, record, condition.now_ms or now_ms, message.lww
        ):
            self._count["preconditions_failed"] += 1
            return _condition_failed(record), 0
        # What the client was shown cannot be ahead of this record's own birth, unless this
        # record went back: then that birth must not go on.
        self._check_births(message.context, stored)
        if message.seen:
            self._check_births(record.vector, stored)
        covers, stamp, above = message.context, 0, message.above
        bare = False
        for sibling in record.siblings:
            if sibling.stamp > above:
                above = sibling.stamp
            if sibling.content is None:
                bare = True
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
        if bare:
            # What nothing can ever show again is not carried along.
            minted = without_expired(minted, 0, but=(birth, counter))
        encoded = encode_record(minted)
        cap = _cap_passed(minted, encoded)
        if cap or len(minted.siblings) > SIBLINGS_WARN:
            minted, encoded, cap = _with_room(minted, encoded, cap, now_ms, (birth, counter))
        if cap:
            self._count["records_full"] += 1
            return _record_full(record, cap), 0
        number = put(storage_key, stored, birth, counter, minted, encoded, reserve)
        if len(minted.siblings) > SIBLINGS_WARN or len(encoded) > RECORD_BYTES_WARN:
            self._count["records_large"] += 1
        return Minted(encoded, birth, counter), number

    def merge_in(
        self, shelf: Shelf, storage_key: bytes, message: Store, reserve: bool
    ) -> int | Refused | None:
        """Write number to wait for, or None if what is on disk already covers the message. A refusal if
        it is a client's write that does not count, for its stamp. Raises DynamoError."""
        stored = shelf.load_for_merge(storage_key)
        if stored is not None and stored.record == message.record:
            if self.arrivals.is_open:
                self._note_arrival(storage_key, read_record(stored.record), message.hint_for)
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
            number = shelf.put(storage_key, None, b"", 0, incoming, message.record, reserve)
            if self.arrivals.is_open:
                self._note_arrival(storage_key, incoming, message.hint_for)
            return number
        local = read_record(stored.record)
        merged = merge(local, incoming)
        pending: int | None
        if merged == local:
            pending = shelf.unsynced.get(storage_key)
        else:
            dots = {(s.birth, s.counter) for s in merged.siblings}
            if len(dots) < len(merged.siblings):
                self._alarm("dots_with_two_values", "one dot has two values; both are kept")
            encoded = message.record if merged == incoming else encode_record(merged)
            pending = shelf.put(
                storage_key, stored, stored.birth, stored.counter, merged, encoded, reserve
            )
        if self.arrivals.is_open:
            self._note_arrival(storage_key, incoming, message.hint_for)
        if message.lww:
            return refused_older(incoming, merged) or pending
        return pending

    def _note_arrival(self, storage_key: bytes, incoming: Record, hint_for: int) -> None:
        """Of a key that this node owns: should its disk turn out to have gone back, this is no part of
        what that had before."""
        if hint_for == NO_HINT:
            self.arrivals.note(storage_key, incoming.vector)

    def let_bodies_go(self, storage_key: bytes, entry: bytes, now_ms: int) -> tuple[int, int]:
        """Write this node's record without the bodies of values that expired long before `now_ms`
        (`record.without_expired_bodies`); returns the number of the write and the bytes of the record.
        What stands for it in trees and digests stays, so no replica sees a difference.

        `entry`: of the queue, by which it was found, and which goes; where it is stale, it alone. Uses
        the space that is kept free, as deletes do. Raises StorageError.
        """
        size = 0
        try:
            seen = self.look(storage_key)
        except StorageCorrupt:
            seen = None  # once it is mended, it has an entry anew
        if seen is not None:
            stored = seen.stored
            size = len(stored.record)
            record = seen.record()
            bare = without_expired_bodies(record, now_ms)
            if bare is not record:
                encoded = encode_record(bare)
                number = self.put(
                    storage_key, stored, stored.birth, stored.counter, bare, encoded, True
                )
                self._count["expired_bodies_dropped"] += 1
                return number, size
        self._count["expiries_stale"] += 1
        return self.unqueue(entry), size

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


def _with_room(
    minted: Record, encoded: bytes, cap: str, now_ms: int, dot: Dot
) -> tuple[Record, bytes, str]:
    """The record of a mint, encoded, and the cap that it passes: less all that has expired. Who writes
    to a key without reading it first, each time with a time to live, must not meet a cap by that."""
    slim = without_expired(minted, now_ms, but=dot)
    if slim is minted:
        return minted, encoded, cap
    encoded = encode_record(slim)
    return slim, encoded, _cap_passed(slim, encoded)


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
