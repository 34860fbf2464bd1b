"""The token with which a listing goes on where it stopped.

It names a position under a keyed tag that binds it to its cluster and to what is listed: a cursor
of another bucket, or one that this cluster never gave, is refused. Not secret. Knows nothing of
what the position means, nor of how a URL carries the token.

    token = format byte, tag (16 bytes), position
"""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from dynamo.errors import BadCursor

CURSOR_FORMAT: Final = 1
CURSOR_BYTES_MAX: Final = 2048
_TAG_BYTES: Final = 16
_HEAD_BYTES: Final = 1 + _TAG_BYTES
_FORMAT: Final = bytes((CURSOR_FORMAT,))
_PURPOSE: Final = b"dynamo cursor"


class CursorSealer:
    """Makes and opens the cursors of one cluster."""

    __slots__ = ("_keyed",)

    def __init__(self, *, cluster_id: str, secret: bytes) -> None:
        """`secret`: the cluster's, any length but 0; the same on every node."""
        assert secret
        key = blake2b(secret, digest_size=32, person=_PURPOSE).digest()
        cluster = cluster_id.encode()
        self._keyed = blake2b(key=key, digest_size=_TAG_BYTES)
        self._keyed.update(_FORMAT + len(cluster).to_bytes(4) + cluster)

    def seal(self, scope: bytes, position: bytes) -> bytes:
        """The token that names `position` in the listing of `scope`."""
        return _FORMAT + self._tag(scope, position) + position

    def open(self, scope: bytes, token: bytes) -> bytes:
        """The position that `seal` was given for this scope.

        Raises BadCursor for anything `seal` of this cluster would not have made.
        """
        if not _HEAD_BYTES <= len(token) <= CURSOR_BYTES_MAX or token[0] != CURSOR_FORMAT:
            raise BadCursor("a cursor is cut off, too long, or of a format this node does not read")
        position = token[_HEAD_BYTES:]
        if not compare_digest(token[1:_HEAD_BYTES], self._tag(scope, position)):
            raise BadCursor("a cursor is altered, or of another listing or cluster")
        return position

    def _tag(self, scope: bytes, position: bytes) -> bytes:
        tag = self._keyed.copy()
        tag.update(len(scope).to_bytes(4) + scope + position)
        return tag.digest()
