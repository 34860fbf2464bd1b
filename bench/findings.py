"""What an analysis finds in a history: the shapes that reports, summaries and comparisons read.

Data only, encoded as `analysis.json`. Every rate has its n and its interval, every axis its origin.
Knows nothing of how a figure is computed (`bench.staleness`) or drawn (`bench.report`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bench.history import Event

#: "unknown": not decided, within the budget or for want of opportunities.
Verdict = Literal["pass", "fail", "unknown"]
#: What t = 0 is: the client has the acknowledgement; the coordinator had it; the client began the write.
Origin = Literal["client commit", "coordinator commit", "write start"]


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """`count` of `of`, with the Wilson interval of 95 % (of none seen: the rule of three is its end)."""

    count: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        """0..1; None of none."""
        return self.count / self.of if self.of else None


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """Reads that started from `from_ms` to below `to_ms` after. `fitted`: made monotone by
    pool-adjacent-violators. `middle_ms`: mean of the reads' own."""

    from_ms: float
    to_ms: float
    middle_ms: float
    fresh: Rate
    fitted: float


class Quantile(msgspec.Struct, frozen=True, kw_only=True):
    """The first t at which a share `p` is fresh; None where that was not reached. The interval is of the
    bootstrap by write."""

    p: float
    t_ms: float | None
    low_ms: float | None
    high_ms: float | None


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A t-visibility curve. `left_out`: reads that do not count here, by reason. `plot`: bins as wide as
    decades ask for; `fine`: bins of one millisecond, to compare with predictions."""

    origin: Origin
    r: int
    w: int
    reads: int
    writes: int
    fresh: Rate
    plot: tuple[Bin, ...]
    fine: tuple[Bin, ...]
    quantiles: tuple[Quantile, ...]
    left_out: dict[str, int]


class Staleness(msgspec.Struct, frozen=True, kw_only=True):
    """k-staleness: `counts[i]` reads were k = i + 1 versions behind (k = 1 is fresh); `beyond`:
    more than those."""

    reads: int
    counts: tuple[int, ...]
    beyond: int


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One property of the history: how often it could have been violated, how often it was.

    `name`: "regular", "atomic", "safe", "read your writes", "monotonic reads", "monotonic writes",
    "writes follow reads", "consistent prefix", "lost acknowledged writes". `keys`: of the keys
    looked at. `examples`: numbers of operations (`Op.n`). `told`: what is to be known beside it.
    `undecided`: opportunities of which it is not known whether they were violations.
    """

    name: str
    verdict: Verdict
    violations: Rate
    keys: Rate
    examples: tuple[int, ...] = ()
    told: str = ""
    undecided: int = 0


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Gamma of one value: how far (milliseconds) it is from atomic, at `at` (ns)."""

    at: int
    gamma_ms: float
    key: str


class Zones(msgspec.Struct, frozen=True, kw_only=True):
    """Gibbons and Korach's zones, Golab's Delta and Gamma. `keys`: looked at; `atomic`: of those.
    Delta and Gamma in milliseconds: quantile -> value, over the keys that are not atomic. `scores`:
    the highest, in order of time. `over_budget`: keys with more conflicts than were compared: whether
    they are atomic is known, Delta and Gamma are not. `siblings`: keys not looked at, since their
    reads returned several versions at once. `unbounded`: keys for which no Delta is enough (a read ended
    before its write began)."""

    keys: int
    atomic: Rate
    delta_ms: dict[str, float]
    gamma_ms: dict[str, float]
    scores: tuple[Score, ...]
    over_budget: int
    siblings: int = 0
    unbounded: int = 0


class SetFull(msgspec.Struct, frozen=True, kw_only=True):
    """As Jepsen's set-full. `lost`: known, and absent from the last reads. `stale`: known, missed
    by a later read, and there in the end. `stable_ms`: quantile -> time from known to the last read
    without it. `reads`: looked at; `thinned`: left out, since it would have taken too long."""

    attempted: int
    acknowledged: int
    known: int
    lost: Rate
    stale: Rate
    never_read: int
    unexpected: int
    stable_ms: dict[str, float]
    lost_elements: tuple[int, ...]
    reads: int = 0
    thinned: int = 0


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Inconsistency window (Wada): from the write's stamp to the last read of the old value. `censored`:
    writes whose old value was still read when polling ended."""

    origin: Origin
    writes: int
    censored: int
    ms: dict[str, float]


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """phi: the same read at every replica at once, `after_ms` after commit: how often all agreed."""

    after_ms: float
    agreed: Rate


class Convergence(msgspec.Struct, frozen=True, kw_only=True):
    """After a heal: share of keys whose directed reads all show the final version, by milliseconds since
    the heal. `trees_equal_ms`: when all trees were equal and stayed so; None if that was not seen.
    `undecided`: keys left out, over budget."""

    heal_at: int
    keys: int
    unconverged: int
    points: tuple[tuple[float, float], ...]
    ms: dict[str, float]
    trees_equal_ms: float | None
    undecided: int = 0


class Availability(msgspec.Struct, frozen=True, kw_only=True):
    """Of operations of one kind in the phase measured."""

    kind: str
    ok: Rate
    fail: int
    unknown: int
    reasons: dict[str, int]


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Of one kind ("read", "write") and measure: "lag" (start - intended), "service" (end - start),
    "response" (end - intended). Quantile -> milliseconds; `spectrum`: (percentile 0..100,
    milliseconds)."""

    kind: str
    measure: Literal["lag", "service", "response"]
    count: int
    ms: dict[str, float]
    spectrum: tuple[tuple[float, float], ...]


class Second(msgspec.Struct, frozen=True, kw_only=True):
    """One second of the time line; `second` from the begin of the phase measured (may be below 0)."""

    second: int
    ok: int
    fail: int
    unknown: int
    reads: int
    stale: int
    p50_ms: float
    p99_ms: float


class Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    """One operation that saw something it should not. `kind`: the check that it broke; of several all,
    with ", " between them, the worst first. `severity_ms`: how stale, or how far apart."""

    kind: str
    op: int
    key: str
    at: int
    severity_ms: float
    told: str
    evidence: tuple[int, ...]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Of the harness itself. `void`: why the run counts for nothing, "" if it does."""

    operations: int
    dropped: int
    in_flight_max: int
    asked_rate: float | None
    done_rate: float
    lag_ms_p99: float
    lag_ms_max: float
    cpu_share: float
    void: str


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """An expectation of the scenario, and what came of it. `told`: with the figures."""

    expectation: str
    verdict: Verdict
    told: str


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """All that one history says."""

    format: int = 1
    run: str
    scenario: str
    target: str
    curves: tuple[Curve, ...] = ()
    staleness: Staleness | None = None
    checks: tuple[Check, ...] = ()
    zones: Zones | None = None
    set_full: SetFull | None = None
    windows: tuple[Window, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    convergence: tuple[Convergence, ...] = ()
    availability: tuple[Availability, ...] = ()
    latencies: tuple[Latency, ...] = ()
    seconds: tuple[Second, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()
    events: tuple[Event, ...] = ()
    health: Health
    judged: tuple[Judged, ...] = ()
    #: Reads that returned values which no write of this history had written.
    foreign_reads: int = 0
    #: Reads that returned a write which had ended without an acknowledgement before they began.
    unacknowledged_reads: Rate | None = None
