"""A byte stream between two simulated nodes, as TCP makes it for who uses it: two pipes, an end each.

In a pipe nothing overtakes, nothing is lost and nothing is changed, unless its link says so. Callbacks
of a node's protocols run in its process. Knows nothing of what flows, or of how links become faulty.

Not simulated: keep-alive of idle streams, half-closed streams, the receiver's window.
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol, cast

from dynamo.rpc.tcp import UNACKNOWLEDGED_SECONDS, join_address
from dynamo.sim.link import Link
from dynamo.sim.loop import Process, SimLoop, SimTimer
from dynamo.sim.trace import Trace

Factory = Callable[[], asyncio.Protocol]
#: What can be in a pipe besides bytes.
Mark = Literal["open", "eof", "reset"]

#: What a machine takes of a node's bytes at once: a transport that is closed is done with these.
SOCKET_BYTES: Final = 200_000
#: The longest chunk that is kept to be replayed.
REPLAY_BYTES_MAX: Final = 1 << 12
#: Pieces that a chunk is delivered in at most, where it dribbles.
DRIBBLE_PIECES_MAX: Final = 32
#: What `swap` waits for the second chunk.
SWAP_SECONDS: Final = 0.05
_READ_BYTES: Final = 1 << 18
_HIGH_WATER: Final = 1 << 16
_PORT_FIRST: Final = 49_152


class Fabric(Protocol):
    """What streams are made on: the network."""

    loop: SimLoop
    trace: Trace
    counts: Counter[str]

    def took_effect(self, fault: str, link: Link[Pipe]) -> None:
        """A fault has changed something."""
        ...


class Pipe:
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

    back: Pipe

    def __init__(self, network: Fabric, link: Link[Pipe], source: End, target: End) -> None:
        self.network = network
        self.loop = network.loop
        self.link = link
        self.source = source
        self.target = target
        #: Bytes that are under way.
        self.waiting = 0
        #: Nothing more goes in: its end is in it.
        self.ended = False
        self._queue: deque[tuple[float, bytes | Mark]] = deque()
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

    def mark(self, mark: Mark) -> None:
        """Send what is no bytes, after all that was sent; an end is the last."""
        if self.ended:
            return
        self._put_swapped()
        self.ended = mark != "open"
        self._due_last = max(self._due_last, self.loop._now + self.link.delay())
        self._queue.append((self._due_last, mark))
        if self._armed is None:
            self._arm()

    def break_off(self, mark: Mark | None, *, process_died: bool = False) -> None:
        """Lose what is under way from some byte on, and everything later; then the mark. What a process
        has handed to its machine before it died is as likely to arrive whole."""
        self._swapped = None
        chance, waiting = self.link.random, self.waiting
        left = chance.randint(0, waiting)
        if process_died:
            left = chance.choice((0, left, waiting, waiting))
        kept: deque[tuple[float, bytes | Mark]] = deque()
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


class End(asyncio.Transport):
    """One end of a stream, as the node has it."""

    out: Pipe

    def __init__(
        self, network: Fabric, machine: Machine, own: tuple[str, int], peer: tuple[str, int]
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

    def receive_mark(self, mark: Mark) -> None:
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


class Machine:
    """What a node runs on."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.process = process
        self.listeners: dict[int, Factory] = {}
        self.ends: dict[End, None] = {}
        #: It has no power.
        self.off = False
        self._ports = _PORT_FIRST - 1

    def free_port(self) -> int:
        """A port where nobody listens; the one after the last, around and around."""
        while True:
            self._ports = _PORT_FIRST if self._ports == 0xFFFF else self._ports + 1
            if self._ports not in self.listeners:
                return self._ports
