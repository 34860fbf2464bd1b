"""Unsigned LEB128 integers, in their shortest form only.

Knows nothing of what the numbers mean. One number has one encoding: a longer one is refused, so
that equal things are equal bytes.
"""

from __future__ import annotations

from typing import Final

from dynamo.errors import Malformed

UINT64_MAX: Final = (1 << 64) - 1

#: Matches exactly the byte strings that `write_varint` writes: a decoder's fast way to check many.
VARINT_PATTERN: Final = rb"(?:[\x00-\x7f]|[\x80-\xff]{1,8}[\x01-\x7f]|[\x80-\xff]{9}\x01)"


def write_varint(number: int, out: bytearray) -> None:
    """Append `number` (0 to 2**64 - 1) to `out`, 1 to 10 bytes."""
    assert 0 <= number <= UINT64_MAX
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that starts at offset `at`, and the offset after it.

    Raises Malformed where it is cut off, over 64 bits, or longer than its shortest form.
    """
    number = shift = 0
    while True:
        if at >= len(data):
            raise Malformed("a number is cut off")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if (byte == 0 and shift) or number > UINT64_MAX:
                raise Malformed("a number is not in its shortest form or over 64 bits")
            return number, at
        shift += 7
        if shift > 63:
            raise Malformed("a number is over 64 bits")
