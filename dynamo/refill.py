"""Catching up a node that may have lost writes, and records that were found damaged.

A partition under a refill mark counts toward no r until it has been read, page by page, from every
other primary that is up, and stays marked until the rest have been read as well. A damaged record
is fetched from all other primaries and merged in. Reaches every replica, its own included, through
the transport. Knows nothing of clients.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import Final, Literal

from dynamo.ask import ask, ask_all, ask_each
from dynamo.errors import StorageError
from dynamo.flights import Flights
from dynamo.keys import split_storage_key
from dynamo.metrics import Metrics
from dynamo.ports import Clock, Timer, Transport
from dynamo.refill_marks import Partition, RefillMark
from dynamo.replica import Replica
from dynamo.rpc.messages import Body, Fetch, Page, Refused, Scan, Store, Synced
from ring.ring import Ring

log = logging.getLogger(__name__)

#: Small enough that merging a page holds the loop for a few milliseconds only.
PAGE_BYTES: Final = 64 << 10
PAGE_TIMEOUT: Final = 30.0
#: For one damaged record: its key has one replica less while a lost answer is waited for.
MEND_TIMEOUT: Final = 5.0
RETRY_DELAY: Final = 1.0
#: A peer that could give a part of a partition only is asked again after so long (seconds).
INCOMPLETE_DELAY: Final = 10.0
#: A peer that is down is waited for so long (seconds) before a partition does without it.
PATIENCE: Final = 5.0
#: A peer with a damaged database, which it rebuilds, is waited for so long (seconds).
REBUILD_PATIENCE: Final = 60.0
#: A connected peer that has left a request without any reply for so long (seconds) is down.
STALLED_AFTER: Final = 5.0


class Outcome(enum.Enum):
    """What came of reading a partition from a peer: all of it; all but damaged records, which it will
    mend; what lies before a damaged block, until it has rebuilt its database; nothing yet."""

    READ = "read"
    INCOMPLETE = "incomplete"
    UNREADABLE = "unreadable"
    FAILED = "failed"


READ, INCOMPLETE = Outcome.READ, Outcome.INCOMPLETE
UNREADABLE, FAILED = Outcome.UNREADABLE, Outcome.FAILED

#: What a peer has for a damaged record.
Given = Literal["copy", "nothing"]


class Refill:
    """The one task that reads partitions and damaged records back from the peers."""

    def __init__(
        self,
        *,
        node_id: str,
        replica: Replica,
        transport: Transport,
        clock: Clock,
        metrics: Metrics,
        flights: Flights | None = None,
    ) -> None:
        """`flights`: of the node."""
        self._flights = flights or Flights()
        self._node_id = node_id
        self._replica = replica
        self._transport = transport
        self._clock = clock
        self._count = metrics.count
        self._ring: Ring | None = None
        self._wake = asyncio.Event()
        self._retry: Timer | None = None
        self._began = clock.monotonic()
        #: Who has answered for a damaged record, and with what.
        self._answered: dict[bytes, dict[str, Given]] = {}
        #: When a peer that could give a part of a partition only is asked for it again.
        self._again_at: dict[tuple[Partition, str], float] = {}
        #: When a peer that nothing has been read through from since was first found so.
        self._unreadable_since: dict[str, float] = {}
        #: For which damage partitions were marked because they cannot be read through.
        self._unreadable: dict[Partition, str] = {}
        replica.on_damage = self._wake.set
        replica.on_unreadable = self._mark_unreadable

    @property
    def unsettled(self) -> int:
        """Damaged records that some peers have answered for, and others have not."""
        return len(self._answered)

    def adopt(self, ring: Ring) -> None:
        """Refill by this ring's owners."""
        self._ring = ring
        self._wake.set()

    def mark_all(self) -> int:
        """Mark every partition of this node; returns the write number of the marks.

        Raises StorageError. Call it, and flush, before serving.
        """
        assert self._ring is not None
        marks = []
        for class_ in self._ring.classes:
            for partition in self._ring.partitions_of(self._node_id, class_.id):
                owed = self._others(class_.id, partition)
                marks.append(((class_.id, partition), RefillMark(owed, serving=not owed)))
        self._begin_waiting()
        self._again_at.clear()
        self._unreadable.clear()
        return self._replica.mark_refill(marks)

    @property
    def waiting(self) -> int:
        """Partitions that count toward no r yet."""
        return sum(1 for mark in self._replica.refilling.values() if not mark.serving)

    def wake(self) -> None:
        """Look again now: a peer has come up."""
        self._wake.set()

    async def run(self) -> None:
        """Refill and mend for ever; owned and cancelled by the node."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._ring is None:
                continue
            if self._retry is not None:
                self._retry.cancel()
            try:
                await self._look()
            except StorageError as error:
                # A full disk, for one: what is not done stays marked.
                self._count["refills_interrupted"] += 1
                log.warning("refilling is interrupted: %s", error.message)
            if self._replica.refilling or self._replica.damaged:
                self._retry = self._clock.call_later(RETRY_DELAY, self._wake.set)

    async def _look(self) -> None:
        """Go once over everything that is to be refilled or mended. Raises StorageError."""
        for place in sorted(self._replica.refilling):
            await self._refill(place)
        for storage_key in sorted(self._replica.damaged):
            await self._mend(storage_key)

    async def _refill(self, place: Partition) -> None:
        replica = self._replica
        mark = replica.refilling[place]
        incomplete: list[str] = []
        for peer in mark.owed:
            if not self._is_up(peer) or self._again_at.get((place, peer), 0.0) > self._now():
                continue
            outcome = await self._read_partition(place, peer)
            if replica.refilling.get(place) is not mark:
                return  # it was marked anew meanwhile: what has been read may be gone again
            if outcome is READ:
                mark = self._have_read(place, mark, peer)
            elif outcome is INCOMPLETE or (outcome is UNREADABLE and not self._rebuilds(peer)):
                incomplete.append(peer)
        for peer in incomplete:
            self._again_at[(place, peer)] = self._now() + INCOMPLETE_DELAY
        if not mark.owed:
            replica.refilled(place)
            return
        # A peer that could give a part only is asked again, and is not waited for.
        were_read = self._were_read(place, mark) + len(incomplete)
        patient = self._now() - self._began < PATIENCE
        up = any(self._is_up(p) and (place, p) not in self._again_at for p in mark.owed)
        if not mark.serving and were_read and not up and not patient:
            log.warning("partition %s serves without %s", place, ", ".join(mark.owed))
            replica.mark_refill(((place, RefillMark(mark.owed, serving=True)),))

    def _have_read(self, place: Partition, mark: RefillMark, peer: str) -> RefillMark:
        """The partition's new mark: the peer has given what it has. Raises StorageError."""
        self._again_at.pop((place, peer), None)
        self._unreadable_since.pop(peer, None)
        mark = RefillMark(tuple(p for p in mark.owed if p != peer), serving=mark.serving)
        self._replica.mark_refill(((place, mark),))
        return mark

    def _rebuilds(self, peer: str) -> bool:
        """True for as long as a peer that could not be read through may be rebuilding its database: it
        is waited for, since what lies behind the damage may be nowhere else."""
        since = self._unreadable_since.setdefault(peer, self._now())
        return self._now() - since < REBUILD_PATIENCE

    def _were_read(self, place: Partition, mark: RefillMark) -> int:
        return len(self._others(*place)) - len(mark.owed)

    def _now(self) -> float:
        return self._clock.monotonic()

    def _mark_unreadable(self, place: Partition, why: str) -> None:
        """A partition cannot be read through here: what it may have lost is read from the others.
        Once for each damage, which stays until the database is rebuilt: two nodes with one in the same
        partition would else make each other begin anew with every page they ask for."""
        if self._unreadable.get(place) == why:
            return
        self._unreadable[place] = why
        owed = self._others(*place)
        if owed and place not in self._replica.refilling:
            try:
                self._replica.mark_refill(((place, RefillMark(owed, serving=False)),))
            except StorageError as error:
                log.warning("a damaged partition could not be marked: %s", error.message)
            self._begin_waiting()

    def _begin_waiting(self) -> None:
        """Look at what has just been marked, with patience for the peers that are down now."""
        self._began = self._now()
        self._wake.set()

    def _is_up(self, peer: str) -> bool:
        transport = self._transport
        return transport.is_connected(peer) and transport.stalled_for(peer) < STALLED_AFTER

    async def _read_partition(self, place: Partition, peer: str) -> Outcome:
        """READ once every record that the peer has of the partition is merged in and on disk."""
        after = b""
        skipped = 0
        while True:
            assert self._ring is not None
            timeout_ms = int(PAGE_TIMEOUT * 1000)
            scan = Scan(*place, self._ring.epoch, timeout_ms, after, PAGE_BYTES)
            with self._flights.hold():
                page = await ask(self._transport, peer, scan, PAGE_TIMEOUT)
                if not isinstance(page, Page):
                    self._count["refill_pages_failed"] += 1
                    damaged = isinstance(page, Refused) and page.code == "corrupt"
                    return UNREADABLE if damaged else FAILED
                if not await self._store(place, page.entries):
                    return FAILED
            self._count["refill_records"] += len(page.entries)
            # Damaged over there; it mends them from the other primaries, so they are asked for again.
            skipped += page.skipped
            self._count["refill_records_skipped"] += page.skipped
            if not page.more:
                return INCOMPLETE if skipped else READ
            after = page.last

    async def _mend(self, storage_key: bytes) -> None:
        """Merge in what the other primaries have of a damaged key; serve it again once all of them
        have answered, since any of them may be the only one that has its last write. One that is
        damaged there too has nothing to give: that is an answer. Where the past is gone everywhere,
        what has been written anew here since is all there is."""
        cls, partition, key = split_storage_key(storage_key)
        assert self._ring is not None
        others = self._others(cls, partition)
        answered = self._answered.setdefault(storage_key, {})
        up = tuple(p for p in others if p not in answered and self._is_up(p))
        timeout_ms = int(MEND_TIMEOUT * 1000)
        fetch = Fetch(key, cls, partition, self._ring.epoch, timeout_ms, True)
        with self._flights.hold():
            answers = await ask_all(self._transport, up, fetch, MEND_TIMEOUT)
            for peer, answer in answers.items():
                if isinstance(answer, Body):
                    entries = ((key, answer.record),) if answer.record else ()
                    if await self._store((cls, partition), entries):
                        answered[peer] = "copy" if answer.record else "nothing"
                elif isinstance(answer, Refused) and answer.code == "corrupt":
                    answered[peer] = "nothing"
        # One that is being refilled is asked again: it may have writes from since it lost its own.
        if len(answered) < len(others):
            return
        del self._answered[storage_key]
        given = answered.values()
        if "copy" not in given:
            self._count["mends_without_a_copy"] += 1
        if not self._replica.mended(storage_key) and "copy" in given:
            self._count["mends_failed"] += 1

    async def _store(self, place: Partition, entries: tuple[tuple[bytes, bytes], ...]) -> bool:
        """True once this node's replica holds all of them on disk."""
        assert self._ring is not None
        timeout_ms = int(PAGE_TIMEOUT * 1000)
        epoch = self._ring.epoch
        stores = [Store(key, *place, epoch, timeout_ms, record, True) for key, record in entries]
        answers = await ask_each(self._transport, self._node_id, stores, PAGE_TIMEOUT)
        failed = sum(1 for answer in answers if not isinstance(answer, Synced))
        self._count["refill_stores_failed"] += failed
        return failed == 0

    def _others(self, cls: int, partition: int) -> tuple[str, ...]:
        assert self._ring is not None
        owners = self._ring.all_owners(cls, partition)
        return tuple(owner for owner in owners if owner != self._node_id)
