"""What stands for a record in the hash tree of its partition, and where.

Both are keyed with the cluster's secret, so that nobody outside can choose keys that fall into one
leaf, or records that cancel out. What stands for a record covers what its digest does
(`dynamo.record`): not the body, so no tree changes when that of an expired sibling goes. Knows nothing
of trees.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from hashlib import blake2b
from struct import Struct as Layout
from typing import Final
from zlib import crc32

import msgspec

from dynamo.errors import Malformed, StorageCorrupt
from dynamo.record import VALUE, Record, read_record
from dynamo.stored import (
    CHECKED_AT,
    COPIED_BYTES_MAX,
    DEAD,
    EXPIRING,
    HEAD,
    HEAD_BYTES,
    LIVE,
    REST,
    STORED_FORMAT,
    Stored,
    decode_stored,
)

_encode: Final = msgspec.msgpack.Encoder().encode
_from_bytes: Final = int.from_bytes
_pack_head: Final = HEAD.pack
_pack_rest: Final = REST.pack
#: Of what is stored: format, checksum, position and element.
_GLANCE: Final = Layout(">BI13xIQ")


class LeafHasher:
    """Of one cluster; the same on each of its nodes."""

    __slots__ = ("_key", "_mark")

    def __init__(self, secret: bytes) -> None:
        """`secret`: the cluster's."""
        key = blake2b(b"hash trees", key=secret[:64], digest_size=32).digest()
        # Hashed before all else: with BLAKE2 that is as good as a key, and cheaper.
        self._key = key
        self._mark = blake2b(b"mark", key=key, digest_size=32).digest()

    @property
    def mark(self) -> bytes:
        """32 bytes by which the secret is known again, and of which nothing else can be known."""
        return self._mark

    def position(self, storage_key: bytes) -> int:
        """Where the key lies, 32 bits; of a tree with fewer leaves, the lowest of them."""
        hashed = blake2b(self._key + storage_key, digest_size=8)
        return _from_bytes(hashed.digest()[4:])

    def element(self, storage_key: bytes, record: Record) -> int:
        """What stands for the record, 64 bits; 0 stands for none."""
        return self.stand_in(storage_key, record)[1]

    def stand_in(self, storage_key: bytes, record: Record) -> tuple[int, int, int]:
        """Of a record: position, element, and state as of `Stored`."""
        _, position, element, state = self.seal(storage_key, None, b"", 0, record, b"")
        return position, element, state

    def seal(
        self,
        storage_key: bytes,
        before: Stored | None,
        birth: bytes,
        counter: int,
        record: Record,
        encoded: bytes,
    ) -> tuple[bytes, int, int, int]:
        """Of a record that replaces `before`: the bytes to store, as `encode_stored` makes them,
        position, what changes in the leaf (what stood for it, XOR what stands for it now), and state as
        of `Stored`. `encoded`: the record's bytes.

        Each write comes by here, so it is all in one call; `python -m bench.hotpath` counts it. The
        position is the hash of the key, the element that of the key and, behind it, of the record: one
        hash that goes on.
        """
        siblings = record.siblings
        if siblings and not siblings[1:]:
            # Nearly always there is one. What is hashed of it and of several begins differently.
            s = siblings[0]
            said = _encode((record.vector, s.birth, s.counter, s.expires_ms, s.content_hash))
            state = DEAD
            if s.kind == VALUE and s.content is not None:
                state = EXPIRING if s.expires_ms else LIVE
        else:
            named = []
            state = DEAD
            for s in siblings:
                named.append((s.birth, s.counter, s.expires_ms, s.content_hash))
                if s.kind == VALUE and s.content is not None:
                    if s.expires_ms:
                        state = EXPIRING
                    elif state == DEAD:
                        state = LIVE
            said = _encode((record.vector, named))
        hashed = blake2b(self._key + storage_key, digest_size=8)
        if before is None or before.position < 0:
            position = _from_bytes(hashed.digest()[4:])
        else:
            position = before.position
        hashed.update(said)
        change = element = _from_bytes(hashed.digest())
        if before is not None:
            change ^= before.element if before.position >= 0 else self._stood(storage_key, before)
        size = len(encoded)
        rest = _pack_rest(counter, len(birth), size, position, element, state) + birth + encoded
        if size <= COPIED_BYTES_MAX:
            checksum = crc32(storage_key + rest)
        else:
            checksum = crc32(rest, crc32(storage_key))
        return _pack_head(STORED_FORMAT, checksum) + rest, position, change, state

    def _stood(self, storage_key: bytes, before: Stored) -> int:
        """The element of a record of the first format."""
        return self.element(storage_key, read_record(before.record))

    def gather(
        self, entries: Iterable[tuple[bytes, bytes]], leaves: array[int]
    ) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Put what stands for these records, as they are stored, into the leaves of a tree. Returns how
        many bytes they take, and the damaged of them, which are left out.

        About a microsecond each: nothing of a record is read that is not needed.
        """
        glance, mask, fast_format = _GLANCE.unpack_from, len(leaves) - 1, STORED_FORMAT
        damaged: list[tuple[bytes, bytes]] = []
        size = 0
        for storage_key, data in entries:
            length = len(data)
            size += length + len(storage_key)
            if length >= HEAD_BYTES:
                found, checksum, position, element = glance(data)
                if (
                    found == fast_format
                    and crc32(data[CHECKED_AT:], crc32(storage_key)) == checksum
                ):
                    leaves[position & mask] ^= element
                    continue
            try:
                position, element = self.read(storage_key, decode_stored(storage_key, data))
            except StorageCorrupt:
                damaged.append((storage_key, data))
            else:
                leaves[position & mask] ^= element
        return size, damaged

    def read(self, storage_key: bytes, stored: Stored) -> tuple[int, int]:
        """Position and element of what is stored, by the record itself where it is of the first format.
        Raises StorageCorrupt for what is no record."""
        if stored.position >= 0:
            return stored.position, stored.element
        return self.compute(storage_key, stored)

    def compute(self, storage_key: bytes, stored: Stored) -> tuple[int, int]:
        """As `read`, by the record itself."""
        try:
            record = read_record(stored.record)
        except Malformed as error:
            raise StorageCorrupt(f"a stored record cannot be read: {error.message}") from None
        position, element, _ = self.stand_in(storage_key, record)
        return position, element
