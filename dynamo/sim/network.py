"""All simulated nodes and the links between them, and all that breaks them.

A stream is two pipes, one each way; all pipes from one node to another share a link, which has the
delays and the faults. Knows nothing of what flows.
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from typing import Final

from dynamo.rpc.tcp import join_address, split_address
from dynamo.sim.chance import stream
from dynamo.sim.link import Link, Timing
from dynamo.sim.loop import Process, SimLoop
from dynamo.sim.stream import End, Factory, Machine, Mark, Pipe
from dynamo.sim.trace import Trace

#: After a cut TCP tries again when it has waited once more as long as it had, at most this long.
RETRANSMIT_SECONDS_MAX: Final = 6.0
#: After `heal_all` everything that is under way arrives within so long.
HEALED_SECONDS: Final = 1.0


class _Listener:
    """A port where connections arrive."""

    def __init__(self, machine: Machine, port: int) -> None:
        self._machine = machine
        self._port = port
        self._factory = machine.listeners[port]
        self.address = join_address(machine.name, port)

    def __repr__(self) -> str:
        return f"Listener({self.address})"

    async def close(self) -> None:
        if self._machine.listeners.get(self._port) is self._factory:
            del self._machine.listeners[self._port]
        await asyncio.sleep(0)


class NodeNetwork:
    """The network of one node, as its transport takes it."""

    def __init__(self, network: Network, machine: Machine) -> None:
        self._network = network
        self._machine = machine
        self._process = machine.process

    def __repr__(self) -> str:
        return f"NodeNetwork({self._machine.name})"

    async def connect(self, address: str, protocol_factory: Factory) -> asyncio.Transport:
        """Connect; hangs where packets vanish. Raises OSError, ValueError for what is no address."""
        self._check_alive()
        return await self._network.connect(self._machine, address, protocol_factory)

    async def listen(self, address: str, protocol_factory: Factory) -> _Listener:
        """Accept at the node's own name. Raises as `connect`."""
        self._check_alive()
        host, port = split_address(address)
        machine = self._machine
        if host != machine.name:
            raise OSError(errno.EADDRNOTAVAIL, f"{address}: this machine is {machine.name}")
        if port in machine.listeners:
            raise OSError(errno.EADDRINUSE, f"{address}: in use")
        port = port or machine.free_port()
        machine.listeners[port] = protocol_factory
        return _Listener(machine, port)

    def _check_alive(self) -> None:
        """The dead, and those whose place another process has taken, have no network."""
        if self._machine.process is not self._process or self._process.state in ("dying", "dead"):
            raise OSError(errno.ENETDOWN, f"{self._machine.name}: the process is gone")


class Network:
    """All nodes, all links, all faults. Names of nodes are their host names.

    `counts`: connections, refused, resets, timeouts, chunks, bytes, and faults that took effect.
    """

    def __init__(self, *, loop: SimLoop, seed: int, trace: Trace) -> None:
        self.loop = loop
        self.seed = seed
        self.trace = trace
        self.counts: Counter[str] = Counter()
        self._timing = Timing()
        self._machines: dict[str, Machine] = {}
        self._links: dict[tuple[str, str], Link[Pipe]] = {}

    def __repr__(self) -> str:
        ends = sum(len(machine.ends) for machine in self._machines.values())
        faults = ", ".join(self.faults()) or "none"
        return f"Network({len(self._machines)} nodes, {ends} ends, faults: {faults})"

    def faults(self) -> list[str]:
        """The links on which a fault is on, or waits for a chunk, each with its faults."""
        return [repr(link) for link in self._links.values() if link.is_faulty]

    def join(self, name: str, process: Process) -> NodeNetwork:
        """Give the node a machine, or its machine a new process; its power is on from now on."""
        machine = self._machines.get(name)
        if machine is None:
            machine = self._machines[name] = Machine(name, process)
        elif machine.process is not process:
            self._clear(machine, "reset")
            machine.process = process
        machine.off = False
        for link in self._links_to(name):
            if link.off:
                link.off = False
                self._changed(link, retransmits=True)
        return NodeNetwork(self, machine)

    def link(self, source: str, target: str) -> Link[Pipe]:
        """The link from one node to another."""
        found = self._links.get((source, target))
        if found is None:
            found = self._links[source, target] = Link(
                source,
                target,
                timing=self._timing,
                chance=stream(self.seed, "link", source, target),
            )
            there = self._machines.get(target)
            if there is not None and there.off:
                found.off = True
                self._changed(found)
        return found

    def took_effect(self, fault: str, link: Link[Pipe]) -> None:
        """Count a fault that has changed something."""
        self.counts[fault] += 1
        self.trace.note(fault, link.name)

    # Connecting ---------------------------------------------------------------------------------

    async def connect(
        self, machine: Machine, address: str, protocol_factory: Factory
    ) -> asyncio.Transport:
        """A stream from a machine to an address. Raises OSError, ValueError."""
        host, port = split_address(address)
        there = self._machines.get(host)
        if there is None:
            await asyncio.sleep(0)
            raise OSError(errno.EHOSTUNREACH, f"{host}: no such host")
        forth, back = self.link(machine.name, host), self.link(host, machine.name)
        await self._travel(forth)
        if port not in there.listeners:
            await self._travel(back)
            self.counts["refused"] += 1
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"{address}: connection refused")
        own = (machine.name, machine.free_port())
        here = End(self, machine, own, (host, port))
        other = End(self, there, (host, port), own)
        here.out = Pipe(self, forth, here, other)
        other.out = Pipe(self, back, other, here)
        here.out.back, other.out.back = other.out, here.out
        try:
            await self._travel(back)
            if here.ended:
                raise ConnectionResetError(errno.ECONNRESET, f"{address}: connection reset")
        except (OSError, asyncio.CancelledError):
            here.vanish()
            other.vanish()
            raise
        self.counts["connections"] += 1
        self.trace.note("connect", here.out.link.name)
        here.out.mark("open")
        here.start(protocol_factory())
        return here

    async def _travel(self, link: Link[Pipe]) -> None:
        """Return when a packet has passed the link, sent again as often as that takes."""
        while True:
            since = self.loop.time()
            await link.passable.wait()
            waited = self.loop.time() - since
            again = link.random.uniform(0, min(waited, RETRANSMIT_SECONDS_MAX)) if waited else 0.0
            await asyncio.sleep(again + link.delay())
            if not link.blocked:
                return

    # Faults of links ----------------------------------------------------------------------------

    def timing(self, source: str | None, target: str | None, timing: Timing) -> None:
        """How long bytes take from now on; None and None for all links."""
        if source is not None and target is not None:
            self.link(source, target).timing = timing
            return
        assert source is target, "one link, or all"
        self._timing = timing
        for link in self._links.values():
            link.timing = timing

    def cut(self, source: str, target: str) -> None:
        """Nothing passes, one way, until `heal`; then it is sent again."""
        link = self.link(source, target)
        if link.cut_since is None:
            link.cut_since = self.loop.time()
            self.took_effect("cut", link)
            self._changed(link)

    def heal(self, source: str, target: str) -> None:
        """Take a cut back."""
        link = self.link(source, target)
        if link.cut_since is not None:
            self.took_effect("heal", link)
            since, link.cut_since = link.cut_since, None
            self._changed(link, retransmits=True, since=since)

    def clog(self, source: str, target: str) -> None:
        """Nothing passes, one way, until `unclog`; then it passes at once."""
        link = self.link(source, target)
        if not link.clogged:
            link.clogged = True
            self.took_effect("clog", link)
            self._changed(link)

    def unclog(self, source: str, target: str) -> None:
        """Take a clog back."""
        link = self.link(source, target)
        if link.clogged:
            self.took_effect("unclog", link)
            link.clogged = False
            self._changed(link)

    def slow(self, source: str, target: str, factor: float) -> None:
        """Bytes take `factor` times as long; 1 to take it back."""
        link = self.link(source, target)
        link.factor = factor
        self.took_effect("slow", link)

    def dribble(self, source: str, target: str, on: bool) -> None:
        """Chunks arrive in small pieces."""
        link = self.link(source, target)
        link.dribbles = on
        self.took_effect("dribble", link)

    def heal_all(self) -> None:
        """Take back all faults of all links; who has no power has none still. What is under way comes
        within HEALED_SECONDS, however long it was to take."""
        for (source, target), link in list(self._links.items()):
            self.heal(source, target)
            self.unclog(source, target)
            link.factor = 1.0
            link.dribbles = False
            link.tricks.clear()
            for pipe in link.pipes:
                pipe.hasten(self.loop.time() + HEALED_SECONDS)

    def _changed(
        self, link: Link[Pipe], *, retransmits: bool = False, since: float | None = None
    ) -> None:
        """The link is blocked, or passes, for another reason than before."""
        was, link.blocked = link.blocked, link.cut_since is not None or link.clogged or link.off
        back = self.link(link.target, link.source)
        if link.blocked and not was:
            link.passable.clear()
            for pipe in (*link.pipes, *back.pipes):
                pipe.block()
        elif was and not link.blocked:
            link.passable.set()
            now = self.loop.time()
            longest = RETRANSMIT_SECONDS_MAX
            if since is not None:
                longest = min(longest, now - since)
            for pipe in list(link.pipes):
                pipe.unblock(now + link.random.uniform(0, longest) if retransmits else now)
            if not back.blocked:
                for pipe in (*link.pipes, *back.pipes):
                    pipe.acknowledge()

    # What TCP would not do -----------------------------------------------------------------------

    def flip(self, source: str, target: str) -> None:
        """Flip a bit of the next chunk."""
        self.link(source, target).tricks.append("flip")

    def tear(self, source: str, target: str) -> None:
        """Lose the next chunk; those after it arrive."""
        self.link(source, target).tricks.append("tear")

    def repeat(self, source: str, target: str) -> None:
        """Deliver the next chunk twice."""
        self.link(source, target).tricks.append("repeat")

    def swap(self, source: str, target: str) -> None:
        """Let the next two chunks of a stream change places, if the second comes soon."""
        self.link(source, target).tricks.append("swap")

    def replay(self, source: str, target: str) -> None:
        """Deliver an old chunk of the link, of whatever stream, before the next one."""
        self.link(source, target).tricks.append("replay")

    # Faults of streams and machines ---------------------------------------------------------------

    def reset(self, one: str, other: str) -> None:
        """Break all their streams: both sides hear it, each after its delay."""
        for link in dict.fromkeys((self.link(one, other), self.link(other, one))):
            for pipe in list(link.pipes):
                if not pipe.target.ended:
                    pipe.break_off("reset")
                    self.took_effect("reset", link)

    def half_open(self, one: str, other: str) -> None:
        """`one` forgets its streams with `other`, which is told nothing until it sends."""
        link = self.link(one, other)
        for pipe in list(link.pipes):
            if not pipe.source.ended:
                self.took_effect("half_open", link)
                pipe.ended = True
                pipe.source.lose(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))

    def crash(self, name: str, *, silent: bool) -> None:
        """Its listeners and streams are gone. Their peers hear it, unless the power was lost
        (`silent`): then its machine answers nothing until somebody joins there again.
        """
        self.trace.note("crash", name, silent)
        self.counts["crash"] += 1
        machine = self._machines[name]
        self._clear(machine, None if silent else "reset")
        if silent:
            machine.off = True
            for link in self._links_to(name):
                link.off = True
                self._changed(link)

    def _clear(self, machine: Machine, mark: Mark | None) -> None:
        """Nothing of its process is left."""
        machine.listeners.clear()
        for end in list(machine.ends):
            end.out.break_off(mark, process_died=True)
            end.vanish()

    def _links_to(self, name: str) -> list[Link[Pipe]]:
        return [link for (_, target), link in self._links.items() if target == name]
