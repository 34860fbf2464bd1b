"""The envelope of a record on disk: beside it the birth that this replica mints under.

The birth and its last counter are a local fact: never sent, never learnt from a peer, and gone when
the record goes. The checksum covers the storage key too, so that neither a page of zeros nor the
value of another key passes. Knows nothing of what the record says, nor of any storage engine.

    value = format u8, crc32 u32, counter u64, birth length u8, record length u32, birth, record

Integers are big-endian. The crc32 runs over the storage key and all that follows the crc32. Of a hint
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

STORED_FORMAT: Final = 1
CREATED_BYTES: Final = 8

_HEAD = Layout(">BI")
_LENGTHS = Layout(">QBI")
_BIRTH_AT = _HEAD.size + _LENGTHS.size


class Stored(msgspec.Struct, frozen=True, gc=False):
    """What lies under a storage key.

    `birth`: what this replica mints under for the key, b"" if it holds none. `counter`: the last it
    minted, 0 without a birth. `record`: encoded.
    """

    birth: Birth
    counter: int
    record: bytes


def encode_stored(storage_key: bytes, birth: Birth, counter: int, record: bytes) -> bytes:
    """The bytes to store under `storage_key`."""
    assert bool(birth) == (counter > 0)
    rest = _LENGTHS.pack(counter, len(birth), len(record)) + birth + record
    return _HEAD.pack(STORED_FORMAT, crc32(rest, crc32(storage_key))) + rest


def check_stored(storage_key: bytes, data: bytes) -> memoryview:
    """The record in what `encode_stored` put under this key, in place: nothing is copied.

    Raises StorageCorrupt for anything else.
    """
    if len(data) < _BIRTH_AT:
        raise StorageCorrupt("a stored record is cut off")
    found, checksum = _HEAD.unpack_from(data)
    _, birth_bytes, record_bytes = _LENGTHS.unpack_from(data, _HEAD.size)
    record_at = _BIRTH_AT + birth_bytes
    whole = memoryview(data)
    if (
        found != STORED_FORMAT
        or len(data) != record_at + record_bytes
        or crc32(whole[_HEAD.size :], crc32(storage_key)) != checksum
    ):
        raise StorageCorrupt(
            "a stored record fails its checksum, or is not of its length or format"
        )
    return whole[record_at:]


def decode_stored(storage_key: bytes, data: bytes) -> Stored:
    """What `encode_stored` put under this key. Raises StorageCorrupt for anything else."""
    if len(data) < _BIRTH_AT:
        raise StorageCorrupt("a stored record is cut off")
    found, checksum = _HEAD.unpack_from(data)
    if found != STORED_FORMAT:
        raise StorageCorrupt(f"stored format {found}, this node reads {STORED_FORMAT}")
    counter, birth_bytes, record_bytes = _LENGTHS.unpack_from(data, _HEAD.size)
    record_at = _BIRTH_AT + birth_bytes
    if len(data) != record_at + record_bytes:
        raise StorageCorrupt("a stored record is not of the length it says")
    if crc32(data[_HEAD.size :], crc32(storage_key)) != checksum:
        raise StorageCorrupt("a stored record fails its checksum")
    return Stored(data[_BIRTH_AT:record_at], counter, data[record_at:])


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
