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

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

from msgspec import Meta

from dynamo.errors import Malformed
from dynamo.varint import VARINT_PATTERN, read_varint, write_varint

RANDOM_BYTES: Final = 8
COUNTER_MAX: Final = (1 << 63) - 1

Birth = bytes
Counter = Annotated[int, Meta(ge=1, le=COUNTER_MAX)]
Dot = tuple[Birth, int]
#: Sorted by birth, each birth once, counters from 1.
Vector = tuple[tuple[Birth, Counter], ...]

EMPTY_VECTOR: Final[Vector] = ()

_BIRTH_PATTERN = VARINT_PATTERN + rb"[\x00-\xff]{8}" + VARINT_PATTERN
_is_birth = re.compile(_BIRTH_PATTERN).fullmatch
# Birth, then a counter of 1 to 9 bytes: 1 to COUNTER_MAX.
_entries_in = re.compile(
    rb"(" + _BIRTH_PATTERN + rb")([\x01-\x7f]|[\x80-\xff]{1,8}[\x01-\x7f])"
).findall


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


def birth_sequence(birth: Birth) -> int:
    """The sequence number of a well-formed birth. Raises Malformed."""
    _, at = read_varint(birth, 0)
    sequence, _ = read_varint(birth, at + RANDOM_BYTES)
    return sequence


def check_birth(birth: bytes) -> None:
    """Raises Malformed unless `birth` is exactly one birth."""
    if _is_birth(birth) is None:
        raise Malformed("not a birth")


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
    if len(vector) < len(other):
        return False
    seen = dict(vector)
    for birth, counter in other:  # noqa: SIM110  a generator would double the cost
        if seen.get(birth, 0) < counter:
            return False
    return True


def strictly_below(vector: Vector, other: Vector) -> bool:
    """True if `other` has seen all that `vector` has, and more."""
    return vector != other and descends(other, vector)


def join(vector: Vector, other: Vector) -> Vector:
    """The least vector that has seen what either has; `vector` itself if `other` adds nothing."""
    if not vector:
        return other
    joined = dict(vector)
    grown = False
    for birth, counter in other:
        if joined.get(birth, 0) < counter:
            joined[birth] = counter
            grown = True
    return tuple(sorted(joined.items())) if grown else vector


def encode_vector(vector: Vector) -> bytes:
    """Canonical bytes: a count, then birth and counter of each entry, in order."""
    out = bytearray()
    write_varint(len(vector), out)
    for birth, counter in vector:
        out += birth
        if counter < 0x80:
            out.append(counter)
        else:
            write_varint(counter, out)
    return bytes(out)


def vector_bytes(vector: Vector) -> int:
    """Length of `encode_vector(vector)`."""
    size = (len(vector).bit_length() + 6) // 7 or 1
    for birth, counter in vector:
        size += len(birth) + (counter.bit_length() + 6) // 7
    return size


def decode_vector(data: bytes) -> Vector:
    """The vector of `encode_vector`. Raises Malformed for anything it would not have written."""
    count, end = read_varint(data, 0)
    entries: list[tuple[Birth, int]] = []
    last = b""
    # findall skips what does not match; then the lengths do not add up.
    for birth, number in _entries_in(data, end):
        if birth <= last:
            raise Malformed("a vector is not sorted")
        counter = number[0] if len(number) == 1 else read_varint(number, 0)[0]
        entries.append((birth, counter))
        end += len(birth) + len(number)
        last = birth
    if end != len(data) or len(entries) != count:
        raise Malformed("a vector is cut off or has bytes that do not belong to it")
    return tuple(entries)
