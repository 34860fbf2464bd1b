"""What the target of a delivery does: merges what it has missed, a slice at a time.

A message may hold a thousand records, and clients' requests must not wait for all of them: after each
slice the loop goes round. One sync serves them all, and only then does the answer leave. Merges through
the replica, which alone writes. Knows nothing of who owed the records, nor for how long.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dynamo.commit import GroupCommit
from dynamo.errors import DynamoError, StorageError
from dynamo.metrics import Metrics
from dynamo.pace import ClientLoad
from dynamo.ports import Call, Clock, Storage, Timer
from dynamo.refusing import code_of
from dynamo.replica import Replica, is_deleted
from dynamo.rpc.messages import Deliver, Delivered, Delivery, Refused, Store

#: Merged before the loop goes round.
SLICE_ENTRIES: Final = 64
SLICE_BYTES: Final = 1 << 20
#: Deliveries that are merged at a time; each node sends one at a time.
UNDER_WAY_MAX: Final = 64


class ReplicaDeliver:
    """Handler of Deliver, over one node's replica."""

    def __init__(
        self,
        *,
        replica: Replica,
        storage: Storage,
        commit: GroupCommit,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._replica = replica
        self._storage = storage
        self._commit = commit
        self._clock = clock
        self._count = metrics.count
        self._load = ClientLoad(metrics.count)
        self._under_way: dict[_Merging, None] = {}

    def __len__(self) -> int:
        """Deliveries that are being merged."""
        return len(self._under_way)

    def keys(self) -> Iterator[tuple[int, int, bytes]]:
        """What is still to be merged of those: (class, partition, routing key)."""
        for merging in self._under_way:
            for delivery in merging.message.entries[merging.at :]:
                yield delivery.cls, delivery.partition, delivery.key

    def on_deliver(self, message: Deliver, call: Call) -> None:
        """Merge the records, answer Delivered once those that were taken are on disk."""
        refusing = self._replica.refusing
        if not refusing.epoch:
            refusing.refuse(call, refusing.not_mine(owned=False))
        elif len(self._under_way) >= UNDER_WAY_MAX:
            refusing.refuse(call, Refused("busy", True, "this node takes as many hints as it can"))
        else:
            merging = _Merging(message, call, self._commit.failures)
            self._under_way[merging] = None
            self._go_on(merging)

    def close(self) -> None:
        """Refuse what is not merged yet; some of it may be."""
        while self._under_way:
            merging, _ = self._under_way.popitem()
            if merging.timer is not None:
                merging.timer.cancel()
            merging.call.reply(Refused("not_ready", False, "this node is stopping"))

    def _go_on(self, merging: _Merging) -> None:
        """Merge the next slice, and then see to it that the one after that is."""
        merging.timer = None
        entries = merging.message.entries
        if self._clock.monotonic() >= merging.call.deadline:
            # Nobody waits for the rest. What was merged is delivered again, and found to be there.
            self._end(merging)
            merging.call.reply(Refused("deadline_past", merging.at == 0))
            return
        stop = min(merging.at + SLICE_ENTRIES, len(entries))
        bytes_left = SLICE_BYTES
        while merging.at < stop and bytes_left > 0:
            delivery = entries[merging.at]
            refused = self._merge(merging, delivery)
            if refused:
                self._count["deliveries_refused_" + refused] += 1
                merging.refused.append((merging.at, refused))
            bytes_left -= len(delivery.record)
            merging.at += 1
        if merging.at < len(entries):
            merging.timer = self._clock.call_later(0.0, lambda: self._go_on(merging))
            return
        self._end(merging)
        self._reply_synced(merging)

    def _end(self, merging: _Merging) -> None:
        self._under_way.pop(merging, None)

    def _merge(self, merging: _Merging, delivery: Delivery) -> str:
        """Merge one record; returns the code of the refusal, "" if there is none."""
        replica = self._replica
        place = (delivery.cls, delivery.partition)
        prefix = replica.prefixes.get(place)
        if prefix is None or merging.message.epoch < replica.changed_epochs[place]:
            return replica.refusing.not_mine(owned=prefix is not None).code
        reason = self._storage.refusal()
        reserve = reason == "disk_full" and is_deleted(delivery.record)
        if reserve:
            reason = self._storage.refusal(reserve=True)
        if reason is not None:
            return reason
        storage_key = prefix + delivery.key
        # As a repair: no stamp of it is refused, since it has been acknowledged.
        store = Store(
            delivery.key,
            delivery.cls,
            delivery.partition,
            merging.message.epoch,
            0,
            delivery.record,
            repair=True,
        )
        try:
            number = replica.merge_in(replica.shelf_of(place), storage_key, store, reserve)
        except DynamoError as error:
            return code_of(error)[0]
        by_exchange = merging.message.exchange
        self._count["deliveries_by_exchange" if by_exchange else "deliveries_stored"] += 1
        if type(number) is int:
            merging.written[storage_key] = number
        return ""

    def _reply_synced(self, merging: _Merging) -> None:
        unsynced = self._replica.unsynced

        def synced(error: DynamoError | None) -> None:
            if error is None and self._commit.failures != merging.failures:
                # Nobody has waited for the first slices yet when their sync failed.
                error = StorageError("a sync has failed since the first of them were written")
            if error is not None:
                self._replica.refusing.refuse_unsynced(merging.call, error)
                return
            for storage_key, number in merging.written.items():
                if unsynced.get(storage_key, number + 1) <= number:
                    del unsynced[storage_key]
            busy = self._load.is_busy(self._clock.monotonic())
            merging.call.reply(Delivered(tuple(merging.refused), busy))

        self._commit.when_synced(max(merging.written.values(), default=0), synced)


class _Merging:
    """A delivery, up to where it is merged. `failures`: syncs that had failed when it began. `written`:
    storage keys, and the writes to wait for."""

    __slots__ = ("at", "call", "failures", "message", "refused", "timer", "written")

    def __init__(self, message: Deliver, call: Call, failures: int) -> None:
        self.message = message
        self.call = call
        self.at = 0
        self.failures = failures
        self.refused: list[tuple[int, str]] = []
        self.written: dict[bytes, int] = {}
        self.timer: Timer | None = None
