"""What a terminal shows of repairs: what nodes said in, lines out."""

from __future__ import annotations

import msgspec
from memory_backend import repair_progress

from dynamo.agreement import RepairStatus
from dynamo.cli.repair_view import Told, document, is_over, render_progress, render_result

URL = "http://127.0.0.1:8098"


def told(state: str = "running", **changes: object) -> Told:
    progress = msgspec.structs.replace(repair_progress(1, state), **changes)  # type: ignore[arg-type]
    return Told(URL, RepairStatus(node="n1", progress=progress))


def test_a_bar_says_how_far_it_is_and_how_long_it_will_take() -> None:
    assert render_progress([told()], width=None) == [
        "n1  [#####...............]  25 %  4 of 16 pairs, 100 keys looked at, 5 differ, 3 pulled, "
        "2 pushed, about 6s left"
    ]
    assert "pass 2, 4 of 16" in render_progress([told(passes=2)], width=None)[0]
    assert render_progress([told(pairs_total=0, pairs_done=0)], width=None)[0].startswith(
        "n1  [####################] 100 %"
    )


def test_what_is_waited_for_is_a_line_of_its_own() -> None:
    one = told(waiting_for={"its tree is being built": 3}, unreached={"n3": "down"})
    assert render_progress([one], width=None)[1:] == [
        "  n1: 3 pairs not compared yet: its tree is being built",
        "  n1 does not reach n3 (down)",
    ]


def test_bars_keep_to_the_width() -> None:
    one = told(waiting_for={"x" * 100: 3})
    assert max(map(len, render_progress([one, Told(URL, None, "e" * 90)], width=60))) <= 60


def test_each_ending_has_its_words() -> None:
    for state, words in {
        "done": "16 pairs compared, all agree",
        "incomplete": "not everything could be compared, 4 of 16 pairs",
        "stopped": "stopped at 4 of 16 pairs",
        "failed": "failed at 4 of 16 pairs (a bug)",
    }.items():
        reason = "a bug" if state == "failed" else ""
        assert render_result([told(state, reason=reason)])[0].startswith(f"n1: {words}")
    assert render_result([Told(URL, None, "no answer")]) == [f"{URL}: no answer"]


def test_the_worst_state_is_that_of_all() -> None:
    assert document([told("done"), told("incomplete")])["state"] == "incomplete"
    assert document([told("done"), Told(URL, None, "gone")])["state"] == "error"
    assert document([Told(URL, RepairStatus(node="n1"))])["state"] == "none"
    assert not is_over([told("done"), told()])
    assert is_over([told("done"), Told(URL, None, "gone")])
