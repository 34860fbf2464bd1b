"""Expectations: every figure by its name, and clear words for a name that is none."""

from __future__ import annotations

import msgspec
import pytest
from made_history import Made, manifest

from bench.analysis import analyse
from bench.findings import Analysis, Verdict
from bench.history import BadHistory
from bench.scenario import Expect
from bench.staleness.budget import Budget
from bench.staleness.judge import UnknownFigure, check_figure, expectations, judge


def run() -> Analysis:
    """Two keys, two stale reads of four, below 10 ms; a set, a probe, a heal."""
    made = Made()
    made.write(1, 0, 10, w=1)
    made.read(0, 12, 13, r=1)
    made.read(0, 15, 16, r=1, session=2)
    made.read(1, 22, 23, r=1)
    made.read(1, 32, 33, r=2)
    made.read(1, 40, 41, target="a", group=1, offset=30)
    made.read(0, 40, 41, target="b", group=1, offset=30)
    made.write(2, 50, 51, key="set", elements=(2,))
    made.read(2, 60, 61, key="set", elements=(2,), session=9, phase="warmup")
    made.event("heal", 100)
    made.read(1, 110, 111, target="a")
    made.read(0, 110, 111, target="b")
    made.read(1, 120, 121, target="b")
    made.event("trees_equal", 130)
    made.read(1, 200, 201, phase="after")
    made.read(0, 200, 201, key="set", elements=(), phase="after", outcome="fail")
    made.write(3, 210, 211, key="late", outcome="unknown", why="timeout")
    return analyse(manifest(dropped=4, lag_ms_p99=2.5), made.lines)


VALUES = {
    "fresh": 0.5,
    "stale": 0.5,
    "fresh r=1 w=1": 1 / 3,
    "fresh r=2 w=1": 1.0,
    "fresh below 10 ms": 0.0,
    "stale below 10 ms": 1.0,
    "fresh from 10 ms": 1.0,
    "fresh from 4 to 20 ms": 0.5,
    "fresh from 4 to 20 ms r=1 w=1": 0.5,
    "t50 r=1 w=1": float("inf"),
    "k=1": 0.5,
    "k max": 2,
    "regular": 2,
    "regular share": 0.5,
    "lost acknowledged writes": 0,
    "read your writes": 1,
    "lost elements": 0,
    "stale elements": 0,
    "phi": 0.0,
    "converged": 1.0,
    "converged 99": 10.0,
    "converged max": 10.0,
    "trees equal": 30.0,
    "available": 6 / 7,
    "available reads": 1.0,
    "available writes": 2 / 3,
    "agrees with prediction": 0.5,
    "window max": 100.0,
    "gamma ms": 5.0,
    "delta ms": 5.0,
    "dropped": 4,
    "lag 99": 2.5,
    "foreign reads": 0,
}
AGREED: tuple[Verdict, ...] = ("pass", "fail")


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return run()


@pytest.mark.parametrize("figure", VALUES)
def test_a_figure_has_its_value(analysis: Analysis, figure: str) -> None:
    value = VALUES[figure]
    least = Expect(figure=figure, at_least=value - 1e-9)
    most = Expect(figure=figure, at_most=value + 1e-9)
    above = Expect(figure=figure, at_least=value + 1e-6)
    found = judge([least, most, above], analysis, AGREED)
    infinite = value == float("inf")
    assert [one.verdict for one in found] == ["pass", "pass", "pass" if infinite else "fail"]
    assert found[0].told


@pytest.mark.parametrize(
    "figure",
    [
        *(
            "",
            "freshness",
            "fresh below 0 ms",
            "fresh from 20 to 10 ms",
            "fresh below 2000 ms",
            "t42",
        ),
        *("regular  share", "window 42", "fresh r=1", "Fresh", "lost", "share"),
    ],
)
def test_a_name_that_is_none_is_refused_with_those_that_are(
    analysis: Analysis, figure: str
) -> None:
    with pytest.raises(UnknownFigure, match="no figure"):
        check_figure(figure)
    (found,) = judge([Expect(figure=figure, at_least=1)], analysis)
    assert found.verdict == "unknown"
    assert "no figure" in found.told


@pytest.mark.parametrize(
    "figure", [one for one in VALUES if one not in ("dropped", "lag 99", "foreign reads")]
)
def test_of_an_empty_history_no_expectation_is_met(figure: str) -> None:
    (found,) = judge([Expect(figure=figure, at_least=0)], analyse(manifest(), []))
    assert found.verdict == "unknown"


def test_predictions_that_are_not_decided_decide_nothing(analysis: Analysis) -> None:
    expect = Expect(figure="agrees with prediction", at_least=1.0)
    cases: dict[tuple[Verdict, ...], Verdict] = {
        ("pass", "pass"): "pass",
        ("pass", "unknown"): "unknown",
        ("fail", "unknown"): "fail",
        (): "unknown",
    }
    for agreed, verdict in cases.items():
        (found,) = judge([expect], analysis, agreed)
        assert found.verdict == verdict


def test_an_expectation_is_told_with_its_bounds_and_its_n(analysis: Analysis) -> None:
    expect = Expect(figure="fresh", at_least=0.25, at_most=0.75, told="about half")
    (found,) = judge([expect], analysis)
    assert found.expectation == "fresh at least 0.25 and at most 0.75 (about half)"
    assert found.told == "2 of 4 reads (15 to 85 % at 95 %)"


def test_expectations_of_a_manifest_are_judged_with_the_analysis() -> None:
    setup = manifest(scenario={"expect": [{"figure": "available", "at_least": 0.5}]})
    made = Made()
    made.write(1, 0, 1)
    assert [one.verdict for one in analyse(setup, made.lines).judged] == ["pass"]
    with pytest.raises(BadHistory, match="expectations"):
        expectations(manifest(scenario={"expect": [{"figre": "fresh"}]}))


def test_what_was_not_decided_makes_no_expectation_pass() -> None:
    """The budget ends on the way: no read of this key is known to be fresh, and none to be stale."""
    made = Made()
    for version in range(1, 40):
        made.write(version, version * 10, version * 10 + 1, session=version % 2)
        made.read(tuple(range(max(1, version - 5), version)), version * 10 + 5, version * 10 + 6)
    analysis = analyse(manifest(), made.lines, budget=Budget(steps=3))
    assert any(one.undecided for one in analysis.checks)
    for figure in ("stale", "fresh", "t50", "k max", "k=1", "monotonic reads"):
        (judged,) = judge((Expect(figure=figure, at_most=1e6),), analysis)
        assert judged.verdict == "unknown", judged


def test_violations_that_were_found_fail_whatever_was_not_decided() -> None:
    analysis = run()
    checks = tuple(
        msgspec.structs.replace(one, undecided=7) if one.name == "regular" else one
        for one in analysis.checks
    )
    analysis = msgspec.structs.replace(analysis, checks=checks)
    for at_most, verdict in ((1, "fail"), (2, "unknown"), (8, "unknown"), (9, "pass")):
        (judged,) = judge((Expect(figure="regular", at_most=at_most),), analysis)
        assert judged.verdict == verdict, at_most
    (judged,) = judge((Expect(figure="regular", at_least=2),), analysis)
    assert judged.verdict == "pass"
