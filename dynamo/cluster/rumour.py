"""Views as bytes: a digest of what one side knows, and what the other side knows beyond that.

A digest is the index of its first member, and for each member from there on
    start * 2 + (1 if its address is not known), heartbeat.
A delta, read beside the digest that it answers, is for each member of which there is more to say
    members skipped * 4 + (2 if an address follows) + (1 if the start is another one)
    [start - that of the digest]
    heartbeat [- that of the digest, if the start is the same]
    [bytes of the address, the address; none for the one that the ring has]
All numbers are varints. What does not fit is left for the next message: each call says where that is
to begin. Bytes that are not ours are Malformed; what is read of any takes memory in proportion to
them. Knows nothing of whether what is said is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from dynamo.cluster.view import NEVER, Entry
from dynamo.errors import Malformed
from dynamo.varint import read_varint, write_varint

ADDRESS_BYTES_MAX: Final = 255

_NEW_START: Final = 1
_WITH_ADDRESS: Final = 2


class Shown(NamedTuple):
    """What a digest says of one member. `lacks`: the address is not known there."""

    start: int
    heartbeat: int
    lacks: bool


class Digest(NamedTuple):
    """What one side knows of the members from index `first` on."""

    first: int
    shown: list[Shown]


class Told(NamedTuple):
    """What a delta says of the member with this index."""

    member: int
    entry: Entry


def encode_digest(entries: Sequence[Entry], first: int, bytes_max: int) -> tuple[bytes, int]:
    """The digest of these from index `first` on, and where the next one is to begin: 0 if this one goes
    to the end. No more than `bytes_max` bytes, if those are at least 40."""
    out = bytearray()
    write_varint(first, out)
    for index in range(first, len(entries)):
        before = len(out)
        entry = entries[index]
        lacks = entry.address is None and entry.start > 0
        write_varint(entry.start * 2 + lacks, out)
        write_varint(entry.heartbeat, out)
        if len(out) > bytes_max:
            return bytes(out[:before]), index
    return bytes(out), 0


def decode_digest(data: bytes) -> Digest:
    """What `encode_digest` wrote. Raises Malformed."""
    first, at = read_varint(data, 0)
    shown: list[Shown] = []
    while at < len(data):
        number, at = read_varint(data, at)
        heartbeat, at = read_varint(data, at)
        shown.append(Shown(number >> 1, heartbeat, bool(number & 1)))
    return Digest(first, shown)


def encode_delta(
    entries: Sequence[Entry], digest: Digest, begin: int, bytes_max: int
) -> tuple[bytes, int]:
    """What these say beyond the digest, of the members from index `begin` on, and where the next delta
    is to begin: 0 if nothing is left. No more than `bytes_max` bytes."""
    out = bytearray()
    first, shown = digest
    expected = 0
    for index in range(max(first, begin), min(len(entries), first + len(shown))):
        entry, known = entries[index], shown[index - first]
        if not _says_more(entry, known):
            continue
        before = len(out)
        _write(entry, known, index - expected, out)
        if len(out) > bytes_max:
            return bytes(out[:before]), index
        expected = index + 1
    return bytes(out), 0


def _says_more(entry: Entry, known: Shown) -> bool:
    if entry.start != known.start:
        return entry.start > known.start
    return entry.heartbeat > known.heartbeat or (known.lacks and entry.address is not None)


def _write(entry: Entry, known: Shown, skipped: int, out: bytearray) -> None:
    is_new = entry.start != known.start
    address = entry.address if is_new or known.lacks else None
    flags = (_NEW_START if is_new else 0) | (0 if address is None else _WITH_ADDRESS)
    write_varint(skipped << 2 | flags, out)
    if is_new:
        write_varint(entry.start - known.start, out)
        write_varint(entry.heartbeat, out)
    else:
        write_varint(max(0, entry.heartbeat - known.heartbeat), out)
    if address is not None:
        data = address.encode()
        assert len(data) <= ADDRESS_BYTES_MAX
        write_varint(len(data), out)
        out += data


def decode_delta(data: bytes, entries: Sequence[Entry]) -> list[Told]:
    """What `encode_delta` wrote to answer a digest of these. Raises Malformed.

    Of members that are not among them, and of numbers that cannot be, it says what is written.
    """
    told: list[Told] = []
    at = expected = 0
    while at < len(data):
        head, at = read_varint(data, at)
        index = expected + (head >> 2)
        known = entries[index] if index < len(entries) else NEVER
        start, heartbeat = known.start, known.heartbeat
        if head & _NEW_START:
            grown, at = read_varint(data, at)
            start += grown
            heartbeat = 0
        more, at = read_varint(data, at)
        address: str | None = None
        if head & _WITH_ADDRESS:
            address, at = _read_address(data, at)
        told.append(Told(index, Entry(start, heartbeat + more, address)))
        expected = index + 1
    return told


def _read_address(data: bytes, at: int) -> tuple[str, int]:
    length, at = read_varint(data, at)
    end = at + length
    if length > ADDRESS_BYTES_MAX or end > len(data):
        raise Malformed("an address is cut off or too long")
    try:
        return data[at:end].decode("ascii"), end
    except UnicodeDecodeError:
        raise Malformed("an address that is not ASCII") from None
