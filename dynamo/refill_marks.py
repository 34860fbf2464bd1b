"""Which partitions and records of one node's disk may lack writes, as durable marks among its own facts.

A partition's mark stays until peers have given it back (`dynamo.refill`); that of a disk that went back
in time also says that what it had before is not to be trusted yet (`dynamo.set_back`). Knows nothing of
how anything is read back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from dynamo.errors import StorageCorrupt
from dynamo.keys import PREFIX_BYTES, after_prefix, partition_prefix
from dynamo.metrics import Metrics
from dynamo.ports import Storage, Write

REFILL_PREFIX: Final = b"refill/"
#: Every partition is to be marked as soon as it is known which there are.
REFILL_ALL: Final = b"refill-all"
_ALL: Final = b"1"
_ALL_BACK: Final = b"2"
QUARANTINE_PREFIX: Final = b"quarantine/"
#: Of keys that something has come for since the disk went back: what it had of them before, or b"".
EARLIER_PREFIX: Final = b"earlier/"
GENERATION_BYTES: Final = 8

Partition = tuple[int, int]


class RefillMark(msgspec.Struct, frozen=True, array_like=True):
    """A partition that may have lost writes. `owed`: peers not yet read. `serving`: counts again.

    `back`: not 0 if the disk went back in time: what it had then (its *earlier* records) is kept apart
    from what has come since, until peers have shown what became of it; the number tells this time from
    others. `whole`: a peer that has lost nothing has been read since. `ours`: incarnations of this
    node from after the disk went back.
    """

    owed: tuple[str, ...]
    serving: bool
    back: int = 0
    whole: bool = False
    ours: tuple[bytes, ...] = ()


class RefillMarks:
    """The marks of one disk."""

    def __init__(
        self, *, storage: Storage, metrics: Metrics, alarm: Callable[[str, str], None]
    ) -> None:
        """`alarm`: as of `Refusing`."""
        self._storage = storage
        self._count = metrics.count
        self._alarm = alarm
        self.refilling: dict[Partition, RefillMark] = {}
        #: Everything is to be refilled, and is not marked yet: there was no ring, or the marks of
        #: before cannot be read.
        self.must_refill = False
        #: Then, too: as far as is known, the disk went back.
        self.must_set_back = False
        #: Storage keys whose records were found damaged.
        self.damaged: set[bytes] = set()
        self._load_marks()

    def lacks_some(self, place: Partition, storage_key: bytes) -> bool:
        """True while this copy may have lost writes: of the record, or of the whole partition."""
        mark = self.refilling.get(place)
        return storage_key in self.damaged or (mark is not None and not mark.serving)

    def is_back(self, place: Partition) -> bool:
        """True while this disk, which went back in time, may have of the partition what is long gone."""
        mark = self.refilling.get(place)
        return mark is not None and mark.back > 0

    def is_whole(self, place: Partition, asker: str = "") -> bool:
        """True if what is here can be compared with other copies, and what is not here says something:
        nothing was lost, or it was read back, also from `asker`."""
        mark = self.refilling.get(place)
        return mark is None or (mark.serving and asker not in mark.owed)

    def is_incomparable(self, place: Partition) -> bool:
        """True while what is here must not be held against other copies: some of it may be lost, or long
        gone elsewhere."""
        return self.must_refill or not self.is_whole(place) or self.is_back(place)

    def earlier_key(self, storage_key: bytes) -> bytes:
        """Of the fact that something has come for the key since the disk went back; b"" if the disk did
        not."""
        mark = self.refilling.get(place_of(storage_key))
        if mark is None or not mark.back:
            return b""
        return EARLIER_PREFIX + storage_key + mark.back.to_bytes(GENERATION_BYTES)

    def is_earlier(self, storage_key: bytes) -> bool:
        """True if what is stored, if anything is, was there when the disk went back, and nothing has
        come since. Raises StorageError."""
        fact = self.earlier_key(storage_key)
        return bool(fact) and self._storage.get("facts", fact) is None

    def mark_refill(self, marks: Iterable[tuple[Partition, RefillMark]]) -> int:
        """Durably note that these partitions may have lost writes; returns the write number. Uses the
        space that is kept free.

        Raises StorageError; in memory they are marked all the same, unless that ends that the disk went
        back: what comes then is written as on any other, which the mark on disk would deny.
        """
        writes = []
        ended = {}
        for place, mark in marks:
            if self.is_back(place) and not mark.back:
                ended[place] = mark
            else:
                self.refilling[place] = mark
            writes.append(
                Write("facts", REFILL_PREFIX + partition_prefix(*place), _encode_mark(mark))
            )
        if not writes:
            return self._storage.write_number
        number = self._storage.write(writes, reserve=True)
        self.refilling |= ended
        return number

    def note_must_refill(self, must: bool, *, back: bool = False) -> int:
        """Durably note, or forget, that everything is still to be marked; `back`: as of a disk that went
        back. Returns the write number. Raises StorageError."""
        self.must_refill, self.must_set_back = must, must and back
        note = (_ALL_BACK if back else _ALL) if must else None
        return self._storage.write((Write("facts", REFILL_ALL, note),), reserve=True)

    def refilled(self, place: Partition) -> int:
        """Every peer has been read for this partition: forget the mark. Raises StorageError; then it is
        there still."""
        number = self._storage.write(
            (Write("facts", REFILL_PREFIX + partition_prefix(*place), None),), reserve=True
        )
        del self.refilling[place]
        self._count["partitions_refilled"] += 1
        return number

    def _load_marks(self) -> None:
        try:
            self._read_marks()
        except StorageCorrupt as error:
            # Which partitions and records were in doubt is not known any more: all are.
            self._alarm("marks_damaged", error.message)
            self.must_refill = True
            self.must_set_back = self._has_earlier()

    def _has_earlier(self) -> bool:
        """True if the disk went back and that was not settled, or nobody can say."""
        start, end = EARLIER_PREFIX, after_prefix(EARLIER_PREFIX)
        try:
            return bool(self._storage.scan("facts", start, end, count_max=1, bytes_max=1))
        except StorageCorrupt:
            return True

    def _read_marks(self) -> None:
        for key, value in facts(self._storage, REFILL_PREFIX):
            self.refilling[place_of(key)] = decode_mark(value)
        for key, _ in facts(self._storage, QUARANTINE_PREFIX):
            self.damaged.add(key)
        must = self._storage.get("facts", REFILL_ALL)
        self.must_refill = must is not None
        self.must_set_back = must == _ALL_BACK


def place_of(storage_key: bytes) -> Partition:
    """The class and partition of a storage key, or of the bytes that it starts with."""
    return int.from_bytes(storage_key[:2]), int.from_bytes(storage_key[2:PREFIX_BYTES])


def facts(storage: Storage, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The node's own facts whose keys start with `prefix`, in order, less the prefix. Raises as
    `Storage.scan`."""
    start, end = prefix, after_prefix(prefix)
    while True:
        page = storage.scan("facts", start, end, count_max=1000, bytes_max=1 << 20)
        for key, value in page:
            yield key[len(prefix) :], value
        if not page:
            return
        start = page[-1][0] + b"\0"


_encode_mark = msgspec.msgpack.Encoder().encode
_mark_decoder = msgspec.msgpack.Decoder(RefillMark)


def decode_mark(data: bytes) -> RefillMark:
    """The mark in a fact's value. Raises StorageCorrupt."""
    try:
        return _mark_decoder.decode(data)
    except msgspec.DecodeError as error:
        raise StorageCorrupt(f"a refill mark cannot be read: {error}") from None
