"""What clients did and saw, one line an operation, so that every figure can be computed again.

A history is a list of operations and of events (faults, heals), in the order they ended; a manifest
says what it is a history of. Times are nanoseconds of the clock named there (on one host
CLOCK_MONOTONIC, which all processes share; in the simulator its virtual time).
Pure: encodes and decodes; reads no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

import msgspec

#: Of the lines; a reader refuses what is newer.
FORMAT: Final = 1

Kind = Literal["read", "write"]
#: "ok": acknowledged. "fail": certainly not executed (or, of a read: no answer). "unknown": may have
#: been executed, or may be later: never counted as committed, and may always be returned.
Outcome = Literal["ok", "fail", "unknown"]
#: "load": fills the store first. "warmup": not looked at. "measure". "after": what is read at the end.
Phase = Literal["load", "warmup", "measure", "after"]


class Op(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="op", tag_field="t"):
    """One operation. `n`: its number within the run. `group`: operations of one multi-key read, or
    of one pair, have the same, 0 for none.

    `intended`, `start`, `end`: when it was due, was sent, and its answer was in hand. `began`,
    `committed`: the coordinator's own stamps of the same clock: when it began, and when it had what it
    needed (of a write: its w-th acknowledgement; of a read: its r-th answer); 0 if not known.

    `write`: the unique id (1 or more) of the version written; 0 for a read. `bases`: versions that the
    write has seen, and replaces. `seen`: versions that a read returned, () for none. `elements`: of a
    set: the element added is `write`; a read gives all that were in it. `target`: of a directed read
    (r=1 at one replica): which. `offset`: of a probe: nanoseconds after the commit at which it was to
    start, -1 for no probe. `fallbacks`: acknowledgements by stand-ins. `why`: of what did not succeed.
    """

    n: int
    session: int
    kind: Kind
    key: str
    intended: int
    start: int
    end: int
    outcome: Outcome
    write: int = 0
    bases: tuple[int, ...] = ()
    seen: tuple[int, ...] = ()
    elements: tuple[int, ...] = ()
    r: int = 0
    w: int = 0
    coordinator: str = ""
    began: int = 0
    committed: int = 0
    phase: Phase = "measure"
    group: int = 0
    target: str = ""
    offset: int = -1
    fallbacks: int = 0
    why: str = ""


class Event(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="event", tag_field="t"
):
    """Something that was done to the cluster, or seen of it. `kind`: a verb of `bench.faults`,
    "heal" (all faults are over), "trees_equal", "writers_stopped" (the schedule is over; a workload may
    have stopped writing before) or "note". `until`: 0 for an instant, or for what has not ended.
    `nodes`: whom it hit."""

    kind: str
    at: int
    until: int = 0
    nodes: tuple[str, ...] = ()
    told: str = ""


Line = Op | Event


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it ran."""

    system: str
    cores: int
    python: str
    load_before: float


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a history is a history of. `clock`: "CLOCK_MONOTONIC", "virtual". `began_at`: of that clock
    (nanoseconds). `began_wall`: ISO 8601, UTC. `measured`: from and to (nanoseconds), warm-up left out.
    `scenario`: the scenario as it was run, whole. `configuration`: what the target showed of itself, its
    bucket's `properties` in effect among it, and counts of the harness. `dropped`: arrivals left out
    since too many were in flight. `lag_ms_p99`, `lag_ms_max`: how late the harness's own loop was;
    `void`: why the run counts for nothing, "" if it counts."""

    format: int = FORMAT
    run: str
    scenario_name: str
    target: str
    seed: int
    commit: str
    versions: dict[str, str]
    machine: Machine
    clock: str
    began_at: int
    began_wall: str
    measured: tuple[int, int]
    nodes: tuple[str, ...]
    replicas: int
    scenario: dict[str, Any]
    configuration: dict[str, Any] = {}
    operations: int = 0
    dropped: int = 0
    in_flight_max: int = 0
    lag_ms_p99: float = 0.0
    lag_ms_max: float = 0.0
    cpu_seconds: float = 0.0
    void: str = ""


class BadHistory(Exception):
    """What was to be a history is none; the message says where and why."""


#: What msgspec raises for data that is none: also for text that is not UTF-8, or nests too deeply.
BAD_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_ENCODER: Final = msgspec.json.Encoder()
_LINE: Final = msgspec.json.Decoder(Line)
_MANIFEST: Final = msgspec.json.Decoder(Manifest)


def encode_line(line: Line) -> bytes:
    """One line, with its newline."""
    return _ENCODER.encode(line) + b"\n"


def decode_lines(lines: Iterable[bytes]) -> Iterator[Line]:
    """What the lines say. Raises BadHistory with the number of the first bad one."""
    for number, line in enumerate(lines, 1):
        try:
            yield _LINE.decode(line)
        except BAD_JSON as error:
            raise BadHistory(f"line {number}: {error}") from None


def encode_manifest(manifest: Manifest) -> bytes:
    """As JSON, for people too."""
    return msgspec.json.format(_ENCODER.encode(manifest), indent=2) + b"\n"


def decode_manifest(data: bytes) -> Manifest:
    """Raises BadHistory, also for what a newer version wrote."""
    try:
        manifest = _MANIFEST.decode(data)
    except BAD_JSON as error:
        raise BadHistory(f"manifest: {error}") from None
    if manifest.format > FORMAT:
        raise BadHistory(
            f"manifest: format {manifest.format} is newer than {FORMAT}, which this reads"
        )
    return manifest
