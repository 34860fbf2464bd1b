"""Faults of whole messages: lost, late, done again; never a Mint twice, never in a dead process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest
from sim_peers import SimPeers, run_peers

from dynamo.ports import Call, Clock, Handler
from dynamo.rpc.messages import Fetch, Mint, Minted, Ping, Pong, Reply, Synced
from dynamo.sim.clock import SimClock
from dynamo.sim.loop import Process, SimLoop, run_virtual
from dynamo.sim.messages import Chances, MessageFaults

MINT = Mint(b"k", 0, 0, 1, 1000, (), 0, b"v")
FETCH = Fetch(b"k", 0, 0, 1, 1000, True)


class Asked:
    """A call that keeps its replies."""

    def __init__(self, peer: str, deadline: float = 1.0) -> None:
        self.peer = peer
        self.deadline = deadline
        self.replies: list[tuple[Reply, bool]] = []

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        self.replies.append((reply, last))


class Scene:
    """The faults of node "b", with handlers that keep what they do."""

    def __init__(self, seed: int = 1) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.loop = loop
        self.clock = SimClock(loop)
        self.faults = MessageFaults(seed=seed, node="b", loop=loop, clock=self.clock)
        self.done: list[tuple[float, Any, float]] = []
        self.handlers: dict[type, Handler] = {Mint: self._do, Fetch: self._do}
        self.wrapped = self.faults.wrap(self.handlers)

    def _do(self, request: Any, call: Call) -> None:
        self.done.append((self.loop.time(), request, call.deadline))
        if isinstance(request, Mint):
            call.reply(Minted(b"", b"", 1), last=False)
        call.reply(Synced())

    def receive(self, request: Any, peer: str = "a") -> Asked:
        call = Asked(peer, self.clock.monotonic() + request.deadline_ms / 1000)
        self.wrapped[type(request)](request, call)
        return call


def play(scene: Callable[[Scene], Coroutine[Any, Any, None]], seed: int = 1) -> None:
    async def main() -> None:
        await scene(Scene(seed))

    run_virtual(main(), random=random.Random(seed))


def test_without_faults_the_handlers_themselves_are_called() -> None:
    async def scene(s: Scene) -> None:
        assert s.wrapped[Fetch] == s.handlers[Fetch]
        assert s.wrapped.get(Ping) is None
        s.handlers[Ping] = s._do
        assert s.wrapped.get(Ping) is not None
        assert s.receive(FETCH).replies == [(Synced(), True)]
        s.faults.set(Chances(lose=1))
        s.faults.calm()
        assert s.receive(FETCH).replies == [(Synced(), True)]

    play(scene)


def test_what_is_lost_is_never_done() -> None:
    async def scene(s: Scene) -> None:
        s.faults.set(Chances(lose=1), peer="a")
        calls = [s.receive(FETCH), s.receive(MINT)]
        await asyncio.sleep(20)
        assert s.done == []
        assert all(call.replies == [] for call in calls)
        assert s.receive(FETCH, "c").replies
        assert s.faults.counts == {"lose": 2}

    play(scene)


def test_a_node_is_left_alone_with_itself() -> None:
    async def scene(s: Scene) -> None:
        s.faults.set(Chances(lose=1))
        assert s.receive(MINT, "b").replies

    play(scene)


def test_a_duplicate_is_done_later_and_answers_nobody() -> None:
    async def scene(s: Scene) -> None:
        s.faults.set(Chances(duplicate=1))
        call = s.receive(FETCH)
        await asyncio.sleep(1)
        (first, *_), (again, _, deadline) = s.done
        assert first == 0 < again < 0.5
        assert deadline == again + 1
        assert len(call.replies) == 1

    play(scene)


def test_a_mint_is_never_done_twice() -> None:
    async def scene(s: Scene) -> None:
        s.faults.set(Chances(duplicate=1, replay=1))
        for _ in range(50):
            s.receive(MINT)
            s.receive(FETCH)
        await asyncio.sleep(20)
        assert sum(request is MINT for _, request, _ in s.done) == 50
        assert sum(request is FETCH for _, request, _ in s.done) > 120

    play(scene)


def test_a_late_message_is_overtaken_and_has_its_time_from_when_it_comes() -> None:
    async def scene(s: Scene) -> None:
        s.faults.set(Chances(delay=0.5))
        calls = [s.receive(Fetch(b"%d" % number, 0, 0, 1, 1000, True)) for number in range(40)]
        await asyncio.sleep(1)
        keys = [request.key for _, request, _ in s.done]
        assert len(keys) == 40
        assert keys != sorted(keys, key=int)
        assert all(deadline == at + 1 for at, _, deadline in s.done)
        assert all(len(call.replies) == 1 for call in calls)

    play(scene)


def test_replies_are_lost_or_late_and_those_of_one_call_keep_their_order() -> None:
    async def scene(s: Scene) -> None:
        s.faults.set(Chances(lose_reply=0.2, delay_reply=0.5))
        calls = [s.receive(MINT) for _ in range(200)]
        await asyncio.sleep(1)
        seen = {tuple(last for _, last in call.replies) for call in calls}
        assert seen == {(), (False,), (True,), (False, True)}
        assert len(s.done) == 200

    play(scene)


def test_the_same_seed_gives_the_same_faults() -> None:
    async def scene(s: Scene) -> None:
        s.faults.set(Chances(0.2, 0.2, 0.2, 0.2, 0.2, 0.2))
        for number in range(100):
            s.receive(Fetch(b"%d" % number, 0, 0, 1, 1000, True), "ac"[number % 2])
        await asyncio.sleep(9)
        runs.append([(at, request.key) for at, request, _ in s.done])

    runs: list[list[tuple[float, bytes]]] = []
    for seed in (1, 1, 2):
        play(scene, seed)
    assert runs[0] == runs[1] != runs[2]


# Behind the transport of production -----------------------------------------------------------------


def behind(peers: SimPeers, name: str) -> MessageFaults:
    """Faults before the handlers of a node that is started from now on."""
    faults = MessageFaults(
        seed=peers.seed, node=name, loop=peers.loop, clock=SimClock(peers.loop), trace=peers.trace
    )

    def wrap(
        one: str, process: Process, clock: Clock, handlers: dict[type, Handler]
    ) -> Mapping[type, Handler]:
        return faults.wrap(handlers) if one == name else handlers

    peers.wrap = wrap
    return faults


async def _again(peers: SimPeers) -> MessageFaults:
    """The faults of "b", which has been started again with them."""
    faults = behind(peers, "b")
    peers.network.crash("b", silent=False)
    peers.processes["b"].kill()
    await peers.start("b")
    await peers.meet()
    return faults


def test_pings_are_lost_late_and_done_again() -> None:
    async def scene(peers: SimPeers) -> None:
        faults = await _again(peers)
        faults.set(Chances(0.2, 0.2, 0.2, 0.2, 0.2, 0.2, delay_seconds_max=0.3))
        sent = [peers.ping("a", "b") for _ in range(200)]
        await asyncio.sleep(10)
        times = [peers.executed.get(("b", number), 0) for number, _ in sent]
        assert min(times) == 0
        assert max(times) > 1
        for number, answers in sent:
            assert answers.replies in ([], [("b", Pong(number))])
            assert len(answers.replies) + len(answers.failures) == 1
        assert min(faults.counts.values()) > 10
        assert len(faults.counts) == 6
        faults.calm()
        assert (await peers.pinged("a", "b")).replies

    run_peers(scene)


@pytest.mark.parametrize("silent", [False, True])
def test_a_process_that_died_does_nothing_late(silent: bool) -> None:
    async def scene(peers: SimPeers) -> None:
        faults = await _again(peers)
        faults.set(Chances(delay=1, replay=1, delay_seconds_max=2))
        for _ in range(50):
            peers.ping("a", "b")
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.3)
        peers.network.crash("b", silent=silent)
        peers.processes["b"].kill()
        before = dict(peers.executed)
        assert 0 < len(before) < 50
        await asyncio.sleep(20)
        assert peers.executed == before

    run_peers(scene)


def test_in_order_nothing_of_before_a_ping_comes_again_even_if_no_fault_was_there() -> None:
    async def scene(s: Scene) -> None:
        s.faults.in_order = True
        s.handlers[Ping] = s._do
        s.faults.set(Chances(lose=0.0, delay_reply=1e-9))
        s.receive(FETCH)
        s.faults.calm()
        s.receive(Ping(1000))
        s.faults.set(Chances(replay=1))
        s.receive(MINT)
        await asyncio.sleep(20)
        assert [request for _, request, _ in s.done].count(FETCH) == 1

    play(scene)
