"""The records of partitions of a disk that went back in time, until it is known what became of them.

What the disk had (its *earlier* records) may be long gone elsewhere, so it is neither shown nor merged
with what comes: the first that comes for a key takes its place, and a fact beside it keeps what was
there, b"" if that adds nothing. Then each earlier record is judged by what has come since
(`dynamo.earlier`), or, if nobody is there to tell, merged back. What nobody knows is kept among the
facts, for people. Each step is one plain call, one batch a key: a crash leaves no key in between. Knows
nothing of peers, nor of when anything is to be judged.

    "earlier/" storage key, generation u64 -> the envelope of what was there, or b""
    "aside/" storage key, write number u64 -> the envelope of values that nobody else knows
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from dynamo.earlier import Judged, judge
from dynamo.errors import StorageCorrupt
from dynamo.keys import after_prefix, partition_prefix, partition_range
from dynamo.metrics import Metrics
from dynamo.own_records import OwnRecords
from dynamo.ports import Storage, Write
from dynamo.record import EMPTY, FORMAT, Record, encode_record, merge, read_record
from dynamo.refill_marks import EARLIER_PREFIX, GENERATION_BYTES, Partition, place_of
from dynamo.seen import Seen
from dynamo.stored import Stored, decode_stored, encode_stored
from dynamo.version import Dot, Vector

ASIDE_PREFIX: Final = b"aside/"
#: Looked at in one go: a millisecond or two.
PAGE_ENTRIES: Final = 256
PAGE_BYTES: Final = 256 << 10


class SetBack:
    """As a shelf (`dynamo.merging`), what has come since; beside it, what was there before."""

    def __init__(self, *, own: OwnRecords, storage: Storage, metrics: Metrics) -> None:
        self._own = own
        self._storage = storage
        self._count = metrics.count
        self._alarm = own.refusing.alarm
        self.unsynced = own.unsynced
        #: Records with values that nobody else knew, as far as they are counted.
        self.aside = 0

    # The shelf ----------------------------------------------------------------------------------

    def look(self, storage_key: bytes) -> Seen | None:
        """What has come since, or None. Raises as `OwnRecords.look`."""
        return None if self._own.is_earlier(storage_key) else self._own.look(storage_key)

    def load_for_merge(self, storage_key: bytes) -> Stored | None:
        """As `look`; raises as `OwnRecords.load_for_merge`."""
        return None if self._own.is_earlier(storage_key) else self._own.load_for_merge(storage_key)

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
        """Write what has come; what was there before is kept beside it. Raises as `OwnRecords.put`."""
        before, beside = self.part(storage_key, before, record)

        def write(entries: Sequence[Write]) -> int:
            return self._storage.write((*entries, *beside), reserve=reserve)

        return self._own.put_beside(storage_key, before, birth, counter, record, encoded, write)

    def part(
        self, storage_key: bytes, before: Stored | None, record: Record
    ) -> tuple[Stored | None, tuple[Write, ...]]:
        """What lies under the key, and what keeps it, to be written with a record that takes its place.
        `before`: as `load_for_merge` has it. Raises as `OwnRecords.load_for_merge`."""
        own = self._own
        if not own.is_earlier(storage_key):
            return before, ()
        there = own.load_for_merge(storage_key)
        kept = b""
        if there is not None and merge(record, read_record(there.record)) != record:
            kept = encode_stored(storage_key, b"", 0, there.record)
        return there, (Write("facts", own.earlier_key(storage_key), kept),)

    def tell_apart(self, arrivals: Iterable[tuple[bytes, Vector]]) -> None:
        """What came before it was found out that the disk went back, as (storage key, vector of all
        that came), is none of what was there before. Raises StorageError."""
        own = self._own
        for storage_key, vector in arrivals:
            if not own.is_earlier(storage_key):
                continue
            there = own.load_for_merge(storage_key)
            if there is None:
                continue
            seen = dict(vector)
            came = tuple(
                sibling
                for sibling in read_record(there.record).siblings
                if sibling.counter <= seen.get(sibling.birth, 0)
            )
            record = Record(FORMAT, vector, came)
            self.put(storage_key, None, b"", 0, record, encode_record(record), True)

    # What becomes of what was there -------------------------------------------------------------

    def judge_records(self, place: Partition, after: bytes) -> bytes:
        """Judge a page of the records for which nothing has come: nobody knows them. Returns the storage
        key to go on after, b"" at the end. Raises StorageError."""
        start, end = partition_range(*place)
        found = self._storage.scan(
            "records",
            after + b"\0" if after else start,
            end,
            count_max=PAGE_ENTRIES,
            bytes_max=PAGE_BYTES,
        )
        for storage_key, _ in found:
            if self._own.is_earlier(storage_key):
                self._judge_record(place, storage_key)
        return found[-1][0] if found else b""

    def judge_kept(self, place: Partition, after: bytes) -> bytes:
        """Judge a page of what is kept beside what has come since. Returns as `judge_records`. Raises
        StorageError."""
        own = self._own
        found = self._kept(EARLIER_PREFIX + partition_prefix(*place), after)
        for fact, data in found:
            storage_key = fact[len(EARLIER_PREFIX) : -GENERATION_BYTES]
            if not data:
                continue
            there = own.load_for_merge(storage_key)
            since = EMPTY if there is None else read_record(there.record)
            judged = judge(self._read(storage_key, data), since.vector, self._ours(place))
            beside = (
                # It stays as a sign that something has come.
                Write("facts", fact, b"" if fact == own.earlier_key(storage_key) else None),
                *self._set_aside(storage_key, judged),
            )
            self._put(storage_key, there, since, judged.kept, beside)
            self._note(judged)
        return found[-1][0] if found else b""

    def sweep(self, prefix: bytes, after: bytes) -> bytes:
        """Let a page of what was kept go, where it is no longer needed; of partitions that were not
        judged it is merged back. `prefix`: of the facts' keys. Returns as `judge_records`, the key of a
        fact. Raises StorageError."""
        own = self._own
        found = self._kept(prefix, after)
        void = []
        for fact, data in found:
            storage_key = fact[len(EARLIER_PREFIX) : -GENERATION_BYTES]
            if own.is_back(place_of(storage_key)):
                continue
            gone = Write("facts", fact, None)
            if not data:
                void.append(gone)
                continue
            there = own.load_for_merge(storage_key)
            since = EMPTY if there is None else read_record(there.record)
            self._put(storage_key, there, since, self._read(storage_key, data), (gone,))
            self._count["earlier_records_returned"] += 1
        if void:
            self._storage.write(void, reserve=True)
        return found[-1][0] if found else b""

    def count_aside(self, after: bytes) -> bytes:
        """Count a page of what was set aside by starts of before. Returns as `sweep`. Raises
        StorageError."""
        found = self._kept(ASIDE_PREFIX, after)
        self.aside += len(found)
        return found[-1][0] if found else b""

    # Inside -------------------------------------------------------------------------------------

    def _kept(self, prefix: bytes, after: bytes) -> list[tuple[bytes, bytes]]:
        return self._storage.scan(
            "facts",
            after + b"\0" if after else prefix,
            after_prefix(prefix),
            count_max=PAGE_ENTRIES,
            bytes_max=PAGE_BYTES,
        )

    def _ours(self, place: Partition) -> tuple[bytes, ...]:
        return self._own.refilling[place].ours

    def _judge_record(self, place: Partition, storage_key: bytes) -> None:
        own = self._own
        there = own.load_for_merge(storage_key)
        if there is None:
            return  # it was damaged, and is mended
        judged = judge(read_record(there.record), (), self._ours(place))
        beside = self._set_aside(storage_key, judged)
        if judged.kept:
            # It stays as one that has come since.
            seen = Write("facts", own.earlier_key(storage_key), b"")
            self._replace(storage_key, there, (b"", 0), judged.kept, (*beside, seen))
        else:
            own.remove(storage_key, there, beside)
            self._count["earlier_records_removed"] += 1
        self._note(judged)

    def _set_aside(self, storage_key: bytes, judged: Judged) -> tuple[Write, ...]:
        if not judged.aside:
            return ()
        number = (self._storage.write_number + 1).to_bytes(GENERATION_BYTES)
        data = encode_stored(storage_key, b"", 0, encode_record(judged.aside))
        return (Write("facts", ASIDE_PREFIX + storage_key + number, data),)

    def _note(self, judged: Judged) -> None:
        self._count["earlier_tombstones_dropped"] += judged.tombstones
        if judged.aside:
            self.aside += 1
            self._alarm(
                "records_set_aside",
                "this disk went back, and had values that no peer knows; they are kept, not shown",
            )

    def _put(
        self,
        storage_key: bytes,
        there: Stored | None,
        since: Record,
        kept: Record,
        beside: tuple[Write, ...],
    ) -> None:
        """Merge into what has come since, if that adds anything, and write what goes with it."""
        merged = merge(since, kept)
        if merged is since:
            self._storage.write(beside, reserve=True)
        else:
            birth = (b"", 0) if there is None else (there.birth, there.counter)
            self._replace(storage_key, there, birth, merged, beside)

    def _replace(
        self,
        storage_key: bytes,
        there: Stored | None,
        birth: Dot,
        record: Record,
        beside: tuple[Write, ...],
    ) -> None:
        def write(entries: Sequence[Write]) -> int:
            return self._storage.write((*entries, *beside), reserve=True)

        self._own.put_beside(storage_key, there, *birth, record, encode_record(record), write)

    def _read(self, storage_key: bytes, data: bytes) -> Record:
        """What was kept; nothing, with an alarm, if that is damaged: a disk that went back and rots."""
        try:
            return read_record(decode_stored(storage_key, data).record)
        except StorageCorrupt as error:
            self._alarm("earlier_records_damaged", error.message)
            return EMPTY
