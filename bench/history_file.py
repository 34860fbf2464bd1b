"""A history as a file: JSON lines, compressed by zstd piece by piece, readable up to wherever it ends.

Each piece is a frame of its own with a checksum, so `zstdcat` reads the file, what a kill -9 cuts short
costs the last second at most, and damage is found. Encoding goes in small batches on the caller's
thread; compressing and writing, which need no interpreter lock, go on in a thread of the writer's own.
Knows nothing of what the lines mean.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
import zstandard

from bench.history import BadHistory, Event, Line, decode_lines

#: Lines that are encoded in one go: long enough to be cheap, short enough to make no loop lag.
BATCH: Final = 128
#: Between two pieces (seconds), if there is anything to write.
EACH_SECONDS: Final = 1.0
#: Bytes that wait for the disk at most; more is an error, not a growing heap.
WAITING_BYTES_MAX: Final = 256 * 1024 * 1024
LEVEL: Final = 3
#: Of the compressed file, read in one go.
READ_BYTES: Final = 256 * 1024

_ENCODER: Final = msgspec.json.Encoder()


class HistoryWriter:
    """`with` it; `add` lines on one thread. After `close` the file is whole and synced."""

    def __init__(self, path: Path) -> None:
        """A new file. Raises OSError, also (FileExistsError) if there is one."""
        self._file = path.open("xb")
        #: All below is shared with the thread, under `_changed`.
        self._lines: list[Line] = []
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._closing = False
        #: Whether the thread has ended, and why; "" if in order.
        self._dead = False
        self._failed = "its thread died"
        self._changed = threading.Condition(threading.Lock())
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, line: Line) -> None:
        """One more line. Raises OSError for what became of earlier ones, or if the disk is too slow."""
        with self._changed:
            self._lines.append(line)
            if len(self._lines) >= BATCH:
                self._encode()
                if self._dead:
                    raise self._failure()
                if self._waiting_bytes > WAITING_BYTES_MAX:
                    raise OSError(f"{self._file.name}: the disk does not keep up with the history")

    def _encode(self) -> None:
        """To be called under the lock."""
        lines, self._lines = self._lines, []
        data = _ENCODER.encode_lines(lines)
        self._waiting.append(data)
        self._waiting_bytes += len(data)

    def close(self) -> None:
        """All is on disk afterwards. Raises OSError. May be called again."""
        if self._file.closed:
            return
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._file.close()
        if self._failed:
            raise self._failure()

    def _failure(self) -> OSError:
        return OSError(f"{self._file.name}: the history could not be written: {self._failed}")

    # In the thread --------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._write()
        except (OSError, zstandard.ZstdError) as error:
            self._failed = str(error)  # told to whoever adds or closes
        else:
            self._failed = ""
        finally:
            self._dead = True

    def _write(self) -> None:
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        last = False
        while not last:
            with self._changed:
                if not self._closing:
                    self._changed.wait(EACH_SECONDS)
                if self._lines:
                    self._encode()
                taken, self._waiting, self._waiting_bytes = self._waiting, [], 0
                last = self._closing
            if taken:
                self._file.write(compressor.compress(b"".join(taken)))
                self._file.flush()
        os.fsync(self._file.fileno())


class HistoryReader:
    """The lines of a history file. `cut`: after they were read, what is missing, "" if nothing is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.cut = ""

    def lines(self) -> Iterator[Line]:
        """All of them, up to where the file was cut short or damaged; then an event "note" says that.
        Raises BadHistory for what is no history, OSError."""
        self.cut = ""
        last = 0
        for line in decode_lines(self._texts()):
            last = max(last, line.at if isinstance(line, Event) else line.end)
            yield line
        if self.cut:
            yield Event(kind="note", at=last, told=self.cut)

    def _texts(self) -> Iterator[bytes]:
        rest = b""
        for piece in self._pieces():
            lines = (rest + piece).split(b"\n")
            rest = lines.pop()
            yield from lines
        if rest:
            self.cut = self.cut or "the history ends in the middle of a line"

    def _pieces(self) -> Iterator[bytes]:
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        begun = False
        at = 0
        with self._path.open("rb") as file:
            while data := file.read(READ_BYTES):
                while data:
                    begun = True
                    try:
                        piece = decompressor.decompress(data)
                    except zstandard.ZstdError as error:
                        yield from self._damaged(at, error)
                        return
                    at += len(data) - len(decompressor.unused_data)
                    data = decompressor.unused_data if decompressor.eof else b""
                    if piece:
                        yield piece
                    if decompressor.eof:
                        decompressor = zstandard.ZstdDecompressor().decompressobj()
                        begun = False
        if begun:
            self.cut = f"the history is cut short at byte {at} of its file"

    def _damaged(self, at: int, error: zstandard.ZstdError) -> Iterator[bytes]:
        """Nothing more can be read."""
        if at == 0:
            raise BadHistory(f"{self._path.name} is no history: {error}")
        self.cut = f"the history is damaged in its file after byte {at}; what follows is not read"
        yield from ()
