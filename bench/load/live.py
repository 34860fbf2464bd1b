"""What is said while a run goes on: a line each second, drawn anew on a terminal, else as JSON lines.

The same goes to a file, if one is given. A look, never a result. Knows nothing of how it is counted.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TextIO

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from bench.load.progress import Progress

_ENCODER: Final = msgspec.json.Encoder()


class LiveLine:
    """`with` it, and call it with each second's progress. `file`: where the lines are kept too."""

    def __init__(self, out: TextIO, file: Path | None = None) -> None:
        """Raises OSError if the file cannot be written."""
        self._out: TextIO | None = out
        self._console = Console(file=out, highlight=False)
        self._live: Live | None = None
        self._stack = ExitStack()
        self._file = None if file is None else self._stack.enter_context(file.open("w"))

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)
            self._live = self._stack.enter_context(live)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def __call__(self, progress: Progress) -> None:
        """Show this second. Who has closed `out` (`| head`) is told no more, and the run goes on. Raises
        OSError."""
        line = _ENCODER.encode(progress).decode()
        if self._file is not None:
            self._file.write(line + "\n")
            self._file.flush()
        if self._live is not None:
            self._live.update(Text(told(progress), no_wrap=True, overflow="ellipsis"), refresh=True)
        elif self._out is not None:
            try:
                self._out.write(line + "\n")
                self._out.flush()
            except BrokenPipeError:
                self._out = None


def told(progress: Progress) -> str:
    """One second in a line."""
    operations = progress.ok + progress.fail + progress.unknown
    parts = [
        f"{progress.second:+7.0f} s {progress.phase}",
        f"{operations} ops/s",
        f"{progress.in_flight} in flight",
        f"p50 {progress.p50_ms:.1f} p99 {progress.p99_ms:.1f} ms",
    ]
    if progress.of_total:
        share = progress.behind_total / progress.of_total
        parts.append(f"behind {progress.behind_total} of {progress.of_total} ({share:.2%})")
    if progress.fail or progress.unknown:
        parts.append(f"failed {progress.fail} unknown {progress.unknown}: {progress.why}")
    if progress.dropped_total:
        parts.append(f"dropped {progress.dropped_total}")
    if progress.faults:
        parts.append(f"faults: {', '.join(progress.faults)}")
    return " | ".join(parts)
