"""The table of hints: reports in, lines out."""

from __future__ import annotations

import json

import msgspec

from dynamo.cli.hints_view import Held, Synced, document, is_told, render, render_synced
from dynamo.status import HintsStatus, HintTarget, TargetState

URL = "http://127.0.0.1:8098"


def target(name: str, hints: int, state: TargetState, reason: str = "") -> HintTarget:
    return HintTarget(
        target=name,
        hints=hints,
        bytes=2048 * hints,
        oldest_s=75.0,
        state=state,
        reason=reason,
        refused={},
        delivered=10,
        bytes_delivered=1000,
        hints_per_s=12_345.6,
        bytes_per_s=4096.0,
    )


def status(*targets: HintTarget, counted: bool = True) -> HintsStatus:
    return HintsStatus(
        node="n1",
        counted=counted,
        hints=sum(one.hints for one in targets),
        bytes=sum(one.bytes for one in targets),
        bytes_max=1 << 30,
        window_s=10_800,
        rate_max=16 << 20,
        targets=targets,
    )


def test_a_row_for_each_target_that_has_any() -> None:
    some = status(
        target("n2", 3, "delivering"),
        target("n3", 2, "down", "not connected"),
        target("n4", 0, "done"),
    )
    lines = render([Held(URL, some, "")])
    assert lines[0].startswith("5 hints, 10.0 KiB, at 1 of 1 nodes asked; a node takes 1.0 GiB")
    assert [line.split()[:3] for line in lines[3:5]] == [["n1", "n2", "3"], ["n1", "n3", "2"]]
    assert "1m 15s" in lines[3]
    assert "12346" in lines[3]
    assert lines[5:] == ["", "n1 for n3: not connected"]


def test_holders_that_say_the_same_share_a_line() -> None:
    down = status(target("n5", 3, "down", "not connected"))
    others = [msgspec.structs.replace(down, node=name) for name in ("n2", "n3")]
    lines = render([Held(URL, one, "") for one in (down, *others)])
    assert lines[6:] == ["", "n1, n2 and n3 for n5: not connected"]


def test_no_hints_are_a_line_and_no_table() -> None:
    lines = render([Held(URL, status(target("n2", 0, "done")), "")])
    assert len(lines) == 1
    assert lines[0].startswith("no hints, at 1 of 1 nodes asked")


def test_a_node_without_an_answer_and_one_that_still_counts_are_named() -> None:
    reports = [Held(URL, None, "refused"), Held(URL, status(counted=False), "")]
    lines = render(reports)
    assert f"no answer from {URL}: refused" in lines
    assert "n1: the hints of an earlier start are still being counted" in lines
    assert not is_told(reports)
    assert render([Held(URL, None, "refused")])[0] == "none of 1 nodes answers"


def test_lines_keep_to_the_width() -> None:
    some = status(target("n2", 3, "down", "connected, and held to be down " * 5))
    assert max(map(len, render([Held(URL, some, "")], width=60))) <= 60


def test_the_json_has_the_totals_and_all_that_was_said() -> None:
    shown = json.loads(
        json.dumps(msgspec.to_builtins(document([Held(URL, status(target("n2", 3, "down")), "")])))
    )
    assert (shown["hints"], shown["bytes"]) == (3, 6144)
    assert shown["asked"][0]["status"]["targets"][0]["target"] == "n2"


def test_what_a_sync_point_did_and_did_not_do_is_a_line_each() -> None:
    left = {"n2": {"hints": 4, "state": "down", "reason": "not connected"}}
    lines = render_synced(
        [
            Synced(URL, {"n3": 9}, {}, ""),
            Synced(URL, {}, {}, ""),
            Synced(URL, {}, left, "hints for n2 are not delivered yet"),
        ]
    )
    assert lines == [
        f"{URL}: nothing is left; delivered 9 to n3",
        f"{URL}: nothing is left; delivered nothing",
        f"{URL}: hints for n2 are not delivered yet; 4 left for n2, down (not connected)",
    ]
