"""What stands for a record in the hash tree of its partition, and where.

Both are keyed with the cluster's secret, so that nobody outside can choose keys that fall into one
leaf, or records that cancel out. What stands for a record covers what its digest does
(`dynamo.record`): not the body, so no tree changes when that of an expired sibling goes. Knows nothing
of trees.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec

from dynamo.record import VALUE, Record, read_record
from dynamo.stored import DEAD, LIVE, Stored

_encode: Final = msgspec.msgpack.Encoder().encode
_from_bytes: Final = int.from_bytes


class LeafHasher:
    """Of one cluster; the same on each of its nodes."""

    __slots__ = ("_elements", "_positions")

    def __init__(self, secret: bytes) -> None:
        """`secret`: the cluster's."""
        key = blake2b(b"hash trees", key=secret[:64], digest_size=32).digest()
        # Copied for each hash, which is cheaper than to begin with the key each time.
        self._positions = blake2b(key=key, digest_size=4)
        self._elements = blake2b(key=key, digest_size=8)

    def position(self, storage_key: bytes) -> int:
        """Where the key lies, 32 bits; of a tree with fewer leaves, the lowest of them."""
        hashed = self._positions.copy()
        hashed.update(storage_key)
        return _from_bytes(hashed.digest())

    def element(self, storage_key: bytes, record: Record) -> int:
        """What stands for the record, 64 bits; 0 stands for none."""
        return self.leaf(storage_key, None, record)[1]

    def leaf(
        self, storage_key: bytes, before: Stored | None, record: Record
    ) -> tuple[int, int, int, int]:
        """Of a record that replaces `before`: position, element, what changes in the leaf (what stood
        for it, XOR what stands for it now), and state as of `Stored`."""
        siblings = record.siblings
        if len(siblings) == 1:
            s = siblings[0]
            named = [(s.birth, s.counter, s.expires_ms, s.content_hash)]
            state = LIVE if s.kind == VALUE and s.content is not None else DEAD
        else:
            named = []
            state = DEAD
            for s in siblings:
                named.append((s.birth, s.counter, s.expires_ms, s.content_hash))
                if s.kind == VALUE and s.content is not None:
                    state = LIVE
        hashed = self._elements.copy()
        hashed.update(storage_key + _encode((record.vector, named)))
        element = change = _from_bytes(hashed.digest())
        if before is None:
            hashed = self._positions.copy()
            hashed.update(storage_key)
            return _from_bytes(hashed.digest()), element, element, state
        position = before.position
        if position < 0:  # a record of the first format
            position = self.position(storage_key)
            change ^= self.element(storage_key, read_record(before.record))
        else:
            change ^= before.element
        return position, element, change, state
