"""Chosen messages get lost, as many as were asked for, and no others."""

from __future__ import annotations

from typing import Any

from dynamo.ports import Call
from dynamo.rpc.messages import Body, Fetch, Mint, Reply, Request
from dynamo.sim.sieve import Sieve

FETCH = Fetch(b"k", 0, 0, 1, 1000, True)


class Asked:
    """A call that keeps its replies."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.deadline = 1.0
        self.replies: list[Reply] = []

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        self.replies.append(reply)


def fetch(sieve: Sieve, peer: str) -> list[Any]:
    """What node b answers to a fetch of the peer."""

    def answer(message: Request, call: Call) -> None:
        call.reply(Body(b"x"))

    call = Asked(peer)
    sieve.wrap("b", {Fetch: answer, Mint: answer})[Fetch](FETCH, call)
    return call.replies


def test_only_what_was_chosen_is_lost_and_only_on_its_way() -> None:
    sieve = Sieve()
    sieve.lose("fetch", "a", "b")
    assert [fetch(sieve, peer) for peer in "aacb"] == [[], [], [Body(b"x")], [Body(b"x")]]


def test_replies_get_lost_on_the_way_back() -> None:
    sieve = Sieve()
    sieve.lose("body", "a", "b")
    assert fetch(sieve, "a") == [Body(b"x")]
    sieve.lose("body", "b", "a")
    assert fetch(sieve, "a") == []


def test_a_count_is_used_up_and_calm_ends_the_rest() -> None:
    sieve = Sieve()
    sieve.lose("body", "b", "a", count=2)
    assert [len(fetch(sieve, "a")) for _ in range(3)] == [0, 0, 1]
    sieve.lose("fetch", "a", "b")
    assert repr(sieve) == "Sieve(fetch a>b)"
    sieve.calm()
    assert len(fetch(sieve, "a")) == 1
