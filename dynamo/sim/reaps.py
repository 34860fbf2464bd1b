"""Which records went for good in a run, and whether they might: I4, judged from the disks.

A record may go once nothing in it can be shown any more, every owner has it on disk, nobody holds for
another anything that it covers, and nothing older is under way: none of that is asked of the nodes.
What was removed so must never be seen again (`dynamo.sim.checks`). Knows nothing of how nodes prove it.
"""

from __future__ import annotations

from functools import partial

from dynamo.errors import Malformed, StorageCorrupt
from dynamo.record import VALUE, decode_record
from dynamo.sim.apart import generation, is_apart
from dynamo.sim.cluster import Cluster
from dynamo.sim.hints import hint_copy
from dynamo.sim.history import NOTHING, History, Reaped, some, write_of, writes_in
from dynamo.stored import EXPIRING, decode_stored


class Reaps:
    """The records of one run that went. It is told of every removal from its making on."""

    def __init__(self, cluster: Cluster, history: History) -> None:
        self._cluster = cluster
        self._history = history
        self._keys = {cluster.storage_key(key): key for key in history.owners}
        self._routing = {cluster.routing_key(key): key for key in history.owners}
        #: By key: of the records that went, what they covered beside what was in them.
        self._under: dict[bytes, frozenset[int]] = {}
        #: Records that went before, with what they lay under: what was proved once holds for ever.
        self._proved: set[tuple[bytes, bytes]] = set()
        cluster.on_gone = self._gone

    def watch_bodies(self) -> None:
        """See to it that no body comes back to a disk that has let it go."""
        for name, node in self._cluster.nodes.items():
            node.disk.on_put = partial(self._put, name)

    def _put(self, name: str, storage_key: bytes, before: bytes, after: bytes) -> None:
        key = self._keys.get(storage_key)
        if key is None or generation(self._cluster.nodes[name].disk, storage_key):
            return  # or what it had is kept apart
        try:
            now = decode_stored(storage_key, after)
            if now.state != EXPIRING:
                return
            _, gone = _bodies(decode_stored(storage_key, before).record)
            back = gone & _bodies(now.record)[0]
        except StorageCorrupt:
            return  # what it was is not known any more
        if back:
            self._history.broken_reaps.append(
                f"the body of {some(back)} of {key!r} is back on the disk of {name} at"
                f" {self._cluster.loop.time():.4f} s"
            )

    def stored(self, node: str, routing_key: bytes, record: bytes) -> None:
        """A node is given this record to merge: nothing may be in it that went for good."""
        key = self._routing.get(routing_key)
        under = self._under.get(key, NOTHING) if key is not None else NOTHING
        if not under or not record:
            return
        try:
            late = writes_in(decode_record(record)) & under
        except Malformed:
            return  # what it is instead is found where it lies
        if late:
            self._history.broken_reaps.append(
                f"{node} is given {some(late)} of {key!r} at {self._cluster.loop.time():.4f} s,"
                " after what covers it was reaped"
            )

    def _gone(self, name: str, storage_key: bytes, before: bytes) -> None:
        """A node has removed a record, unsynced."""
        key = self._keys.get(storage_key)
        went_back = name in self._history.went_back
        if key is None or (went_back and is_apart(self._cluster.nodes[name].disk, storage_key)):
            return  # or it was kept apart, and its peers know nothing of it
        try:
            encoded = decode_stored(storage_key, before).record
            record = decode_record(encoded)
            ids = writes_in(record)
        except (StorageCorrupt, Malformed):
            return  # it was damaged, and is put aside
        if self._went_back(name, key):
            return  # what only it had was lost with its disk; the rest its peers have
        history, now = self._history, self._cluster.loop.time()
        covered = history.covers(before, storage_key)
        values = [one for one in record.siblings if one.kind == VALUE and one.content is not None]
        if values:
            history.broken_reaps.append(
                f"{name} has removed its record of {key!r} at {now:.4f} s, which shows {some(ids)}"
            )
            return
        if (storage_key, encoded) not in self._proved:
            self._proved.add((storage_key, encoded))
            why = self._unproved(name, key, storage_key, ids, covered - ids)
            if why:
                history.broken_reaps.append(
                    f"{name} has reaped {some(ids)} of {key!r} at {now:.4f} s, {why}"
                )
        self._under[key] = self._under.get(key, NOTHING) | (covered - ids)
        history.reaped.append(Reaped(now, name, key, ids, covered))

    def _unproved(
        self,
        name: str,
        key: bytes,
        storage_key: bytes,
        ids: frozenset[int],
        under: frozenset[int],
    ) -> str:
        """Why it might not go yet; "" if it might."""
        cluster, history = self._cluster, self._history
        for owner in cluster.owners(key):
            data = cluster.nodes[owner].disk.durable("records", storage_key)
            missing = ids - (there := history.covers(data, storage_key))
            if there - under - ids:
                missing -= history.fading(key)  # something newer has taken their place
            if missing and not self._has_lost(owner, key):
                return f"though {owner} has not got {some(missing)} on disk"
        for node in cluster.nodes:
            for synced in (True, False):
                for target, hint, value in cluster.hints(node, key, synced=synced):
                    held = hint_copy(value, hint).ids or NOTHING
                    if held & under:
                        return f"though {node} holds {some(held & under)} for {target}"
        return ""

    def _went_back(self, owner: str, key: bytes) -> bool:
        """The owner's disk went back in time, and it is not whole again."""
        return owner in self._history.went_back and not self._cluster.is_complete(owner, key)

    def _has_lost(self, owner: str, key: bytes) -> bool:
        """The owner's copy is lost, and not whole again."""
        now = self._cluster.loop.time()
        return any(
            loss.node == owner and loss.key == key and loss.at <= now <= loss.whole_at
            for loss in self._history.losses
        )


def _bodies(encoded: bytes) -> tuple[frozenset[int], frozenset[int]]:
    """The writes of a record that have their bodies, and those that have lost them."""
    siblings = decode_record(encoded).siblings
    return (
        frozenset(write_of(one) for one in siblings if one.content is not None),
        frozenset(write_of(one) for one in siblings if one.content is None),
    )
