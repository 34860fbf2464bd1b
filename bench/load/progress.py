"""How a run goes, second by second: what its live line says. A look while it runs, no result.

Pure: fed with lines, asked now and then. What is measured is computed from the history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from bench.history import Line, Op

#: Lines are looked at so many at a time: each on its own costs more, all at once makes the loop lag.
BATCH: Final = 256
#: Keys whose last acknowledged write is remembered, to see who misses it; beyond it all are forgotten.
KEYS_MAX: Final = 200_000
#: Response times of a second that are kept; of a faster run the first so many.
RESPONSES_MAX: Final = 50_000


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One second. `second`: from the begin of the phase measured. Counts of operations that ended in it,
    except `behind_total` and `dropped_total`, of the whole run. `behind`: reads that missed the last
    acknowledged write of their key, as far as that is known without an analysis; `of`: reads
    looked at. `in_flight`: arrivals that are not over."""

    second: float
    phase: str
    ok: int
    fail: int
    unknown: int
    in_flight: int
    p50_ms: float
    p99_ms: float
    behind: int
    of: int
    behind_total: int
    of_total: int
    dropped_total: int
    faults: tuple[str, ...] = ()
    why: str = ""


class Tally:
    """Counts what has ended since it was last asked."""

    def __init__(self) -> None:
        self._waiting: list[Op] = []
        self._outcomes: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._responses: list[int] = []
        #: By key: the write acknowledged last, and when.
        self._acknowledged: dict[str, tuple[int, int]] = {}
        self._behind = self._of = 0
        self.behind_total = self.of_total = 0

    def note(self, line: Line) -> None:
        """One more line."""
        if type(line) is Op:
            self._waiting.append(line)
            if len(self._waiting) >= BATCH:
                self._look()

    def _look(self) -> None:
        waiting, self._waiting = self._waiting, []
        for op in waiting:
            self._outcomes[op.outcome] += 1
            if op.outcome != "ok":
                self._reasons[op.why] += 1
                continue
            if len(self._responses) < RESPONSES_MAX:
                self._responses.append(op.end - op.intended)
            if op.kind == "write":
                if len(self._acknowledged) >= KEYS_MAX:
                    self._acknowledged.clear()
                self._acknowledged[op.key] = (op.write, op.end)
            elif not op.target:
                self._compare(op)

    def _compare(self, op: Op) -> None:
        last = self._acknowledged.get(op.key)
        if last is None or last[1] > op.start:
            return
        self._of += 1
        self._behind += max(op.seen, default=0) < last[0]

    def progress(
        self,
        *,
        second: float,
        phase: str,
        in_flight: int,
        dropped: int,
        faults: Sequence[str] = (),
    ) -> Progress:
        """What there was since the last call."""
        self._look()
        responses = sorted(self._responses)
        self.behind_total += self._behind
        self.of_total += self._of
        reason = self._reasons.most_common(1)
        progress = Progress(
            second=round(second, 3),
            phase=phase,
            ok=self._outcomes["ok"],
            fail=self._outcomes["fail"],
            unknown=self._outcomes["unknown"],
            in_flight=in_flight,
            p50_ms=_quantile(responses, 0.5),
            p99_ms=_quantile(responses, 0.99),
            behind=self._behind,
            of=self._of,
            behind_total=self.behind_total,
            of_total=self.of_total,
            dropped_total=dropped,
            faults=tuple(faults),
            why=reason[0][0] if reason else "",
        )
        self._outcomes.clear()
        self._reasons.clear()
        self._responses.clear()
        self._behind = self._of = 0
        return progress


def _quantile(ordered: Sequence[int], p: float) -> float:
    """Milliseconds; 0 of nothing."""
    if not ordered:
        return 0.0
    return round(ordered[min(len(ordered) - 1, int(p * len(ordered)))] / 1e6, 3)
