"""What one node answers to a peer that compares hash trees with it: which roots differ, hashes further
down, which keys lie in a leaf and what stands for each.

No answer holds the loop for more than a few milliseconds, however many keys a partition has. A tree that
is not ready says nothing, and neither does a partition whose records are being read back. Reads storage
and never writes it, as `dynamo.replica_reads`. Knows nothing of what the peer makes of the answers.
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import Final

from antientropy.exchange import from_bits, from_hashes, to_bits, to_hashes
from antientropy.merkle import Tree
from dynamo.errors import DynamoError, StorageCorrupt
from dynamo.exchange_what import shared_with
from dynamo.keys import PREFIX_BYTES, partition_range
from dynamo.metrics import Metrics
from dynamo.ports import Call, Handler, Storage
from dynamo.refill_marks import Partition
from dynamo.refusing import REFILLING
from dynamo.replica import Replica
from dynamo.replica_reads import ReplicaReads
from dynamo.rpc.exchange_messages import (
    AskHashes,
    CompareRoots,
    Hashes,
    KeyElements,
    ListElements,
    RootsDiffer,
)
from dynamo.rpc.messages import Refused
from dynamo.stored import HEAD_BYTES, STORED_FORMAT, decode_stored
from ring.partition import partition_of, token
from ring.ring import Ring

#: Records read for one answer, and their bytes: a millisecond or two.
READ_RECORDS: Final = 2_000
READ_BYTES: Final = 2 << 20

NOT_READY: Final = Refused("not_ready", True, "the hash tree of this partition is being built")
OTHER_SHAPE: Final = Refused("malformed", True, "the hash trees here have another shape")
MALFORMED: Final = Refused("malformed", True, "not a question about the hash trees that there are")

#: Of what is stored: format and position.
_GLANCE: Final = Layout(">B17xI").unpack_from


class ReplicaTrees:
    """Handlers of the requests about hash trees, over one node's replica."""

    def __init__(
        self,
        *,
        node_id: str,
        replica: Replica,
        reads: ReplicaReads,
        storage: Storage,
        metrics: Metrics,
    ) -> None:
        self._node_id = node_id
        self._replica = replica
        self._reads = reads
        self._storage = storage
        self._count = metrics.count
        self._ring: Ring | None = None
        #: The partitions shared with each peer that has asked, by the ring that is served.
        self._shared: dict[str, tuple[Partition, ...]] = {}

    def adopt(self, ring: Ring) -> None:
        """Answer by this ring."""
        self._ring = ring
        self._shared = {}

    def handlers(self) -> dict[type, Handler]:
        """By class of request."""
        return {
            CompareRoots: self.on_compare_roots,
            AskHashes: self.on_ask_hashes,
            ListElements: self.on_list_elements,
        }

    def shared_with(self, peer: str) -> tuple[Partition, ...]:
        """The partitions that this node and that peer own, in order; () for a stranger."""
        if self._ring is None or peer == self._node_id:
            return ()
        shared = self._shared.get(peer)
        if shared is None:
            if self._ring.member(peer) is None:
                return ()
            shared = self._shared[peer] = shared_with(self._ring, self._node_id, peer)
        return shared

    def is_of(self, place: Partition, key: bytes) -> bool:
        """True if this routing key lies in that partition."""
        ring = self._ring
        return ring is not None and place[1] == partition_of(token(key, ring.seed), ring.partitions)

    def ready_tree(self, place: Partition) -> Tree | Refused:
        """The tree of a partition that this node owns, or why nothing can be said by it now."""
        replica = self._replica
        if replica.is_incomparable(place):
            return REFILLING
        prefix = replica.prefixes.get(place)
        tree = None if prefix is None else replica.forest.trees.get(prefix)
        return tree if tree is not None and tree.is_ready else NOT_READY

    # Requests -----------------------------------------------------------------------------------

    def on_compare_roots(self, message: CompareRoots, call: Call) -> None:
        """Say which roots differ, and which trees here are not ready."""
        refusing = self._replica.refusing
        if message.epoch > refusing.epoch:
            self._replica.on_later_epoch(call.peer, message.epoch)
        ring = self._ring
        shared = self.shared_with(call.peer)
        if ring is None or not shared:
            refusing.refuse(call, refusing.not_mine(owned=False))
            return
        if message.epoch != ring.epoch:
            refusing.refuse(call, refusing.not_mine(owned=True))
            return
        if message.leaves != self._replica.forest.leaves:
            refusing.refuse(call, OTHER_SHAPE)
            return
        places = shared[message.first : message.first + message.count]
        try:
            theirs = from_bits(message.ready, message.count)
            roots = iter(from_hashes(message.roots, sum(theirs)))
        except ValueError:
            refusing.refuse(call, MALFORMED)
            return
        if len(places) != message.count:
            refusing.refuse(call, MALFORMED)
            return
        differ, not_ready = [], []
        for place, is_ready in zip(places, theirs, strict=True):
            tree = self.ready_tree(place)
            not_ready.append(not isinstance(tree, Tree))
            root = next(roots) if is_ready else None
            differ.append(root is not None and isinstance(tree, Tree) and tree.root() != root)
        self._count["roots_compared"] += message.count
        call.reply(RootsDiffer(to_bits(differ), to_bits(not_ready)))

    def on_ask_hashes(self, message: AskHashes, call: Call) -> None:
        """Answer with the nodes below those that were named."""
        tree = self._tree(message, call)
        if tree is None:
            return
        hashes = b""
        try:
            for parent in message.parents:
                hashes += to_hashes(tree.children(message.level, parent))
        except IndexError:
            self._replica.refusing.refuse(call, MALFORMED)
            return
        call.reply(Hashes(hashes))

    def on_list_elements(self, message: ListElements, call: Call) -> None:
        """Answer with the keys of some leaves, a page at a time."""
        tree = self._tree(message, call)
        if tree is None:
            return
        wanted = frozenset(message.wanted)
        if not wanted or max(wanted) >= message.leaves:
            self._replica.refusing.refuse(call, MALFORMED)
            return
        place = (message.cls, message.partition)
        start, end = partition_range(*place)
        if message.after:
            start += message.after + b"\0"
        try:
            found = self._storage.scan(
                "records", start, end, count_max=READ_RECORDS, bytes_max=READ_BYTES
            )
        except DynamoError as error:
            self._reads.refuse_unread(place, call, error)
            return
        size = sum(len(key) + len(data) for key, data in found)
        more = len(found) >= READ_RECORDS or size >= READ_BYTES
        entries: list[tuple[bytes, bytes]] = []
        read = 0
        for storage_key, data in found:
            if len(entries) >= message.count_max:
                more = True
                break
            read += 1
            element = self._element_in(storage_key, data, wanted, message.leaves - 1)
            if element is not None:
                entries.append((storage_key[PREFIX_BYTES:], element))
        if not tree.is_ready:  # a record was damaged
            self._replica.refusing.refuse(call, NOT_READY)
            return
        last = found[read - 1][0][PREFIX_BYTES:] if more and read else b""
        hashes = to_hashes([tree.leaves[leaf] for leaf in message.wanted])
        self._count["records_read_for_exchange"] += read
        call.reply(KeyElements(tuple(entries), more, last, hashes, read))

    # Inside -------------------------------------------------------------------------------------

    def _tree(self, message: AskHashes | ListElements, call: Call) -> Tree | None:
        """The tree that is asked about; None, and the call is answered, if there is none to speak of."""
        replica = self._replica
        refusing = replica.refusing
        if message.epoch > refusing.epoch:
            replica.on_later_epoch(call.peer, message.epoch)
        place = (message.cls, message.partition)
        prefix = replica.prefixes.get(place)
        if prefix is None or message.epoch < replica.changed_epochs[place]:
            refusing.refuse(call, refusing.not_mine(owned=prefix is not None))
            return None
        if message.leaves != replica.forest.leaves:
            refusing.refuse(call, OTHER_SHAPE)
            return None
        tree = self.ready_tree(place)
        if isinstance(tree, Refused):
            refusing.refuse(call, tree)
            return None
        return tree

    def _element_in(
        self, storage_key: bytes, data: bytes, wanted: frozenset[int], mask: int
    ) -> bytes | None:
        """What stands for the record, if it lies in one of these leaves. A damaged one is put aside."""
        try:
            if len(data) >= HEAD_BYTES:
                # Most lie in other leaves: no more of those is looked at.
                found, position = _GLANCE(data)
                if found == STORED_FORMAT and position & mask not in wanted:
                    return None
            stored = decode_stored(storage_key, data)
            position, element = self._replica.hasher.read(storage_key, stored)
        except StorageCorrupt:
            self._replica.put_aside(storage_key, data)
            return None
        return element.to_bytes(8) if position & mask in wanted else None
