"""Catching up a node that may have lost writes, and records that were found damaged.

A partition under a refill mark counts toward no r until it has been read, page by page, from every
other primary that is up, and stays marked until the rest have been read as well. A damaged record
is fetched from the other primaries and merged in. Reaches every replica, its own included, through
the transport. Knows nothing of clients.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from dynamo.ask import ask, ask_all, ask_each
from dynamo.errors import StorageError
from dynamo.keys import split_storage_key
from dynamo.metrics import Metrics
from dynamo.ports import Clock, Timer, Transport
from dynamo.replica import Partition, RefillMark, Replica
from dynamo.rpc.messages import Body, Fetch, Page, Scan, Store, Synced
from ring.ring import Ring

log = logging.getLogger(__name__)

#: Small enough that merging a page holds the loop for a few milliseconds only.
PAGE_BYTES: Final = 64 << 10
PAGE_TIMEOUT: Final = 30.0
#: For one damaged record: its key has one replica less while a lost answer is waited for.
MEND_TIMEOUT: Final = 5.0
RETRY_DELAY: Final = 1.0
#: A peer that is down is waited for so long (seconds) before a partition or record does without it.
PATIENCE: Final = 5.0
#: A connected peer that has left a request without any reply for so long (seconds) is down.
STALLED_AFTER: Final = 5.0


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
    ) -> None:
        self._node_id = node_id
        self._replica = replica
        self._transport = transport
        self._clock = clock
        self._count = metrics.count
        self._ring: Ring | None = None
        self._wake = asyncio.Event()
        self._retry: Timer | None = None
        self._began = clock.monotonic()
        #: When each damaged record was first met.
        self._damaged_since: dict[bytes, float] = {}
        replica.on_damage = self._wake.set

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
        self._began = self._clock.monotonic()
        self._wake.set()
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
        now = self._clock.monotonic()
        damaged = sorted(self._replica.damaged)
        self._damaged_since = {key: self._damaged_since.get(key, now) for key in damaged}
        for storage_key in damaged:
            await self._mend(storage_key)

    async def _refill(self, place: Partition) -> None:
        replica = self._replica
        mark = replica.refilling[place]
        for peer in mark.owed:
            if not self._is_up(peer):
                continue
            read = await self._read_partition(place, peer)
            if replica.refilling.get(place) is not mark:
                return  # it was marked anew meanwhile: what has been read may be gone again
            if read:
                mark = RefillMark(tuple(p for p in mark.owed if p != peer), serving=mark.serving)
                replica.mark_refill(((place, mark),))
        if not mark.owed:
            replica.refilled(place)
            return
        were_read = len(self._others(*place)) - len(mark.owed)
        patient = self._clock.monotonic() - self._began < PATIENCE
        up = any(map(self._is_up, mark.owed))
        if not mark.serving and were_read and not up and not patient:
            log.warning("partition %s serves without %s", place, ", ".join(mark.owed))
            replica.mark_refill(((place, RefillMark(mark.owed, serving=True)),))

    def _is_up(self, peer: str) -> bool:
        transport = self._transport
        return transport.is_connected(peer) and transport.stalled_for(peer) < STALLED_AFTER

    async def _read_partition(self, place: Partition, peer: str) -> bool:
        """True once every record that the peer has of the partition is merged in and on disk."""
        after = b""
        while True:
            assert self._ring is not None
            timeout_ms = int(PAGE_TIMEOUT * 1000)
            scan = Scan(*place, self._ring.epoch, timeout_ms, after, PAGE_BYTES)
            page = await ask(self._transport, peer, scan, PAGE_TIMEOUT)
            if not isinstance(page, Page):
                self._count["refill_pages_failed"] += 1
                return False
            if not await self._store(place, page.entries):
                return False
            self._count["refill_records"] += len(page.entries)
            if page.skipped:
                # Damaged over there; it mends them from the other primaries, so ask again later.
                self._count["refill_records_skipped"] += page.skipped
                return False
            if not page.more:
                return True
            after = page.last

    async def _mend(self, storage_key: bytes) -> None:
        """Merge in what the other primaries have of a damaged key, then serve it again. One that is
        down may be the only one with its last write, so it is waited for as in a refill."""
        cls, partition, key = split_storage_key(storage_key)
        assert self._ring is not None
        others = self._others(cls, partition)
        timeout_ms = int(MEND_TIMEOUT * 1000)
        fetch = Fetch(key, cls, partition, self._ring.epoch, timeout_ms, True)
        up = tuple(filter(self._is_up, others))
        patient = self._clock.monotonic() - self._damaged_since[storage_key] < PATIENCE
        if len(up) < len(others) and patient:
            return
        answers = await ask_all(self._transport, up, fetch, MEND_TIMEOUT)
        bodies = [answer for answer in answers.values() if isinstance(answer, Body)]
        if len(bodies) < len(up) or not any(body.record for body in bodies):
            self._count["mends_failed"] += 1
            return
        entries = tuple((key, body.record) for body in bodies if body.record)
        if await self._store((cls, partition), entries):
            self._replica.mended(storage_key)

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
