"""What happened in a run, as one running hash: the same seed gives the same hash, or there is a bug.

Takes numbers and short texts, keeps none of them but the last few. Knows nothing of what they mean.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final

#: Entries kept for who looks into a run.
TAIL_ENTRIES: Final = 200

_MULTIPLIER: Final = 0x9E37_79B9_7F4A_7C15
_MASK: Final = (1 << 64) - 1


class Trace:
    """`now` tells the time of an entry; `watch`, if set, sees each entry as a line."""

    __slots__ = ("_crc", "_hash", "_marks", "_now", "_tail", "count", "watch")

    def __init__(self, *, now: Callable[[], float]) -> None:
        self._now = now
        self._hash = 0
        self._crc = 0
        #: Names of what bytes come on -> a number for each.
        self._marks: dict[str, int] = {}
        self._tail: deque[tuple[Any, ...]] = deque(maxlen=TAIL_ENTRIES)
        self.count = 0
        self.watch: Callable[[str], None] | None = None

    def __repr__(self) -> str:
        return f"Trace({self.count} entries, {self.hash})"

    @property
    def hash(self) -> str:
        """Hash of all entries so far, 16 hexadecimal digits."""
        return f"{self._hash:016x}"

    def note(self, *entry: str | int | float) -> None:
        """Add what happened now."""
        line = (self._now(), *entry)
        self.count += 1
        self._tail.append(line)
        # The crc sees every digit; the multiplication makes 64 bits of all the crcs there were.
        self._crc = crc = zlib.crc32(repr(line).encode(), self._crc)
        self._hash = ((self._hash ^ crc) * _MULTIPLIER + 1) & _MASK
        if self.watch is not None:
            self.watch(_line(line))

    def note_bytes(self, name: str, data: bytes) -> None:
        """Add that `data` came on what is called `name`. The same as `note`, and cheap."""
        now = self._now()
        crc = zlib.crc32(data)
        self.count += 1
        self._tail.append((now, name, len(data), crc))
        mark = self._marks.get(name)
        if mark is None:
            mark = self._marks[name] = zlib.crc32(name.encode())
        # The hash of a number, unlike a text's, is the same in every process.
        self._hash = ((self._hash ^ crc ^ hash(now) ^ mark << 32) * _MULTIPLIER + 1) & _MASK
        if self.watch is not None:
            self.watch(_line(self._tail[-1]))

    def tail(self) -> list[str]:
        """The last entries, a line each."""
        return [_line(entry) for entry in self._tail]


def _line(entry: tuple[Any, ...]) -> str:
    return f"{entry[0]:.6f} " + " ".join(map(str, entry[1:]))
