"""What nodes hold for others in a run, each change of it judged as it is made: I9.

A hint may leave a disk only once its target has on its own disk what it held. What a node only owes
(its own record of a key) is remembered here as it was when it said so. Knows nothing of how hints are
delivered, nor of what was said about it.
"""

from __future__ import annotations

from collections.abc import Sequence

from dynamo.sim.cluster import Cluster
from dynamo.sim.hints import hint_copy, hint_key, read_place
from dynamo.sim.history import NOTHING, Handed, History, some

#: Losses of a disk after which its node may let hints go: what they are of may be long gone.
_SETS_BACK = ("wipe", "restore", "log", "database")


class Ledger:
    """The hints of one run's nodes. It is told of every change from its making on."""

    def __init__(self, cluster: Cluster, history: History) -> None:
        self._cluster = cluster
        self._history = history
        self._keys = {cluster.storage_key(key): key for key in history.owners}
        #: By node and hint: what of its own record the node owes.
        self._owed: dict[tuple[str, bytes], frozenset[int]] = {}
        cluster.on_hint = self._changed

    def owed(self, node: str, key: bytes, targets: Sequence[int], *, certain: bool) -> None:
        """A node has said that it owes these members its record of the key, or (not `certain`) has noted
        it if it could."""
        cluster, history = self._cluster, self._history
        storage_key = cluster.storage_key(key)
        disk = cluster.nodes[node].disk
        covered = history.covers(disk.durable("records", storage_key), storage_key)
        for target in targets:
            name = cluster.ring.members[target].id
            hint = hint_key(name, storage_key)
            if disk.durable("hints", hint) is not None:
                if disk.current("hints", hint) is not None:
                    self._owed[node, hint] = self._owed.get((node, hint), NOTHING) | covered
                continue
            if not certain:
                continue
            missing = covered - self._taken(name, storage_key) - self._excused_writes(key)
            if missing and not self._excused(node, name, key):
                history.broken_hints.append(
                    f"{node} says that it owes {name} its record of {key!r}, keeps nothing of that,"
                    f" and {name} has not got {some(missing)} at {cluster.loop.time():.4f} s"
                )

    def held(
        self, node: str, key: bytes, *, without: str = "", synced: bool = True
    ) -> frozenset[int]:
        """What the disk of a node that does not own the key holds of it for others, or (not `synced`)
        what its process reads there."""
        found = NOTHING
        for target, hint, value in self._cluster.hints(node, key, synced=synced):
            if target != without:
                found |= self._history.covers(value, hint, hint_copy)
        return found

    def of(self, name: str) -> dict[bytes, frozenset[int]]:
        """By key that the node does not own, what its disk holds for others."""
        found = {}
        for key, owners in self._history.owners.items():
            if name not in owners and (held := self.held(name, key)):
                found[key] = held
        return found

    def _changed(self, name: str, hint: bytes, before: bytes | None, after: bytes | None) -> None:
        """A node has put, replaced or (`after` None) removed a hint, unsynced."""
        history, cluster = self._history, self._cluster
        target, storage_key = read_place(hint)
        key = self._keys.get(storage_key)
        if key is None:
            return
        had = history.covers(before, hint, hint_copy)
        if after is not None:
            missing = had - history.covers(after, hint, hint_copy) - history.fading(key)
            if missing:
                history.broken_hints.append(
                    f"{name} has replaced its hint of {key!r} for {target} by one without"
                    f" {some(missing)} at {cluster.loop.time():.4f} s"
                )
            return
        if before is None:
            return
        if hint_copy(before, hint).damaged:
            self._owed.pop((name, hint), None)  # put aside, as it has to be
            return
        had |= self._owed.pop((name, hint), NOTHING)
        taken = self._taken(target, storage_key)
        missing = had - taken - self._excused_writes(key)
        if missing and not self._excused(name, target, key):
            history.broken_hints.append(
                f"{name} has removed its hint of {key!r} for {target}, which has not got"
                f" {some(missing)} at {cluster.loop.time():.4f} s"
            )
        history.handed.append(
            Handed(
                at=cluster.loop.time(),
                node=name,
                target=target,
                key=key,
                ids=had,
                left=self.held(name, key, without=target),
                taken=taken,
            )
        )

    def _excused_writes(self, key: bytes) -> frozenset[int]:
        """What nobody need have any more."""
        return self._history.gone(key) | self._history.fading(key)

    def _taken(self, target: str, storage_key: bytes) -> frozenset[int]:
        """What the disk of an owner certainly has."""
        data = self._cluster.nodes[target].disk.durable("records", storage_key)
        return self._history.covers(data, storage_key)

    def _excused(self, name: str, target: str, key: bytes) -> bool:
        """True if the target may have had it, and lost it, or the node itself: its own record of the
        key, or more. Or if the node discards its hints, as one must that peers have found put back,
        though what was put back may have lost nothing."""
        services = self._cluster.nodes[name].services
        if services is not None and services.is_discarding_hints:
            return True
        return any(
            (loss.node in (name, target) and loss.key == key)
            or (loss.node == name and loss.why in _SETS_BACK)
            for loss in self._history.losses
        )
