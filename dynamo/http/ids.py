"""Names that the edge gives: to requests, and to objects stored without a key.

Knows nothing of what is named.
"""

from __future__ import annotations

from itertools import count
from random import Random

_KEY_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY_LENGTH = 27


class Ids:
    """Request ids: 64 random bits of this server, then a running number. Keys: 160 random bits."""

    __slots__ = ("_numbers", "_prefix", "_random")

    def __init__(self, *, random: Random) -> None:
        self._random = random
        self._prefix = b"%016x-" % random.getrandbits(64)
        self._numbers = count(1)

    def request_id(self) -> bytes:
        """A name for one request; ASCII."""
        return b"%b%x" % (self._prefix, next(self._numbers))

    def key(self) -> bytes:
        """A new key: 27 letters and digits, as Riak's."""
        return "".join(self._random.choices(_KEY_ALPHABET, k=_KEY_LENGTH)).encode("ascii")
