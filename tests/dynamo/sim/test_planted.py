"""Bugs that are planted are found: each by a seed that was recorded, and no seed is red without one."""

from __future__ import annotations

import pytest

from dynamo.quorum import WriteTally
from dynamo.sim.plan import draw_plan
from dynamo.sim.planted import PLANTED, planted
from dynamo.sim.run import run_plan


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found_by_its_seed(name: str) -> None:
    """After a change of how plans are drawn, `make sim-planted` says which seeds do."""
    seed = PLANTED[name].seed
    assert seed is not None
    with planted(name):
        assert run_plan(draw_plan(seed)).findings


@pytest.mark.parametrize("seed", sorted({bug.seed for bug in PLANTED.values() if bug.seed}))
def test_the_same_seed_is_clean_without_the_bug(seed: int) -> None:
    assert run_plan(draw_plan(seed)).findings == ()


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
    assert all(bug.what and bug.seed is not None for bug in PLANTED.values())
