"""Delays of messages between simulated nodes, of each leg by its distribution, as a scenario says.

Between a node's transport and its handlers: a request is carried out so much later, and answered so
much later, each drawn by itself, so that one message may overtake another. What a node says to itself is
not delayed. Knows nothing of what the messages are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from dynamo.ports import Call, Handler
from dynamo.rpc.fault_rules import DELAY_MS_MAX, FaultRules, Leg
from dynamo.rpc.messages import Fetch, Mint, Reply, Store
from dynamo.sim.chance import stream
from dynamo.sim.loop import SimLoop

#: There and back.
_LEGS: Final[Mapping[type, tuple[Leg, Leg]]] = {
    Mint: ("W", "A"),
    Store: ("W", "A"),
    Fetch: ("R", "S"),
}
_ANY: Final[tuple[Leg, Leg]] = ("*", "*")
_NO_RULES: Final = FaultRules()
#: Between two answers to one request.
_ORDER_SECONDS: Final = 1e-9


class Delays:
    """Of a whole cluster. `monotonic`: seconds of a node's clock, by its name."""

    def __init__(self, *, loop: SimLoop, seed: int, monotonic: Callable[[str], float]) -> None:
        self.loop = loop
        self.monotonic = monotonic
        self._seed = seed
        self._rules: dict[str, FaultRules] = {}
        self._active = False
        self._chance = stream(seed, "delays")

    def set(self, rules: Mapping[str, FaultRules]) -> None:
        """From now on, of each node that sends. What is under way comes when it was to."""
        self._rules = dict(rules)
        self._active = any(one.delays for one in rules.values())

    def sieve(self, node: str, handlers: Mapping[type, Handler]) -> Mapping[type, Handler]:
        """The handlers of a node, behind the delays. What `handlers` is given later counts."""
        return _Delayed(self, node, handlers)

    @property
    def active(self) -> bool:
        """Whether anything may be late."""
        return self._active

    def draw(self, source: str, target: str, leg: Leg) -> float:
        """Seconds."""
        rules = self._rules.get(source, _NO_RULES)
        return min(rules.draw(target, leg, self._chance), DELAY_MS_MAX) / 1000


class _Delayed(Mapping[type, Handler]):
    """Handlers behind delays."""

    def __init__(self, delays: Delays, node: str, handlers: Mapping[type, Handler]) -> None:
        self._delays = delays
        self._node = node
        self._handlers = handlers

    def __getitem__(self, kind: type) -> Handler:
        handler = self._handlers[kind]
        return self._receive if self._delays.active else handler

    def __iter__(self) -> Iterator[type]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)

    def _receive(self, request: Any, call: Call) -> None:
        delays, node, peer = self._delays, self._node, call.peer
        if peer == node:
            self._handlers[type(request)](request, call)
            return
        there, back = _LEGS.get(type(request), _ANY)
        late = _LateCall(delays, node, call, back)
        seconds = delays.draw(peer, node, there)
        if seconds:
            # The timer belongs to the process of the receiver, and dies with it.
            delays.loop.call_later(seconds, partial(self._carry_out, request, late))
        else:
            self._handlers[type(request)](request, late)

    def _carry_out(self, request: Any, call: _LateCall) -> None:
        """As if it came now: its time counts from its arrival."""
        handler = self._handlers.get(type(request))
        if handler is not None:
            call.deadline = self._delays.monotonic(self._node) + request.deadline_ms / 1000
            handler(request, call)


class _LateCall:
    """A call whose answers take their time; those of one request keep their order."""

    __slots__ = ("_call", "_delays", "_due", "_leg", "_node", "deadline", "peer")

    def __init__(self, delays: Delays, node: str, call: Call, leg: Leg) -> None:
        self._delays = delays
        self._node = node
        self._call = call
        self._leg = leg
        self._due = 0.0
        self.peer = call.peer
        self.deadline = call.deadline

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """Answer, when it is time."""
        delays = self._delays
        now = delays.loop.time()
        due = max(self._due, now + delays.draw(self._node, self.peer, self._leg))
        if due <= now:
            self._call.reply(reply, last=last)
            return
        # Timers of one instant run in an order that is drawn: answers must not.
        self._due = due + _ORDER_SECONDS
        delays.loop.call_at(due, partial(self._call.reply, reply, last=last))
