"""What a node may have lost, and what it does before it goes on: a new incarnation, refill marks.

A storage that was damaged, reopened, put back or emptied may have less than it had. Then nothing is
minted under an incarnation of before, and every partition is marked, durably, before it is served. If
what it has is what it had at an earlier time, the marks say that too. Knows nothing of how partitions
are refilled.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from dynamo.cluster.topology import Known, Topology
from dynamo.commit import GroupCommit
from dynamo.errors import DataDirectoryError, DynamoError, StorageError
from dynamo.metrics import Metrics
from dynamo.ports import PASSING_REFUSALS, Clock, OpeningState
from dynamo.refill import Refill
from dynamo.replica import Replica
from dynamo.version import RANDOM_BYTES, incarnation_bytes
from dynamo.world import Directory, NodeStorage

log = logging.getLogger(__name__)

WATCH_INTERVAL: Final = 0.5
RETRY_MAX: Final = 30.0
#: Losses of synced writes that leave what the disk had at an earlier time. An empty disk has nothing of
#: any time, and of a rebuilt one each record that is left is the last.
_WENT_BACK: Final[frozenset[OpeningState]] = frozenset(("lost_tail", "point_in_time"))


class Recovery:
    """Of one start of a node. `entropy(n)`: n random bytes."""

    def __init__(
        self,
        *,
        directory: Directory,
        storage: NodeStorage,
        commit: GroupCommit,
        replica: Replica,
        topology: Topology,
        refill: Refill,
        clock: Clock,
        metrics: Metrics,
        entropy: Callable[[int], bytes],
        is_new: bool = False,
    ) -> None:
        """`is_new`: there was no database before this start."""
        self._directory = directory
        self._storage = storage
        self._commit = commit
        self._replica = replica
        self._topology = topology
        self._refill = refill
        self._clock = clock
        self._count = metrics.count
        self._entropy = entropy
        #: Why all is to be marked and is not yet; "" most of the time.
        self._why = ""
        #: Peers were shown what is there now, after one had seen more than there was at the start.
        self._is_told = False
        #: Not 0 if the disk went back: when, in writes. What it had then is told from what came since.
        self._back = 0
        state = storage.opening.state
        self._has_past = not is_new and state != "empty"
        if state != "clean":
            self._why = storage.opening.why or state
        elif replica.must_refill:
            self._why = "an earlier start was to refill, and what it has read is not known"
        if self._has_past:
            replica.arrivals.open()
        if state in _WENT_BACK or (self._why and replica.must_set_back):
            self._back = storage.write_number + 1

    def on_ring(self) -> None:
        """It is known which partitions there are: mark them, if they are to be marked."""
        if self._why:
            self._mark_all()

    def renew_incarnation(self) -> None:
        """Mint under an incarnation that nobody has used, from now on."""
        directory = self._directory
        try:
            directory.raise_start(directory.start)
            bits = directory.random
        except DataDirectoryError as error:
            # New random bits alone keep its dots apart, and the next start draws its own.
            log.error("a new start number could not be written down: %s", error.message)
            bits = self._entropy(RANDOM_BYTES)
        self._replica.renew_incarnation(incarnation_bytes(directory.start, bits))

    def on_behind(self, known: Known) -> None:
        """A peer has seen more of this node than there is: an older or empty disk was put in.

        Start above what is known, so that no dot is minted twice, and refill.
        """
        directory, storage = self._directory, self._storage
        is_above = directory.start > known.start and storage.write_number > known.write_number
        if self._is_told and is_above:
            # Another peer has said so already. This one is dialled again, and goes by what is synced:
            # where nobody writes, nobody else would sync it.
            self._commit.when_synced(storage.write_number, _log_failure)
            return
        self._why = "a peer has seen later writes of this node than it has itself"
        if self._has_past and not self._back:
            self._back = storage.write_number + 1
        try:
            directory.raise_start(known.start)
            self._replica.renew_incarnation(incarnation_bytes(directory.start, directory.random))
            # The marks go first: a crash keeps a prefix, and peers let in whoever has the number.
            if self._topology.ring is None:
                self._replica.note_must_refill(True, back=self._back > 0)
            elif not self._mark_all():
                return  # said again by the next refusal
            self._replica.set_back.tell_apart(self._replica.arrivals.take())
            # What is owed by a disk that went back may have been overwritten and deleted since.
            self._replica.hints.discard_all()
            storage.raise_write_number(known.write_number + 1)
            self._is_told = True
            # Synced at once: peers let this node in again when it shows the new number.
            self._commit.when_synced(storage.write_number, _log_failure)
        except DynamoError as error:
            log.error("the refill could not be marked: %s", error.message)

    async def watch(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Reopen an engine that met the end of the disk once there is room, rebuild a damaged database;
        settle its alarms. For ever."""
        storage = self._storage
        patience = retry_at = 0.0
        while True:
            if storage.refusal() in PASSING_REFUSALS and self._clock.monotonic() >= retry_at:
                try:
                    if await storage.recover():
                        self._recovered()
                    patience = 0.0
                except StorageError as error:
                    log.error("the storage could not be reopened: %s", error.message)
                    # An attempt may read and write all there is.
                    patience = min(2 * patience + WATCH_INTERVAL, RETRY_MAX)
                    retry_at = self._clock.monotonic() + patience
            takes_marks = self._topology.ring is not None and storage.refusal() is None
            if self._why and takes_marks:
                self._mark_all()
            if not storage.settled and not self._why:
                self._commit.when_synced(storage.write_number, self._settle)
            await sleep(WATCH_INTERVAL)

    def _recovered(self) -> None:
        """Writes whose dots have left may be gone, so their births must not go on."""
        self.renew_incarnation()
        self._commit.reopened()
        # They have the writes that may be gone, and changes of what was read before.
        self._replica.forest.doubt_all()
        self._replica.hints.recount()
        self._replica.queue.recount()
        opening = self._storage.opening
        if opening.state != "clean":
            self._why = opening.why or opening.state
            self._back = 0  # what is marked as back stays so
            if opening.state in _WENT_BACK:
                # So did what this process has minted before.
                self._back = self._storage.write_number + 1
                self._replica.forget_incarnations()
            if self._topology.ring is not None:
                self._mark_all()  # in memory at least, before anything is read

    def _mark_all(self) -> bool:
        """Everything this node has may be incomplete: mark it, before any of it is served.

        False if the marks could not be written: they hold in memory, and the watch tries again.
        """
        log.error("ALARM all partitions must be refilled: %s", self._why)
        self._count["alarms"] += 1
        try:
            self._refill.mark_all(self._back, self._replica.incarnations if self._back else ())
            if self._replica.must_refill:
                self._replica.note_must_refill(False)
        except StorageError as error:
            log.error("the refill could not be marked: %s", error.message)
            return False
        self._why = ""
        return True

    def _settle(self, error: DynamoError | None) -> None:
        """The marks are on disk: the storage need not remember what it lost."""
        if error is not None:
            return  # the watch tries again
        try:
            self._storage.settle()
        except StorageError as problem:
            log.error("%s", problem.message)


def _log_failure(error: DynamoError | None) -> None:
    if error is not None:
        log.error("the refill marks are not on disk: %s", error.message)
