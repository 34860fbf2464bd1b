"""Which disks have lost what in a run, and when they are whole again.

Few disks at a time lose something that was synced, and the next only when one of them is whole: w - 1
copies at once is what the store promises to bear. What a check may count on follows from what is noted
here, so neither the node nor its disk alone is believed. Knows nothing of how faults come.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dynamo.refill_marks import REFILL_PREFIX
from dynamo.sim.cluster import Cluster
from dynamo.sim.history import (
    GOES_BACK,
    NOTHING,
    REFILL_PATIENCE,
    History,
    Loss,
    Why,
    copy_on_disk,
    some,
)
from dynamo.sim.ledger import Ledger

_LOOK_INTERVAL: Final = 0.01
_LATE_INTERVAL: Final = 0.1
#: A loss that has not been noticed for so long, though nothing is missing any more, never will be.
_UNNOTICED_SECONDS: Final = 10.0

#: What a node counts that makes good what its disk lost, and that judges what it had when it went back.
_MENDED: Final = ("records_mended", "partitions_refilled")
_JUDGED: Final = ("partitions_purged", "partitions_unpurged")

#: What a disk has of each key: all writes that it holds or that those cover.
Covered = dict[bytes, frozenset[int]]
#: The same of one key, by its owners.
Copies = dict[str, frozenset[int]]


class Mends(NamedTuple):
    """How often a node has made good a loss, up to which start of it; and how often it has judged what
    it had when its disk went back. `pending`: what it was at, by what was put back."""

    starts: int
    times: int
    judged: int
    pending: int = 0


class Losses:
    """Of one run; they are noted in its history. `at_once`: disks that may have lost something and not
    got it back."""

    def __init__(self, cluster: Cluster, history: History, ledger: Ledger, *, at_once: int) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._history = history
        self._at_once = at_once
        #: Those that are not known to be made good.
        self._open: list[Loss] = []
        #: Nodes that said that they had read the others, and had not, a line each.
        self.incomplete: list[str] = []

    def may_lose(self, name: str) -> bool:
        """True if the node is up, its disk is whole, and not too many others are not."""
        losing = {loss.node for loss in self._open}
        is_whole = name not in losing and len(losing) < self._at_once
        return is_whole and self._cluster.nodes[name].is_up

    def had(self, name: str, key: bytes | None = None) -> Covered:
        """What the node's disk has now, of the key or of all."""
        keys = self._cluster.keys if key is None else (key,)
        return {one: self.covered(name, one) for one in keys}

    def covered(self, name: str, key: bytes) -> frozenset[int]:
        """The writes that the node's disk holds of the key, or that those cover."""
        storage_key = self._cluster.storage_key(key)
        data = self._cluster.nodes[name].disk.durable("records", storage_key)
        return self._history.covers(data, storage_key)

    def is_pending(self, name: str, key: bytes) -> bool:
        """The node has a newer record of the key that is not synced: what is damaged below it may never
        come to light."""
        disk, storage_key = self._cluster.nodes[name].disk, self._cluster.storage_key(key)
        return disk.is_pending("records", storage_key)

    def lost(
        self, name: str, had: Covered, why: Why, *, noticed: bool = True, back: bool = False
    ) -> None:
        """Note what of that which the disk `had` it has not now; all of it, if the disk went `back`:
        what peers do not know is set aside. `noticed`: its node is certain to find out before it
        answers anybody."""
        now = self._cluster.loop.time()
        pending = 0
        if why in GOES_BACK:
            self._history.went_back.add(name)
            pending = self._marks(name)
        for key, before in had.items():
            if not before or (not back and before <= self.covered(name, key)):
                continue
            for loss in self._history.lose(now, name, key, why=why, noticed=noticed):
                loss.starts = self._cluster.nodes[name].starts
                self._open.append(loss)
                self._watch(loss, before, self._elsewhere(loss), self._mends(loss, pending))

    def hints_of(self, name: str) -> Covered:
        """What the node's disk holds now for others."""
        return self._ledger.of(name)

    def lost_hints(self, name: str, held: Covered, why: Why) -> None:
        """Note what of that which the disk `held` for others it does not now; whatever it was, if the
        node stays down."""
        now = self._cluster.loop.time()
        left = self._ledger.of(name) if why != "dead" else {}
        for key, before in held.items():
            if not before <= left.get(key, NOTHING):
                self._history.lose_hints(now, name, key, why=why)

    def unnoticed(self, name: str, since: float) -> None:
        """The node could not find out what it had lost since then before it answered somebody."""
        for loss in self._history.losses:
            if loss.node == name and loss.at >= since:
                loss.noticed = False

    def _elsewhere(self, loss: Loss) -> Copies:
        """What the other owners have of the key: who may have lost it must read that from them."""
        owners = self._cluster.owners(loss.key)
        return {owner: self.covered(owner, loss.key) for owner in owners if owner != loss.node}

    def _watch(self, loss: Loss, before: frozenset[int], elsewhere: Copies, since: Mends) -> None:
        """Find out when the disk has again what it had, as far as others have it, nobody owes the node
        anything, and it has mended something since: else it has just not noticed yet. What it had mended
        before a start may have been taken back by that."""
        loop, now = self._cluster.loop, self._cluster.loop.time()
        is_complete = self._cluster.is_complete(loss.node, loss.key) and not self._is_rotten(loss)
        mends = self._mends(loss)
        if mends.starts != since.starts:
            times = mends.times + since.pending
            since = mends._replace(times=times, pending=since.pending)
        has_mended = mends.times > since.times or mends.judged > since.judged
        if is_complete and has_mended and elsewhere:
            self._check_complete(loss, elsewhere)
            elsewhere = {}
        if is_complete and self._has_again(loss, before):
            if has_mended:
                loss.whole_at = now
                self._open.remove(loss)
                return
            if now - loss.at > _UNNOTICED_SECONDS:
                if loss.why in GOES_BACK:
                    loss.whole_at = now  # nothing was gone that anybody had been told of
                self._open.remove(loss)  # say a newer write has taken the place of what was damaged
                return
        # What a node lost so long ago counts without its peers, if they are down.
        interval = _LOOK_INTERVAL if now < loss.at + 2 * REFILL_PATIENCE else _LATE_INTERVAL
        loop.call_later(interval, self._watch, loss, before, elsewhere, since, context=loop.outside)

    def _check_complete(self, loss: Loss, elsewhere: Copies) -> None:
        """A node says that it has read all others: then it has what they had when it lost its copy,
        and have to this day."""
        has, now = self.covered(loss.node, loss.key), self._cluster.loop.time()
        # What was reaped is gone from one disk a little earlier than from the next.
        gone = [one.covered for one in self._history.reaped if one.key == loss.key]
        has = has.union(*gone)
        for owner, had in elsewhere.items():
            missing = had & self.covered(owner, loss.key) - has - self._history.fading(loss.key)
            if missing:
                self.incomplete.append(
                    f"after the {loss}, {loss.node} takes itself for complete at {now:.4f} s"
                    f" without {some(missing)}, which {owner} has"
                )
                return

    def _is_rotten(self, loss: Loss) -> bool:
        """What was damaged lies there still: nobody has met it."""
        storage_key = self._cluster.storage_key(loss.key)
        disk = self._cluster.nodes[loss.node].disk
        data = disk.durable("records", storage_key)
        return disk.is_unreadable("records", storage_key) or copy_on_disk(data, storage_key).damaged

    def _mends(self, loss: Loss, pending: int = 0) -> Mends:
        node = self._cluster.nodes[loss.node]
        times, judged = (sum(map(node.count, names)) for names in (_MENDED, _JUDGED))
        return Mends(node.starts, times, judged, pending)

    def _marks(self, name: str) -> int:
        """How many partitions of the node are marked on disk as lacking something."""
        items = self._cluster.nodes[name].disk.durable_items("facts")
        return sum(key.startswith(REFILL_PREFIX) for key, _ in items)

    def _has_again(self, loss: Loss, before: frozenset[int]) -> bool:
        missing = before - self.covered(loss.node, loss.key)
        return not missing or not any(
            missing & self.covered(owner, loss.key)
            for owner in self._cluster.owners(loss.key)
            if owner != loss.node
        )
