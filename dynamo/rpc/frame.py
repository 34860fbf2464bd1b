"""Frames: how messages lie in a byte stream.

A frame is a header and a payload. Header, big-endian: payload length u32, checksum u32, running
number u32, stream id u32, flags u8. The checksum is a crc32 over number, stream, flags and payload
that starts from (seed of the connection's direction) xor length; the running number counts the
frames of one direction from 0. So a frame that is damaged, repeated, out of order or of another
connection is refused. A message above one frame is several frames in a row, all but the last
flagged MORE. Knows nothing of sockets, time or of what a message says.
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import Final
from zlib import crc32

from dynamo.rpc.codec import Buffer

REPLY: Final = 1
LAST: Final = 2
MORE: Final = 4

FRAME_BYTES_MAX: Final = 16 << 20
MESSAGE_BYTES_MAX: Final = 64 << 20

_HEADER: Final = Layout(">IIIIB")
HEADER_BYTES: Final = _HEADER.size
_CHECKED: Final = Layout(">IIB")
#: Where the checksummed part of a frame starts: after length and checksum.
_CHECKED_AT: Final = 8
_NUMBER_MASK: Final = 0xFFFF_FFFF
#: LAST says something of a reply only.
_FLAGS_VALID: Final = frozenset((0, MORE, REPLY, REPLY | MORE, REPLY | LAST, REPLY | LAST | MORE))

#: Stream id, flags (REPLY and LAST), payload: a view into what was received, to be used at once.
Message = tuple[int, int, Buffer]


class FrameWriter:
    """Numbers and checksums what one direction of a connection sends."""

    __slots__ = ("_number", "_seed")

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._number = 0

    def __repr__(self) -> str:
        return f"FrameWriter(next={self._number})"

    def write(self, stream: int, flags: int, payload: bytes, out: list[bytes]) -> int:
        """Append the frames of one message to `out`; returns their bytes."""
        length = len(payload)
        if length > FRAME_BYTES_MAX:
            return self._write_long(stream, flags, payload, out)
        number = self._number
        self._number = (number + 1) & _NUMBER_MASK
        checked = _CHECKED.pack(number, stream, flags)
        checksum = crc32(payload, crc32(checked, self._seed ^ length))
        out.append(_HEADER.pack(length, checksum, number, stream, flags))
        out.append(payload)
        return HEADER_BYTES + length

    def _write_long(self, stream: int, flags: int, payload: bytes, out: list[bytes]) -> int:
        assert len(payload) <= MESSAGE_BYTES_MAX
        size = 0
        for at in range(0, len(payload), FRAME_BYTES_MAX):
            end = at + FRAME_BYTES_MAX
            more = MORE if end < len(payload) else 0
            size += self.write(stream, flags | more, payload[at:end], out)
        return size


class FrameReader:
    """Takes bytes as they arrive, in any pieces, and gives whole messages.

    Holds at most one unfinished frame and one unfinished message, and of them only what arrived.
    After a fault it takes nothing more: where the next frame starts is no longer known.
    """

    __slots__ = (
        "_buffer",
        "_needed",
        "_number",
        "_parts",
        "_parts_from",
        "_parts_of",
        "_seed",
        "fault",
    )

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._number = 0
        self._buffer = bytearray()
        self._needed = HEADER_BYTES
        self._parts = bytearray()
        self._parts_of: tuple[int, int] | None = None
        self._parts_from = 0
        #: What was wrong with the bytes, once something was.
        self.fault: str | None = None

    def __repr__(self) -> str:
        state = self.fault or f"holds={self.held_bytes}"
        return f"FrameReader(next={self._number} {state})"

    @property
    def number(self) -> int:
        """Running number of the frame that the message awaited or unfinished begins with."""
        return self._number if self._parts_of is None else self._parts_from

    @property
    def held_bytes(self) -> int:
        """Bytes of unfinished frames and messages held now."""
        return len(self._buffer) + len(self._parts)

    @property
    def unfinished(self) -> bool:
        """True if a frame, or a message of several, has begun and not ended."""
        return bool(self._buffer) or self._parts_of is not None

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes, in order. Sets `fault`; those before it are good."""
        messages: list[Message] = []
        if self.fault is not None:
            return messages
        source: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return messages
            source, self._buffer = self._buffer, bytearray()
        view = memoryview(source)
        size = len(source)
        at = 0
        self._needed = HEADER_BYTES
        while size - at >= HEADER_BYTES:
            length, checksum, number, stream, flags = _HEADER.unpack_from(source, at)
            if (
                length > FRAME_BYTES_MAX
                or number != self._number
                or flags not in _FLAGS_VALID
                or self._parts_of is not None
            ):
                self.fault = self._fault_of(length, number, stream, flags)
                if self.fault is not None:
                    break
            end = at + HEADER_BYTES + length
            if end > size:
                self._needed = HEADER_BYTES + length
                break
            if crc32(view[at + _CHECKED_AT : end], self._seed ^ length) != checksum:
                self.fault = "bad checksum"
                break
            self._number = (number + 1) & _NUMBER_MASK
            payload: Buffer = view[at + HEADER_BYTES : end]
            at = end
            if flags & MORE or self._parts_of is not None:
                if self._parts_of is None:
                    self._parts_from = number
                self._parts += payload
                self._parts_of = (stream, flags & ~MORE)
                if flags & MORE:
                    continue
                payload, self._parts, self._parts_of = self._parts, bytearray(), None
            messages.append((stream, flags, payload))
        if self.fault is not None:
            self._parts = bytearray()
        elif at < size:
            self._buffer += view[at:]
        return messages

    def _fault_of(self, length: int, number: int, stream: int, flags: int) -> str | None:
        """What is wrong with a header, or None."""
        if length > FRAME_BYTES_MAX:
            return f"frame of {length} bytes, at most {FRAME_BYTES_MAX}"
        if number != self._number:
            return f"frame number {number}, not {self._number}"
        if flags not in _FLAGS_VALID:
            return f"flags {flags:#x}"
        if self._parts_of is None:
            return None
        if self._parts_of != (stream, flags & ~MORE):
            return "a frame of another message inside one of several frames"
        if len(self._parts) + length > MESSAGE_BYTES_MAX:
            return f"message of more than {MESSAGE_BYTES_MAX} bytes"
        return None
