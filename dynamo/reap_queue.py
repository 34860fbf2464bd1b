"""Which records wait to be reaped, or to lose births: a durable queue, one small fact a record.

A fact is written in the same batch as the record that it speaks of, and goes with it, so a crash leaves
neither without the other. In the queue are records of which nothing can ever be shown again (`DEAD`,
`dynamo.stored`), and those with more than LONG entries in their vector. How many there are is known in
memory, and nothing else: after a start they are counted page by page; what is written meanwhile is
counted once, here or by the count. Knows nothing of how reaping is proved.

    key = "reap/" and the storage key      value = kind u8, entries u16, since u64

`since`: milliseconds since 1970 at which the newest of the record's siblings was written or expired, as
the record says: the same on every replica, whenever it got there. Integers are big-endian.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from struct import Struct as Layout
from struct import error as NotPacked
from typing import Final, NamedTuple

from dynamo.errors import StorageError
from dynamo.keys import after_prefix
from dynamo.metrics import Metrics
from dynamo.ports import Storage, Write
from dynamo.record import VALUE, Record, read_record
from dynamo.stored import DEAD, LIVE, Stored

log = logging.getLogger(__name__)

REAP_PREFIX: Final = b"reap/"
#: Vectors with more entries than this are looked at for births that may go; with more than MANY first.
LONG: Final = 8
MANY: Final = 32
#: Counted in one go.
PAGE_ENTRIES: Final = 1_000
RETRY_SECONDS: Final = 5.0

_END: Final = after_prefix(REAP_PREFIX)
_FACT: Final = Layout(">BHQ")
_ENTRIES_MAX: Final = 0xFFFF


class Queued(NamedTuple):
    """One record that waits. `state`: DEAD or LIVE. `entries`: of its vector. `since_ms`: as above."""

    storage_key: bytes
    state: int
    entries: int
    since_ms: int


class Change(NamedTuple):
    """What a write does to the queue: the fact's entry in its batch, and how many of each state there
    are more than before, once it is written."""

    write: Write
    dead: int
    long: int


class ReapQueue:
    """Of one node. It and the replica are one: nothing else writes its facts."""

    def __init__(self, *, storage: Storage, metrics: Metrics) -> None:
        self._storage = storage
        self._count = metrics.count
        #: How many there are of each, as far as they are counted.
        self.dead = 0
        self.long = 0
        #: All are counted.
        self.counted = False
        #: Up to here, exclusively, they are.
        self._position = REAP_PREFIX
        self._work = asyncio.Event()
        #: Called when there is one, and were none.
        self.on_queued: Callable[[], None] = _nothing
        self._work.set()

    def __repr__(self) -> str:
        return f"ReapQueue(dead={self.dead}, long={self.long}, counted={self.counted})"

    # What the replica writes --------------------------------------------------------------------

    def change(
        self,
        storage_key: bytes,
        before: Stored | None,
        state: int,
        record: Record,
        *,
        shortened: bool = False,
    ) -> Change | None:
        """What it does to the queue that `record`, of this state, replaces `before`; None for nothing.
        `shortened`: its vector has lost entries; else none ever does."""
        fact_key = REAP_PREFIX + storage_key
        entries = len(record.vector)
        was = None
        if before is not None:
            was = _kind_of(before, could_be_long=shortened or entries > LONG)
        if state != DEAD:
            state = LIVE
        if state == LIVE and entries <= LONG:
            return None if was is None else self._change(fact_key, None, was, None)
        value = _FACT.pack(state, min(entries, _ENTRIES_MAX), min(_since_ms(record), (1 << 64) - 1))
        return self._change(fact_key, value, was, state)

    def removal(self, storage_key: bytes) -> Change:
        """The fact of this key, if there is one, goes. Raises StorageError."""
        fact_key = REAP_PREFIX + storage_key
        value = self._storage.get("facts", fact_key)
        was = None if value is None else _read(fact_key, value).state
        return self._change(fact_key, None, was, None)

    def written(self, change: Change) -> None:
        """It is: count it."""
        if not self.counted and change.write.key >= self._position:
            return  # the count meets it
        was_none = self.dead + self.long == 0
        self.dead += change.dead
        self.long += change.long
        if was_none and self.dead + self.long > 0:
            self.on_queued()

    def _change(
        self, fact_key: bytes, value: bytes | None, was: int | None, will_be: int | None
    ) -> Change:
        return Change(
            Write("facts", fact_key, value),
            (will_be == DEAD) - (was == DEAD),
            (will_be == LIVE) - (was == LIVE),
        )

    # Who reads it -------------------------------------------------------------------------------

    def page(self, after: bytes, *, count_max: int) -> list[Queued]:
        """The next that wait, in the order of their storage keys, from the one after `after` on (b"":
        from the first); [] at the end. Raises StorageError."""
        start = REAP_PREFIX + after + b"\0" if after else REAP_PREFIX
        found = self._storage.scan("facts", start, _END, count_max=count_max, bytes_max=1 << 20)
        return [_read(key, value) for key, value in found]

    # In the background --------------------------------------------------------------------------

    def recount(self) -> None:
        """Count anew: the storage was opened again, and may have less than it had."""
        self.dead = self.long = 0
        self.counted = False
        self._position = REAP_PREFIX
        self._work.set()

    async def run(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Count what is there, a page at a time. For ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            while not self.counted:
                try:
                    self._count_some()
                except StorageError as error:
                    self._count["reap_scans_failed"] += 1
                    count = self._count["reap_scans_failed"]
                    if count & (count - 1) == 0:
                        log.warning(
                            "the queue of tombstones cannot be read (%s so far): %s",
                            count,
                            error.message,
                        )
                    await sleep(RETRY_SECONDS)
                else:
                    await sleep(0.0)

    def _count_some(self) -> None:
        page = self._storage.scan(
            "facts", self._position, _END, count_max=PAGE_ENTRIES, bytes_max=1 << 20
        )
        for key, value in page:
            if _read(key, value).state == DEAD:
                self.dead += 1
            else:
                self.long += 1
        if page:
            self._position = page[-1][0] + b"\0"
            return
        self.counted = True
        if self.dead + self.long:
            self.on_queued()


def _kind_of(before: Stored, *, could_be_long: bool) -> int | None:
    """Under which state a record is in the queue; None if it is not. One of the first format may be
    dead, and is in no queue until it is written again."""
    if before.state == DEAD:
        return DEAD
    if before.position < 0 or not could_be_long:
        return None
    return LIVE if len(read_record(before.record).vector) > LONG else None


def _since_ms(record: Record) -> int:
    # That a tombstone expires says nothing.
    return max(
        (
            max(one.written_ms, one.expires_ms if one.kind == VALUE else 0)
            for one in record.siblings
        ),
        default=0,
    )


def _read(key: bytes, value: bytes) -> Queued:
    storage_key = key[len(REAP_PREFIX) :]
    try:
        state, entries, since_ms = _FACT.unpack(value)
    except NotPacked:
        # Whatever it says, the record says it better: it is looked at, and the fact is set right.
        return Queued(storage_key, DEAD, 0, 0)
    return Queued(storage_key, state, entries, since_ms)


def _nothing() -> None:
    """What is called until somebody wants to know."""
