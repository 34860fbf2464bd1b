"""What must come of a control: of a run on a register that is built in, or of strict quorums.

Pure: reads an analysis, and says what is as it has to be.
"""

from __future__ import annotations

from typing import Final

from bench.findings import Analysis, Bin, Curve, Judged, Verdict
from bench.history import Manifest
from bench.scenario import Scenario

#: The ceiling has to do this share of what is asked of it.
RATE_SHARE_MIN: Final = 0.95
#: Fewer reads on either side of the delay tell nothing.
READS_MIN: Final = 50
#: With fewer, 99 % cannot be told from 98.
READS_FOR_T99: Final = 1_000
EXACT: Final = "coordinator commit"
#: Of a strict quorum no read that starts once the client has its acknowledgement may be stale.
STRICT: Final = "client commit"


def judge_control(manifest: Manifest, scenario: Scenario, analysis: Analysis) -> list[Judged]:
    """Of a scenario that is a control, or runs on one of the registers; nothing of any other."""
    if manifest.target == "delay":
        return _delay(scenario.cluster.delay_ms, analysis)
    if manifest.target == "null":
        return [_ceiling(scenario, analysis)]
    return _quorums(manifest.replicas, analysis) if scenario.control else []


def _delay(delay_ms: float, analysis: Analysis) -> list[Judged]:
    """The register decides by its own clock, so the curve by its own stamps is exact."""
    curve = next((one for one in analysis.curves if one.origin == EXACT), None)
    below = f"every read below {delay_ms:g} ms is stale"
    above = f"no read from {delay_ms:g} ms on is stale"
    if curve is None:
        return [Judged(expectation=one, verdict="fail", told="no curve") for one in (below, above)]
    early = [one for one in curve.fine if one.to_ms <= delay_ms]
    late = [one for one in curve.fine if one.from_ms >= delay_ms]
    return [
        _all(below, early, fresh=False),
        _all(above, late, fresh=True),
        _t99(delay_ms, curve),
    ]


def _all(expectation: str, bins: list[Bin], *, fresh: bool) -> Judged:
    reads = sum(one.fresh.of for one in bins)
    found = sum(one.fresh.count for one in bins)
    wrong = reads - found if fresh else found
    verdict: Verdict = "fail" if wrong else "pass"
    if reads < READS_MIN:
        verdict = "unknown"
    return Judged(expectation=expectation, verdict=verdict, told=f"{wrong} of {reads} were not so")


def _t99(delay_ms: float, curve: Curve) -> Judged:
    """Where almost all are fresh is where the delay ends: to the millisecond of a bin."""
    found = next((one.t_ms for one in curve.quantiles if abs(one.p - 0.99) < 1e-9), None)
    expectation = f"99 % are fresh from {delay_ms:g} ms on"
    if found is None:
        enough = curve.reads >= READS_FOR_T99
        return Judged(
            expectation=expectation,
            verdict="fail" if enough else "unknown",
            told=f"not reached, of {curve.reads} reads",
        )
    ok = abs(found - delay_ms) <= 1.0
    verdict: Verdict = "pass" if ok else "fail"
    return Judged(expectation=expectation, verdict=verdict, told=f"from {found:.2f} ms on")


def _quorums(n: int, analysis: Analysis) -> list[Judged]:
    """Strict quorums are never stale; others are, or this store was too quick to tell anything."""
    judged = []
    for curve in analysis.curves:
        if curve.origin != STRICT:
            continue
        stale = curve.fresh.of - curve.fresh.count
        strict = curve.r + curve.w > n
        expectation = (
            f"R={curve.r} W={curve.w} of {n}: no read is stale"
            if strict
            else f"R={curve.r} W={curve.w} of {n}: stale reads are found"
        )
        verdict: Verdict = "pass" if strict == (stale == 0) else "fail"
        if curve.fresh.of < READS_MIN:
            verdict = "unknown"
        told = f"{stale} of {curve.fresh.of} were stale"
        judged.append(Judged(expectation=expectation, verdict=verdict, told=told))
    if not judged:
        judged.append(Judged(expectation="reads are measured", verdict="fail", told="no curve"))
    return judged


def _ceiling(scenario: Scenario, analysis: Analysis) -> Judged:
    asked = scenario.load.rate
    health = analysis.health
    done = health.done_rate
    enough = done >= RATE_SHARE_MIN * asked and not health.dropped
    return Judged(
        expectation=f"the harness reaches {asked:g} operations a second",
        verdict="pass" if enough else "fail",
        told=f"{done:.0f} a second done, {health.dropped} dropped",
    )
