"""Who answered which read, and who gave a write its dot: heard on the wire, not told by those who ask.

What a read may have missed follows from whose answers can have counted. Knows nothing of quorums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dynamo.errors import Malformed
from dynamo.record import decode_record
from dynamo.rpc.messages import NO_HINT, Fetch, Mint, Minted
from dynamo.sim.apart import is_apart, kept_own
from dynamo.sim.cluster import Cluster
from dynamo.sim.history import History, Operation, left_by
from dynamo.sim.ledger import Ledger
from dynamo.sim.points import Witness
from dynamo.sim.reaps import Reaps


class _Answer(NamedTuple):
    at: float
    node: str
    #: Of a node that does not own the key: what its disk then held for others.
    held: frozenset[int] | None


class Testimony(Witness):
    """What the nodes of a run say to each other, as far as its checks have to know."""

    def __init__(self, cluster: Cluster, history: History, ledger: Ledger) -> None:
        self._cluster = cluster
        self._history = history
        self._ledger = ledger
        self.reaps = Reaps(cluster, history)
        self._keys = {cluster.routing_key(key): key for key in history.owners}
        #: By who asked, and key.
        self._answers: dict[tuple[str, bytes], list[_Answer]] = {}

    def minted(self, node: str, message: Mint, minted: Minted) -> None:
        """Note the dot, and whose it is."""
        try:
            record = decode_record(minted.record)
            dot = (minted.birth, minted.counter)
            stand_in = message.hint_for != NO_HINT
            self._history.note_minted(node, record, dot, stand_in=stand_in)
        except Malformed as error:
            self._history.unreadable.append(f"a mint: {error.message}")

    def answered(self, node: str, asker: str, fetch: Fetch, *, something: bool) -> None:
        """Note who answers. That a node which owns nothing here has nothing says nothing."""
        key = self._keys.get(fetch.key)
        if key is None:
            return
        held = None
        if node not in self._history.owners[key]:
            if not something:
                return
            # A hint that it has removed is on disk until that is synced.
            held = self._ledger.held(node, key) & self._ledger.held(node, key, synced=False)
        answer = _Answer(self._cluster.loop.time(), node, held)
        self._answers.setdefault((asker, key), []).append(answer)

    def stored(self, node: str, key: bytes, record: bytes) -> None:
        """Note that nothing comes back."""
        self.reaps.stored(node, key, record)

    def owed(self, node: str, key: bytes, targets: Sequence[int], *, certain: bool) -> None:
        """Note what the node owes."""
        if key in self._keys:
            self._ledger.owed(node, self._keys[key], targets, certain=certain)

    def note(self, operation: Operation) -> None:
        """Say of an operation that has just ended whose answers can have counted: those to other reads
        of the key at the same time and node among them."""
        answerers = set()
        for answer in reversed(self._answers.get((operation.node, operation.key), ())):
            if answer.at < operation.start:
                break
            if answer.held is None:
                answerers.add(answer.node)
            else:
                before = operation.stood_in.get(answer.node, answer.held)
                operation.stood_in[answer.node] = before & answer.held
        operation.answerers = frozenset(answerers)


class Looks:
    """At the disks as an operation begins and as it is answered, and at who has answered meanwhile."""

    def __init__(self, cluster: Cluster, history: History) -> None:
        self._cluster = cluster
        self._history = history
        self.ledger = Ledger(cluster, history)
        self._testimony = Testimony(cluster, history, self.ledger)
        cluster.witness = self._testimony

    def watch_bodies(self) -> None:
        """As of `Reaps`."""
        self._testimony.reaps.watch_bodies()

    def before(self, operation: Operation) -> None:
        """Note what its key's owners have."""
        history, storage_key = self._history, self._cluster.storage_key(operation.key)
        for owner, data in self._stored(operation.key, storage_key).items():
            if data is not None:
                operation.had[owner] = history.covers(data, storage_key)

    def after(self, operation: Operation) -> None:
        """Note who holds what it has left, and who can have counted."""
        cluster, history, key = self._cluster, self._history, operation.key
        storage_key = cluster.storage_key(key)
        stored = self._stored(key, storage_key)
        operation.holders = history.holders_of(operation, stored, storage_key)
        wanted = left_by(operation)
        operation.holders |= {
            owner
            for owner in stored
            if owner not in operation.holders
            and wanted <= kept_own(cluster.nodes[owner].disk, storage_key)
        }
        operation.hinted = frozenset(
            name
            for name, node in cluster.nodes.items()
            if wanted
            and node.disk.has_hints
            and name not in stored
            and wanted <= self.ledger.held(name, key)
        )
        self._testimony.note(operation)

    def _stored(self, key: bytes, storage_key: bytes) -> dict[str, bytes | None]:
        """What the owners' disks have; of one that went back nothing that it had before, since its node
        keeps that apart, or will once it is started."""
        nodes, losses = self._cluster.nodes, self._history.losses
        starts = {one.node: one.starts for one in losses if one.sets_back and one.key == key}
        stored = {}
        for owner in self._cluster.owners(key):
            disk = nodes[owner].disk
            is_hidden = owner in starts and (
                nodes[owner].starts == starts[owner] or is_apart(disk, storage_key)
            )
            stored[owner] = None if is_hidden else disk.durable("records", storage_key)
        return stored
