"""The run second by second: what ended in each, how fast it was, and how many reads were stale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bench.findings import Second
from bench.history import Op
from bench.staleness.order import Judged
from bench.staleness.quantiles import at_share

_SECOND: Final = 1_000_000_000
#: A longer run has only its first seconds here.
SECONDS_MAX: Final = 100_000


class _Sums:
    def __init__(self) -> None:
        self.outcomes = {"ok": 0, "fail": 0, "unknown": 0}
        self.reads = 0
        self.stale = 0
        self.response: list[int] = []


def timeline(operations: Iterable[Op], judged: Iterable[Judged], begin: int) -> tuple[Second, ...]:
    """By the second in which an operation ended, counted from `begin` (ns). `reads`: those that could
    have been stale. Response times are of what succeeded. Seconds in which nothing ended are there
    too. Phases "load" and "after", and directed reads, are left out."""
    sums: dict[int, _Sums] = {}
    for op in operations:
        if op.phase in ("warmup", "measure") and not op.target:
            of_second = sums.setdefault((op.end - begin) // _SECOND, _Sums())
            of_second.outcomes[op.outcome] += 1
            if op.outcome == "ok":
                of_second.response.append(op.end - op.intended)
    for one in judged:
        if one.newest >= 0 and one.behind >= 0 and not one.read.foreign:
            of_second = sums.setdefault((one.read.op.end - begin) // _SECOND, _Sums())
            of_second.reads += 1
            of_second.stale += not one.fresh
    if not sums:
        return ()
    first = min(sums)
    last = min(max(sums), first + SECONDS_MAX - 1)
    return tuple(_second(number, sums.get(number, _Sums())) for number in range(first, last + 1))


def _second(number: int, sums: _Sums) -> Second:
    ordered = sorted(sums.response)
    return Second(
        second=number,
        ok=sums.outcomes["ok"],
        fail=sums.outcomes["fail"],
        unknown=sums.outcomes["unknown"],
        reads=sums.reads,
        stale=sums.stale,
        p50_ms=at_share(ordered, 0.5) / 1e6 if ordered else 0.0,
        p99_ms=at_share(ordered, 0.99) / 1e6 if ordered else 0.0,
    )
