"""Byte streams between simulated nodes, as TCP makes them for who uses it, and all that breaks them.

A stream is two pipes, one each way; all pipes from one node to another share a link, which has the
delays and the faults. In a pipe nothing overtakes, nothing is lost and nothing is changed, unless a
fault says so. Callbacks of a node's protocols run in its process. Knows nothing of what flows.

Not simulated: keep-alive of idle streams, half-closed streams, the receiver's window.
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, cast

from dynamo.rpc.tcp import UNACKNOWLEDGED_SECONDS, join_address, split_address
from dynamo.sim.chance import stream
from dynamo.sim.loop import Process, SimLoop, SimTimer
from dynamo.sim.trace import Trace

Factory = Callable[[], asyncio.Protocol]
#: What is done to one chunk, and TCP would not do.
Trick = Literal["flip", "tear", "repeat", "swap", "replay"]

#: What a machine takes of a node's bytes at once: a transport that is closed is done with these.
SOCKET_BYTES: Final = 200_000
#: Chunks of a link that can be replayed, and the longest one that is kept.
REPLAY_CHUNKS: Final = 300
REPLAY_BYTES_MAX: Final = 1 << 16
#: Pieces that a chunk is delivered in at most, where it dribbles.
DRIBBLE_PIECES_MAX: Final = 32
#: After a cut TCP tries again when it has waited once more as long as it had, at most this long.
RETRANSMIT_SECONDS_MAX: Final = 6.0
#: After `heal_all` everything that is under way arrives within so long.
HEALED_SECONDS: Final = 1.0
#: What `swap` waits for the second chunk.
SWAP_SECONDS: Final = 0.05
_READ_BYTES: Final = 1 << 18
_HIGH_WATER: Final = 1 << 16
_PORT_FIRST: Final = 49_152

#: What can be in a pipe besides bytes.
_Mark = Literal["open", "eof", "reset"]


class Timing(NamedTuple):
    """Seconds that bytes take: `latency`, plus up to `jitter`, plus sometimes up to `tail`."""

    latency: float = 0.000_3
    jitter: float = 0.000_4
    tail: float = 0.03
    tail_chance: float = 0.002


class Link:
    """One direction between two nodes: its delays, its faults, and the pipes that it carries."""

    def __init__(self, network: Network, source: str, target: str, timing: Timing) -> None:
        self.name = f"{source}>{target}"
        self.source = source
        self.target = target
        self.timing = timing
        self.random = stream(network.seed, "link", source, target)
        self.factor = 1.0
        self.dribbles = False
        self.tricks: deque[Trick] = deque()
        self.kept: deque[bytes] = deque(maxlen=REPLAY_CHUNKS)
        self.pipes: dict[_Pipe, None] = {}
        self.cut_since: float | None = None
        self.clogged = False
        #: Nobody is there: the target's machine has lost power.
        self.off = False
        #: Nothing passes, for one of these three.
        self.blocked = False
        self.passable = asyncio.Event()
        self.passable.set()

    def __repr__(self) -> str:
        faults = [
            *(["cut"] if self.cut_since is not None else []),
            *(["clogged"] if self.clogged else []),
            *(["off"] if self.off else []),
            *([f"slow {self.factor:g}"] if self.factor != 1.0 else []),
            *(["dribbles"] if self.dribbles else []),
            *self.tricks,
        ]
        return " ".join([self.name, *faults])

    @property
    def is_faulty(self) -> bool:
        """True if a fault is on, or waits for a chunk."""
        return bool(self.blocked or self.factor != 1.0 or self.dribbles or self.tricks)

    def delay(self) -> float:
        """Seconds that the next bytes take."""
        latency, jitter, tail, tail_chance = self.timing
        drawn = self.random.random()
        seconds = latency + jitter * drawn
        if drawn < tail_chance:
            seconds += tail * self.random.random()
        return seconds * self.factor


class _Pipe:
    """One direction of one stream: what `source` has written and `target` has not got."""

    __slots__ = (
        "_armed",
        "_due_last",
        "_not_before",
        "_queue",
        "_stuck",
        "_swapped",
        "back",
        "ended",
        "link",
        "loop",
        "network",
        "source",
        "target",
        "waiting",
    )

    back: _Pipe

    def __init__(self, network: Network, link: Link, source: _End, target: _End) -> None:
        self.network = network
        self.loop = network.loop
        self.link = link
        self.source = source
        self.target = target
        #: Bytes that are under way.
        self.waiting = 0
        #: Nothing more goes in: its end is in it.
        self.ended = False
        self._queue: deque[tuple[float, bytes | _Mark]] = deque()
        self._due_last = 0.0
        self._not_before = 0.0
        self._armed: SimTimer | None = None
        self._stuck: SimTimer | None = None
        self._swapped: bytes | None = None
        link.pipes[self] = None

    # In -----------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send a chunk."""
        link = self.link
        if link.blocked or self.back.link.blocked:
            self.watch()
        if self.ended:
            return
        if link.tricks or self._swapped is not None:
            self._play(data)
        else:
            self._put(data)
        if len(data) <= REPLAY_BYTES_MAX:
            link.kept.append(data)

    def _put(self, data: bytes) -> None:
        link = self.link
        self.waiting += len(data)
        if link.dribbles and len(data) > 1:
            pieces = link.random.randint(2, min(len(data), DRIBBLE_PIECES_MAX))
            size = -(-len(data) // pieces)
            for start in range(0, len(data), size):
                self._due_last = max(self._due_last, self.loop._now) + link.delay()
                self._queue.append((self._due_last, data[start : start + size]))
        else:
            due = self.loop._now + link.delay()
            if due > self._due_last:
                self._due_last = due
            self._queue.append((self._due_last, data))
        if self._armed is None:
            self._arm()

    def _play(self, data: bytes) -> None:
        """Send a chunk, less well than TCP."""
        link, network = self.link, self.network
        if self._swapped is not None:
            self._put(data)
            self._put_swapped()
            network.took_effect("swap", link)
            return
        trick = link.tricks.popleft()
        if trick == "flip" and data:
            bit = link.random.randrange(len(data) * 8)
            changed = bytearray(data)
            changed[bit >> 3] ^= 1 << (bit & 7)
            self._put(bytes(changed))
        elif trick == "repeat":
            self._put(data)
            self._put(data)
        elif trick == "replay" and link.kept:
            self._put(link.kept[link.random.randrange(len(link.kept))])
            self._put(data)
        elif trick == "swap":
            self._swapped = data
            self.loop.call_later(SWAP_SECONDS, self._put_swapped, context=self.loop.outside)
            return
        elif trick != "tear":
            self._put(data)
            return
        network.took_effect(trick, link)

    def _put_swapped(self) -> None:
        data, self._swapped = self._swapped, None
        if data is not None and not self.ended:
            self._put(data)

    def mark(self, mark: _Mark) -> None:
        """Send what is no bytes, after all that was sent; an end is the last."""
        if self.ended:
            return
        self._put_swapped()
        self.ended = mark != "open"
        self._due_last = max(self._due_last, self.loop._now + self.link.delay())
        self._queue.append((self._due_last, mark))
        if self._armed is None:
            self._arm()

    def break_off(self, mark: _Mark | None) -> None:
        """Lose what is under way from some byte on, and everything later; then the mark."""
        self._swapped = None
        left = self.link.random.randint(0, self.waiting)
        kept: deque[tuple[float, bytes | _Mark]] = deque()
        for due, item in self._queue:
            if isinstance(item, bytes):
                if left <= 0:
                    break
                item = item[:left]
                left -= len(item)
            elif item != "open":
                break
            kept.append((due, item))
        self._queue = kept
        self.waiting = sum(len(item) for _, item in kept if isinstance(item, bytes))
        self._due_last = kept[-1][0] if kept else 0.0
        self._disarm()
        self.ended = False
        if mark is not None:
            self.mark(mark)
        self.ended = True
        self._arm()

    def drop(self) -> None:
        """Lose everything; nothing goes in any more."""
        self.ended = True
        self.waiting = 0
        self._swapped = None
        self._queue.clear()
        self._disarm()
        self.calm()

    # Through ------------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._queue and not self.link.blocked and self._armed is None:
            target = self.target
            context = self.loop.outside if target.ended else target.process.context
            when = max(self._queue[0][0], self._not_before)
            self._armed = self.loop.call_at(when, self._deliver, context=context)

    @property
    def resets(self) -> bool:
        """The peer will hear of a reset, once it passes."""
        return bool(self._queue) and self._queue[-1][1] == "reset"

    def _disarm(self) -> None:
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None

    def rearm(self) -> None:
        """Deliver in whatever context is right now."""
        self._disarm()
        self._arm()

    def block(self) -> None:
        """The link, or the one back, has just been blocked."""
        if self.link.blocked:
            self._disarm()
        if self.waiting:
            self.watch()

    def unblock(self, not_before: float) -> None:
        """The link passes again; what waited comes then at the earliest."""
        if self._queue:
            self._not_before = max(self._not_before, not_before)
            self._arm()

    def hasten(self, latest: float) -> None:
        """Deliver everything by then."""
        self._queue = deque((min(due, latest), item) for due, item in self._queue)
        self._due_last = min(self._due_last, latest)
        self._not_before = min(self._not_before, latest)
        self.rearm()

    def watch(self) -> None:
        """Nobody acknowledges what is sent now: that ends the stream in some seconds."""
        if self._stuck is None and not self.source.ended:
            loop = self.loop
            self._stuck = loop.call_later(
                UNACKNOWLEDGED_SECONDS, self._give_up, context=loop.outside
            )

    def acknowledge(self) -> None:
        """Both links pass: what has arrived is acknowledged now."""
        if not self.waiting:
            self.calm()

    def calm(self) -> None:
        """Nobody waits for an acknowledgement any more."""
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _give_up(self) -> None:
        self._stuck = None
        if not (self.link.blocked or self.back.link.blocked):
            return  # The machine over there has it, though its process may sleep.
        self.network.counts["timeouts"] += 1
        self.drop()
        self.source.lose(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))

    # Out ----------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        self._armed = None
        queue, link = self._queue, self.link
        if link.blocked or not queue:
            return
        now = self.loop._now
        item = queue.popleft()[1]
        if isinstance(item, bytes):
            if queue and queue[0][0] <= now and not link.dribbles:
                item = self._gather(item, now)
            size = len(item)
            self.waiting -= size
            if self._stuck is not None and not self.back.link.blocked:
                self.acknowledge()
            network = self.network
            counts = network.counts
            counts["chunks"] += 1
            counts["bytes"] += size
            network.trace.note_bytes(link.name, item)
            source = self.source
            if source.watches and self.waiting <= source.low:
                source.drained()
            if queue:
                self._arm()
            self.target.receive(item)
        else:
            self.network.trace.note(link.name, item)
            if queue:
                self._arm()
            self.target.receive_mark(item)
        if self.ended and not queue:
            self.settle()

    def _gather(self, first: bytes, now: float) -> bytes:
        """All that is there, as one read gets it."""
        queue, parts, size = self._queue, [first], len(first)
        while queue and queue[0][0] <= now and size < _READ_BYTES:
            item = queue[0][1]
            if not isinstance(item, bytes):
                break
            parts.append(item)
            size += len(item)
            queue.popleft()
        return b"".join(parts)

    def settle(self) -> None:
        """Leave the link if nothing can come of it any more."""
        if self.source.ended and (self.target.ended or not self._queue):
            self.drop()
            self.link.pipes.pop(self, None)


class _End(asyncio.Transport):
    """One end of a stream, as the node has it."""

    out: _Pipe

    def __init__(
        self, network: Network, machine: _Machine, own: tuple[str, int], peer: tuple[str, int]
    ) -> None:
        super().__init__()
        self._network = network
        self._own = own
        self._peer = peer
        self._protocol: asyncio.Protocol | None = None
        self._paused = False
        self._closing = False
        self._high = _HIGH_WATER
        self.machine = machine
        self.process = machine.process
        self.low = _HIGH_WATER // 4
        #: The protocol has been told, or is about to be told, that it is over.
        self.ended = False
        #: It must hear when what it wrote has been taken.
        self.watches = False
        machine.ends[self] = None

    def __repr__(self) -> str:
        state = "ended" if self.ended else "closing" if self._closing else "open"
        return f"{join_address(*self._own)}-{join_address(*self._peer)} {state}"

    # The transport ------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": self._peer, "sockname": self._own}.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return self.out.waiting

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self.low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = _HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be >= low ({low}) must be >= 0")
        self._high, self.low = high, low
        self._pause_if_full()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._closing or not data:
            return
        out = self.out
        out.write(data if type(data) is bytes else bytes(data))
        if out.waiting > self._high:
            self._pause_if_full()

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self.out.mark("eof")
        if self.out.waiting <= SOCKET_BYTES:
            self.lose(None)
        else:
            self.watches = True

    def abort(self) -> None:
        if self.ended:
            return
        self._closing = True
        out = self.out
        if out.waiting:
            # The machine may have taken some of it, and tells the peer of it one way or another.
            out.break_off("eof" if out.link.random.random() < 0.5 else "reset")
        else:
            out.mark("eof")
        self.lose(None)

    def _pause_if_full(self) -> None:
        if self._paused or self._closing or self.out.waiting <= self._high:
            return
        self._paused = self.watches = True
        assert self._protocol is not None
        self._protocol.pause_writing()

    def drained(self) -> None:
        """What waits has come down to `low`."""
        if self._closing:
            if self.out.waiting <= SOCKET_BYTES:
                self.lose(None)
        elif self._paused:
            self._paused = self.watches = False
            assert self._protocol is not None
            self.process.call_soon(self._protocol.resume_writing)

    # What the network does with it ---------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes have arrived. Called in the process, as long as the end lives."""
        if self._closing or self._protocol is None:
            self.refuse()
        else:
            self._protocol.data_received(data)

    def receive_mark(self, mark: _Mark) -> None:
        """Something else has arrived."""
        if mark == "open":
            self._open()
        elif self.ended:
            return
        elif mark == "reset":
            self._network.counts["resets"] += 1
            self.out.ended = True
            self.lose(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
        elif not self._closing and (self._protocol is None or not self._protocol.eof_received()):
            self.close()

    def refuse(self) -> None:
        """Bytes came for what is closed here: the peer hears so."""
        out = self.out
        if not (out.target.ended or out.resets):
            out.ended = False
            out.link.pipes[out] = None
            out.mark("reset")

    def start(self, protocol: asyncio.Protocol) -> None:
        """The stream is there."""
        self._protocol = protocol
        protocol.connection_made(self)

    def _open(self) -> None:
        factory = None if self.ended else self.machine.listeners.get(self._own[1])
        if factory is None:
            self.vanish()
            self.refuse()
            return
        self.start(factory())

    def lose(self, error: Exception | None) -> None:
        """Over: the protocol hears it in its next turn. Only the first of several counts."""
        if self.ended:
            return
        self.vanish()
        if self._protocol is not None:
            self.process.call_soon(self._protocol.connection_lost, error)

    def vanish(self) -> None:
        """Over, and nobody hears it here."""
        self._closing = self.ended = True
        self.watches = False
        self.machine.ends.pop(self, None)
        self.out.calm()
        # What comes later finds nobody, whatever becomes of the process.
        self.out.back.rearm()
        self.out.settle()
        self.out.back.settle()


class _Machine:
    """What a node runs on."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.process = process
        self.listeners: dict[int, Factory] = {}
        self.ends: dict[_End, None] = {}
        #: It has no power.
        self.off = False
        self._ports = _PORT_FIRST - 1

    def free_port(self) -> int:
        """A port where nobody listens; the one after the last, around and around."""
        while True:
            self._ports = _PORT_FIRST if self._ports == 0xFFFF else self._ports + 1
            if self._ports not in self.listeners:
                return self._ports


class _Listener:
    """A port where connections arrive."""

    def __init__(self, machine: _Machine, port: int) -> None:
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

    def __init__(self, network: Network, machine: _Machine) -> None:
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
        self._machines: dict[str, _Machine] = {}
        self._links: dict[tuple[str, str], Link] = {}

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
            machine = self._machines[name] = _Machine(name, process)
        elif machine.process is not process:
            self._clear(machine, "reset")
            machine.process = process
        machine.off = False
        for link in self._links_to(name):
            if link.off:
                link.off = False
                self._changed(link, retransmits=True)
        return NodeNetwork(self, machine)

    def link(self, source: str, target: str) -> Link:
        """The link from one node to another."""
        found = self._links.get((source, target))
        if found is None:
            found = self._links[source, target] = Link(self, source, target, self._timing)
            there = self._machines.get(target)
            if there is not None and there.off:
                found.off = True
                self._changed(found)
        return found

    def took_effect(self, fault: str, link: Link) -> None:
        """Count a fault that has changed something."""
        self.counts[fault] += 1
        self.trace.note(fault, link.name)

    # Connecting ---------------------------------------------------------------------------------

    async def connect(
        self, machine: _Machine, address: str, protocol_factory: Factory
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
        here = _End(self, machine, own, (host, port))
        other = _End(self, there, (host, port), own)
        here.out = _Pipe(self, forth, here, other)
        other.out = _Pipe(self, back, other, here)
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

    async def _travel(self, link: Link) -> None:
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
        self, link: Link, *, retransmits: bool = False, since: float | None = None
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

    def _clear(self, machine: _Machine, mark: _Mark | None) -> None:
        machine.listeners.clear()
        for end in list(machine.ends):
            end.out.break_off(mark)
            end.vanish()

    def _links_to(self, name: str) -> list[Link]:
        return [link for (_, target), link in self._links.items() if target == name]
