"""Transports of production on the simulated network: nodes that ping each other and keep count."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from rpc_nodes import Answers, PeerNode

from dynamo.ports import Call, Clock, Handler
from dynamo.rpc.messages import Ping, Pong, Request
from dynamo.rpc.network import Network as Wire
from dynamo.sim.chance import stream
from dynamo.sim.clock import SimClock
from dynamo.sim.loop import Process, SimLoop, run_virtual
from dynamo.sim.network import Network
from dynamo.sim.trace import Trace


class SimPeers:
    """Nodes "a", "b", ... that dial each other. Each ping has a number of its own."""

    def __init__(self, *, seed: int, count: int) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.loop = loop
        self.seed = seed
        self.trace = Trace(now=loop.time)
        self.network = Network(loop=loop, seed=seed, trace=self.trace)
        self.names = [chr(ord("a") + index) for index in range(count)]
        self.processes: dict[str, Process] = {}
        self.nodes: dict[str, PeerNode] = {}
        #: (node, number) -> how often the node has executed that ping.
        self.executed: dict[tuple[str, int], int] = {}
        self._made = 0
        #: Put around the handlers of a node that starts.
        self.wrap: Callable[[str, Process, Clock, dict[type, Handler]], Mapping[type, Handler]] = (
            lambda name, process, clock, handlers: handlers
        )

    async def start(self, name: str) -> PeerNode:
        """Start a node in a new process, or again."""
        process = self.processes[name] = self.loop.new_process(name)
        wire: Wire = self.network.join(name, process)
        clock = SimClock(self.loop)

        def pong(request: Ping, call: Call) -> None:
            key = (name, request.write_number)
            self.executed[key] = self.executed.get(key, 0) + 1
            call.reply(Pong(request.write_number))

        handlers: Any = self.wrap(name, process, clock, {Ping: pong})
        self._made += 1
        node = self.nodes[name] = PeerNode(
            name,
            network=wire,
            clock=clock,
            chance=stream(self.seed, "peer", name, self._made),
            handlers=handlers,
            start=self._made,
        )
        await process.spawn(node.start(f"{name}:7400"))
        process.call_soon(node.transport.dial, [f"{other}:7400" for other in self.names])
        return node

    async def start_all(self) -> None:
        for name in self.names:
            await self.start(name)
        await self.meet()

    async def meet(self, seconds: float = 60) -> float:
        """Wait until all are connected; how long that took."""
        before = self.loop.time()
        async with asyncio.timeout(seconds):
            while not self.together():
                await asyncio.sleep(0.01)
        return self.loop.time() - before

    def together(self) -> bool:
        return all(
            len(self.nodes[name].transport.connected()) == len(self.names) - 1
            for name in self.names
        )

    def ping(self, source: str, target: str, timeout: float = 1.0) -> tuple[int, Answers]:
        """Send a ping; its number, and what will come of it."""
        self._made += 1
        number, answers = self._made, Answers()
        request: Request = Ping(int(timeout * 1000), number)
        transport = self.nodes[source].transport
        self.processes[source].call_soon(transport.request, [target], request, answers, timeout)
        return number, answers

    async def pinged(self, source: str, target: str, timeout: float = 1.0) -> Answers:
        """What came of a ping; a Pong is checked."""
        number, answers = self.ping(source, target, timeout)
        await answers.wait(1)
        assert [reply for _, reply in answers.replies] in ([], [Pong(number)])
        return answers

    async def ping_often(self, count: int, every: float) -> list[tuple[int, Answers]]:
        """Pings from and to nodes that are drawn."""
        chance = stream(self.seed, "pings", self._made)
        sent = []
        for _ in range(count):
            source, target = chance.sample(self.names, 2)
            sent.append(self.ping(source, target))
            await asyncio.sleep(every * chance.random())
        for _, answers in sent:
            await answers.wait(1)
        return sent

    def nothing_twice(self) -> bool:
        return all(times == 1 for times in self.executed.values())

    async def stop(self) -> None:
        """Close all transports."""
        for name in self.names:
            process = self.processes[name]
            if process.state == "running":
                await process.spawn(self.nodes[name].transport.close())


def run_peers(
    scene: Callable[[SimPeers], Coroutine[Any, Any, None]], *, seed: int = 1, count: int = 2
) -> SimPeers:
    """Start nodes, play the scene, stop the nodes."""

    async def main() -> SimPeers:
        peers = SimPeers(seed=seed, count=count)
        await peers.start_all()
        await scene(peers)
        await peers.stop()
        return peers

    return run_virtual(main(), random=random.Random(seed))
