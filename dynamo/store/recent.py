"""Values read lately, in memory: whoever reads one again does not go through the engine for it.

The storage, which is the only one to write them, keeps them the same. Knows nothing of the engine.
"""

from __future__ import annotations

from typing import Final

#: What an entry takes besides key and value, about.
_ENTRY_BYTES: Final = 200


class RecentValues:
    """Key -> value. The oldest go first."""

    __slots__ = ("_bytes", "_bytes_max", "_value_bytes_max", "_values", "get")

    def __init__(self, *, bytes_max: int) -> None:
        """`bytes_max`: of all of them; a value of more than a hundredth of it is not kept."""
        self._bytes_max = bytes_max
        self._value_bytes_max = bytes_max // 100
        self._bytes = 0
        self._values: dict[bytes, bytes] = {}
        #: The value of a key, None if it is not kept.
        self.get = self._values.get

    def __len__(self) -> int:
        return len(self._values)

    @property
    def held_bytes(self) -> int:
        """What they take, about."""
        return self._bytes

    def keep(self, key: bytes, value: bytes) -> None:
        """Keep what was just read."""
        self.drop(key)
        if len(value) > self._value_bytes_max:
            return
        self._values[key] = value
        self._bytes += len(key) + len(value) + _ENTRY_BYTES
        while self._bytes > self._bytes_max:
            self.drop(next(iter(self._values)))

    def drop(self, key: bytes) -> None:
        """Forget a key, kept or not."""
        value = self._values.pop(key, None)
        if value is not None:
            self._bytes -= len(key) + len(value) + _ENTRY_BYTES

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()
        self._bytes = 0
