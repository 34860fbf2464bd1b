"""What a connection knows of its peer: how long first replies take, and when it was last heard."""

from __future__ import annotations

import asyncio
import math

import pytest
from rpc_nodes import ManualClock, PeerNode, running, until

from dynamo.metrics import Metrics
from dynamo.ports import Failure
from dynamo.rpc.messages import Pong, Reply
from dynamo.rpc.pending import SAMPLE_SECONDS, Pending


class Nobody:
    """Waits for nothing."""

    def on_reply(self, node: str, reply: Reply) -> None: ...

    def on_failure(self, node: str, failure: Failure) -> None: ...


class Peer:
    """A peer that takes as long as it is told to."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pending = Pending(node="b", clock=self.clock, metrics=Metrics())

    def answer(self, *taken: float) -> float:
        """One request after the other, so long each; the latency afterwards."""
        for seconds in taken:
            now = self.clock.monotonic()
            stream = self.pending.open(Nobody(), now, now + 1000)
            self.clock.advance(seconds)
            self.pending.reply(stream, Pong(0), True, self.clock.monotonic())
            self.clock.advance(SAMPLE_SECONDS)
        return self.pending.latency


def test_the_latency_is_that_of_the_replies() -> None:
    peer = Peer()
    assert peer.pending.latency == 0.0
    assert peer.answer(0.01) == pytest.approx(0.01)
    assert peer.answer(*[0.2] * 50) == pytest.approx(0.2, rel=0.01)
    assert peer.answer(*[0.001] * 50) == pytest.approx(0.001, rel=0.01)


def test_one_long_pause_is_no_slowness_and_a_few_slow_replies_are() -> None:
    peer = Peer()
    usual = peer.answer(*[0.0005] * 10)
    assert peer.answer(3.0) < usual + 0.005
    peer.answer(*[0.0005] * 10)
    assert peer.answer(*[0.1] * 8) > 0.025


def test_a_first_reply_that_took_for_ever_is_soon_forgotten() -> None:
    peer = Peer()
    assert peer.answer(500.0) < 0.03
    assert peer.answer(*[0.001] * 6) < 0.006


def test_of_many_replies_at_a_time_one_is_a_sample() -> None:
    peer = Peer()
    now = peer.clock.monotonic()
    streams = [peer.pending.open(Nobody(), now - age, now + 10) for age in (0.01, 0.5, 0.9)]
    for stream in streams:
        peer.pending.reply(stream, Pong(0), True, now)
    assert peer.pending.latency == pytest.approx(0.01)


def test_what_a_node_says_to_itself_is_no_sample() -> None:
    peer = Peer()
    stream = peer.pending.open(Nobody(), 0.0, 1e9)
    peer.pending.reply(stream, Pong(0), True)
    assert peer.pending.latency == 0.0


async def test_a_transport_knows_when_it_heard_of_a_peer_and_how_long_that_takes() -> None:
    a, b = PeerNode("a"), PeerNode("b")
    async with running(a, b):
        assert (a.transport.heard_at("b"), a.transport.latency_of("b")) == (-math.inf, 0.0)
        a.transport.dial([b.address])
        await until(lambda: a.transport.is_connected("b"))
        opened = a.transport.heard_at("b")
        await asyncio.sleep(0.01)
        await a.ping("b")
        assert a.transport.heard_at("b") > opened
        assert 0.0 < a.transport.latency_of("b") < 1.0
        a.transport.disconnect("b")
        assert (a.transport.heard_at("b"), a.transport.latency_of("b")) == (-math.inf, 0.0)
