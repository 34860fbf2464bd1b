"""The causal token that a client gets with a read and hands back with a write.

It names the vector of what was shown, under a keyed tag that binds it to its key and cluster: what
this cluster did not say about this very key is refused. Not secret, and not bound to a client or to
a time. Knows nothing of records, nodes or of how a header carries it.

    token = format byte, tag (16 bytes), vector (as `encode_vector`)
"""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from dynamo.errors import BadContext, Malformed, RecordFull
from dynamo.version import Vector, decode_vector, encode_vector, vector_bytes

CONTEXT_BYTES_MAX: Final = 16 << 10
CONTEXT_FORMAT: Final = 1
TAG_BYTES: Final = 16

_HEAD_BYTES = 1 + TAG_BYTES
_FORMAT = bytes((CONTEXT_FORMAT,))
# Keys above 64 bytes are not blake2b's: the secret is hashed down to one, for this use only.
_PURPOSE = b"dynamo context"


def context_bytes(vector: Vector) -> int:
    """Length in bytes of the token that names `vector`; over CONTEXT_BYTES_MAX none is given."""
    return _HEAD_BYTES + vector_bytes(vector)


class ContextSealer:
    """Makes and opens the contexts of one cluster."""

    __slots__ = ("_keyed",)

    def __init__(self, *, cluster_id: str, secret: bytes) -> None:
        """`secret`: the cluster's, any length but 0; the same on every node."""
        assert secret
        key = blake2b(secret, digest_size=32, person=_PURPOSE).digest()
        cluster = cluster_id.encode()
        self._keyed = blake2b(key=key, digest_size=TAG_BYTES)
        self._keyed.update(_FORMAT + len(cluster).to_bytes(4) + cluster)

    def seal(self, routing_key: bytes, vector: Vector) -> bytes:
        """The token that names `vector`, for this key.

        Raises RecordFull (cap context_bytes) if it would be over CONTEXT_BYTES_MAX.
        """
        entries = encode_vector(vector)
        if len(entries) > CONTEXT_BYTES_MAX - _HEAD_BYTES:
            raise RecordFull(
                "the context of this key is over its limit",
                cap="context_bytes",
                limit=CONTEXT_BYTES_MAX,
            )
        return _FORMAT + self._tag(routing_key, entries) + entries

    def open(self, routing_key: bytes, token: bytes) -> Vector:
        """The vector that `seal` was given for this key.

        Raises BadContext for anything `seal` of this cluster would not have made.
        """
        if not _HEAD_BYTES < len(token) <= CONTEXT_BYTES_MAX:
            raise BadContext("a context is cut off or too long", limit=CONTEXT_BYTES_MAX)
        if token[0] != CONTEXT_FORMAT:
            raise BadContext("a context is of a format this node does not read")
        entries = token[_HEAD_BYTES:]
        if not compare_digest(token[1:_HEAD_BYTES], self._tag(routing_key, entries)):
            raise BadContext("a context is altered, or of another key or cluster")
        try:
            return decode_vector(entries)
        except Malformed as error:
            raise BadContext(f"a context does not name a vector: {error}") from None

    def _tag(self, routing_key: bytes, entries: bytes) -> bytes:
        tag = self._keyed.copy()
        tag.update(len(routing_key).to_bytes(4) + routing_key + entries)
        return tag.digest()
