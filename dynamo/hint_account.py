"""Which hints this node has on its disk, how many and how large, and since when they have been taken.

The account (`antientropy.hints`) lies in memory. After a start it is made up by a scan, a page at a
time; meanwhile the bounds go by what has been counted. What is written before or behind the place
that the scan has reached is counted once: here or by the scan. Windows are among the node's own facts,
so that no restart opens one anew. Hints of an older disk are dropped as a whole, page by page too.
Knows nothing of what hints say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from antientropy.hints import Held, HintBook
from dynamo.errors import Malformed, StorageError
from dynamo.hint_keys import HintKeys
from dynamo.keys import PREFIX_BYTES, after_prefix, hint_prefix, split_hint_key
from dynamo.metrics import Metrics
from dynamo.ports import Storage, Write
from dynamo.refill_marks import facts
from dynamo.stored import CREATED_BYTES

log = logging.getLogger(__name__)

#: Since when hints have been taken for a target.
WINDOW_PREFIX: Final = b"hinted/"
#: All hints are to be dropped.
DISCARD_KEY: Final = b"hints-discard"
QUARANTINE_PREFIX: Final = b"quarantine-hint/"
#: Read in one go by whoever reads all hints.
PAGE_ENTRIES: Final = 1_000
PAGE_BYTES: Final = 1 << 20
RETRY_SECONDS: Final = 5.0
_END: Final = b"\xff"


class HintAccount:
    """The account of one node's hints, kept in step with its disk."""

    def __init__(
        self,
        *,
        storage: Storage,
        alarm: Callable[[str, str], None],
        metrics: Metrics,
        window_s: int,
        bytes_max: int,
    ) -> None:
        """`alarm`: as `Refusing.alarm`. `window_s`, `bytes_max`: as in the node's configuration."""
        self._storage = storage
        self._count = metrics.count
        self._alarm = alarm
        self._book = HintBook(window_ms=window_s * 1000, bytes_max=bytes_max)
        self._keys = HintKeys()
        #: Hints of each partition, by its storage prefix, as far as they are counted; no others.
        self._places: dict[bytes, int] = {}
        #: Hints that were taken for each partition since the start.
        self._taken_in: dict[bytes, int] = {}
        #: Hint keys whose last write is not known to be on disk, and its number, in that order.
        self.unsynced: dict[bytes, int] = {}
        #: Called with the target when a hint is taken for one that had none.
        self.on_hint: Callable[[str], None] = lambda target: None
        #: The account is complete.
        self.counted = False
        #: Up to here, exclusively, it is.
        self._position = b""
        #: Windows and targets are known.
        self._looked = False
        self._discarding = False
        self._work = asyncio.Event()
        self.recount()

    def held(self) -> tuple[Held, ...]:
        """Targets with hints, in order of id; until all are counted, those that may have some too."""
        return () if self._discarding else self._book.held(empty=not self.counted)

    def windows(self) -> tuple[str, ...]:
        """Targets whose hint window is open or over: those that `steady` is to be told of."""
        return self._book.targets()

    @property
    def held_bytes(self) -> int:
        """Of all hints, keys and values, as far as they are counted."""
        return self._book.bytes

    def count_in(self, place: bytes) -> int | None:
        """Hints of the partition with this storage prefix, for whomever; None if nobody can say: they
        are being counted, or dropped."""
        return self._places.get(place, 0) if self.counted else None

    def taken_in(self, place: bytes) -> int:
        """How many hints were taken for this partition since the start."""
        return self._taken_in.get(place, 0)

    def steady(self, target: str) -> None:
        """The target has been up without a break for long enough: once no hint is left for it, its
        window can begin anew. To be said again as long as it is so: each hint that is taken takes it
        back."""
        self._book.steady(target)
        self._forget_window(target)

    def discard_all(self) -> None:
        """Drop all hints: this disk is an older one, and what they hold may have been overwritten or
        deleted meanwhile. Some at once, the others as `run` gets to them; none is shown any more. Raises
        StorageError if that cannot be noted."""
        self._storage.write((Write("facts", DISCARD_KEY, b"1"),), reserve=True)
        self._begin_discarding()
        self._discard_some()

    # In the background --------------------------------------------------------------------------

    def recount(self) -> None:
        """Make up the account anew: of a storage that was opened, or opened again."""
        self._book.clear()
        self._keys.clear()
        self._places.clear()
        self.unsynced.clear()
        self._position = b""
        self.counted = self._looked = False
        try:
            self._look_around()
        except StorageError as error:
            log.warning("hints could not be looked through yet: %s", error.message)
        if not self.counted:
            self._work.set()

    async def run(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Count the hints, drop those that are to be dropped, a page at a time. For ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            while not self.counted:
                try:
                    if self._discarding:
                        self._discard_some()
                    else:
                        self._count_some()
                except StorageError as error:
                    self._count["hint_scans_failed"] += 1
                    count = self._count["hint_scans_failed"]
                    if count & (count - 1) == 0:
                        told = error.message
                        log.warning("hints could not be read through (%s so far): %s", count, told)
                    await sleep(RETRY_SECONDS)
                else:
                    await sleep(0.0)

    def _look_around(self) -> None:
        """Know what is needed before all is counted: windows, and which targets there are."""
        for name, value in facts(self._storage, WINDOW_PREFIX):
            self._book.open(name.decode(errors="replace"), int.from_bytes(value[:CREATED_BYTES]))
        has_hints = self._find_targets()
        self._looked = True
        if self._discarding or self._storage.get("facts", DISCARD_KEY) is not None:
            self._begin_discarding()
        elif not has_hints:
            self._end_counting()

    def _count_some(self) -> None:
        if not self._looked:
            self._look_around()
            return
        page = self._scan_on()
        for hint_key, data in page:
            try:
                target, _ = split_hint_key(hint_key)
            except Malformed:
                self._put_aside(hint_key, data)
                continue
            created_ms = int.from_bytes(data[:CREATED_BYTES])
            self._book.add(target, len(hint_key) + len(data), created_ms)
            self._change_place(hint_key, 1)
        if not page:
            self._end_counting()

    def _scan_on(self) -> list[tuple[bytes, bytes]]:
        """The next page of all hints; what it holds is counted from now on."""
        page = self._storage.scan(
            "hints", self._position, _END, count_max=PAGE_ENTRIES, bytes_max=PAGE_BYTES
        )
        if page:
            self._position = page[-1][0] + b"\0"
        return page

    def _end_counting(self) -> None:
        self.counted = True
        for target in self._book.targets():
            if self._book.count(target):
                self.on_hint(target)

    def _find_targets(self) -> bool:
        """Know which targets there are, by a look at the first hint of each; False for none."""
        start = b""
        while True:
            first = self._storage.scan("hints", start, _END, count_max=1, bytes_max=1)
            if not first:
                return start != b""
            hint_key = first[0][0]
            try:
                target, _ = split_hint_key(hint_key)
            except Malformed:
                start = hint_key + b"\0"  # the count puts it aside
                continue
            self._book.know(target)
            start = after_prefix(hint_prefix(target))

    @property
    def is_discarding(self) -> bool:
        """True until all hints are gone, once they are to be discarded."""
        return self._discarding

    def _begin_discarding(self) -> None:
        log.error("all hints are dropped: this disk is older than what peers know of this node")
        self._discarding = True
        self._book.clear()
        self._keys.clear()
        self._places.clear()
        self.unsynced.clear()
        self._position = b""
        self.counted = False
        self._work.set()

    def _discard_some(self) -> None:
        page = self._scan_on()
        if page:
            self._storage.write([Write("hints", key, None) for key, _ in page], reserve=True)
            self._count["hints_discarded"] += len(page)
        if len(page) == PAGE_ENTRIES or sum(len(k) + len(v) for k, v in page) >= PAGE_BYTES:
            return
        windows = [name for name, _ in facts(self._storage, WINDOW_PREFIX)]
        self._storage.write(
            [
                *(Write("facts", WINDOW_PREFIX + name, None) for name in windows),
                Write("facts", DISCARD_KEY, None),
            ],
            reserve=True,
        )
        self._discarding = False
        self._end_counting()

    # For who reads and writes hints -------------------------------------------------------------

    def _is_counted(self, hint_key: bytes) -> bool:
        return self.counted or hint_key < self._position

    def _entries(
        self, target: str, prefix: bytes, after: bytes, *, count_max: int, bytes_max: int
    ) -> list[tuple[bytes, bytes]]:
        """As `Storage.scan`, of the hints of a target, whose keys start with `prefix`, behind the
        position `after`; few are not searched for among many that have left."""
        count = self._book.count(target)
        known = self._keys.all_after(target, prefix + after, count) if self.counted else None
        if known is not None:
            found = self._read(known, count_max=count_max, bytes_max=bytes_max)
            if found is not None:
                return found
        start = prefix + after + b"\0" if after else prefix
        scanned = self._storage.scan(
            "hints", start, after_prefix(prefix), count_max=count_max, bytes_max=bytes_max
        )
        if self.counted and not after and len(scanned) == count:
            self._keys.learn(target, [hint_key for hint_key, _ in scanned])
        return scanned

    def _read(
        self, hint_keys: list[bytes], *, count_max: int, bytes_max: int
    ) -> list[tuple[bytes, bytes]] | None:
        """As `Storage.scan`, of hints that are there under these keys; None if one is not."""
        found = []
        for hint_key in hint_keys[:count_max]:
            data = self._storage.get("hints", hint_key)
            if data is None:
                self._keys.clear()  # what the disk says counts
                return None
            found.append((hint_key, data))
            bytes_max -= len(hint_key) + len(data)
            if bytes_max <= 0:
                break
        return found

    def _taken(self, target: str, hint_key: bytes, size: int, created_ms: int) -> None:
        self._book.add(target, size, created_ms)
        self._keys.add(target, hint_key)
        self._change_place(hint_key, 1)

    def _gone(self, target: str, hint_key: bytes, size: int, created_ms: int) -> None:
        self._book.remove(target, size, created_ms)
        self._keys.remove(target, hint_key)
        self._change_place(hint_key, -1)

    def _change_place(self, hint_key: bytes, change: int) -> None:
        place = _place_of(hint_key)
        count = self._places.get(place, 0) + change
        if count > 0:
            self._places[place] = count
        else:
            self._places.pop(place, None)

    def _note_taken(self, hint_key: bytes) -> None:
        place = _place_of(hint_key)
        self._taken_in[place] = self._taken_in.get(place, 0) + 1

    def _window_entry(self, target: str, now_ms: int) -> Write:
        """What opens the target's window, beside its first hint."""
        return Write("facts", WINDOW_PREFIX + target.encode(), now_ms.to_bytes(CREATED_BYTES))

    def _forget_window(self, target: str) -> None:
        if not self.counted or not self._book.may_forget(target):
            return
        try:
            self._storage.write(
                (Write("facts", WINDOW_PREFIX + target.encode(), None),), reserve=True
            )
        except StorageError as error:
            log.warning("a hint window could not be closed: %s", error.message)
            return  # said again
        self._book.close(target)

    def _put_aside(self, hint_key: bytes, data: bytes) -> None:
        """A damaged hint is neither served nor lost; its key is left to repair."""
        self._alarm("hints_damaged", "a hint failed its checksum; it is put aside")
        try:
            self._storage.write(
                (
                    Write("facts", QUARANTINE_PREFIX + hint_key, data),
                    Write("hints", hint_key, None),
                )
            )
        except StorageError as error:
            log.warning("a damaged hint could not be put aside: %s", error.message)
            return  # met again
        self.unsynced.pop(hint_key, None)
        try:
            target, _ = split_hint_key(hint_key)
        except Malformed:
            return  # it was never counted
        if self._is_counted(hint_key):
            created_ms = int.from_bytes(data[:CREATED_BYTES])
            self._gone(target, hint_key, len(hint_key) + len(data), created_ms)


def _place_of(hint_key: bytes) -> bytes:
    """The storage prefix of the partition that a hint's key is of."""
    start = 1 + hint_key[0]
    return hint_key[start : start + PREFIX_BYTES]
