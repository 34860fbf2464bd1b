"""Catching up a node that may have lost writes, and records that were found damaged (`dynamo.mend`).

A partition under a refill mark counts toward no r until it has been read, page by page, from every
other primary that is up, and stays marked until the rest have been read as well. If the disk went back
in time, what it had is judged before, by what has been read from peers that have lost nothing; if
there are none of those, it counts as it is. Reaches every replica, its own included, through the
transport. Knows nothing of clients.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import Final

import msgspec

from dynamo.ask import ask, ask_each
from dynamo.errors import StorageError
from dynamo.flights import Flights
from dynamo.mend import Mend
from dynamo.metrics import Metrics
from dynamo.ports import Clock, Timer, Transport
from dynamo.purge import Purge
from dynamo.refill_marks import Partition, RefillMark, place_of
from dynamo.replica import Replica
from dynamo.rpc.messages import Page, Refused, Scan, Store, Synced
from ring.ring import Ring

log = logging.getLogger(__name__)

#: Small enough that merging a page holds the loop for a few milliseconds only.
PAGE_BYTES: Final = 64 << 10
PAGE_TIMEOUT: Final = 30.0
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
    mend; what lies before a damaged block, until it has rebuilt its database; nothing, since its own
    disk went back; nothing yet."""

    READ = "read"
    INCOMPLETE = "incomplete"
    UNREADABLE = "unreadable"
    BACK = "back"
    FAILED = "failed"


READ, INCOMPLETE, BACK = Outcome.READ, Outcome.INCOMPLETE, Outcome.BACK
UNREADABLE, FAILED = Outcome.UNREADABLE, Outcome.FAILED
_REFUSALS: Final = {"corrupt": UNREADABLE, "refilling": BACK}


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
        self._mend = Mend(
            replica=replica,
            transport=transport,
            metrics=metrics,
            flights=self._flights,
            is_up=self._is_up,
            store=self._store,
        )
        self._purge = Purge(replica=replica)
        #: Partitions of which something may be kept that is no longer needed; None: any.
        self._unswept: dict[Partition | None, None] = {None: None}
        #: Since when nobody is left to be read of a partition of a disk that went back.
        self._waits_since: dict[Partition, float] = {}
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
        return len(self._mend)

    def adopt(self, ring: Ring) -> None:
        """Refill by this ring's owners."""
        self._ring = ring
        self._wake.set()

    def mark_all(self, back: int = 0, ours: tuple[bytes, ...] = ()) -> int:
        """Mark every partition of this node; returns the write number of the marks. `back`: not 0 for a
        disk that went back, a number for this time; `ours`: the incarnations of since then.

        Raises StorageError. Call it, and flush, before serving.
        """
        assert self._ring is not None
        marks = []
        for class_ in self._ring.classes:
            for partition in self._ring.partitions_of(self._node_id, class_.id):
                place = (class_.id, partition)
                owed = self._others(*place)
                mark = RefillMark(owed, serving=not owed)
                before = self._replica.refilling.get(place)
                if owed and back:
                    mark = RefillMark(owed, serving=False, back=back, ours=ours)
                elif owed and before is not None and before.back:
                    # What it had then is still to be judged.
                    mark = RefillMark(owed, serving=False, back=before.back, ours=before.ours)
                marks.append((place, mark))
        self._begin_waiting()
        self._again_at.clear()
        self._unreadable.clear()
        self._waits_since.clear()
        return self._replica.mark_refill(marks)

    @property
    def waiting(self) -> int:
        """Partitions that count toward no r yet."""
        return sum(1 for mark in self._replica.refilling.values() if not mark.serving)

    @property
    def back(self) -> int:
        """Partitions of a disk that went back, whose earlier records are not judged yet."""
        return sum(1 for mark in self._replica.refilling.values() if mark.back)

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
                # Where nobody writes, nobody else would have marks and removals put on disk.
                self._replica.sync()
            except StorageError as error:
                # A full disk, for one: what is not done stays marked.
                self._count["refills_interrupted"] += 1
                log.warning("refilling is interrupted: %s", error.message)
            if self._replica.refilling or self._replica.damaged:
                self._retry = self._clock.call_later(RETRY_DELAY, self._wake.set)

    async def _look(self) -> None:
        """Go once over everything that is to be refilled or mended. Raises StorageError."""
        assert self._ring is not None
        await self._sweep()
        for place in sorted(self._replica.refilling):
            await self._refill(place)
        for storage_key in sorted(self._replica.damaged):
            others = self._others(*place_of(storage_key))
            await self._mend.mend(storage_key, others, self._ring.epoch)

    async def _sweep(self) -> None:
        """What was kept of before, and is no longer needed, is gone. Raises StorageError."""
        while self._unswept:
            place = next(iter(self._unswept))
            await self._purge.sweep(place)
            if place is None:
                await self._purge.count_aside()
            self._unswept.pop(place, None)

    async def _refill(self, place: Partition) -> None:
        replica = self._replica
        mark = replica.refilling[place]
        incomplete: list[str] = []
        failed: list[str] = []
        for peer in mark.owed:
            if not self._is_up(peer) or self._again_at.get((place, peer), 0.0) > self._now():
                continue
            outcome, whole = await self._read_partition(place, peer)
            if replica.refilling.get(place) is not mark:
                return  # it was marked anew meanwhile: what has been read may be gone again
            if outcome is READ:
                mark = self._have_read(place, mark, peer, whole=whole)
            elif outcome is INCOMPLETE or (outcome is UNREADABLE and not self._rebuilds(peer)):
                incomplete.append(peer)
                mark = self._note_whole(place, mark, outcome is INCOMPLETE and whole)
            elif outcome is not BACK:
                failed.append(peer)
        for peer in incomplete:
            self._again_at[(place, peer)] = self._now() + INCOMPLETE_DELAY
        if mark.back:
            await self._settle_back(place, mark, waits=bool(failed))
            return
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

    async def _settle_back(self, place: Partition, mark: RefillMark, *, waits: bool) -> None:
        """Of a disk that went back: once every peer that is up has been read, or has nothing to say, and
        those that are down have been waited for, judge what it had, if one of them was whole. If none
        is, it may be that all disks went back, and what they have is all there is: then it counts. If
        nobody is there at all, nothing can be said. `waits`: for a peer that is up. Raises
        StorageError."""
        if waits:
            self._waits_since.pop(place, None)
            return
        now = self._now()
        if mark.owed and now - self._waits_since.setdefault(place, now) < PATIENCE:
            return
        if mark.whole:
            if not await self._purge.judge(place, mark):
                return
            self._count["partitions_purged"] += 1
        elif self._were_read(place, mark) or any(map(self._is_up, mark.owed)):
            self._count["partitions_unpurged"] += 1
            log.warning("partition %s went back, and no peer can say what became of it", place)
        else:
            self._waits_since[place] = now  # whoever comes first may not be the one who knows
            return
        self._waits_since.pop(place, None)
        # What was kept is swept up before anything else is done, by this start or the next.
        self._unswept[place] = None
        self._replica.mark_refill(((place, RefillMark(mark.owed, serving=False)),))
        self._wake.set()

    def _have_read(
        self, place: Partition, mark: RefillMark, peer: str, *, whole: bool
    ) -> RefillMark:
        """The partition's new mark: the peer, which is `whole` or not, has given what it has. Raises
        StorageError."""
        self._again_at.pop((place, peer), None)
        self._unreadable_since.pop(peer, None)
        owed = tuple(p for p in mark.owed if p != peer)
        mark = msgspec.structs.replace(mark, owed=owed, whole=mark.whole or whole)
        self._replica.mark_refill(((place, mark),))
        return mark

    def _note_whole(self, place: Partition, mark: RefillMark, whole: bool) -> RefillMark:
        """The partition's new mark, now that a peer has shown that it is whole. Raises StorageError."""
        if not whole or mark.whole:
            return mark
        mark = msgspec.structs.replace(mark, whole=True)
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

    async def _read_partition(self, place: Partition, peer: str) -> tuple[Outcome, bool]:
        """READ once every record that the peer has of the partition is merged in and on disk; and
        whether what it has not got says something."""
        after = b""
        skipped = 0
        whole = True
        while True:
            assert self._ring is not None
            timeout_ms = int(PAGE_TIMEOUT * 1000)
            scan = Scan(*place, self._ring.epoch, timeout_ms, after, PAGE_BYTES)
            with self._flights.hold():
                page = await ask(self._transport, peer, scan, PAGE_TIMEOUT)
                if not isinstance(page, Page):
                    self._count["refill_pages_failed"] += 1
                    code = page.code if isinstance(page, Refused) else ""
                    return _REFUSALS.get(code, FAILED), False
                if not await self._store(place, page.entries):
                    return FAILED, False
            whole = whole and page.whole
            self._count["refill_records"] += len(page.entries)
            # Damaged over there; it mends them from the other primaries, so they are asked for again.
            skipped += page.skipped
            self._count["refill_records_skipped"] += page.skipped
            if not page.more:
                return (INCOMPLETE if skipped else READ), whole
            after = page.last

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
