"""What this node keeps on its disk for absent nodes: one hint a (target, key).

A hint with a record is kept by a fallback, which owns nothing of the key: it is minted into and merged
like a record, and takes its birth with it. A bare marker is kept by an owner, whose own record is what
it owes. Hints leave by `settle`, only as the very record that the target has on its disk, or all at
once where the disk is an older one. Knows nothing of messages, nor of how hints are delivered.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Final, NamedTuple

from antientropy.hints import Held
from dynamo.commit import GroupCommit
from dynamo.errors import DynamoError, Malformed, StorageCorrupt, StorageError
from dynamo.hint_account import HintAccount
from dynamo.keys import after_prefix, hint_prefix, split_hint_key, split_storage_key
from dynamo.metrics import Metrics
from dynamo.own_records import OwnRecords
from dynamo.ports import Clock, Storage, Write
from dynamo.record import Record
from dynamo.refusing import HintRefused
from dynamo.seen import Seen
from dynamo.stored import Stored, StoredHint, decode_hint, encode_hint

log = logging.getLogger(__name__)

#: Of the writes that are on disk by now, so many are forgotten with each new one.
FORGOTTEN_A_WRITE: Final = 8

__all__ = ("Held", "Hint", "HintStore", "Owed")


class Hint(NamedTuple):
    """What is owed to `target`. `key`: routing key. `record`: encoded; of a marker this node's own, as
    it is now."""

    target: str
    cls: int
    partition: int
    key: bytes
    record: bytes
    is_marker: bool


class Owed(NamedTuple):
    """What came of markers. `number`: of the write to wait for. `refused`: target -> why not."""

    number: int
    refused: dict[str, str]


class HintStore(HintAccount):
    """The hints of one node. It and the replica are one: nothing else writes hints."""

    def __init__(
        self,
        *,
        own: OwnRecords,
        storage: Storage,
        commit: GroupCommit,
        clock: Clock,
        metrics: Metrics,
        window_s: int,
        bytes_max: int,
        down: AbstractSet[str],
    ) -> None:
        """`own`: what markers speak of. `window_s`, `bytes_max`: as in the node's configuration.
        `down`: members that are down in this node's opinion, the same object all along."""
        super().__init__(
            storage=storage,
            alarm=own.refusing.alarm,
            metrics=metrics,
            window_s=window_s,
            bytes_max=bytes_max,
        )
        self._own = own
        self._commit = commit
        self._clock = clock
        #: The wall clock's milliseconds when the monotonic one was at 0.
        self._epoch_ms = max(clock.wall_ms(), 0) - int(clock.monotonic() * 1000)
        self._down = down
        #: How many a page left out so far, since they could not be told yet.
        self.left_out = 0

    def __repr__(self) -> str:
        return f"HintStore({self._book})"

    # What there is ------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Milliseconds since 1970 by the wall clock of this start: who sets it meanwhile, or puts the
        machine to sleep, neither ends a window nor makes a hint old."""
        return self._epoch_ms + int(self._clock.monotonic() * 1000)

    def has_for(self, target: str, storage_prefix: bytes) -> bool:
        """True if there is a hint for the target whose storage key starts so, or it cannot be said: a
        look at one. None is shown while all are being dropped."""
        if self._discarding or (self.counted and not self._book.count(target)):
            return False
        start = hint_prefix(target) + storage_prefix
        try:
            found = self._storage.scan(
                "hints", start, after_prefix(start), count_max=1, bytes_max=1
            )
        except StorageError:
            return True
        return bool(found)

    def page(
        self, target: str, after: bytes, *, count_max: int, bytes_max: int
    ) -> tuple[tuple[Hint, ...], bytes]:
        """Hints for the target in the order of their keys, from the position `after` on (b"": from the
        first), and the position to go on from, b"" at the end.

        At most `count_max`; no more once their records have `bytes_max` bytes. Those that are not on
        disk yet are left out, as are damaged ones, which are put aside. A marker whose record is gone
        goes too. Raises StorageError.
        """
        if self._discarding:
            return (), b""
        prefix = hint_prefix(target)
        found = self._entries(target, prefix, after, count_max=count_max, bytes_max=bytes_max)
        hints: list[Hint] = []
        void: list[tuple[bytes, StoredHint, int]] = []
        bytes_left = bytes_max
        last = b""
        for hint_key, data in found:
            if bytes_left <= 0:
                break
            last = hint_key
            try:
                kept = decode_hint(hint_key, data)
                record = self._owed_record(hint_key, kept.stored)
            except (StorageCorrupt, Malformed):
                self._put_aside(hint_key, data)
                continue
            if record is None:
                self.left_out += 1
                continue
            if not record:
                void.append((hint_key, kept, len(hint_key) + len(data)))
                continue
            cls, partition, key = split_storage_key(hint_key[len(prefix) :])
            hints.append(Hint(target, cls, partition, key, record, not kept.stored.record))
            bytes_left -= len(record)
        self._remove(void)
        self._count["hints_void"] += len(void)
        return tuple(hints), last[len(prefix) :]

    def look(self, hint_key: bytes) -> Seen | None:
        """The hint, or None. A damaged one is put aside and raised as StorageCorrupt; raises
        StorageError, and HintRefused while all hints are being dropped."""
        kept = self._get(hint_key)
        if kept is None:
            return None
        if not kept.stored.record:
            raise HintRefused("other_kind")
        return Seen(kept.stored)

    def look_for_all(self, storage_key: bytes) -> list[tuple[bytes, Seen]]:
        """Every hint of the key that holds a record, with its hint key. Raises as `look`."""
        if not self._looked:
            raise StorageError("which hints there are is not known yet")
        found = []
        for target in self._book.targets():
            if self.counted and not self._book.count(target):
                continue
            hint_key = hint_prefix(target) + storage_key
            kept = self._get(hint_key)
            if kept is not None and kept.stored.record:
                found.append((hint_key, Seen(kept.stored)))
        return found

    def load_for_merge(self, hint_key: bytes) -> Stored | None:
        """As `look`, less what was worked out of it; a damaged hint counts as gone."""
        try:
            seen = self.look(hint_key)
        except StorageCorrupt:
            if self._storage.get("hints", hint_key) is not None:
                raise  # it could not be put aside, so nothing may be written over it
            return None
        return None if seen is None else seen.stored

    # What is taken ------------------------------------------------------------------------------

    def put(
        self,
        hint_key: bytes,
        stored: Stored | None,
        birth: bytes,
        counter: int,
        record: Record,
        encoded: bytes,
        reserve: bool,
    ) -> int:
        """Write the hint, unsynced; returns the write number. Raises HintRefused, and as
        `Storage.put`."""
        target, _ = split_hint_key(hint_key)
        now_ms = self.now_ms()
        before = self._storage.get("hints", hint_key)
        if before is None:
            data = encode_hint(hint_key, now_ms, birth, counter, encoded)
            grows = len(hint_key) + len(data)
        else:
            created_ms = decode_hint(hint_key, before).created_ms
            data = encode_hint(hint_key, created_ms, birth, counter, encoded)
            grows = len(data) - len(before)
        why = self._book.why_not(target, now_ms, grows=grows, is_new=before is None)
        if why:
            raise HintRefused(why)
        entry = Write("hints", hint_key, data)
        if before is None:
            number = self._write_new([entry], [(target, hint_key, grows)], now_ms, reserve)
        else:
            number = self._write((entry,), reserve)
            if self._is_counted(hint_key):
                self._book.grow(target, grows)
        self._note_unsynced(hint_key, number)
        return number

    def owe(
        self, storage_key: bytes, targets: Iterable[str], beside: Sequence[Write], reserve: bool
    ) -> Owed:
        """Write a marker for each target that has no hint of the key, and `beside`, in one batch. Raises
        as `Storage.write`; markers that are not taken are no error."""
        now_ms = self.now_ms()
        refused: dict[str, str] = {}
        new: list[tuple[str, bytes, int]] = []
        entries = list(beside)
        number = 0
        grows = 0
        for target in dict.fromkeys(targets):
            hint_key = hint_prefix(target) + storage_key
            why, is_there = self._judge_marker(target, hint_key)
            data = encode_hint(hint_key, now_ms, b"", 0, b"")
            size = len(hint_key) + len(data)
            if not why and not is_there:
                is_live = target not in self._down
                why = self._book.why_not(
                    target, now_ms, grows=grows + size, is_new=True, is_live=is_live
                )
            if why:
                refused[target] = why
                continue
            if is_there:
                number = max(number, self.unsynced.get(hint_key, 0))
                continue
            grows += size
            new.append((target, hint_key, size))
            entries.append(Write("hints", hint_key, data))
        if new:
            number = self._write_new(entries, new, now_ms, reserve)
        elif entries:
            number = self._write(entries, reserve)
        for _, hint_key, _ in new:
            self._note_unsynced(hint_key, number)
        return Owed(number, refused)

    # What leaves --------------------------------------------------------------------------------

    def settle(self, delivered: Sequence[Hint]) -> int:
        """Remove each of these hints, which their targets have on disk, if it is still that very record;
        of a marker: if this node's own is. Returns how many were; they need no sync, since what comes
        back in a crash is delivered again."""
        if self._discarding:
            return 0
        settled: dict[bytes, tuple[bytes, StoredHint, int]] = {}
        for hint in delivered:
            storage_key = _storage_key(hint)
            hint_key = hint_prefix(hint.target) + storage_key
            try:
                data = self._storage.get("hints", hint_key)
                if data is None:
                    continue
                kept = decode_hint(hint_key, data)
                record = self._owed_record(hint_key, kept.stored)
            except DynamoError:
                continue  # the next page meets it, and deals with it
            if record == hint.record and bool(kept.stored.record) != hint.is_marker:
                settled[hint_key] = (hint_key, kept, len(hint_key) + len(data))
        removed = self._remove(list(settled.values()))
        self._count["hints_delivered"] += removed
        self._count["hints_changed_meanwhile"] += len(delivered) - len(settled)
        return removed

    # Inside -------------------------------------------------------------------------------------

    def _get(self, hint_key: bytes) -> StoredHint | None:
        if self._discarding:
            raise HintRefused("discarding")
        data = self._storage.get("hints", hint_key)
        if data is None:
            return None
        try:
            return decode_hint(hint_key, data)
        except StorageCorrupt:
            self._put_aside(hint_key, data)
            raise

    def _owed_record(self, hint_key: bytes, stored: Stored) -> bytes | None:
        """What the hint owes, encoded; b"" for a record that is gone, None if nobody can say yet."""
        synced = self._commit.synced
        if self.unsynced.get(hint_key, 0) > synced:
            return None
        if stored.record:
            return stored.record
        _, storage_key = split_hint_key(hint_key)
        cls, partition, _ = split_storage_key(storage_key)
        if self._own.unsynced.get(storage_key, 0) > synced:
            return None
        try:
            if self._own.refilling and self._own.is_earlier(storage_key):
                return None  # what becomes of it is not known
            seen = self._own.look(storage_key)
        except StorageCorrupt:
            return None
        if seen is not None:
            return seen.stored.record
        # What is lost comes back from a peer, and is owed then.
        return None if self._own.lacks_some((cls, partition), storage_key) else b""

    def _judge_marker(self, target: str, hint_key: bytes) -> tuple[str, bool]:
        """(why no marker is taken, or ""; whether one is there)."""
        if self._discarding:
            return "discarding", False
        try:
            kept = self._get(hint_key)
        except StorageCorrupt:
            is_there = self._storage.get("hints", hint_key) is not None
            return ("damaged", False) if is_there else ("", False)
        if kept is not None and kept.stored.record:
            return "other_kind", False
        return "", kept is not None

    def _write_new(
        self, entries: list[Write], new: list[tuple[str, bytes, int]], now_ms: int, reserve: bool
    ) -> int:
        """Write hints that were not there, (target, hint key, size), among `entries`."""
        opened = [target for target, _, _ in new if self._book.since_ms(target) < 0]
        entries += [self._window_entry(target, now_ms) for target in opened]
        number = self._write(entries, reserve)
        for target in opened:
            self._book.open(target, now_ms)
        for target, hint_key, size in new:
            self._book.taken(target)
            self._note_taken(hint_key)
            is_first = self._book.count(target) == 0
            if self._is_counted(hint_key):
                self._taken(target, hint_key, size, now_ms)
            if is_first:
                self.on_hint(target)
        self._count["hints_taken"] += len(new)
        return number

    def _write(self, entries: Sequence[Write], reserve: bool) -> int:
        try:
            family, key, value = entries[0]
            if len(entries) == 1 and value is not None:
                return self._storage.put(family, key, value, reserve=reserve)
            return self._storage.write(entries, reserve=reserve)
        except StorageCorrupt as error:
            # The engine's, not this hint's: what it has done with the write is unknown.
            raise StorageError(error.message) from error

    def _remove(self, gone: list[tuple[bytes, StoredHint, int]]) -> int:
        """Remove these hints, (hint key, what was there, size); returns how many were."""
        if not gone:
            return 0
        try:
            # A disk that is nearly full must be able to let go of them.
            self._storage.write([Write("hints", key, None) for key, _, _ in gone], reserve=True)
        except StorageError as error:
            # They stay, or come back, and are delivered again.
            self._count["hints_not_removed"] += len(gone)
            log.warning("hints could not be removed: %s", error.message)
            return 0
        for hint_key, kept, size in gone:
            self.unsynced.pop(hint_key, None)
            target, _ = split_hint_key(hint_key)
            if self._is_counted(hint_key):
                self._gone(target, hint_key, size, kept.created_ms)
            self._forget_window(target)
        return len(gone)

    def _note_unsynced(self, hint_key: bytes, number: int) -> None:
        unsynced, synced = self.unsynced, self._commit.synced
        unsynced.pop(hint_key, None)
        # A few at a time, so that no write pays for all: those that stay say nothing wrong.
        for oldest in list(islice(unsynced, FORGOTTEN_A_WRITE)):
            if unsynced[oldest] > synced:
                break
            del unsynced[oldest]
        unsynced[hint_key] = number


def _storage_key(hint: Hint) -> bytes:
    return hint.cls.to_bytes(2) + hint.partition.to_bytes(4) + hint.key
