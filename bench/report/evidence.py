"""Operations told in words, for those who want to see how an anomaly came about.

Pure. Times are relative: to the phase measured, and to the first operation of the tale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.findings import Anomaly
from bench.history import Op
from bench.report.material import EVIDENCE_MAX, WORST
from bench.report.numbers import MINUS, SPACE, listed, milliseconds, seconds_since

#: Versions named of those that one read returned.
_VERSIONS_MAX = 5


class Told(NamedTuple):
    """An anomaly for people: `at` since the phase measured began; `lines`: (when, number and what)
    of its operations, the anomalous one marked; `missing`: evidence that the history did not give."""

    kind: str
    key: str
    at: str
    severity: str
    told: str
    lines: tuple[tuple[str, str, bool], ...]
    missing: int


def worst(anomalies: Sequence[Anomaly], operations: Mapping[int, Op], begin: int) -> list[Told]:
    """The worst operations, each with those that show what it broke."""
    return [tell(one, operations, begin) for one in anomalies[:WORST]]


def tell(anomaly: Anomaly, operations: Mapping[int, Op], begin: int) -> Told:
    """`begin`: of the phase measured (ns)."""
    numbers = dict.fromkeys((*anomaly.evidence[:EVIDENCE_MAX], anomaly.op))
    found = sorted(
        (operations[n] for n in numbers if n in operations), key=lambda op: (op.start, op.n)
    )
    first = found[0].start if found else 0
    return Told(
        kind=anomaly.kind,
        key=anomaly.key,
        at=seconds_since(anomaly.at, begin),
        severity=milliseconds(anomaly.severity_ms),
        told=anomaly.told,
        lines=tuple((_when(op, first), sentence(op), op.n == anomaly.op) for op in found),
        missing=len(numbers) - len(found) + max(0, len(anomaly.evidence) - EVIDENCE_MAX),
    )


def _when(op: Op, first: int) -> str:
    return f"{_offset(op.start - first)} to {_offset(op.end - first)}"


def _offset(ns: int) -> str:
    if ns == 0:
        return "0"
    sign = "+" if ns > 0 else MINUS
    return f"{sign}{milliseconds(abs(ns) / 1e6)}"


def sentence(op: Op) -> str:
    """What one operation did, and what came of it."""
    where = f" at {op.coordinator}" if op.coordinator else ""
    if op.target:
        where = f" at replica {op.target} alone"
    what = f"#{op.n} session {op.session}: "
    if op.kind == "write":
        what += f"write {op.write}{where}{_quorum('w', op.w)}"
        if op.bases:
            what += f", replacing {_versions(op.bases)}"
    else:
        probe = f", {milliseconds(op.offset / 1e6)} after a commit" if op.offset >= 0 else ""
        what += f"read{where}{_quorum('r', op.r)}{probe}"
    return f"{what}: {_outcome(op)}"


def _quorum(name: str, size: int) -> str:
    return f", {name}={size}" if size else ""


def _versions(versions: tuple[int, ...]) -> str:
    word = "write" if len(versions) == 1 else "writes"
    return f"{word}{SPACE}{listed([str(one) for one in versions], at_most=_VERSIONS_MAX)}"


def _outcome(op: Op) -> str:
    if op.outcome != "ok":
        word = "failed" if op.outcome == "fail" else "outcome unknown"
        return f"{word} ({op.why})" if op.why else word
    if op.kind == "write":
        fallbacks = f", {op.fallbacks} of the acknowledgements by stand-ins" if op.fallbacks else ""
        return f"acknowledged{fallbacks}"
    if op.elements:
        return f"returned a set of {len(op.elements)} elements"
    return f"returned {_versions(op.seen)}" if op.seen else "returned nothing"
