"""What share of operations was answered, by kind, and why the others were not. Nothing else counts here:
failed operations are in no figure of freshness or latency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from bench.findings import Availability
from bench.history import Op
from bench.staleness.intervals import rate

#: Reasons told one by one; the rest are "other reasons".
REASONS_MAX: Final = 20
KINDS: Final = ("read", "write", "directed read")


def kind_of(op: Op) -> str:
    """A directed read is no client's read: it asks one replica."""
    return "directed read" if op.target else op.kind


def availability(operations: Iterable[Op]) -> tuple[Availability, ...]:
    """Of the phase measured, for each kind that there was."""
    outcomes: dict[str, Counter[str]] = {}
    reasons: dict[str, Counter[str]] = {}
    for op in operations:
        if op.phase == "measure":
            kind = kind_of(op)
            outcomes.setdefault(kind, Counter())[op.outcome] += 1
            if op.outcome != "ok":
                reasons.setdefault(kind, Counter())[op.why or "not said"] += 1
    return tuple(
        Availability(
            kind=kind,
            ok=rate(outcomes[kind]["ok"], outcomes[kind].total()),
            fail=outcomes[kind]["fail"],
            unknown=outcomes[kind]["unknown"],
            reasons=_most(reasons.get(kind, Counter())),
        )
        for kind in KINDS
        if kind in outcomes
    )


def _most(reasons: Counter[str]) -> dict[str, int]:
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    told = dict(ordered[:REASONS_MAX])
    rest = sum(count for _, count in ordered[REASONS_MAX:])
    return told | ({"other reasons": rest} if rest else {})
