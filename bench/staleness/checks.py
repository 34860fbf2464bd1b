"""A property counted over a history: chances to break it, times it was broken, keys, examples."""

from __future__ import annotations

import itertools

from bench.findings import Anomaly, Check, Verdict
from bench.staleness.intervals import rate


class Tally:
    """Of one property. `examples`: how many operations are named, and anomalies kept: the worst."""

    def __init__(self, name: str, *, examples: int) -> None:
        self.name = name
        self._examples = examples
        self._keys: set[str] = set()
        self._broken: set[str] = set()
        self._anomalies: list[Anomaly] = []
        self.chances = 0
        self.violations = 0
        #: Chances that were not decided: over budget, or since values are of unknown writes.
        self.undecided = 0

    def chance(self, *keys: str) -> None:
        """One more occasion on which it could have been broken, on any of these keys."""
        self.chances += 1
        self._keys.update(keys)

    def broken(self, anomaly: Anomaly) -> None:
        """The last chance was taken."""
        self.violations += 1
        self._broken.add(anomaly.key)
        self._anomalies.append(anomaly)
        if len(self._anomalies) > 2 * self._examples + 100:
            self._anomalies = self.worst()

    def worst(self) -> list[Anomaly]:
        """The worst of so many operations, worst first; of equals the earlier. An operation that broke
        it more than once is told once."""
        self._anomalies.sort(key=lambda one: (-one.severity_ms, one.at, one.op))
        found: dict[int, Anomaly] = {}
        for one in self._anomalies:
            found.setdefault(one.op, one)
        return list(itertools.islice(found.values(), self._examples))

    def check(self, told: str = "") -> Check:
        """Broken once is "fail"; never, of no chance or of undecided ones, is "unknown"."""
        if self.undecided:
            told = f"{told}; " * bool(told) + f"{self.undecided} not decided"
        return Check(
            name=self.name,
            verdict=self._verdict(),
            violations=rate(self.violations, self.chances),
            keys=rate(len(self._broken), len(self._keys)),
            examples=tuple(one.op for one in self.worst()),
            told=told,
            undecided=self.undecided,
        )

    def _verdict(self) -> Verdict:
        if self.violations:
            return "fail"
        return "pass" if self.chances and not self.undecided else "unknown"
