"""Reaps tombstones, and births that vectors need no longer: the one task that goes over the queue.

It goes over the queue (`dynamo.reap_queue`) from end to end, again and again while there is anything
in it, and takes what is due in batches: `dynamo.reap_batch` does the rest. It takes the keys of which no
owner before it, in the ring's order, is up; that two might, does no harm. It makes way for clients, and
backs off where nothing goes. What records wait for is told by `status`. Knows nothing of messages.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Final

from antientropy.reaping import Tally, births_to_go, is_due, reaper_of
from dynamo.errors import Malformed, StorageError
from dynamo.keys import PREFIX_BYTES, split_storage_key
from dynamo.metrics import Metrics
from dynamo.pace import ClientLoad
from dynamo.ports import Clock, Transport
from dynamo.reap_batch import GONE, Batch
from dynamo.reap_queue import MANY, Queued, ReapQueue
from dynamo.refill_marks import Partition, place_of
from dynamo.replica_reap import ReplicaReap
from dynamo.rpc.reap_messages import Doomed
from dynamo.status import TombstonesStatus, WaitStatus
from dynamo.stored import DEAD
from ring.ring import Ring

log = logging.getLogger(__name__)

#: Records of one batch, and while this node serves clients.
BATCH: Final = 512
BATCH_BESIDE_CLIENTS: Final = 256
#: Looked at in one turn of the loop: three milliseconds.
LOOKED_AT_ONCE: Final = 64
#: Places in the queue that are read in one go, and for one batch.
PAGE: Final = 500
PAGES_MAX: Final = 10
#: Births that leave one record at a time.
BIRTHS: Final = 128
#: Seconds between two batches, less and more by a quarter; beside clients; while there is more to take,
#: alone and beside clients, who would else delete faster than that goes; after some in vain, at most;
#: while a member is missing; while other owners see to what is due.
ROUND_INTERVAL: Final = 1.0
BESIDE_CLIENTS_INTERVAL: Final = 4.0
MORE_INTERVAL: Final = 0.2
MORE_BESIDE_CLIENTS_INTERVAL: Final = 0.5
INTERVAL_MAX: Final = 30.0
MISSING_INTERVAL: Final = 2.0
OTHERS_INTERVAL: Final = 10.0
JITTER: Final = 0.25


class Reaper:
    """Of one start of a node."""

    def __init__(
        self,
        *,
        node_id: str,
        own: ReplicaReap,
        queue: ReapQueue,
        transport: Transport,
        down: AbstractSet[str],
        clock: Clock,
        chance: random.Random,
        metrics: Metrics,
        after_s: int,
        later_epoch: Callable[[], int] = lambda: 0,
    ) -> None:
        """`down`: members that are down in this node's opinion. `after_s`: for so long a tombstone is
        left alone. `later_epoch`: the latest that any peer has named, if it is later than the ring's."""
        self._later_epoch = later_epoch
        self._node_id = node_id
        self._own = own
        self._queue = queue
        self._transport = transport
        self._down = down
        self._clock = clock
        self._chance = chance
        self._metrics = metrics
        self._count = metrics.count
        self._after_s = after_s
        self._load = ClientLoad(metrics.count)
        self._ring: Ring | None = None
        self._batch: Batch | None = None
        self._owners: dict[Partition, tuple[str, ...]] = {}
        self._wake = asyncio.Event()
        #: Where in the queue it is.
        self._after = b""
        self._in_vain = 0
        #: Of the pass under way, and of the last that was over.
        self._tally = Tally()
        self._last = Tally()
        self._oldest: int | None = None
        self._last_oldest: int | None = None
        #: When the youngest of what is not due yet will be: wall milliseconds, None if all is.
        self._due_ms: int | None = None
        #: Why nothing is tried now; "" if something is.
        self._hindrance = ""
        self._trying = 0
        #: This pass has tried something.
        self._tried = False
        queue.on_queued = self._wake.set

    def __repr__(self) -> str:
        return f"Reaper({self._node_id} trying={self._trying} waits={self._last.waiting})"

    @property
    def trying(self) -> int:
        """Records of the batch under way."""
        return self._trying

    def adopt(self, ring: Ring) -> None:
        """Reap by this ring."""
        self._ring = ring
        self._batch = Batch(ring=ring, transport=self._transport, metrics=self._metrics)
        self._owners = {}
        self._wake.set()

    def wake(self) -> None:
        """Try again soon: a member has come up."""
        self._in_vain = 0
        if self._hindrance:
            self._wake.set()

    # The task -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Reap for ever; owned and cancelled by the node."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._batch is not None and self._queue.dead + self._queue.long:
                try:
                    pause = await self._round(self._batch)
                except StorageError as error:
                    self._count["reaps_interrupted"] += 1
                    log.warning("tombstones cannot be reaped now: %s", error.message)
                    pause = INTERVAL_MAX
                await self._idle(pause * self._chance.uniform(1 - JITTER, 1 + JITTER))
            self._end_pass()
            self._hindrance = ""

    async def _idle(self, seconds: float) -> None:
        timer = self._clock.call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
        self._wake.clear()

    async def _round(self, batch: Batch) -> float:
        """Try one batch; returns how long (seconds) to do nothing then. Raises StorageError."""
        up = self._up()
        missing = [name for name in self._members() if name not in up]
        self._hindrance = self._what_hinders(missing)
        if self._hindrance:
            return MISSING_INTERVAL
        busy = self._load.is_busy(self._clock.monotonic())
        if len(batch.incarnations) < len(self._members()):
            await batch.look_for_incarnations()
        doomed, is_over = await self._collect(batch, up, BATCH_BESIDE_CLIENTS if busy else BATCH)
        gone = 0
        if doomed:
            self._tried = True
            self._trying = len(doomed)
            try:
                became = await batch.run(doomed)
            finally:
                self._trying = 0
            gone = became.count(GONE)
            self._tally.gone += gone
            for why in became:
                if why != GONE:
                    self._tally.wait(why)
            self._in_vain = 0 if gone else self._in_vain + 1
        if gone and not is_over:
            return MORE_BESIDE_CLIENTS_INTERVAL if busy else MORE_INTERVAL
        return self._pause(busy=busy, is_over=is_over)

    def _what_hinders(self, missing: list[str]) -> str:
        """Why nothing can be proved now, whatever the record; "" if something may be."""
        if missing:
            return f"{', '.join(missing)} cannot be reached"
        epoch = self._later_epoch()
        return f"a peer has a ring of epoch {epoch}" if epoch else ""

    def _pause(self, *, busy: bool, is_over: bool) -> float:
        pause = BESIDE_CLIENTS_INTERVAL if busy else ROUND_INTERVAL
        pause = min(pause * float(1 << min(self._in_vain, 10)), INTERVAL_MAX)
        if not is_over:
            return pause
        tried, elsewhere, due_ms = self._tried, self._tally.elsewhere, self._due_ms
        self._end_pass()
        if tried:
            return pause
        if elsewhere or due_ms is None:
            return OTHERS_INTERVAL
        # Nothing can be due before.
        left = (due_ms - self._clock.wall_ms()) / 1000
        return min(max(left, pause), INTERVAL_MAX)

    def _end_pass(self) -> None:
        self._last, self._tally = self._tally, Tally()
        self._last_oldest, self._oldest = self._oldest, None
        self._due_ms = None
        self._tried = False
        self._after = b""

    def _members(self) -> list[str]:
        return [member.id for member in self._ring.members] if self._ring is not None else []

    def _up(self) -> set[str]:
        transport, down = self._transport, self._down
        return {
            name
            for name in self._members()
            if name == self._node_id or (name not in down and transport.is_connected(name))
        }

    # What is due --------------------------------------------------------------------------------

    async def _collect(
        self, batch: Batch, up: AbstractSet[str], count_max: int
    ) -> tuple[list[Doomed], bool]:
        """The next records that are due, and whether the queue ends with them. Raises StorageError."""
        found: list[Doomed] = []
        reapers: dict[bytes, str | None] = {}
        now_ms = self._clock.wall_ms()
        for _ in range(PAGES_MAX):
            page = self._queue.page(self._after, count_max=PAGE)
            if not page:
                return found, True
            for queued in page:
                self._after = queued.storage_key
                if not self._is_due(queued, now_ms) or not self._is_mine(queued, up, reapers):
                    continue
                doomed = self._doomed(batch, queued)
                if doomed is not None:
                    found.append(doomed)
                    if len(found) >= count_max:
                        return found, False
                    if not len(found) % LOOKED_AT_ONCE:
                        await asyncio.sleep(0)
            # A page a turn of the loop: others have theirs between.
            await asyncio.sleep(0)
        return found, False

    def _is_due(self, queued: Queued, now_ms: int) -> bool:
        """True if it is time to try it."""
        if queued.state == DEAD:
            self._oldest = min(queued.since_ms, self._oldest or queued.since_ms)
        if is_due(queued.since_ms, now_ms, self._after_s) or queued.entries > MANY:
            return True
        due_ms = queued.since_ms + self._after_s * 1000
        self._due_ms = min(due_ms, self._due_ms or due_ms)
        return False

    def _is_mine(
        self, queued: Queued, up: AbstractSet[str], reapers: dict[bytes, str | None]
    ) -> bool:
        """True if no owner before this node is up. `reapers`: those of partitions that were met already,
        by the prefix of their storage keys."""
        prefix = queued.storage_key[:PREFIX_BYTES]
        if prefix in reapers:
            reaper = reapers[prefix]
        else:
            reaper = reapers[prefix] = reaper_of(self._owners_of(place_of(prefix)), up)
        if reaper == self._node_id:
            return True
        self._tally.elsewhere += 1
        return False

    def _doomed(self, batch: Batch, queued: Queued) -> Doomed | None:
        """What is to be tried of one place in the queue, if anything is. Raises StorageError."""
        try:
            cls, partition, _ = split_storage_key(queued.storage_key)
        except Malformed:
            return None
        candidate = self._own.candidate(queued.storage_key)
        if candidate is None:
            return None
        if candidate.is_dead:
            return Doomed(candidate.key, cls, partition, candidate.digest)
        births = births_to_go(
            candidate.vector, candidate.used, batch.incarnations.values(), count_max=BIRTHS
        )
        if not births or len(batch.incarnations) < len(self._members()):
            return None
        return Doomed(candidate.key, cls, partition, candidate.digest, births)

    def _owners_of(self, place: Partition) -> tuple[str, ...]:
        owners = self._owners.get(place)
        if owners is None:
            assert self._ring is not None
            class_ = self._ring.class_with(place[0])
            known = class_ is not None and place[1] < self._ring.partitions
            owners = tuple(self._ring.all_owners(*place)) if known else ()
            self._owners[place] = owners
        return owners

    # For people ---------------------------------------------------------------------------------

    def status(self) -> TombstonesStatus:
        """How many wait, how old they are and what for. Costs no I/O."""
        queue = self._queue
        oldest = min(
            (one for one in (self._oldest, self._last_oldest) if one is not None), default=None
        )
        waiting = {**self._last.waiting, **self._tally.waiting}
        if self._hindrance:
            waiting = {self._hindrance: queue.dead + queue.long}
        return TombstonesStatus(
            node=self._node_id,
            counted=queue.counted,
            tombstones=queue.dead,
            births=queue.long,
            oldest_s=(
                None
                if oldest is None or not queue.dead
                else max(0.0, round((self._clock.wall_ms() - oldest) / 1000, 3))
            ),
            after_s=self._after_s,
            trying=self._trying,
            reaped=self._count["tombstones_reaped"],
            dropped=self._count["tombstones_dropped"],
            shortened=self._count["births_dropped"],
            elsewhere=max(self._last.elsewhere, self._tally.elsewhere),
            waiting=tuple(WaitStatus(why=why, records=count) for why, count in waiting.items()),
        )
