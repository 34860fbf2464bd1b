"""Names that the edge gives: to requests, and to objects stored without a key.

Knows nothing of what is named.
"""

from __future__ import annotations

import re
from itertools import count
from random import Random
from typing import Final

_KEY_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY_LENGTH = 27
_ACCEPTED: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)


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


def accepted(name: str) -> bytes:
    """A client's own name for its request, as replies and logs repeat it; b"" if it cannot be one.

    One is 1 to 64 of [A-Za-z0-9._:-]. Nothing else is trusted to go into headers and log lines.
    """
    return name.encode("ascii") if _ACCEPTED.fullmatch(name) else b""
