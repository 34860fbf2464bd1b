"""Faults of whole messages, between a node's transport and its handlers: lost, late, done again.

What a byte stream cannot do, a node must stand all the same: a peer that is restored from a copy
says old things again, a scheduler lets one message overtake another. A Mint is at most done late:
the transport promises not to do it twice. What a node says to itself is left alone. Where the proof
rests on it that frames are carried out in order and once (`in_order`, reaping), a Ping waits for what
came before it, however late that is, and nothing of before comes again after it.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from dynamo.ports import Call, Clock, Handler
from dynamo.rpc.messages import (
    AskProperties,
    AskRing,
    Deliver,
    Fetch,
    Gossip,
    Owe,
    Ping,
    Reply,
    Request,
    Scan,
    Store,
    StoreProperties,
)
from dynamo.sim.chance import stream
from dynamo.sim.loop import SimLoop
from dynamo.sim.trace import Trace

#: What may be done twice.
REPEATABLE: Final = (
    *(Store, Fetch, Scan, Ping, AskRing, StoreProperties, AskProperties),
    *(Owe, Deliver, Gossip),
)
#: Messages of a link that can come again.
REPLAY_MESSAGES: Final = 100


class Chances(NamedTuple):
    """How likely each fault is for a message, 0 to 1, and how many seconds it may take."""

    lose: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    replay: float = 0.0
    lose_reply: float = 0.0
    delay_reply: float = 0.0
    #: Of a delay, and until a duplicate is done; of a replay.
    delay_seconds_max: float = 0.5
    replay_seconds_max: float = 5.0

    @property
    def any(self) -> bool:
        """True if there is any fault at all."""
        return any(self[:6])


class MessageFaults:
    """What becomes of the messages that reach `node`. It lives on when the node is restarted.

    `counts`: faults that took effect, by name.
    """

    def __init__(
        self,
        *,
        seed: int,
        node: str,
        loop: SimLoop,
        clock: Clock,
        trace: Trace | None = None,
        in_order: bool = False,
    ) -> None:
        self.in_order = in_order
        self.node = node
        self.loop = loop
        self.clock = clock
        self.counts: Counter[str] = Counter()
        self._seed = seed
        self._trace = trace
        self._chances = Chances()
        self._of_peers: dict[str, Chances] = {}
        self._links: dict[str, _Link] = {}
        #: False if there is nothing to do.
        self.active = False
        #: Messages that are late, of all peers.
        self.late = 0

    def __repr__(self) -> str:
        peers = "".join(f", {peer}: {chances}" for peer, chances in self._of_peers.items())
        return f"MessageFaults({self.node}, {self._chances if self.active else 'calm'}{peers})"

    def set(self, chances: Chances, *, peer: str | None = None) -> None:
        """The chances from now on, of all messages or of a peer's, which go first."""
        if peer is None:
            self._chances = chances
        else:
            self._of_peers[peer] = chances
        self.active = self._chances.any or any(one.any for one in self._of_peers.values())

    def calm(self) -> None:
        """No faults any more. What is late still comes."""
        self._of_peers.clear()
        self.set(Chances())

    def restarted(self, clock: Clock) -> None:
        """The node has another process: what was late died with the one before."""
        self.clock = clock
        self.late = 0
        for link in self._links.values():
            link.late = 0
            link.pings.clear()

    def chances(self, peer: str) -> Chances:
        """The chances of a peer's messages."""
        return self._of_peers.get(peer, self._chances)

    def wrap(self, handlers: Mapping[type, Handler]) -> Mapping[type, Handler]:
        """The handlers, with the faults before them. What `handlers` is given later counts."""
        return _Faulty(self, handlers)

    def link(self, peer: str) -> _Link:
        """What is kept of the messages of a peer."""
        link = self._links.get(peer)
        if link is None:
            link = self._links[peer] = _Link(stream(self._seed, "messages", peer, self.node))
        return link

    def later(self, peer: str, delay: float, do: Callable[[], None]) -> None:
        """Carry out a message of a peer after so many seconds; then Pings that came behind it."""
        link = self.link(peer)

        def done() -> None:
            do()
            link.late -= 1
            self.late -= 1
            while link.pings and not link.late:
                link.pings.popleft()()

        link.late += 1
        self.late += 1
        self.loop.call_later(delay, done)

    def took_effect(self, fault: str, peer: str, message: object) -> None:
        """Count a fault."""
        self.counts[fault] += 1
        if self._trace is not None:
            self._trace.note(fault, peer, self.node, type(message).__name__)


class _Link:
    """The messages from one peer."""

    def __init__(self, chance: random.Random) -> None:
        self.random = chance
        self.kept: deque[Request] = deque(maxlen=REPLAY_MESSAGES)
        #: How many of them are late, and Pings that wait for those.
        self.late = 0
        self.pings: deque[Callable[[], None]] = deque()


class _Faulty(Mapping[type, Handler]):
    """Handlers behind faults."""

    def __init__(self, faults: MessageFaults, handlers: Mapping[type, Handler]) -> None:
        self._faults = faults
        self._handlers = handlers

    def __getitem__(self, kind: type) -> Handler:
        handler = self._handlers[kind]
        faults = self._faults
        # In order, a Ping ends what may come again, also while there is no fault.
        is_seen = faults.active or (faults.in_order and (faults.late or kind is Ping))
        return self._receive if is_seen else handler

    def __iter__(self) -> Iterator[type]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)

    def _receive(self, request: Any, call: Call) -> None:
        faults, peer = self._faults, call.peer
        if peer == faults.node:
            self._handlers[type(request)](request, call)
            return
        chances, link = faults.chances(peer), faults.link(peer)
        is_bar = faults.in_order and type(request) is Ping
        if is_bar:
            link.kept.clear()
            if link.late:
                link.pings.append(partial(self._execute_late, request, call))
                return
        draw = link.random.random
        if draw() < chances.replay and link.kept:
            old = link.kept[link.random.randrange(len(link.kept))]
            self._again("replay", old, peer, draw() * chances.replay_seconds_max)
        repeatable = isinstance(request, REPEATABLE)
        if repeatable and not is_bar:
            link.kept.append(request)
        if chances.lose_reply or chances.delay_reply:
            call = _FaultyCall(faults, link, chances, call)
        drawn = draw()
        if drawn < chances.lose:
            faults.took_effect("lose", peer, request)
            return
        drawn -= chances.lose
        if drawn < chances.delay:
            faults.took_effect("delay", peer, request)
            delay = draw() * chances.delay_seconds_max
            faults.later(peer, delay, partial(self._execute_late, request, call))
            return
        drawn -= chances.delay
        if repeatable and drawn < chances.duplicate:
            self._again("duplicate", request, peer, draw() * chances.delay_seconds_max)
        self._handlers[type(request)](request, call)

    def _again(self, fault: str, request: Request, peer: str, delay: float) -> None:
        """Do it once more, later: in this process, so not if it dies first."""
        self._faults.took_effect(fault, peer, request)
        self._faults.later(peer, delay, partial(self._execute_late, request, _MuteCall(peer)))

    def _execute_late(self, request: Request, call: Call) -> None:
        """Do it as if it came now: its time counts from its arrival."""
        handler = self._handlers.get(type(request))
        if handler is None:
            return
        deadline = self._faults.clock.monotonic() + request.deadline_ms / 1000
        handler(request, _LateCall(call, deadline))


class _MuteCall:
    """A call that nobody made: its replies go nowhere."""

    __slots__ = ("deadline", "peer")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.deadline = 0.0

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """Nobody waits for it."""


class _LateCall:
    """A call whose message took its time."""

    __slots__ = ("_call", "deadline", "peer")

    def __init__(self, call: Call, deadline: float) -> None:
        self._call = call
        self.peer = call.peer
        self.deadline = deadline

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """Answer, if somebody still waits."""
        self._call.reply(reply, last=last)


class _FaultyCall:
    """A call whose replies may be lost or late; those that arrive keep their order."""

    __slots__ = ("_call", "_chances", "_faults", "_late", "_link", "deadline", "peer")

    def __init__(self, faults: MessageFaults, link: _Link, chances: Chances, call: Call) -> None:
        self._faults = faults
        self._link = link
        self._chances = chances
        self._call = call
        self._late: deque[tuple[Reply, bool]] = deque()
        self.peer = call.peer
        self.deadline = call.deadline

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """Answer, perhaps."""
        chances, faults = self._chances, self._faults
        draw = self._link.random.random
        drawn = draw()
        if drawn < chances.lose_reply:
            faults.took_effect("lose_reply", self.peer, reply)
        elif self._late or drawn - chances.lose_reply < chances.delay_reply:
            faults.took_effect("delay_reply", self.peer, reply)
            self._late.append((reply, last))
            faults.loop.call_later(draw() * chances.delay_seconds_max, self._send_next)
        else:
            self._call.reply(reply, last=last)

    def _send_next(self) -> None:
        reply, last = self._late.popleft()
        self._call.reply(reply, last=last)
