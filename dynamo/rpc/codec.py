"""Messages to bytes and back.

Bytes in give a message or Malformed, never another exception, and cost memory in proportion to
what came in. Bounds of fields stand with the fields, in `dynamo.rpc.messages`. Knows nothing of
frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, get_args

import msgspec

from dynamo.errors import Malformed
from dynamo.rpc.messages import Digest, Mint, Minted, Reply, Request
from dynamo.version import Vector, check_birth

Buffer = bytes | bytearray | memoryview


class UnknownOperation(Malformed):
    """A well-formed message whose tag this node does not know: the sender may be newer."""

    code = "unknown_operation"


encode: Final = msgspec.msgpack.Encoder().encode

_decode_request: Final[Callable[[Buffer], Request]] = msgspec.msgpack.Decoder(Request).decode
_decode_reply: Final[Callable[[Buffer], Reply]] = msgspec.msgpack.Decoder(Reply).decode
# Nesting below the known fields can exhaust the stack: msgspec says so with RecursionError.
_DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _tags(union: object) -> frozenset[int]:
    return frozenset(kind.__struct_config__.tag for kind in get_args(union))


_REQUEST_TAGS: Final = _tags(Request)
_REPLY_TAGS: Final = _tags(Reply)


def decode_request(data: Buffer) -> Request:
    """The request in `data`. Raises UnknownOperation, Malformed."""
    try:
        request = _decode_request(data)
    except _DECODE_ERRORS as error:
        raise _why(data, error, _REQUEST_TAGS) from None
    if type(request) is Mint:
        if request.context:
            _check_vector(request.context)
        if request.condition is not None:
            _check_vector(request.condition.unmodified)
    return request


def decode_reply(data: Buffer) -> Reply:
    """The reply in `data`. Raises UnknownOperation, Malformed."""
    try:
        reply = _decode_reply(data)
    except _DECODE_ERRORS as error:
        raise _why(data, error, _REPLY_TAGS) from None
    if type(reply) is Digest:
        _check_vector(reply.vector)
    elif type(reply) is Minted:
        check_birth(reply.birth)
    return reply


def _check_vector(vector: Vector) -> None:
    """Raises Malformed for what the types alone do not rule out."""
    last = b""
    for birth, _ in vector:
        if birth <= last:
            raise Malformed("a vector is not sorted")
        check_birth(birth)
        last = birth


def _why(data: Buffer, error: Exception, known: frozenset[int]) -> Malformed:
    tag = tag_of(data)
    if tag is not None and tag not in known:
        return UnknownOperation(f"no message has the tag {tag}")
    return Malformed(f"not a message: {error}")


def tag_of(data: Buffer) -> int | None:
    """The integer that a msgpack array in `data` starts with, if it does."""
    first = data[0] if data else 0
    at = 1 if 0x91 <= first <= 0x9F else {0xDC: 3, 0xDD: 5}.get(first, len(data))
    if at >= len(data):
        return None
    lead = data[at]
    if lead <= 0x7F:
        return lead
    width = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}.get(lead)
    if width is None or at + 1 + width > len(data):
        return None
    return int.from_bytes(data[at + 1 : at + 1 + width])
