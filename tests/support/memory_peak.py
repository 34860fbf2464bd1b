"""What a decoder may cost: memory by the bytes that came, whatever they promise."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Final

#: What may be held for each byte that came, and in any case: small objects are dearer in memory than on
#: the wire, the dearest being pairs of empty strings.
BYTES_A_BYTE: Final = 64
BYTES_AT_LEAST: Final = 64 << 10


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes that this held at a time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def allowed(received: bytes) -> int:
    """The most that decoding this may hold."""
    return BYTES_AT_LEAST + BYTES_A_BYTE * len(received)
