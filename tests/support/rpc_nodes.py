"""Transports on real sockets, gates that keep what they were told, clocks that tests can drive."""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from dynamo.metrics import Metrics
from dynamo.ports import Call, Clock, Failure, Handler, Timer
from dynamo.precise import make_alarm
from dynamo.rpc.fault_injection import FaultInjection
from dynamo.rpc.handshake import Greeting, Refusal
from dynamo.rpc.messages import Ping, Pong, Reply, Request
from dynamo.rpc.network import Network
from dynamo.rpc.peers import PeerTransport
from dynamo.rpc.tcp import TcpNetwork

SECRET = b"the secret of the test cluster.."


class FastClock:
    """The loop's clock, `scale` times as fast: ten seconds of patience end in ten / scale."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def monotonic(self) -> float:
        return time.monotonic() * self.scale

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def wall_ns(self) -> int:
        return time.time_ns()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(delay / self.scale, callback)


class _ManualTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, _ManualTimer]] = []
        self._made = 0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return int(self.now * 1000)

    def wall_ns(self) -> int:
        return int(self.now * 1e9)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = _ManualTimer(callback)
        self._made += 1
        heapq.heappush(self._timers, (self.now + delay, self._made, timer))
        return timer

    @property
    def armed(self) -> int:
        """Timers that are due some time."""
        return sum(timer.callback is not None for _, _, timer in self._timers)

    def advance(self, seconds: float) -> None:
        """Run everything that is due within `seconds`, in order."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, due)
            if timer.callback is not None:
                timer.callback()
        self.now = end


class Answers:
    """A waiter that keeps what it was told."""

    def __init__(self) -> None:
        self.replies: list[tuple[str, Reply]] = []
        self.failures: list[tuple[str, Failure]] = []
        self.changed = asyncio.Event()

    def on_reply(self, node: str, reply: Reply) -> None:
        self.replies.append((node, reply))
        self.changed.set()

    def on_failure(self, node: str, failure: Failure) -> None:
        self.failures.append((node, failure))
        self.changed.set()

    @property
    def kinds(self) -> list[str]:
        return [failure.kind for _, failure in self.failures]

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.replies) + len(self.failures) < count:
                self.changed.clear()
                await self.changed.wait()


class ListGate:
    """Admits everyone but those in `refusals` (node id -> refusal); keeps a log of events."""

    def __init__(self, node_id: str, *, cluster_id: str = "c1", start: int = 1) -> None:
        self.node_id = node_id
        self.cluster_id = cluster_id
        self.start = start
        self.address = "unset:0"
        self.refusals: dict[str, Refusal] = {}
        self.events: list[str] = []
        self.told: list[Refusal] = []

    def greeting(self) -> Greeting:
        return Greeting(
            self.cluster_id, self.node_id, self.start, 7, 1, b"ring", self.address, "d", "r", "h"
        )

    def admit(self, greeting: Greeting) -> Refusal | None:
        return self.refusals.get(greeting.node_id)

    def refused(self, address: str, refusal: Refusal) -> None:
        self.told.append(refusal)

    def connected(self, greeting: Greeting) -> None:
        self.events.append(f"+{greeting.node_id}")

    def disconnected(self, node_id: str) -> None:
        self.events.append(f"-{node_id}")


class PeerNode:
    """A transport with its gate, counters and an executed-requests log; answers Ping."""

    def __init__(
        self,
        node_id: str,
        *,
        secret: bytes = SECRET,
        cluster_id: str = "c1",
        start: int = 1,
        scale: float = 1.0,
        handlers: dict[type, Handler] | None = None,
        network: Network | None = None,
        clock: Clock | None = None,
        chance: random.Random | None = None,
        injects: bool = False,
    ) -> None:
        """`injects`: faults can be injected into its messages; for use inside the running loop."""
        self.gate = ListGate(node_id, cluster_id=cluster_id, start=start)
        self.metrics = Metrics()
        self.count = self.metrics.count
        self.executed: list[Request] = []
        self.node_id = node_id
        clock = clock or FastClock(scale)
        self.faults = (
            FaultInjection(
                make_alarm=make_alarm,
                chance=chance or random.Random(1),
                clock=clock,
                metrics=self.metrics,
            )
            if injects
            else None
        )
        self.transport = PeerTransport(
            node_id=node_id,
            secret=secret,
            gate=self.gate,
            network=network or TcpNetwork(),
            clock=clock,
            random=chance or random.SystemRandom(),
            metrics=self.metrics,
            handlers={Ping: self._pong} if handlers is None else handlers,
            faults=self.faults,
        )

    @property
    def address(self) -> str:
        return self.gate.address

    def _pong(self, request: Request, call: Call) -> None:
        self.executed.append(request)
        call.reply(Pong())

    async def start(self, address: str = "127.0.0.1:0") -> None:
        self.gate.address = await self.transport.start(address)

    async def ping(self, node_id: str) -> Answers:
        answers = Answers()
        self.transport.request([node_id], Ping(1000), answers, 1.0)
        await answers.wait(1)
        return answers


@asynccontextmanager
async def running(*nodes: PeerNode) -> AsyncIterator[None]:
    """Start nodes on free ports; close them, and leave no task behind."""
    before = asyncio.all_tasks()
    for node in nodes:
        await node.start()
    try:
        yield
    finally:
        for node in nodes:
            await node.transport.close()
        assert asyncio.all_tasks() <= before


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
