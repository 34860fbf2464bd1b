"""The whole analysis: what holds of any history, and what it counts beside staleness."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_history import MS, REGISTER, Made, manifest

from bench import analysis
from bench.findings import Analysis
from bench.history import BadHistory, Line, Manifest, Op
from bench.staleness.budget import Budget

QUICK = Budget(resamples=10)
SMALL = st.integers(0, 30)


def analyse(setup: Manifest, lines: list[Line]) -> Analysis:
    return analysis.analyse(setup, lines, budget=QUICK)


@st.composite
def histories(draw: st.DrawFn) -> list[Line]:
    """A few sessions on two keys; reads return any versions, in part of nobody's, some groups, some
    directed; outcomes of all kinds."""
    made, outcomes = Made(), st.sampled_from(["ok", "ok", "ok", "unknown", "fail"])
    versions: dict[str, list[int]] = {"a": [], "b": []}
    for number in range(draw(st.integers(1, 12))):
        key, start = draw(st.sampled_from("ab")), draw(SMALL)
        common: dict[str, Any] = {
            "key": key,
            "session": draw(st.integers(1, 3)),
            "outcome": draw(outcomes),
            "phase": draw(st.sampled_from(["measure", "measure", "measure", "load", "after"])),
            "group": draw(st.integers(0, 2)),
            "due": start - draw(st.integers(0, 2)),
        }
        end = start + draw(st.integers(0, 9))
        some = st.lists(st.sampled_from([*versions[key], 0, -1]), max_size=2, unique=True)
        seen = tuple(one for one in draw(some) if one)
        if draw(st.booleans()):
            made.write(number + 1, start, end, bases=seen, committed=end, **common)
            versions[key].append(number + 1)
        else:
            target = draw(st.sampled_from(["", "", "n1", "n2"]))
            made.read(seen, start, end, target=target, began=start, **common)
    made.event("heal", draw(SMALL))
    return made.lines


def violations(found: Analysis) -> dict[str, int]:
    return {one.name: one.violations.count for one in found.checks}


@settings(max_examples=100, deadline=None)
@given(histories(), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_lines_tells_nothing(
    lines: list[Line], register: bool, chance: random.Random
) -> None:
    setup = manifest(properties=REGISTER if register else None)
    found = analyse(setup, lines)
    mixed = list(lines)
    chance.shuffle(mixed)
    assert analyse(setup, mixed) == found
    assert msgspec.json.decode(msgspec.json.encode(found), type=Analysis) == found


@settings(max_examples=100, deadline=None)
@given(histories(), st.booleans(), st.sampled_from("ab"), SMALL)
def test_a_write_of_unknown_outcome_breaks_nothing(
    lines: list[Line], register: bool, key: str, start: int
) -> None:
    setup = manifest(properties=REGISTER if register else None)
    before = analyse(setup, lines)
    unknown = Op(
        n=10_000,
        session=7,
        kind="write",
        key=key,
        intended=start * MS,
        start=start * MS,
        end=(start + 5) * MS,
        outcome="unknown",
        write=10_000,
    )
    after = analyse(setup, [*lines, unknown])
    for name, count in violations(after).items():
        assert count <= violations(before)[name]
    assert [one.fresh.count for one in after.curves] == [one.fresh.count for one in before.curves]


@settings(max_examples=100, deadline=None)
@given(histories(), st.booleans())
def test_a_read_that_got_no_answer_is_in_no_figure_of_freshness(
    lines: list[Line], register: bool
) -> None:
    setup = manifest(properties=REGISTER if register else None)
    failed = Op(
        n=10_000,
        session=1,
        kind="read",
        key="a",
        intended=0,
        start=20 * MS,
        end=25 * MS,
        outcome="fail",
        why="timeout",
    )
    before, after = analyse(setup, lines), analyse(setup, [*lines, failed])
    assert after.checks == before.checks
    assert (after.staleness, after.zones, after.windows) == (
        before.staleness,
        before.zones,
        before.windows,
    )
    assert [one.fresh for one in after.curves] == [one.fresh for one in before.curves]
    reads = [one for one in after.availability if one.kind == "read"]
    assert reads[0].reasons["timeout"] >= 1


@settings(max_examples=100, deadline=None)
@given(histories())
def test_figures_of_one_history_agree_with_each_other(lines: list[Line]) -> None:
    found = analyse(manifest(), lines)
    by_commit = [one for one in found.curves if one.origin == "client commit"]
    reads = sum(one.reads for one in by_commit)
    assert (found.staleness.reads if found.staleness else 0) == reads
    fresh = found.staleness.counts[0] if found.staleness and found.staleness.counts else 0
    assert fresh == sum(one.fresh.count for one in by_commit)
    for curve in found.curves:
        assert sum(one.fresh.of for one in curve.plot) == curve.reads
        assert list(curve.plot) == sorted(curve.plot, key=lambda one: one.fitted)
    checks = {one.name: one.violations for one in found.checks}
    assert checks["safe"].count <= checks["regular"].count
    assert sum(one.stale for one in found.seconds) == reads - fresh


def test_k_counts_versions_behind() -> None:
    made = Made()
    for number in range(1, 6):
        made.write(number, number * 10, number * 10 + 1, bases=(number - 1,) if number > 1 else ())
    for seen in (5, 5, 4, 1, 0):
        made.read(seen, 100, 101)
    for properties in (None, REGISTER):
        found = analyse(manifest(properties=properties), made.lines).staleness
        assert found is not None
        assert (found.reads, found.counts, found.beyond) == (5, (2, 1, 0, 0, 1, 1), 0)


def test_more_than_twenty_versions_behind_is_beyond() -> None:
    made = Made()
    for number in range(1, 41):
        made.write(number, number, number + 0.5)
    made.read(0, 100, 101)
    made.read(21, 100, 101)
    for properties, beyond in ((None, 2), (REGISTER, 1)):
        found = analyse(manifest(properties=properties), made.lines).staleness
        assert found is not None
        assert found.beyond == beyond


def test_what_is_behind_at_random_follows_the_closed_form() -> None:
    """Reads of one replica of three, each version at one of them: within k versions is 1 - (2/3)^k."""
    chance = random.Random(5)
    made = Made()
    holders: list[int] = []
    for number in range(1, 6_001):
        made.write(number, number * 10, number * 10 + 1, session=1)
        holders.append(chance.randrange(3))
        replica = chance.randrange(3)
        seen = next((v + 1 for v in range(number - 1, -1, -1) if holders[v] == replica), 0)
        made.read(seen, number * 10 + 5, number * 10 + 6, session=2)
    found = analyse(manifest(properties=REGISTER), made.lines).staleness
    assert found is not None
    for k, expected in ((1, 0.333333), (2, 0.555556), (3, 0.703704), (5, 0.868313)):
        assert sum(found.counts[:k]) / found.reads == pytest.approx(expected, abs=0.02)


def test_availability_counts_what_was_measured_with_reasons() -> None:
    made = Made()
    made.write(1, 0, 1)
    made.write(2, 2, 3, outcome="unknown", why="timeout")
    made.write(3, 2, 3, outcome="fail", why="refused", phase="warmup")
    made.read(1, 4, 5)
    made.read(0, 4, 5, outcome="fail")
    made.read(1, 4, 5, target="a")
    found = {one.kind: one for one in analyse(manifest(), made.lines).availability}
    assert (found["write"].ok.count, found["write"].ok.of, found["write"].unknown) == (1, 2, 1)
    assert found["write"].reasons == {"timeout": 1}
    assert (found["read"].fail, found["read"].reasons) == (1, {"not said": 1})
    assert found["directed read"].ok.of == 1


def test_lag_service_and_response_are_told_apart() -> None:
    made = Made()
    made.write(1, 0, 1)
    for number in range(100):
        made.read(1, 10 + number, 12 + number + number, due=5 + number)
    made.read(1, 10, 5_000, outcome="fail")
    found = {(one.kind, one.measure): one for one in analyse(manifest(), made.lines).latencies}
    lag, service, response = (found["read", one] for one in ("lag", "service", "response"))
    assert (lag.count, lag.ms["50"], lag.ms["max"]) == (101, 5.0, 5.0)  # of the failed one too
    assert (service.ms["50"], service.ms["99"], service.ms["max"]) == (51.0, 100.0, 101.0)
    assert (response.ms["50"], response.ms["max"]) == (56.0, 106.0)
    assert (response.spectrum[0], response.spectrum[-1]) == ((0.0, 7.0), (100.0, 106.0))


def test_the_time_line_has_every_second() -> None:
    made = Made()
    made.write(1, 0, 1)
    made.read(0, 100, 110)
    made.read(1, 2_500, 2_530, due=2_400)
    made.read(1, -500, -400, phase="warmup")
    found = analyse(manifest(), made.lines).seconds
    assert [(one.second, one.ok, one.reads, one.stale) for one in found] == [
        (-1, 1, 0, 0),
        (0, 2, 1, 1),
        (1, 0, 0, 0),
        (2, 1, 1, 0),
    ]
    assert found[3].p99_ms == 130.0


def test_the_harness_says_whether_it_was_fit() -> None:
    made = Made()
    made.write(1, 0, 1)
    setup = manifest(void="the loop lagged", dropped=3, cpu_seconds=0.5, lag_ms_p99=70.0)
    found = analyse(setup, made.lines).health
    assert (found.void, found.dropped, found.cpu_share, found.done_rate) == (
        "the loop lagged",
        3,
        0.5,
        1.0,
    )


def test_values_of_others_are_counted() -> None:
    made = Made()
    made.write(1, 0, 1)
    made.read((1, -1), 5, 6)
    made.read((77,), 5, 6)
    made.read((1,), 5, 6)
    assert analyse(manifest(), made.lines).foreign_reads == 2


@pytest.mark.parametrize(
    "second", [{"version": 1, "start": 2, "end": 3}, {"version": 2, "start": 3, "end": 2}]
)
def test_a_history_that_contradicts_itself_is_refused(second: dict[str, Any]) -> None:
    made = Made()
    made.write(1, 0, 1)
    made.write(**second)
    with pytest.raises(BadHistory, match="operation"):
        analyse(manifest(), made.lines)


def test_an_empty_history_has_an_analysis() -> None:
    found = analyse(manifest(), [])
    assert found.curves == ()
    assert {one.verdict for one in found.checks} == {"unknown"}


def test_what_a_key_holds_goes_by_the_properties_in_effect() -> None:
    """Two writes that know nothing of each other: the one that a register shows is the newer."""
    made = Made()
    made.write(1, 0, 1)
    made.write(2, 2, 3, session=2)
    made.read(2, 5, 6)
    wanted: dict[str, Any] = {"scenario": {"cluster": {"properties": {"r": 1}}}}
    stale = violations(analyse(manifest(**wanted), made.lines))["regular"]
    assert stale == 1, "as siblings, it misses one"
    shown: dict[str, Any] = {"allow_mult": False, "last_write_wins": True, "r": "all", "w": "one"}
    found = analyse(manifest(**wanted, configuration={"properties": shown}), made.lines)
    assert violations(found)["regular"] == 0
    assert {(one.r, one.w) for one in found.curves} == {(3, 1)}
