"""What was worked out lately, kept as long as there is room.

A value is handed out only for the very bytes, or the very object, that it was worked out from, so it
is never out of date, and there is nothing to invalidate: where what lies under a name has changed, be
it by damage, it is looked at anew. Knows nothing of what the bytes and objects say.
"""

from __future__ import annotations

from typing import Generic, TypeVar

_S = TypeVar("_S")
_V = TypeVar("_V")

#: What an entry takes besides its bytes, about: names, tuples, the objects worked out.
ENTRY_BYTES = 500


class Memo(Generic[_V]):
    """Name -> (the bytes, what was worked out of them). The oldest go first."""

    __slots__ = ("_bytes", "_bytes_max", "_entries", "_entry_bytes_max")

    def __init__(self, *, bytes_max: int) -> None:
        """`bytes_max`: of all entries; an entry of more than a hundredth of it is not kept."""
        self._bytes_max = bytes_max
        self._entry_bytes_max = bytes_max // 100
        self._bytes = 0
        self._entries: dict[bytes, tuple[bytes, _V]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def held_bytes(self) -> int:
        """What the entries take, about."""
        return self._bytes

    def get(self, name: bytes, data: bytes) -> _V | None:
        """What was worked out of `data`, None if that is not known."""
        entry = self._entries.get(name)
        return entry[1] if entry is not None and entry[0] == data else None

    def put(self, name: bytes, data: bytes, value: _V) -> None:
        """Remember it, in place of what was known under the name."""
        before = self._entries.pop(name, None)
        if before is not None:
            self._bytes -= _size(name, before[0])
        size = _size(name, data)
        if size > self._entry_bytes_max:
            return
        self._entries[name] = (data, value)
        self._bytes += size
        while self._bytes > self._bytes_max:
            oldest = next(iter(self._entries))
            self._bytes -= _size(oldest, self._entries.pop(oldest)[0])


def _size(name: bytes, data: bytes) -> int:
    # What is worked out of bytes holds most of them again.
    return len(name) + 2 * len(data) + ENTRY_BYTES


class ObjectMemo(Generic[_S, _V]):
    """Name -> (an object that never changes, what was made of it). The oldest go first."""

    __slots__ = ("_count_max", "_entries")

    def __init__(self, *, count_max: int) -> None:
        self._count_max = count_max
        self._entries: dict[bytes | str, tuple[_S, _V]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: bytes | str, source: _S) -> _V | None:
        """What was made of `source`, the very object; None if that is not known."""
        entry = self._entries.get(name)
        return entry[1] if entry is not None and entry[0] is source else None

    def put(self, name: bytes | str, source: _S, value: _V) -> None:
        """Remember it, in place of what was known under the name."""
        entries = self._entries
        if name in entries:
            del entries[name]
        elif len(entries) >= self._count_max:
            del entries[next(iter(entries))]
        entries[name] = (source, value)
