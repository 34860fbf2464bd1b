"""Rules of injected faults: what they say of whom, what is drawn, and what is no rule."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo.errors import InvalidArgument
from dynamo.rpc.fault_rules import LEGS, RULES_MAX, FaultRules, Leg, parse_rules, show_rules

PEERS = ("n2", "n3")
ONE_MS = [[1, "constant", 1]]
TWO_MS = [[1.0, "constant", 2.0]]


def rules(*given: dict[str, Any]) -> FaultRules:
    return parse_rules(list(given), PEERS)


def drawn(of: FaultRules, peer: str, leg: Leg) -> float:
    return of.draw(peer, leg, random.Random(1))


def test_without_a_rule_nothing_is_late_and_nobody_cut() -> None:
    none = rules()
    assert [drawn(none, "n2", leg) for leg in LEGS] == [0.0] * 5
    assert not none.is_cut("n2")
    assert not none.delays


def test_a_leg_of_its_own_goes_before_any_and_the_first_that_fits_counts() -> None:
    of = rules(
        {"leg": "*", "delay": ONE_MS},
        {"peers": ["n2"], "leg": "W", "delay": TWO_MS},
        {"leg": "W", "delay": [[1, "constant", 3]]},
    )
    assert (drawn(of, "n2", "W"), drawn(of, "n3", "W")) == (2.0, 3.0)
    assert (drawn(of, "n2", "A"), drawn(of, "n3", "*")) == (1.0, 1.0)


def test_a_cut_is_of_those_it_names_or_of_all() -> None:
    one, all_of_them = rules({"peers": ["n3"], "drop": True}), rules({"drop": True})
    assert [one.is_cut(peer) for peer in PEERS] == [False, True]
    assert [all_of_them.is_cut(peer) for peer in PEERS] == [True, True]


@pytest.mark.parametrize(
    ("mix", "mean"),
    [
        ([[1, "exponential", 0.1]], 10.0),
        ([[1, "pareto", 3.0, 3.5]], 3.0 * 3.5 / 2.5),
        ([[0.25, "constant", 4], [0.75, "constant", 8]], 7.0),
        ([[0.9122, "pareto", 0.235, 10.0], [0.0878, "exponential", 1.66]], 0.2911),
    ],
)
def test_what_is_drawn_has_the_mean_of_its_distribution(mix: list[Any], mean: float) -> None:
    of, chance = rules({"leg": "S", "delay": mix}), random.Random(7)
    many = [of.draw("n2", "S", chance) for _ in range(40_000)]
    assert statistics.fmean(many) == pytest.approx(mean, rel=0.05)


def test_a_tail_that_no_number_holds_is_still_a_number() -> None:
    of, chance = rules({"delay": [[1, "pareto", 1.0, 1e-300]]}), random.Random(1)
    assert all(of.draw("n2", "W", chance) > 1e9 for _ in range(10))
    slow = rules({"delay": [[1, "exponential", 5e-324]]})
    assert slow.draw("n2", "W", chance) > 1e9


def test_what_is_shown_can_be_given_again() -> None:
    of = rules({"peers": ["n2"], "leg": "R", "delay": TWO_MS}, {"drop": True})
    assert show_rules(of) == [
        {"peers": ["n2"], "leg": "R", "delay": TWO_MS},
        {"peers": [], "drop": True},
    ]
    assert parse_rules(show_rules(of), PEERS).rules == of.rules


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({}, "rules[0]"),
        ([], "rules[0]"),
        ({"delay": ONE_MS, "drop": True}, "rules[0]"),
        ({"leg": "W", "drop": True}, "rules[0]"),
        ({"drop": False}, "rules[0]"),
        ({"drop": 1}, "rules[0].drop"),
        ({"drop": True, "more": 1}, "rules[0]"),
        ({"peers": "n2", "drop": True}, "rules[0].peers"),
        ({"peers": ["n1"], "drop": True}, "rules[0].peers"),
        ({"peers": [1], "drop": True}, "rules[0].peers"),
        ({"peers": [["n2"]], "drop": True}, "rules[0].peers"),
        ({"leg": "w", "delay": ONE_MS}, "rules[0].leg"),
        ({"leg": ["W"], "delay": ONE_MS}, "rules[0].leg"),
        ({"delay": []}, "rules[0].delay"),
        ({"delay": ONE_MS * 20}, "rules[0].delay"),
        ({"delay": "soon"}, "rules[0].delay"),
        ({"delay": [[0.5, "constant", 1]]}, "rules[0].delay"),
        ({"delay": [[1]]}, "rules[0].delay[0]"),
        ({"delay": [[1, "normal", 1]]}, "rules[0].delay[0]"),
        ({"delay": [[1, "constant"]]}, "rules[0].delay[0]"),
        ({"delay": [[1, "pareto", 1]]}, "rules[0].delay[0]"),
        ({"delay": [[1, "constant", -1]]}, "rules[0].delay[0]"),
        ({"delay": [[1, "constant", "1"]]}, "rules[0].delay[0]"),
        ({"delay": [[1, "constant", True]]}, "rules[0].delay[0]"),
        ({"delay": [[1, "constant", math.nan]]}, "rules[0].delay[0]"),
        ({"delay": [[1, "constant", math.inf]]}, "rules[0].delay[0]"),
        ({"delay": [[1, "constant", 10**400]]}, "rules[0].delay[0]"),
        ({"delay": [[1, "exponential", 0]]}, "rules[0].delay[0]"),
        ({"delay": [[1, "pareto", 0, 1]]}, "rules[0].delay[0]"),
        ({"delay": [[0, "constant", 1], [1, "constant", 1]]}, "rules[0].delay[0]"),
        ({"delay": [[math.nan, "constant", 1]]}, "rules[0].delay[0]"),
        ({"delay": [[None, "constant", 1]]}, "rules[0].delay[0]"),
    ],
)
def test_what_is_no_rule_is_named(bad: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_rules([bad], PEERS)
    assert raised.value.details["field"] == field


def test_there_are_not_too_many_rules() -> None:
    with pytest.raises(InvalidArgument, match="257"):
        parse_rules([{"drop": True}] * (RULES_MAX + 1), PEERS)
    with pytest.raises(InvalidArgument):
        parse_rules({"drop": True}, PEERS)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(("peers", "leg", "delay", "drop")), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_JSON)
def test_any_json_is_rules_or_refused(given: object) -> None:
    try:
        of = parse_rules(given, PEERS)
    except InvalidArgument:
        return
    assert parse_rules(show_rules(of), PEERS).rules == of.rules
