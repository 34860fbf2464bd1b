"""Dots and version vectors: which writes a record has seen.

A *birth* names one replica's stay with one key: (incarnation, sequence), where the incarnation is
(start number, 64 random bits) and the sequence is taken new, node-wide, whenever a replica mints
for a key for which it holds no birth of its incarnation. A *dot* is (birth, counter): one write,
for ever. A *vector* maps births to the highest counter seen, without gaps.

Births are kept as bytes: varint start number, 8 random bytes, varint sequence. They are
self-delimiting, hashable and sorted the same everywhere. After Almeida, Baquero et al., "Scalable
and Accurate Causality Tracking for Eventually Consistent Stores" (DAIS 2014). Knows nothing of
values, storage or nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dynamo.errors import Malformed
from dynamo.varint import read_varint, write_varint

Birth = bytes
Dot = tuple[Birth, int]
#: Sorted by birth, each birth once, counters from 1.
Vector = tuple[tuple[Birth, int], ...]

RANDOM_BYTES = 8
COUNTER_MAX = (1 << 63) - 1
EMPTY_VECTOR: Vector = ()


def incarnation_bytes(start: int, random: bytes) -> bytes:
    """The prefix that all births of one incarnation share, and no other birth has."""
    assert len(random) == RANDOM_BYTES
    out = bytearray()
    write_varint(start, out)
    out += random
    return bytes(out)


def birth_bytes(incarnation: bytes, sequence: int) -> Birth:
    """The birth with this sequence number (from 1) in an incarnation."""
    out = bytearray(incarnation)
    write_varint(sequence, out)
    return bytes(out)


def read_birth(data: bytes, at: int) -> tuple[Birth, int]:
    """The birth that starts at offset `at`, and the offset after it. Raises Malformed."""
    _, end = read_varint(data, at)
    end += RANDOM_BYTES
    _, end = read_varint(data, end)
    return data[at:end], end


def check_birth(birth: bytes) -> None:
    """Raises Malformed unless `birth` is exactly one birth."""
    _, end = read_birth(birth, 0)
    if end != len(birth):
        raise Malformed("a birth has bytes after its end")


def vector_of(entries: Mapping[Birth, int] | Iterable[tuple[Birth, int]]) -> Vector:
    """The canonical vector of these entries."""
    return tuple(sorted(dict(entries).items()))


def covers_dot(vector: Mapping[Birth, int], birth: Birth, counter: int) -> bool:
    """True if the vector has seen the dot."""
    return vector.get(birth, 0) >= counter


def descends(vector: Vector, other: Vector) -> bool:
    """True if `vector` has seen everything that `other` has (equal included)."""
    if vector == other or not other:
        return True
    seen = dict(vector)
    return all(seen.get(birth, 0) >= counter for birth, counter in other)


def strictly_below(vector: Vector, other: Vector) -> bool:
    """True if `other` has seen all that `vector` has, and more."""
    return vector != other and descends(other, vector)


def join(vector: Vector, other: Vector) -> Vector:
    """The least vector that has seen what either has."""
    if vector == other or not other:
        return vector
    if not vector:
        return other
    joined = dict(vector)
    for birth, counter in other:
        if joined.get(birth, 0) < counter:
            joined[birth] = counter
    return tuple(sorted(joined.items()))


def encode_vector(vector: Vector) -> bytes:
    """Canonical bytes: a count, then birth and counter of each entry, in order."""
    out = bytearray()
    write_varint(len(vector), out)
    for birth, counter in vector:
        out += birth
        write_varint(counter, out)
    return bytes(out)


def decode_vector(data: bytes) -> Vector:
    """The vector of `encode_vector`. Raises Malformed for anything it would not have written."""
    count, at = read_varint(data, 0)
    if count > len(data):
        raise Malformed("a vector promises more entries than it has bytes")
    entries: list[tuple[Birth, int]] = []
    last = b""
    for _ in range(count):
        birth, at = read_birth(data, at)
        counter, at = read_varint(data, at)
        if birth <= last:
            raise Malformed("a vector is not sorted")
        if not 1 <= counter <= COUNTER_MAX:
            raise Malformed("a counter is out of range")
        entries.append((birth, counter))
        last = birth
    if at != len(data):
        raise Malformed("a vector has bytes after its end")
    return tuple(entries)
