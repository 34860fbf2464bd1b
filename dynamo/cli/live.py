"""Shows something again and again: redrawn in place on a terminal, one block after the other elsewhere.

Knows nothing of what is shown.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TextIO

from dynamo.errors import ConfigError

SECONDS_DEFAULT: Final = 2.0
_HOME: Final = "\x1b[H"
_CLEAR: Final = "\x1b[2J"
_CLEAR_LINE: Final = "\x1b[K"
_CLEAR_BELOW: Final = "\x1b[J"

#: Makes the lines of one look, not wider than so many characters (None: as wide as they are).
Look = Callable[[int | None], Sequence[str]]


def seconds_of(flag: str, text: str) -> float:
    """The seconds between two looks. Raises ConfigError unless they are 0.1 to 86,400."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.1 <= seconds <= 86_400:
        raise ConfigError(f"{flag}: {text!a} is not a number of seconds from 0.1 to 86400")
    return seconds


def width_of(stream: TextIO) -> int | None:
    """Characters in a line of the terminal; None for what is none."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def show_live(look: Look, *, every: float, stream: TextIO) -> NoReturn:
    """Look and show, every so many seconds, until interrupted (KeyboardInterrupt is passed on)."""
    is_terminal = stream.isatty()
    if is_terminal:
        stream.write(_CLEAR)
    try:
        while True:
            began = time.monotonic()
            lines = look(width_of(stream))
            stream.write(frame(lines, shutil.get_terminal_size().lines if is_terminal else None))
            stream.flush()
            time.sleep(max(0.0, began + every - time.monotonic()))
    except KeyboardInterrupt:
        if is_terminal:
            stream.write("\n")
        raise


class Redrawn:
    """Some lines at the end of what was printed: drawn over again on a terminal, one block after the
    other elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn = 0
        self.is_terminal: Final = stream.isatty()

    def show(self, lines: Sequence[str]) -> None:
        """In place of those before, on a terminal as many as it has room for."""
        if self.is_terminal:
            room = max(shutil.get_terminal_size().lines - 1, 1)
            lines = lines[:room]
            self.clear()
            self._drawn = len(lines)
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()

    def clear(self) -> None:
        """Nothing of them is left, on a terminal."""
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A\r{_CLEAR_BELOW}")
            self._stream.flush()
        self._drawn = 0


def frame(lines: Sequence[str], height: int | None) -> str:
    """What is written for one look: over the last one on a terminal of `height` lines, else a block
    and an empty line."""
    if height is None:
        return "".join(f"{line}\n" for line in lines) + "\n"
    if len(lines) > max(height - 1, 1):
        kept = max(height - 2, 0)
        lines = [*lines[:kept], f"... {len(lines) - kept} more lines"]
    return _HOME + "".join(f"{line}{_CLEAR_LINE}\n" for line in lines) + _CLEAR_BELOW
