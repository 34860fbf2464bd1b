"""Views as bytes: a digest of what one side knows, and what the other side knows beyond that.

A digest is the index of its first member, and for each member from there on
    start * 4 + (2 if an address follows) + (1 if the address is not known), heartbeat,
    [bytes of the address, the address]
A delta, read beside the view whose digest it answers, is for each member of which there is more to say
    members skipped * 4 + (2 if an address follows) + (1 if the start is another one)
    [start - that of the digest]
    heartbeat [- that of the digest, if the start is the same]
    [bytes of the address, the address]
All numbers are varints; an address of no bytes is the one that the ring has. What does not fit is left
for the next message: each call says where that is to begin. Bytes that are not ours are Malformed; what
is read of any takes memory in proportion to them. Knows nothing of whether what is said is believed.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final, NamedTuple

from dynamo.cluster.view import Told, View
from dynamo.errors import Malformed
from dynamo.varint import read_varint, write_varint

ADDRESS_BYTES_MAX: Final = 255

_NEW_START: Final = 1
_LACKS: Final = 1
_WITH_ADDRESS: Final = 2


class Digest(NamedTuple):
    """What one side knows of the members from index `first` on, one after the other."""

    first: int
    told: list[Told]


def encode_digest(
    view: View,
    first: int,
    bytes_max: int,
    *,
    fresh: Container[int] = (),
    addresses_bytes_max: int = 0,
) -> tuple[bytes, int]:
    """The digest of a view from index `first` on, and where the next one is to begin: 0 if this one goes
    to the end. No more than `bytes_max` bytes.

    `fresh`: members whose address is said, so that it spreads as fast as their start, as long as such
    addresses take no more than `addresses_bytes_max`.
    """
    out = bytearray()
    write_varint(first, out)
    starts, heartbeats, addresses = view.starts, view.heartbeats, view.addresses
    for index in range(first, len(starts)):
        before = len(out)
        start, heartbeat, address = starts[index], heartbeats[index], addresses[index]
        told = ""
        head = start << 2
        if address is None:
            head |= _LACKS if start else 0
        elif index in fresh and len(address) < addresses_bytes_max:
            head |= _WITH_ADDRESS
            told = address
            addresses_bytes_max -= len(address) + 1
        if head < 0x80:  # most numbers are short: no call for those
            out.append(head)
        else:
            write_varint(head, out)
        if 0x7F < heartbeat < 0x4000:
            out.append((heartbeat & 0x7F) | 0x80)
            out.append(heartbeat >> 7)
        else:
            write_varint(heartbeat, out)
        if head & _WITH_ADDRESS:
            _write_address(told, out)
        if len(out) > bytes_max:
            return bytes(out[:before]), index
    return bytes(out), 0


def decode_digest(data: bytes) -> Digest:
    """What `encode_digest` wrote. Raises Malformed."""
    first, at = read_varint(data, 0)
    index, end = first, len(data)
    told: list[Told] = []
    while at < end:
        head = data[at]
        if head < 0x80:
            at += 1
        else:
            head, at = read_varint(data, at)
        if at + 1 < end and data[at] >= 0x80 and 0 < data[at + 1] < 0x80:
            heartbeat = (data[at] & 0x7F) | (data[at + 1] << 7)
            at += 2
        else:
            heartbeat, at = read_varint(data, at)
        address: str | None = None
        if head & _WITH_ADDRESS:
            address, at = _read_address(data, at)
        told.append((index, head >> 2, heartbeat, address, head & _LACKS == _LACKS))
        index += 1
    return Digest(first, told)


def encode_delta(view: View, digest: Digest, begin: int, bytes_max: int) -> tuple[bytes, int]:
    """What a view says beyond the digest, of the members from index `begin` on, and where the next delta
    is to begin: 0 if nothing is left. No more than `bytes_max` bytes."""
    out = bytearray()
    expected = 0
    starts, heartbeats, addresses = view.starts, view.heartbeats, view.addresses
    skipped = max(0, begin - digest.first)
    for one in digest.told[skipped : max(0, len(view) - digest.first)]:
        index, known, beat, _, lacks = one
        start = starts[index]
        if start == known:
            if heartbeats[index] <= beat and not (lacks and addresses[index] is not None):
                continue
        elif start < known:
            continue
        before = len(out)
        _write(view, one, index - expected, out)
        if len(out) > bytes_max:
            return bytes(out[:before]), index
        expected = index + 1
    return bytes(out), 0


def _write(view: View, one: Told, skipped: int, out: bytearray) -> None:
    index, known, beat, _, lacks = one
    start, heartbeat = view.starts[index], view.heartbeats[index]
    is_new = start != known
    address = view.addresses[index] if is_new or lacks else None
    flags = (_NEW_START if is_new else 0) | (0 if address is None else _WITH_ADDRESS)
    write_varint(skipped << 2 | flags, out)
    if is_new:
        write_varint(start - known, out)
        write_varint(heartbeat, out)
    else:
        write_varint(max(0, heartbeat - beat), out)
    if address is not None:
        _write_address(address, out)


def decode_delta(data: bytes, sent: View) -> list[Told]:
    """What `encode_delta` wrote to answer a digest of `sent`. Raises Malformed.

    Of members that are not among those, and of numbers that cannot be, it says what is written.
    """
    told: list[Told] = []
    at = index = 0
    count = len(sent)
    while at < len(data):
        head, at = read_varint(data, at)
        index += head >> 2
        start, heartbeat = (sent.starts[index], sent.heartbeats[index]) if index < count else (0, 0)
        if head & _NEW_START:
            grown, at = read_varint(data, at)
            start += grown
            heartbeat = 0
        more, at = read_varint(data, at)
        address: str | None = None
        if head & _WITH_ADDRESS:
            address, at = _read_address(data, at)
        told.append((index, start, heartbeat + more, address, False))
        index += 1
    return told


def _write_address(address: str, out: bytearray) -> None:
    data = address.encode("ascii")
    assert len(data) <= ADDRESS_BYTES_MAX
    write_varint(len(data), out)
    out += data


def _read_address(data: bytes, at: int) -> tuple[str, int]:
    length, at = read_varint(data, at)
    end = at + length
    if length > ADDRESS_BYTES_MAX or end > len(data):
        raise Malformed("an address is cut off or too long")
    try:
        return data[at:end].decode("ascii"), end
    except UnicodeDecodeError:
        raise Malformed("an address that is not ASCII") from None
