"""Controls: what has to come of them, and that a harness which errs is caught."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from made_run import empty_analysis, made_manifest, rate

from bench.controls import judge_control
from bench.findings import Analysis, Bin, Curve, Origin, Quantile
from bench.scene_files import find

#: Millisecond -> (fresh, of).
Reads = Mapping[int, tuple[int, int]]
PLUS = find("control-plus")
MINUS = find("control-minus")
NULL = find("null-ceiling")
RIGHT: Reads = {t: (0 if t < 50 else 30, 30) for t in range(100)}


def curve(origin: Origin, reads: Reads, *, r: int = 1, w: int = 1, t99: float | None = 50) -> Curve:
    bins = tuple(
        Bin(
            from_ms=t,
            to_ms=t + 1,
            middle_ms=t + 0.5,
            fresh=rate(count, of),
            fitted=count / of,
        )
        for t, (count, of) in reads.items()
    )
    fresh, of = (sum(one[i] for one in reads.values()) for i in (0, 1))
    return Curve(
        origin=origin,
        r=r,
        w=w,
        reads=of,
        writes=of,
        fresh=rate(fresh, of),
        plot=bins,
        fine=bins,
        quantiles=(Quantile(p=0.99, t_ms=t99, low_ms=None, high_ms=None),),
        left_out={},
    )


def of_delay(*curves: Curve) -> list[str]:
    analysis = msgspec.structs.replace(empty_analysis(), curves=curves)
    return [one.verdict for one in judge_control(made_manifest(target="delay"), PLUS, analysis)]


def test_a_delay_that_is_found_where_it_is_passes() -> None:
    assert of_delay(curve("coordinator commit", RIGHT)) == ["pass"] * 3


@pytest.mark.parametrize(
    ("changed", "t99", "verdicts"),
    [
        ({49: (1, 30)}, 50.0, ["fail", "pass", "pass"]),
        ({50: (29, 30)}, 50.0, ["pass", "fail", "pass"]),
        ({99: (29, 30)}, 50.0, ["pass", "fail", "pass"]),
        ({}, 52.0, ["pass", "pass", "fail"]),
        ({}, None, ["pass", "pass", "fail"]),
    ],
)
def test_one_read_on_the_wrong_side_fails(
    changed: Reads, t99: float | None, verdicts: list[str]
) -> None:
    found = curve("coordinator commit", {**RIGHT, **changed}, t99=t99)
    assert of_delay(found) == verdicts


def test_too_few_reads_tell_nothing() -> None:
    few = {49: (0, 3), 50: (3, 3)}
    assert of_delay(curve("coordinator commit", few, t99=None)) == ["unknown"] * 3


def test_without_the_registers_own_clock_nothing_passes() -> None:
    assert set(of_delay(curve("client commit", RIGHT))) == {"fail"}


def quorums(*curves: Curve) -> dict[str, str]:
    analysis = msgspec.structs.replace(empty_analysis(), curves=curves)
    judged = judge_control(made_manifest(), MINUS, analysis)
    return {one.expectation: one.verdict for one in judged}


def test_strict_quorums_must_be_fresh_and_partial_ones_must_not() -> None:
    found = quorums(
        curve("client commit", {0: (100, 100)}, r=2, w=2),
        curve("client commit", {0: (60, 100)}),
        curve("write start", {0: (1, 100)}, r=2, w=2),
    )
    assert found == {
        "R=2 W=2 of 3: no read is stale": "pass",
        "R=1 W=1 of 3: stale reads are found": "pass",
    }


def test_a_stale_read_of_a_strict_quorum_fails_and_so_does_a_blind_harness() -> None:
    found = quorums(
        curve("client commit", {0: (99, 100)}, r=2, w=2),
        curve("client commit", {0: (100, 100)}),
        curve("client commit", {0: (10, 10)}, r=3, w=1),
    )
    assert found == {
        "R=2 W=2 of 3: no read is stale": "fail",
        "R=1 W=1 of 3: stale reads are found": "fail",
        "R=3 W=1 of 3: no read is stale": "unknown",
    }
    assert quorums() == {"reads are measured": "fail"}


@pytest.mark.parametrize(
    ("done", "dropped", "verdict"), [(1990.0, 0, "pass"), (1800.0, 0, "fail"), (1990.0, 1, "fail")]
)
def test_the_ceiling_has_to_be_reached(done: float, dropped: int, verdict: str) -> None:
    analysis = empty_analysis()
    health = msgspec.structs.replace(analysis.health, done_rate=done, dropped=dropped)
    analysis = msgspec.structs.replace(analysis, health=health)
    (judged,) = judge_control(made_manifest(target="null"), NULL, analysis)
    assert judged.verdict == verdict


def test_what_is_no_control_is_not_judged() -> None:
    analysis: Analysis = empty_analysis()
    assert judge_control(made_manifest(), find("healthy"), analysis) == []
