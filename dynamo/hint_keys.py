"""Which hints there are for a target, by key, while they are few.

What has left a log-structured storage lies in the way of who scans it, until that has tidied up:
after a million hints a look at the next one would stand in the loop for seconds. So the keys of hints
that were taken are remembered, a bounded number of them. They are all there are as soon as there are
as many as the account says. Knows nothing of what hints say, nor of storage.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

#: Of one target, more than can be owed to one that is up (`antientropy.hints.LIVE_MAX`).
KEYS_MAX: Final = 2_048


class HintKeys:
    """Of each target some keys of hints that are there, and no others."""

    __slots__ = ("_keys", "_keys_max")

    def __init__(self, *, keys_max: int = KEYS_MAX) -> None:
        """`keys_max`: of one target."""
        self._keys_max = keys_max
        self._keys: dict[str, set[bytes]] = {}

    def __repr__(self) -> str:
        return f"HintKeys({ {target: len(keys) for target, keys in self._keys.items()} })"

    def add(self, target: str, hint_key: bytes) -> None:
        """There is a hint under this key. Above the bound all are forgotten: those that come from then
        on are all there are once the others have left."""
        keys = self._keys.setdefault(target, set())
        if len(keys) >= self._keys_max:
            keys.clear()
        keys.add(hint_key)

    def remove(self, target: str, hint_key: bytes) -> None:
        """There is none under this key any more."""
        keys = self._keys.get(target)
        if keys is not None:
            keys.discard(hint_key)
            if not keys:
                del self._keys[target]

    def learn(self, target: str, hint_keys: Iterable[bytes]) -> None:
        """These are all that there are for the target."""
        keys = set(hint_keys)
        if keys and len(keys) <= self._keys_max:
            self._keys[target] = keys

    def all_after(self, target: str, position: bytes, count: int) -> list[bytes] | None:
        """Those above `position`, in order, if all are known; else None. `count`: how many there are."""
        keys = self._keys.get(target, set())
        if len(keys) != count:
            return None
        ordered = sorted(keys)
        return ordered[bisect_right(ordered, position) :]

    def clear(self) -> None:
        """Nothing is known of any."""
        self._keys.clear()
