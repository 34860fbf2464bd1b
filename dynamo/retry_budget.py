"""How many of a coordinator's requests may be tried again elsewhere since a replica has too much to do.

A token bucket: what clients ask fills it, a tenth of a token each, a retry takes one. So retries are at
most a tenth of the requests, beside a small reserve, and an overloaded cluster is not asked twice for
everything it could not do. Retries that add no load, to another node since one was never reached, are
not its business. Knows nothing of time, of nodes or of what is tried again.
"""

from __future__ import annotations

from typing import Final

#: Tokens that a client's request brings.
SHARE: Final = 0.1
#: Tokens that there are at most, and at the start: what a quiet node may try again at once.
RESERVE: Final = 10.0


class RetryBudget:
    """`earn` with each request of a client; `spend` before each retry."""

    __slots__ = ("_reserve", "_share", "_tokens")

    def __init__(self, *, share: float = SHARE, reserve: float = RESERVE) -> None:
        """`share`: retries a request, in the long run. `reserve`: retries at once, at most."""
        if share < 0 or reserve < 1:
            raise ValueError("a share is not below 0, a reserve not below 1")
        self._share = share
        self._reserve = self._tokens = reserve

    def __repr__(self) -> str:
        return f"RetryBudget({self._tokens:.1f} of {self._reserve:g})"

    def earn(self, requests: int = 1) -> None:
        """Clients have asked for so many things."""
        self._tokens = min(self._reserve, self._tokens + self._share * requests)

    def spend(self) -> bool:
        """True if one more retry may be made, which is taken off; False: give up, definitely."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
