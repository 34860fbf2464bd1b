"""The envelope of a record on disk: beside it the birth that this replica mints under, and what stands
for the record in the hash tree of its partition, so that a tree is built without reading records.

The birth and its last counter are a local fact: never sent, never learnt from a peer, and gone when
the record goes. The checksum covers the storage key too, so that neither a page of zeros nor the
value of another key passes. Knows nothing of what the record says, nor of any storage engine.

    value = format u8, crc32 u32, counter u64, birth length u8, record length u32,
            position u32, element u64, state u8, birth, record

Integers are big-endian. Format 1 had no position, element and state; it is still read. The crc32 runs
over the storage key and all that follows the crc32. Of a hint
the value is the milliseconds since 1970 at which it was taken, u64, and then the same, whose crc32 runs
over the hint key and that time first.
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import Final
from zlib import crc32

import msgspec

from dynamo.errors import StorageCorrupt
from dynamo.version import Birth

STORED_FORMAT: Final = 2
CREATED_BYTES: Final = 8
#: `Stored.state`: something in it may be shown; nothing ever can again (tombstones, bodies let go); it
#: has a body that goes once its time is over. All but LIVE have an entry in a queue (`dynamo.queues`).
LIVE: Final = 0
DEAD: Final = 1
EXPIRING: Final = 2

#: What comes before the birth: format and checksum, and what the checksum covers of it.
HEAD: Final = Layout(">BI")
_LENGTHS = Layout(">QBI")
REST: Final = Layout(">QBIIQB")
_BIRTH_AT = HEAD.size + REST.size
#: For who reads many: where that begins which the checksum covers, and how much of one of this format
#: there is at least.
CHECKED_AT: Final = HEAD.size
HEAD_BYTES: Final = _BIRTH_AT
#: Below this, one call on a copy is cheaper than two calls.
COPIED_BYTES_MAX: Final = 4096
_OLD_FORMAT: Final = 1
_OLD_BIRTH_AT = HEAD.size + _LENGTHS.size


class Stored(msgspec.Struct, frozen=True, gc=False):
    """What lies under a storage key.

    `birth`: what this replica mints under for the key, b"" if it holds none. `counter`: the last it
    minted, 0 without a birth. `record`: encoded. `position`, `element`: as of `dynamo.leaf`; -1 for
    both in a record of format 1, and 0 in a hint. `state`: LIVE, DEAD or EXPIRING, LIVE where it is not
    known.
    """

    birth: Birth
    counter: int
    record: bytes
    position: int = 0
    element: int = 0
    state: int = LIVE


def encode_stored(
    storage_key: bytes,
    birth: Birth,
    counter: int,
    record: bytes,
    position: int = 0,
    element: int = 0,
    state: int = LIVE,
) -> bytes:
    """The bytes to store under `storage_key`."""
    assert bool(birth) == (counter > 0)
    rest = REST.pack(counter, len(birth), len(record), position, element, state) + birth + record
    if len(record) <= COPIED_BYTES_MAX:
        checksum = crc32(storage_key + rest)
    else:
        checksum = crc32(rest, crc32(storage_key))
    return HEAD.pack(STORED_FORMAT, checksum) + rest


def check_stored(storage_key: bytes, data: bytes) -> memoryview:
    """The record in what `encode_stored` put under this key, in place: nothing is copied.

    Raises StorageCorrupt for anything else.
    """
    if len(data) < _OLD_BIRTH_AT:
        raise StorageCorrupt("a stored record is cut off")
    found, checksum = HEAD.unpack_from(data)
    _, birth_bytes, record_bytes = _LENGTHS.unpack_from(data, HEAD.size)
    record_at = (_OLD_BIRTH_AT if found == _OLD_FORMAT else _BIRTH_AT) + birth_bytes
    whole = memoryview(data)
    if (
        found not in (STORED_FORMAT, _OLD_FORMAT)
        or len(data) != record_at + record_bytes
        or crc32(whole[HEAD.size :], crc32(storage_key)) != checksum
    ):
        raise StorageCorrupt(
            "a stored record fails its checksum, or is not of its length or format"
        )
    return whole[record_at:]


def decode_stored(storage_key: bytes, data: bytes) -> Stored:
    """What `encode_stored` put under this key. Raises StorageCorrupt for anything else."""
    size = len(data)
    if size < _OLD_BIRTH_AT:
        raise StorageCorrupt("a stored record is cut off")
    found, checksum = HEAD.unpack_from(data)
    if found != STORED_FORMAT and found != _OLD_FORMAT:
        raise StorageCorrupt(f"stored format {found}, this node reads {STORED_FORMAT}")
    is_old = found == _OLD_FORMAT
    birth_at = _OLD_BIRTH_AT if is_old else _BIRTH_AT
    if size < birth_at:
        raise StorageCorrupt("a stored record is cut off")
    if is_old:
        counter, birth_bytes, record_bytes = _LENGTHS.unpack_from(data, HEAD.size)
        position, element, state = -1, -1, LIVE
    else:
        counter, birth_bytes, record_bytes, position, element, state = REST.unpack_from(
            data, HEAD.size
        )
    record_at = birth_at + birth_bytes
    if size != record_at + record_bytes:
        raise StorageCorrupt("a stored record is not of the length it says")
    if crc32(data[HEAD.size :], crc32(storage_key)) != checksum:
        raise StorageCorrupt("a stored record fails its checksum")
    return Stored(data[birth_at:record_at], counter, data[record_at:], position, element, state)


class StoredHint(msgspec.Struct, frozen=True, gc=False):
    """What lies under a hint key. `created_ms`: when it was first taken. `stored`: its own birth and its
    record, b"" for a marker: what is owed is this node's own record."""

    created_ms: int
    stored: Stored


def encode_hint(
    hint_key: bytes, created_ms: int, birth: Birth, counter: int, record: bytes
) -> bytes:
    """The bytes to store under `hint_key`."""
    created = created_ms.to_bytes(CREATED_BYTES)
    return created + encode_stored(hint_key + created, birth, counter, record)


def decode_hint(hint_key: bytes, data: bytes) -> StoredHint:
    """What `encode_hint` put under this key. Raises StorageCorrupt for anything else."""
    created = data[:CREATED_BYTES]
    stored = decode_stored(hint_key + created, data[CREATED_BYTES:])
    return StoredHint(int.from_bytes(created), stored)
