"""A history taken apart by key: what was written, committed and read, in the order of time.

The order of the lines does not matter. Knows nothing of what is fresh (`order`) or of any metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from bench.history import BadHistory, Event, Line, Manifest, Op

#: When a write ended of which nobody knows whether it did.
NEVER: Final = math.inf
#: Targets of which each key is one register.
REGISTERS: Final = ("delay", "null")


class Read(NamedTuple):
    """A read that got an answer. `seen`: places of the versions in `Key.writes`. `foreign`: it also
    returned what no write of this history had written to the key."""

    op: Op
    seen: tuple[int, ...]
    foreign: bool


class Key:
    """All that happened to one key. `writes`: of whatever outcome, by start; a version is called by
    its place there. `starts`, `ends`: of them, the end NEVER unless acknowledged. `reads`: by start,
    all phases, answered, not directed; `directed`: those of one replica; `unanswered`: others."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.writes: list[Op] = []
        self.place: dict[int, int] = {}
        self.starts: list[int] = []
        self.ends: list[float] = []
        self.bases: list[tuple[int, ...]] = []
        self.reads: list[Read] = []
        self.directed: list[Read] = []
        self.unanswered: list[Op] = []

    def settle(self, writes: list[Op], reads: list[Op]) -> None:
        """Take over what happened, in any order."""
        writes.sort(key=_by_start)
        self.writes = writes
        self.place = {op.write: place for place, op in enumerate(writes)}
        self.starts = [op.start for op in writes]
        self.ends = [op.end if op.outcome == "ok" else NEVER for op in writes]
        # Who is seen was begun before: what says otherwise is no base (and walks would not end).
        self.bases = [
            tuple(
                sorted({at for b in op.bases if (at := self.place.get(b, place)) < place})
                if op.bases
                else ()
            )
            for place, op in enumerate(writes)
        ]
        reads.sort(key=_by_start)
        for op in reads:
            if op.outcome != "ok":
                self.unanswered.append(op)
                continue
            seen = tuple(self.place[v] for v in op.seen if v in self.place)
            read = Read(op, seen, len(seen) < len(op.seen))
            (self.directed if op.target else self.reads).append(read)

    def committed(self) -> list[int]:
        """Places of the acknowledged writes, by end."""
        places = [place for place, op in enumerate(self.writes) if op.outcome == "ok"]
        places.sort(key=lambda place: (self.ends[place], place))
        return places


class History(NamedTuple):
    """`operations`: by start. `register`: a key holds one value, else siblings. `quorums`: what r
    and w are where an operation does not say."""

    manifest: Manifest
    operations: Sequence[Op]
    events: Sequence[Event]
    keys: Mapping[str, Key]
    register: bool
    quorums: tuple[int, int]

    def r(self, op: Op) -> int:
        """How many replicas a read asked for."""
        return op.r or self.quorums[0]

    def w(self, op: Op) -> int:
        """How many acknowledgements a write asked for."""
        return op.w or self.quorums[1]


def take_apart(manifest: Manifest, lines: Iterable[Line]) -> History:
    """Raises BadHistory where one write id was given twice, or a write has none."""
    operations: list[Op] = []
    events: list[Event] = []
    for line in lines:
        if isinstance(line, Op):
            operations.append(line)
        else:
            events.append(line)
    operations.sort(key=_by_start)
    events.sort(key=lambda event: (event.at, event.until, event.kind, event.nodes, event.told))
    return History(
        manifest,
        operations,
        events,
        _by_key(operations),
        is_register(manifest),
        _quorums(manifest),
    )


def _by_key(operations: Sequence[Op]) -> dict[str, Key]:
    writes: dict[str, list[Op]] = {}
    reads: dict[str, list[Op]] = {}
    ids: dict[int, int] = {}
    for op in operations:
        if op.end < op.start:
            raise BadHistory(f"operation {op.n} ends before it starts")
        if op.kind == "read":
            reads.setdefault(op.key, []).append(op)
            continue
        if op.write < 1:
            raise BadHistory(f"operation {op.n} is a write without an id")
        if op.write in ids:
            raise BadHistory(f"operations {ids[op.write]} and {op.n} both wrote {op.write}")
        ids[op.write] = op.n
        writes.setdefault(op.key, []).append(op)
    keys = {name: Key(name) for name in sorted(writes.keys() | reads.keys())}
    for name, key in keys.items():
        key.settle(writes.get(name, []), reads.get(name, []))
    return keys


def is_register(manifest: Manifest) -> bool:
    """Whether a key holds one value (the last write wins), not siblings, by the properties that were
    in effect. The store's default is siblings; the built-in registers have none."""
    if manifest.target.split(":")[0] in REGISTERS:
        return True
    properties = _properties(manifest)
    return properties.get("last_write_wins") is True or properties.get("allow_mult") is False


def _quorums(manifest: Manifest) -> tuple[int, int]:
    properties, n = _properties(manifest), manifest.replicas
    return _quorum(properties.get("r"), n), _quorum(properties.get("w"), n)


def _quorum(word: Any, n: int) -> int:
    """As the store names them; a majority is its default."""
    if isinstance(word, int) and not isinstance(word, bool) and word > 0:
        return word
    return {"one": 1, "all": n}.get(str(word), n // 2 + 1)


def _properties(manifest: Manifest) -> Mapping[str, Any]:
    """As the target showed them; of a run that does not say, as the scenario wanted them."""
    shown = manifest.configuration.get("properties")
    if isinstance(shown, dict) and shown:
        return shown
    cluster = manifest.scenario.get("cluster")
    properties = cluster.get("properties") if isinstance(cluster, dict) else None
    return properties if isinstance(properties, dict) else {}


def _by_start(op: Op) -> tuple[int, int, int]:
    return op.start, op.end, op.n
