"""Where a command keeps its runs: where it was told to, or nowhere once it is over."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def place(out: Path | None) -> Iterator[Path]:
    """`out`, which is made; or a directory that is gone afterwards. Raises OSError."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="dynamo-bench-") as name:
        yield Path(name)
