"""Bugs that are planted are found: each by a plan that was recorded, which is clean without the bug."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamo.set_back import SetBack
from dynamo.sim.plan import read_plan
from dynamo.sim.planted import PLANTED, planted
from dynamo.sim.run import run_plan
from dynamo.sim.script import run_script
from dynamo.write_tally import WriteTally

#: The plan of a seed that has found each: `python -m dynamo.sim planted --record DIR` writes them.
PLANS = Path(__file__).parents[2] / "seeds" / "planted"
SCENARIOS = Path(__file__).parents[2] / "scenarios"


#: Bugs, and the scenario that comes out otherwise with each.
IN_SCENARIOS = [
    ("ack_of_an_older_record_removes_a_hint", "old_ack"),
    ("hints_are_forgotten_by_a_start", "restarted_fallback"),
    ("birth_of_a_hint_outlives_it", "fallback_mints_again"),
    ("refused_hint_counts", "hint_quota"),
    ("debts_are_not_noted", "no_spare_node"),
    ("corrupt_hint_is_delivered", "rotten_hint"),
    ("reaped_in_spite_of_hints", "reaping_waits"),
    ("reaped_though_not_all_hold_it", "reaping_waits"),
    ("trees_miss_half_of_the_writes", "missed_writes_unasked"),
    ("exchange_brings_nothing_to_who_has_none", "lost_partition"),
    ("old_disk_is_not_purged", "set_back"),
    ("exchange_leaves_siblings_apart", "reaping_waits"),
    ("peer_that_is_away_is_not_waited_for", "wiped_disk_refills"),
]


def test_each_bug_is_found_by_a_plan_or_in_a_scenario() -> None:
    with_plans = {path.stem for path in PLANS.glob("*.json")}
    assert with_plans | {bug for bug, _ in IN_SCENARIOS} == set(PLANTED)


@pytest.mark.parametrize("name", sorted(path.stem for path in PLANS.glob("*.json")))
def test_a_planted_bug_is_found_by_the_plan_that_found_it(name: str) -> None:
    plan = read_plan((PLANS / f"{name}.json").read_bytes())
    with planted(name):
        assert run_plan(plan).findings


def _different_plans() -> list[str]:
    """A bug that has each: many are found by the same plan, and a plan has one run without any."""
    by_content = {
        path.read_bytes(): path.stem for path in sorted(PLANS.glob("*.json"), reverse=True)
    }
    return sorted(by_content.values())


@pytest.mark.parametrize("name", _different_plans())
def test_without_the_bug_its_plan_finds_nothing(name: str) -> None:
    assert run_plan(read_plan((PLANS / f"{name}.json").read_bytes())).findings == ()


def _comes_out_as_written(name: str) -> bool:
    text = (SCENARIOS / f"{name}.txt").read_text()
    return run_script(text, name=name) == text


def test_a_window_that_begins_anew_with_each_return_shows_in_its_scenario(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dynamo.handoff.STEADY_AFTER", 0.0)
    assert not _comes_out_as_written("flapping_node")


def test_a_mint_that_goes_on_from_what_an_old_disk_had_shows_in_its_scenario(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SetBack, "look", lambda self, storage_key: self._own.look(storage_key))
    assert not _comes_out_as_written("set_back")


@pytest.mark.parametrize(("bug", "scenario"), IN_SCENARIOS)
def test_a_bug_shows_in_the_scenario_about_it(bug: str, scenario: str) -> None:
    with planted(bug):
        assert not _comes_out_as_written(scenario)


def test_a_bug_is_there_only_while_it_is_planted() -> None:
    before = WriteTally.__init__
    with planted("w_minus_one_acks"):
        assert WriteTally.__init__ is not before
    assert WriteTally.__init__ is before


def test_who_plants_what_nobody_knows_is_told() -> None:
    with pytest.raises(KeyError), planted("no_such_bug"):
        pass


def test_every_bug_says_what_is_wrong() -> None:
    assert len(PLANTED) >= 30
    assert all(bug.what for bug in PLANTED.values())
