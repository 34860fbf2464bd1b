"""The directory of one run: what is written while it runs, and what is made from that afterwards.

    manifest.json  history.jsonl.zst  latency.hlog  live.jsonl  wars.json
    predictions.json  analysis.json  summary.csv  report.html

A run is never overwritten unless that is asked for, and then as a whole. Knows nothing of how
anything in it is computed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from bench.findings import Analysis
from bench.history import (
    BAD_JSON,
    BadHistory,
    Event,
    Line,
    Manifest,
    Op,
    decode_manifest,
    encode_manifest,
)
from bench.history_file import HistoryReader, HistoryWriter
from bench.pbs.prediction import Prediction
from dynamo.wars_status import WarsStatus

MANIFEST: Final = "manifest.json"
HISTORY: Final = "history.jsonl.zst"
LATENCY: Final = "latency.hlog"
LIVE: Final = "live.jsonl"
WARS: Final = "wars.json"
PREDICTIONS: Final = "predictions.json"
ANALYSIS: Final = "analysis.json"
SUMMARY: Final = "summary.csv"
REPORT: Final = "report.html"
#: All that may be in it, and is taken away by `--force`.
NAMES: Final = (
    *(MANIFEST, HISTORY, LATENCY, LIVE, WARS),
    *(PREDICTIONS, ANALYSIS, SUMMARY, REPORT),
)
#: After the name of one that is being written; what is ended from outside leaves it behind.
PART: Final = ".part"

_T = TypeVar("_T")


class BadDirectory(Exception):
    """A directory is no run, or is not to be written to; the message says which and why."""


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction, and how it agrees with what was measured; None where they are not compared."""

    prediction: Prediction
    agreement: dict[str, Any] | None = None


class RunDirectory:
    """A run on disk. `cut`: after `lines` was read to its end, what its history lacks, "" if nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut = ""

    @classmethod
    def create(cls, path: Path, *, force: bool = False) -> RunDirectory:
        """A new one, with its parents; an empty directory will do. A run that is there is refused, or,
        with `force`, taken away first; any other directory is always refused. Raises BadDirectory,
        OSError."""
        directory = cls(path)
        if path.exists() and not path.is_dir():
            raise BadDirectory(f"{path} is no directory")
        path.mkdir(parents=True, exist_ok=True)
        there = sorted(entry.name for entry in path.iterdir())
        if not there:
            return directory
        strange = [name for name in there if name.removesuffix(PART) not in NAMES]
        if strange or not ({MANIFEST, MANIFEST + PART, HISTORY} & set(there)):
            raise BadDirectory(f"{path} is neither empty nor a run: it has {(strange or there)[0]}")
        if not force:
            raise BadDirectory(f"{path} has a run already; --force writes over it")
        for name in there:
            (path / name).unlink()
        return directory

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """One that is there. Raises BadDirectory if it is no run."""
        if not path.is_dir():
            raise BadDirectory(f"{path} is no directory" if path.exists() else f"no {path}")
        if not (path / MANIFEST).is_file():
            raise BadDirectory(f"{path} is no run: it has no {MANIFEST}")
        return cls(path)

    def has(self, name: str) -> bool:
        """Whether this file (one of NAMES) is there."""
        return (self.path / name).is_file()

    # What a run is --------------------------------------------------------------------------------

    def manifest(self) -> Manifest:
        """Raises BadHistory if it cannot be read as one, OSError."""
        return decode_manifest((self.path / MANIFEST).read_bytes())

    def lines(self) -> Iterator[Line]:
        """The history; see `HistoryReader.lines`. A file may also end where a piece of it does: then
        there are fewer operations than the manifest counts, and that is said in the same way. Raises
        BadHistory, OSError."""
        if not self.has(HISTORY):
            raise BadHistory(f"{self.path} has no {HISTORY}")
        reader = HistoryReader(self.path / HISTORY)
        operations, last = 0, 0
        for line in reader.lines():
            operations += isinstance(line, Op)
            last = max(last, line.end if isinstance(line, Op) else line.at)
            yield line
        self.cut = reader.cut
        if not self.cut and operations < (asked := self.manifest().operations):
            self.cut = f"the history has {operations} of the run's {asked} operations"
            yield Event(kind="note", at=last, told=self.cut)

    def write_manifest(self, manifest: Manifest) -> None:
        """In place of any before."""
        self._put(MANIFEST, encode_manifest(manifest))

    def history_writer(self) -> HistoryWriter:
        """Of this run's history; there must be none."""
        return HistoryWriter(self.path / HISTORY)

    # What is made from it -------------------------------------------------------------------------

    def analysis(self) -> Analysis | None:
        """None if there is none. Raises BadHistory for one that cannot be read."""
        return self._get(ANALYSIS, Analysis)

    def write_analysis(self, analysis: Analysis) -> None:
        """In place of any before."""
        self._put_json(ANALYSIS, analysis)

    def predictions(self) -> tuple[Predicted, ...]:
        """() if there are none. Raises BadHistory for what cannot be read."""
        return self._get(PREDICTIONS, tuple[Predicted, ...]) or ()

    def write_predictions(self, predictions: Sequence[Predicted]) -> None:
        """In place of any before."""
        self._put_json(PREDICTIONS, predictions)

    def wars(self) -> tuple[WarsStatus, ...]:
        """What the nodes measured themselves, () if nothing. Raises BadHistory as above."""
        return self._get(WARS, tuple[WarsStatus, ...]) or ()

    def write_wars(self, data: bytes) -> None:
        """A JSON list, as `Target.wars` gives it. In place of any before."""
        self._put(WARS, data)

    def write_text(self, name: str, text: str) -> None:
        """A file of NAMES, in place of any before."""
        if name not in NAMES:
            raise ValueError(f"{name} has no place in a run")
        self._put(name, text.encode())

    def _get(self, name: str, kind: type[_T]) -> _T | None:
        if not self.has(name):
            return None
        try:
            return msgspec.json.decode((self.path / name).read_bytes(), type=kind)
        except BAD_JSON as error:
            raise BadHistory(f"{self.path / name}: {error}") from None

    def _put_json(self, name: str, value: object) -> None:
        self._put(name, msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")

    def _put(self, name: str, data: bytes) -> None:
        """Whole or not at all: a reader never meets half of it."""
        part = self.path / (name + PART)
        try:
            part.write_bytes(data)
            os.replace(part, self.path / name)
        finally:
            part.unlink(missing_ok=True)
