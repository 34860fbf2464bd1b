"""Sets that elements are added to: which elements are lost, which were missed for a while (set-full).

An element is known once its add has ended well, or the first read with it has, whichever was first. It
is lost if a read that began after that lacks it and none begun later has it; stale if one lacked it
and a later one has it; stable from the last read without it. After Jepsen's checker `set-full`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from bench.findings import SetFull
from bench.history import Op
from bench.staleness.budget import Budget
from bench.staleness.intervals import rate
from bench.staleness.keyed import NEVER, History, Key, Read
from bench.staleness.quantiles import named

#: Lost elements told by name.
LOST_MAX: Final = 1_000
_WORKLOAD: Final = "set-add"


def sets_of(history: History) -> frozenset[str]:
    """Keys that are sets: all of the workload that adds to sets, else those with elements."""
    if history.manifest.scenario.get("workload") == _WORKLOAD:
        return frozenset(history.keys)
    return frozenset(op.key for op in history.operations if op.elements)


def set_full(history: History, sets: Iterable[str], *, budget: Budget) -> SetFull | None:
    """Over all sets and phases; None if there is none. Directed reads are left out. Where elements x
    reads of a set are more than the budget, reads are thinned out evenly, and the last ones stay."""
    found = _Found()
    for name in sorted(sets):
        found.look(history.keys[name], budget)
    if not found.sets:
        return None
    return SetFull(
        attempted=found.attempted,
        acknowledged=found.acknowledged,
        known=found.known,
        lost=rate(len(found.lost), found.known),
        stale=rate(found.stale, found.known),
        never_read=found.never_read,
        unexpected=found.unexpected,
        stable_ms=named(found.stable_ms),
        lost_elements=tuple(sorted(found.lost)[:LOST_MAX]),
        reads=found.reads,
        thinned=found.thinned,
    )


class _Found:
    """Sums over sets."""

    def __init__(self) -> None:
        self.sets = self.attempted = self.acknowledged = self.known = 0
        self.stale = self.never_read = self.unexpected = 0
        self.reads = self.thinned = 0
        self.lost: list[int] = []
        self.stable_ms: list[float] = []

    def look(self, key: Key, budget: Budget) -> None:
        """One set."""
        adds = {op.write: op for op in key.writes if op.outcome != "fail"}
        reads = _thinned(key.reads, max(1, budget.cells // max(1, len(adds))))
        self.sets += 1
        self.reads += len(reads)
        self.thinned += len(key.reads) - len(reads)
        self.attempted += len(adds)
        self.acknowledged += sum(op.outcome == "ok" for op in adds.values())
        known, everything = _known(adds, key.reads)
        self.unexpected += len(everything - {op.write for op in key.writes})
        present, absent = _last(known, reads)
        for element, since in known.items():
            self._place(element, since, present.get(element), absent.get(element))
        self.known += len(known)

    def _place(self, element: int, since: float, present: int | None, absent: int | None) -> None:
        """`present`, `absent`: starts of the last read with it, and of the last without it that began
        once it was known."""
        if absent is not None and (present is None or absent > present):
            self.lost.append(element)
        elif present is None:
            self.never_read += 1
        else:
            self.stale += absent is not None
            self.stable_ms.append(0.0 if absent is None else (absent - since) / 1e6)


def _known(
    adds: Mapping[int, Op], reads: Sequence[Read]
) -> tuple[dict[int, float], frozenset[int]]:
    """Element -> when it was known; and all that was ever read."""
    known = {element: op.end if op.outcome == "ok" else NEVER for element, op in adds.items()}
    everything: set[int] = set()
    for read in sorted(reads, key=lambda one: one.op.end):
        for element in set(read.op.elements) - everything:
            if element in known:
                known[element] = min(known[element], read.op.end)
        everything.update(read.op.elements)
    return {e: at for e, at in known.items() if at < NEVER}, frozenset(everything)


def _last(
    known: Mapping[int, float], reads: Sequence[Read]
) -> tuple[dict[int, int], dict[int, int]]:
    """Of each known element the start of the last read with it, and of the last without it."""
    present: dict[int, int] = {}
    absent: dict[int, int] = {}
    in_turn = sorted(known, key=lambda element: (known[element], element))
    so_far: set[int] = set()
    done = 0
    for read in reads:
        while done < len(in_turn) and known[in_turn[done]] <= read.op.start:
            so_far.add(in_turn[done])
            done += 1
        elements = set(read.op.elements)
        present.update(dict.fromkeys(elements, read.op.start))
        absent.update(dict.fromkeys(so_far - elements, read.op.start))
    return present, absent


def _thinned(reads: Sequence[Read], most: int) -> Sequence[Read]:
    """At most so many, evenly, the last one among them."""
    if len(reads) <= most:
        return reads
    step = len(reads) / most
    return [reads[len(reads) - 1 - int(number * step)] for number in reversed(range(most))]
