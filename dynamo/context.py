"""The causal token that a client gets with a read and hands back with a write.

It names the vector of what was shown, under a keyed tag that binds it to its key and cluster: what
this cluster did not say about this very key is refused. Not secret, and not bound to a client or to
a time. Knows nothing of records, nodes or of how a header carries it.

    token = format byte, tag (16 bytes), vector (as `encode_vector`)

Where what was shown had stamps (`dynamo.hybrid_clock`), another format also says the highest, 8 bytes
before the vector: a write must be stamped above what it replaces, and who mints it may not have that.
"""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from dynamo.errors import BadContext, Malformed, RecordFull
from dynamo.version import Vector, decode_vector, encode_vector, vector_bytes

CONTEXT_BYTES_MAX: Final = 16 << 10
CONTEXT_FORMAT: Final = 1
#: With a stamp.
CONTEXT_FORMAT_STAMPED: Final = 2
TAG_BYTES: Final = 16
STAMP_BYTES: Final = 8

_HEAD_BYTES = 1 + TAG_BYTES
_FORMAT = bytes((CONTEXT_FORMAT,))
#: What a context with a stamp begins with.
STAMPED: Final = bytes((CONTEXT_FORMAT_STAMPED,))
_STAMPED_HEAD_BYTES = _HEAD_BYTES + STAMP_BYTES
# Keys above 64 bytes are not blake2b's: the secret is hashed down to one, for this use only.
_PURPOSE = b"dynamo context"


def context_bytes(vector: Vector, stamp: int = 0) -> int:
    """Length in bytes of the token that names `vector`, and `stamp` unless that is 0; over
    CONTEXT_BYTES_MAX none is given."""
    return (_STAMPED_HEAD_BYTES if stamp else _HEAD_BYTES) + vector_bytes(vector)


def stamp_of(token: bytes) -> int:
    """The highest stamp of what was shown with a context that has been opened; 0 if there was none."""
    if token[:1] != STAMPED:
        return 0
    return int.from_bytes(token[_HEAD_BYTES:_STAMPED_HEAD_BYTES])


class ContextSealer:
    """Makes and opens the contexts of one cluster."""

    __slots__ = ("_keyed", "_keyed_stamped")

    def __init__(self, *, cluster_id: str, secret: bytes) -> None:
        """`secret`: the cluster's, any length but 0; the same on every node."""
        assert secret
        key = blake2b(secret, digest_size=32, person=_PURPOSE).digest()
        cluster = cluster_id.encode()
        self._keyed = blake2b(key=key, digest_size=TAG_BYTES)
        self._keyed_stamped = self._keyed.copy()
        self._keyed.update(_FORMAT + len(cluster).to_bytes(4) + cluster)
        self._keyed_stamped.update(STAMPED + len(cluster).to_bytes(4) + cluster)

    def seal(self, routing_key: bytes, vector: Vector, stamp: int = 0) -> bytes:
        """The token that names `vector`, for this key. `stamp`: the highest of what was shown, or 0.

        Raises RecordFull (cap context_bytes) if it would be over CONTEXT_BYTES_MAX.
        """
        entries = encode_vector(vector)
        if stamp:
            entries = stamp.to_bytes(STAMP_BYTES) + entries
        if len(entries) > CONTEXT_BYTES_MAX - _HEAD_BYTES:
            raise RecordFull(
                "the context of this key is over its limit",
                cap="context_bytes",
                limit=CONTEXT_BYTES_MAX,
            )
        if stamp:
            return STAMPED + self._stamped_tag(routing_key, entries) + entries
        return _FORMAT + self._tag(routing_key, entries) + entries

    def open(self, routing_key: bytes, token: bytes) -> Vector:
        """The vector that `seal` was given for this key; `stamp_of` says the stamp.

        Raises BadContext for anything `seal` of this cluster would not have made.
        """
        if not _HEAD_BYTES < len(token) <= CONTEXT_BYTES_MAX:
            raise BadContext("a context is cut off or too long", limit=CONTEXT_BYTES_MAX)
        entries = token[_HEAD_BYTES:]
        if token[0] == CONTEXT_FORMAT:
            tag, vector_at = self._tag(routing_key, entries), 0
        elif token[0] == CONTEXT_FORMAT_STAMPED:
            tag, vector_at = self._stamped_tag(routing_key, entries), STAMP_BYTES
        else:
            raise BadContext("a context is of a format this node does not read")
        if not compare_digest(token[1:_HEAD_BYTES], tag):
            raise BadContext("a context is altered, or of another key or cluster")
        try:
            return decode_vector(entries[vector_at:])
        except Malformed as error:
            raise BadContext(f"a context does not name a vector: {error}") from None

    def _stamped_tag(self, routing_key: bytes, entries: bytes) -> bytes:
        tag = self._keyed_stamped.copy()
        tag.update(len(routing_key).to_bytes(4) + routing_key + entries)
        return tag.digest()

    def _tag(self, routing_key: bytes, entries: bytes) -> bytes:
        tag = self._keyed.copy()
        tag.update(len(routing_key).to_bytes(4) + routing_key + entries)
        return tag.digest()
