"""Whether a stored record shows a value, found out at the least cost: no body is copied.

For who looks at many records and wants none of them. Knows nothing of storage or of keys.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dynamo.errors import Malformed
from dynamo.record import VALUE

#: Something of the record is live, and nothing of it is a tombstone or has expired.
LIVE: Final = 0
#: It was written, and nothing of it is live.
DEAD: Final = 1
#: It has live siblings and others: another replica's record may take the live ones away.
MIXED: Final = 2

_NIL: Final = b"\xc0"


class _Sibling(msgspec.Struct, array_like=True, gc=False):
    """`dynamo.record.Sibling`; what is not looked at stays as it is encoded, in place."""

    birth: msgspec.Raw
    counter: msgspec.Raw
    kind: int
    written_ms: msgspec.Raw
    stamp: msgspec.Raw
    expires_ms: int
    content_hash: msgspec.Raw
    content: msgspec.Raw


class _Record(msgspec.Struct, array_like=True, gc=False):
    """`dynamo.record.Record`."""

    format: int
    vector: msgspec.Raw
    siblings: tuple[_Sibling, ...]


_decode: Final = msgspec.msgpack.Decoder(_Record).decode


def state_of(encoded: bytes | memoryview, now_ms: int) -> int:
    """LIVE, DEAD or MIXED, of what `dynamo.record.encode_record` made. Raises Malformed.

    `now_ms`: wall clock, milliseconds since 1970; what has expired by then is not live.
    """
    try:
        siblings = _decode(encoded).siblings
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not a record: {error}") from None
    live = 0
    for sibling in siblings:
        if (
            sibling.kind == VALUE
            and not 0 < sibling.expires_ms <= now_ms
            and bytes(memoryview(sibling.content)[:1]) != _NIL
        ):
            live += 1
    if not live:
        return DEAD
    return LIVE if live == len(siblings) else MIXED
