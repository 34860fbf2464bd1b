"""What the harness writes as a value: who wrote it, which version it is, what is in a set; then padding.

One line of ASCII JSON, so that one can read it with `curl`, and a line of dots up to the size asked for.
What is not so, or is of another run, is foreign. Pure.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from bench.targets.protocol import FOREIGN

#: Ends the head.
_NEWLINE: Final = b"\n"
#: A head above this is not looked for.
HEAD_BYTES_MAX: Final = 8 << 20


class Value(NamedTuple):
    """`version`: FOREIGN for what this run has not written. `elements`: of a set."""

    version: int
    elements: tuple[int, ...] = ()


class _Head(msgspec.Struct, frozen=True, omit_defaults=True):
    run: str
    version: int
    elements: tuple[int, ...] = ()


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(_Head)
_NOT_OURS: Final = Value(FOREIGN)


def encode_value(run: str, version: int, elements: tuple[int, ...], size: int) -> bytes:
    """At least `size` bytes, more only where the head alone is longer. `run` is ASCII."""
    head = _ENCODER.encode(_Head(run, version, elements)) + _NEWLINE
    return head.ljust(size - 1, b".") + _NEWLINE


def decode_value(run: str, data: bytes) -> Value:
    """Never raises: whatever was not written by this run is FOREIGN, cut or padded anew too."""
    end = data.find(_NEWLINE, 0, HEAD_BYTES_MAX)
    last = len(data) - 1
    if end < 0 or end == last or data[last] != 10 or data.count(b".", end + 1) != last - end - 1:
        return _NOT_OURS
    try:
        head = _DECODER.decode(memoryview(data)[:end])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _NOT_OURS
    if head.run != run or head.version < 1:
        return _NOT_OURS
    return Value(head.version, head.elements)
