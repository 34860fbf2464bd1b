"""Frames: how messages lie in a byte stream.

A frame is a header and the messages of one turn, in a row. Header, big-endian: length of what
follows u32, checksum u32, running number u32, stamps u64 (`dynamo.rpc.delay`). Each message in it:
stream id u32, flags u8, length u32, bytes. The checksum is a crc32 over all that follows it, and
starts from (seed of the connection's direction) xor length; the running number counts the frames of
one direction from 0. So a frame that is damaged, repeated, out of order or of another connection is
refused, whole. A message above one frame is several in a row, in a frame each, all but the last
flagged MORE. Knows nothing of sockets, of what time it is or of what a message says.
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import Final
from zlib import crc32

from dynamo.rpc.codec import Buffer

REPLY: Final = 1
LAST: Final = 2
MORE: Final = 4

#: Of what follows the header.
FRAME_BYTES_MAX: Final = 16 << 20
MESSAGE_BYTES_MAX: Final = 64 << 20

_HEADER: Final = Layout(">IIIQ")
HEADER_BYTES: Final = _HEADER.size
_LEAD: Final = Layout(">II")
_LENGTH: Final = Layout(">I")
#: Number and stamps.
_NUMBER: Final = Layout(">IQ")
#: Where the checksummed part of a frame starts: after length and checksum.
_CHECKED_AT: Final = _LEAD.size
#: Before each message.
_ENTRY: Final = Layout(">IBI")
ENTRY_BYTES: Final = _ENTRY.size
_NUMBER_MASK: Final = 0xFFFF_FFFF
#: Below this, one call on a copy is cheaper than one a message.
_COPIED_BYTES_MAX: Final = 64 << 10
#: LAST says something of a reply only.
_FLAGS_VALID: Final = frozenset((0, MORE, REPLY, REPLY | MORE, REPLY | LAST, REPLY | LAST | MORE))

#: Of a message that is all in one frame.
_WHOLE: Final = frozenset((0, REPLY, REPLY | LAST))
_CUT_SHORT: Final = "a frame that ends in the midst of a message"

#: Stream id, flags (REPLY and LAST), payload: a view into what was received, to be used at once; and
#: the stamps of its frame, or of the last of its frames.
Message = tuple[int, int, Buffer, int]


class FrameWriter:
    """Puts what one direction of a connection sends into frames, numbers and checksums them."""

    __slots__ = ("_bytes", "_entries", "_number", "_sealed", "_seed", "frames", "stamps")

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        #: Of the frames that `take` makes next; to be set before. 0 says nothing.
        self.stamps = 0
        self._number = 0
        self._entries: list[bytes] = []
        self._bytes = 0
        self._sealed: list[bytes] = []
        #: Made so far.
        self.frames = 0

    def __repr__(self) -> str:
        return f"FrameWriter(next={self._number} waiting={self._bytes})"

    def add(self, stream: int, flags: int, payload: bytes) -> int:
        """Take a message for the next frame; returns about how many bytes it will be."""
        length = len(payload)
        size = ENTRY_BYTES + length
        if self._bytes + size > FRAME_BYTES_MAX:
            return self._add_long(stream, flags, payload)
        self._entries += (_ENTRY.pack(stream, flags, length), payload)
        self._bytes += size
        return size

    def take(self) -> bytes:
        """The frames of all that was added since, b"" if nothing was."""
        if self._entries:
            self._seal()
        self.stamps = 0
        sealed = self._sealed
        if not sealed:
            return b""
        self._sealed = []
        return sealed[0] if len(sealed) == 1 else b"".join(sealed)

    def drop(self) -> None:
        """Forget what was added and not taken."""
        self._entries = []
        self._sealed = []
        self._bytes = 0

    def _add_long(self, stream: int, flags: int, payload: bytes) -> int:
        """What does not fit into the frame that is filled: it gets its own."""
        assert len(payload) <= MESSAGE_BYTES_MAX
        if self._entries:
            self._seal()
        part_max = FRAME_BYTES_MAX - ENTRY_BYTES
        if len(payload) <= part_max:
            return self.add(stream, flags, payload)
        size = 0
        for at in range(0, len(payload), part_max):
            end = at + part_max
            more = MORE if end < len(payload) else 0
            size += self.add(stream, flags | more, payload[at:end])
            if more:
                self._seal()
        return size

    def _seal(self) -> None:
        number = self._number
        self._number = (number + 1) & _NUMBER_MASK
        length = self._bytes
        checked = _NUMBER.pack(number, self.stamps)
        entries = self._entries
        if length <= _COPIED_BYTES_MAX:
            checked += b"".join(entries)
            entries = []
        checksum = crc32(checked, self._seed ^ length)
        for entry in entries:
            checksum = crc32(entry, checksum)
        self._sealed.append(_LEAD.pack(length, checksum) + checked)
        self._sealed += entries
        self._entries = []
        self._bytes = 0
        self.frames += 1


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
        "unfinished",
    )

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._number = 0
        self._buffer = bytearray()
        self._needed = _LENGTH.size
        self._parts = bytearray()
        self._parts_of: tuple[int, int] | None = None
        self._parts_from = 0
        #: What was wrong with the bytes, once something was.
        self.fault: str | None = None
        #: A frame, or a message of several, has begun and not ended.
        self.unfinished = False

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
        self._needed = _LENGTH.size
        while size - at >= HEADER_BYTES:
            length, checksum, number, stamps = _HEADER.unpack_from(source, at)
            if length > FRAME_BYTES_MAX or number != self._number:
                self.fault = self._fault_of(length, number)
                break
            end = at + HEADER_BYTES + length
            if end > size:
                self._needed = HEADER_BYTES + length
                break
            if crc32(view[at + _CHECKED_AT : end], self._seed ^ length) != checksum:
                self.fault = "bad checksum"
                break
            self._number = (number + 1) & _NUMBER_MASK
            at += HEADER_BYTES
            if at == end:
                self.fault = "a frame of nothing"
                break
            while at < end:
                start = at + ENTRY_BYTES
                if start > end:
                    self.fault = _CUT_SHORT
                    break
                stream, flags, length = _ENTRY.unpack_from(source, at)
                at = start + length
                if at > end or flags not in _WHOLE or self._parts_of is not None:
                    part = (stream, flags, view[start:at], stamps)
                    if at > end or not self._take_part(part, messages):
                        self.fault = self.fault or _CUT_SHORT
                        break
                else:
                    messages.append((stream, flags, view[start:at], stamps))
            if self.fault is not None:
                break
        if self.fault is None and at < size:
            self._hold(view[at:])
        if self.fault is not None:
            self._parts = bytearray()
        self.unfinished = bool(self._buffer) or self._parts_of is not None
        return messages

    def _hold(self, rest: memoryview) -> None:
        """Keep the beginning of a frame; not if its length alone says that it is none."""
        if self._needed == _LENGTH.size and len(rest) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(rest)
            if length > FRAME_BYTES_MAX:
                self.fault = self._fault_of(length, self._number)
                return
            self._needed = HEADER_BYTES
        self._buffer += rest

    def _take_part(self, message: Message, messages: list[Message]) -> bool:
        """Take what is not a message by itself; False, and `fault` says why, if it cannot be that."""
        stream, flags, part, stamps = message
        if flags not in _FLAGS_VALID:
            self.fault = f"flags {flags:#x}"
        elif self._parts_of is not None and self._parts_of != (stream, flags & ~MORE):
            self.fault = "another message inside one of several frames"
        elif len(self._parts) + len(part) > MESSAGE_BYTES_MAX:
            self.fault = f"message of more than {MESSAGE_BYTES_MAX} bytes"
        if self.fault is not None:
            return False
        if self._parts_of is None:
            self._parts_from = (self._number - 1) & _NUMBER_MASK
        self._parts += part
        self._parts_of = (stream, flags & ~MORE)
        if not flags & MORE:
            messages.append((stream, flags, self._parts, stamps))
            self._parts, self._parts_of = bytearray(), None
        return True

    def _fault_of(self, length: int, number: int) -> str:
        """What is wrong with a header."""
        if length > FRAME_BYTES_MAX:
            return f"frame of {length} bytes, at most {FRAME_BYTES_MAX}"
        return f"frame number {number}, not {self._number}"
