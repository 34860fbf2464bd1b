"""How a (bucket type, bucket, key) becomes one routing key, and that a storage key.

Types, buckets and keys are bytes, any bytes. The *routing key* is hashed to a token; it is length
prefixed, so no two triples share one. The *storage key* starts with class and partition, so that
a partition is one range of the store. Knows nothing of the ring.
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import Final

from dynamo.errors import Malformed

TYPE_BYTES_MAX: Final = 255
BUCKET_BYTES_MAX: Final = 256
KEY_BYTES_MAX: Final = 1024
ROUTING_KEY_BYTES_MAX: Final = 3 + TYPE_BYTES_MAX + BUCKET_BYTES_MAX + KEY_BYTES_MAX

_PREFIX = Layout(">HI")
PREFIX_BYTES: Final = _PREFIX.size
_LENGTHS = Layout(">BH")


def routing_key(bucket_type: bytes, bucket: bytes, key: bytes) -> bytes:
    """One byte string for the triple: lengths of type and bucket, type, bucket, key.

    All keys of a bucket are one range in byte order.
    """
    return _LENGTHS.pack(len(bucket_type), len(bucket)) + bucket_type + bucket + key


def bucket_prefix(bucket_type: bytes, bucket: bytes) -> bytes:
    """What the routing keys of a bucket start with, and no other routing key does."""
    return _LENGTHS.pack(len(bucket_type), len(bucket)) + bucket_type + bucket


def first_bucket(bucket_type: bytes, bucket_bytes: int) -> bytes:
    """Where, in byte order, a type's buckets with names of so many bytes begin: 0 to 256."""
    return _LENGTHS.pack(len(bucket_type), bucket_bytes) + bucket_type


def after_prefix(prefix: bytes) -> bytes:
    """The first byte string, in byte order, after all that start with `prefix`; b"" for none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else b""


def split_routing_key(routing: bytes) -> tuple[bytes, bytes, bytes]:
    """(bucket type, bucket, key) of a routing key. Raises Malformed."""
    if len(routing) < _LENGTHS.size:
        raise Malformed("a routing key is cut off")
    type_bytes, bucket_bytes = _LENGTHS.unpack_from(routing)
    bucket_at = _LENGTHS.size + type_bytes
    key_at = bucket_at + bucket_bytes
    if (
        type_bytes < 1
        or not 1 <= bucket_bytes <= BUCKET_BYTES_MAX
        or not 1 <= len(routing) - key_at <= KEY_BYTES_MAX
    ):
        raise Malformed("a routing key's parts are out of bounds")
    return routing[_LENGTHS.size : bucket_at], routing[bucket_at:key_at], routing[key_at:]


def check_routing_key(routing: bytes) -> None:
    """Raises Malformed where `split_routing_key` would."""
    size = len(routing)
    if size >= _LENGTHS.size:
        type_bytes, bucket_bytes = _LENGTHS.unpack_from(routing)
        key_bytes = size - _LENGTHS.size - type_bytes - bucket_bytes
        if type_bytes and 1 <= bucket_bytes <= BUCKET_BYTES_MAX and 1 <= key_bytes <= KEY_BYTES_MAX:
            return
    split_routing_key(routing)


def partition_prefix(cls: int, partition: int) -> bytes:
    """The bytes that all storage keys of a (class, partition) start with."""
    return _PREFIX.pack(cls, partition)


def partition_range(cls: int, partition: int) -> tuple[bytes, bytes]:
    """First storage key of a (class, partition), and the first after it."""
    assert cls < 0xFFFF
    first = _PREFIX.pack(cls, partition)
    return first, (int.from_bytes(first) + 1).to_bytes(PREFIX_BYTES)


def place_of(prefix: bytes) -> tuple[int, int]:
    """(class, partition) of what `partition_prefix` gave."""
    cls, partition = _PREFIX.unpack(prefix)
    return cls, partition


def split_storage_key(storage: bytes) -> tuple[int, int, bytes]:
    """(class, partition, routing key) of a storage key. Raises Malformed."""
    if len(storage) <= PREFIX_BYTES:
        raise Malformed("a storage key is cut off")
    cls, partition = _PREFIX.unpack_from(storage)
    return cls, partition, storage[PREFIX_BYTES:]


def hint_prefix(target: str) -> bytes:
    """The bytes that all hint keys of a target, a member's id, start with."""
    name = target.encode()
    assert 0 < len(name) <= 0xFF
    return bytes((len(name),)) + name


def split_hint_key(hint_key: bytes) -> tuple[str, bytes]:
    """(target, storage key) of a hint key, which is `hint_prefix` and the storage key. Raises
    Malformed."""
    end = 1 + hint_key[0] if hint_key else 0
    if not 1 < end < len(hint_key):
        raise Malformed("a hint key is cut off")
    try:
        return hint_key[1:end].decode(), hint_key[end:]
    except UnicodeDecodeError:
        raise Malformed("a hint key names no member") from None
