"""The table of agreement: reports in, lines out."""

from __future__ import annotations

import msgspec
from memory_backend import MemoryBackend

from dynamo.agreement import AntiEntropyStatus
from dynamo.cli.antientropy_view import Seen, document, is_told, render
from dynamo.status import ExchangePair

URL = "http://127.0.0.1:8098"


def status(*ages: float | None, reason: str = "") -> AntiEntropyStatus:
    backend = MemoryBackend()
    backend.pairs = tuple(
        ExchangePair(cls=0, partition=number, peer="n2", clean_s=age, reason=reason)
        for number, age in enumerate(ages)
    )
    return backend.antientropy(None, 20)


def test_the_oldest_of_all_nodes_counts() -> None:
    reports = [Seen(URL, status(5.0, 3.0), ""), Seen(URL, status(75.0), "")]
    assert render(reports)[0] == "everything was in agreement 1m 15s ago, at 2 of 2 nodes asked"
    assert document(reports)["oldest_clean_s"] == 75.0


def test_a_pair_that_never_agreed_is_not_passed_over() -> None:
    reports = [Seen(URL, status(5.0, None), ""), Seen(URL, status(75.0), "")]
    assert render(reports)[0] == (
        "1 of 3 pairs have not been found in agreement yet, at 2 of 2 nodes asked"
    )
    assert document(reports)["oldest_clean_s"] is None
    assert document(reports)["never_clean"] == 1


def test_why_a_pair_does_not_agree_is_shown_unasked() -> None:
    lines = render([Seen(URL, status(5.0, None, reason="damaged there"), "")])
    assert any(line.endswith("never  damaged there") for line in lines)


def test_nobody_to_compare_with_and_nobody_there_are_told_apart() -> None:
    assert render([Seen(URL, status(), "")])[0] == (
        "no partition is shared with another node, at 1 of 1 nodes asked"
    )
    gone = [Seen(URL, None, "refused")]
    assert render(gone) == ["none of 1 nodes answers", "", f"no answer from {URL}: refused"]
    assert not is_told(gone)


def test_nodes_that_say_the_same_of_a_peer_share_a_line() -> None:
    told = status(5.0)
    (peer,) = told.peers
    down = msgspec.structs.replace(peer, state="down", reason="not connected")
    reports = [
        Seen(URL, msgspec.structs.replace(told, node=node, peers=(down,)), "")
        for node in ("n1", "n3")
    ]
    assert "n1 and n3 with n2: not connected" in render(reports)


def test_lines_keep_to_the_width() -> None:
    lines = render([Seen(URL, status(5.0, None, reason="r" * 90), "")], pairs=True, width=60)
    assert max(map(len, lines)) <= 60
