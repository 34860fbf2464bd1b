"""The simulator as a target: the production nodes on a virtual loop, everything from one seed.

The same workloads and the same load drive it; nanoseconds are those of the virtual clock, which jumps
from event to event. A run of a seed gives the same history, byte by byte, in any process. Clients are
on machines of their own, a short way from each node. Knows nothing of loads.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec

from bench.faults import VERBS, Fault
from bench.history import Outcome
from bench.scenario import Cluster as Asked
from bench.scenario import Scenario
from bench.targets.http import are_equal
from bench.targets.protocol import FOREIGN, Capabilities, Reply, Setup, TargetFailed
from bench.targets.sim_delays import Delays
from bench.targets.sim_faults import SimulatedFaults
from bench.targets.sim_settings import changes_of, check_properties, names_of, upkeep_of
from bench.targets.value import decode_value, encode_value
from dynamo.errors import DynamoError
from dynamo.record import Sibling
from dynamo.requests import ReadOptions, Stamps, WriteOptions
from dynamo.sim.chance import stream
from dynamo.sim.cluster import BUCKET, BUCKET_TYPE, Cluster
from dynamo.sim.loop import Deadlock, Livelock, SimLoop, run_virtual
from dynamo.sim.run import quiet

_T = TypeVar("_T")

SECOND: Final = 1_000_000_000
#: A request, and its answer, are so long (seconds, least and most) between a client and a node.
CLIENT_SECONDS: Final = (0.000_05, 0.000_15)
#: How much longer than its timeout a client waits (seconds).
GRACE_SECONDS: Final = 0.5
PARTITIONS: Final = 16
#: Callbacks, after which a run is held to get nowhere; some 10,000 hours of a small load.
STEPS_MAX: Final = 10**12
PROPERTIES_TIMEOUT_MS: Final = 10_000
_STOPS: Final = (signal.SIGINT, signal.SIGTERM)

_ALL: Final = Capabilities(
    verbs=VERBS,
    directed=True,
    stamps=True,
    siblings=True,
    contexts=True,
    wars=True,
    trees=True,
)


class VirtualClock:
    """The clock of a load on a virtual loop."""

    name = "virtual"

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def now(self) -> int:
        """Nanoseconds since the run began."""
        return round(self._loop.time() * SECOND)

    async def sleep_until(self, at: int) -> None:
        """Until then; returns at once if it is past."""
        while self.now() < at:
            passed = asyncio.Event()
            timer = self._loop.call_at(at / SECOND, passed.set)
            try:
                await passed.wait()
            finally:
                timer.cancel()


class SimulatedTarget:
    """The port `Target`; `async with` it, on a virtual loop (`run_simulated`)."""

    name = "sim"

    def __init__(self, asked: Asked, *, seed: int) -> None:
        """Raises TargetFailed for what the simulator cannot be."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop), "a simulated cluster needs a simulated loop"
        self.nodes = names_of(asked)
        changes = changes_of(asked)
        self.cluster = Cluster(
            nodes=self.nodes,
            replicas=asked.n,
            partitions=PARTITIONS,
            seed=seed,
            upkeep=upkeep_of(asked),
            configure=lambda config: msgspec.structs.replace(config, **changes),
        )
        self._loop = loop
        delays = Delays(loop=loop, seed=seed, monotonic=self._monotonic)
        self.cluster.sieve = delays.sieve
        self._faults = SimulatedFaults(self.cluster, delays, asked.slow)
        self.cluster.on_end = self._ended
        #: Nodes that ended by themselves, and why: none should.
        self.failures: list[str] = []
        self._client_chance = stream(seed, "bench clients")
        self._setup = Setup(run="", n=asked.n)
        self._setups = 0
        self._effective: Mapping[str, object] = {}
        self._turn = 0

    @property
    def capabilities(self) -> Capabilities:
        """All that there is."""
        return _ALL

    @property
    def properties(self) -> Mapping[str, object]:
        """As the node shows them that was asked at `setup`."""
        return self._effective

    async def __aenter__(self) -> Self:
        """All nodes are up. Raises TargetFailed."""
        try:
            await self.cluster.__aenter__()
        except TimeoutError as error:
            raise TargetFailed(f"the nodes do not come up: {error}") from None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """No node runs. Raises TargetFailed if one had ended by itself."""
        await self.cluster.__aexit__(kind, error, trace)
        if self.failures and error is None:
            raise TargetFailed("; ".join(self.failures))

    def _ended(self, name: str, error: Exception) -> None:
        self.failures.append(f"node {name} has ended by itself: {error}")

    def _monotonic(self, name: str) -> float:
        clock = self.cluster.nodes[name].clock
        return self._loop.time() if clock is None else clock.monotonic()

    async def setup(self, setup: Setup) -> None:
        """The run's bucket has these properties, through the store's own way. Raises TargetFailed."""
        if setup.n != self.cluster.replicas:
            raise TargetFailed(f"n = {setup.n}, and the cluster has {self.cluster.replicas}")
        check_properties(setup.properties, setup.n)
        # Not the run's own name, which may be of the hour: keys lie where their names say.
        self._setups += 1
        self._setup = msgspec.structs.replace(setup, run=f"run{self._setups}")
        node = self.cluster.nodes[self.nodes[0]]
        if node.process is None or node.services is None:
            raise TargetFailed(f"node {node.name} is down")
        services, given = node.services, setup.properties
        timeout_ms = PROPERTIES_TIMEOUT_MS

        async def change() -> None:
            await services.reset_properties(BUCKET_TYPE, BUCKET, timeout_ms)
            if given:
                await services.set_properties(BUCKET_TYPE, BUCKET, given, timeout_ms)

        try:
            await node.process.spawn(change())
            self._effective = services.properties(BUCKET_TYPE, BUCKET)
        except DynamoError as error:
            raise TargetFailed(f"properties: {error}") from None

    # Clients ------------------------------------------------------------------------------------

    async def write(
        self,
        key: str,
        version: int,
        *,
        context: bytes = b"",
        w: int | None = None,
        coordinator: int | None = None,
        elements: tuple[int, ...] = (),
        timeout: float = 10.0,
    ) -> Reply:
        """As `Target.write`; `seen`: all that the returned context covers."""
        name, stamps = self._coordinator(coordinator), Stamps()
        options = WriteOptions(
            w="default" if w is None else w,
            timeout_ms=_milliseconds(timeout),
            returnbody=True,
            stamps=stamps,
        )
        setup = self._setup
        value = encode_value(setup.run, version, elements, setup.value_bytes)
        work = self.cluster.write(name, self._key(key), value, context, options)
        try:
            written = await self._ask(name, work, timeout)
        except (_Gone, DynamoError, TimeoutError) as error:
            return Reply(_outcome(error), name, why=_why(error))
        return self._reply(
            name, written.siblings, written.context, stamps, fallbacks=written.fallback_acks
        )

    async def read(
        self,
        key: str,
        *,
        r: int | None = None,
        coordinator: int | None = None,
        replica: int | None = None,
        timeout: float = 10.0,
    ) -> Reply:
        """As `Target.read`; `replica`: straight from its own copy."""
        asked = coordinator if replica is None else replica
        name, stamps = self._coordinator(asked), Stamps()
        options = ReadOptions(
            r="default" if r is None else r,
            timeout_ms=_milliseconds(timeout),
            stamps=stamps,
            local=replica is not None,
        )
        work = self.cluster.read(name, self._key(key), options)
        try:
            found = await self._ask(name, work, timeout)
        except (_Gone, DynamoError, TimeoutError) as error:
            return Reply("fail", name, why=_why(error))
        return self._reply(name, found.siblings, found.context, stamps)

    async def _ask(self, name: str, work: Coroutine[Any, Any, _T], timeout: float) -> _T:
        """What the request gives, there and back. Raises what it raises, _Gone if it certainly was not
        made, TimeoutError if no answer came."""
        try:
            async with asyncio.timeout(timeout + GRACE_SECONDS):
                await self._travel()
                if not self.cluster.nodes[name].is_up:
                    raise _Gone(f"node {name} is down")
                answer = await work
                await self._travel()
                return answer
        finally:
            work.close()  # it may never have begun

    async def _travel(self) -> None:
        await asyncio.sleep(self._client_chance.uniform(*CLIENT_SECONDS))

    def _coordinator(self, asked: int | None) -> str:
        """Where nobody is named, each that is up in turn."""
        if asked is not None:
            return self.nodes[asked]
        up = self.cluster.up or self.nodes
        self._turn += 1
        return up[self._turn % len(up)]

    def _key(self, key: str) -> bytes:
        # The simulator has properties of its own for some keys: none begins with a slash.
        return f"/{self._setup.run}/{key}".encode()

    def _reply(
        self,
        name: str,
        siblings: Iterable[Sibling],
        context: bytes,
        stamps: Stamps,
        *,
        fallbacks: int = 0,
    ) -> Reply:
        run = self._setup.run
        values = [decode_value(run, sibling.read().value) for sibling in siblings]
        own = [value for value in values if value.version != FOREIGN]
        elements = {element for value in own for element in value.elements}
        return Reply(
            "ok",
            name,
            seen=tuple(value.version for value in own),
            context=context,
            elements=tuple(sorted(elements)),
            began=round(stamps.began * SECOND),
            committed=round(stamps.committed * SECOND),
            fallbacks=fallbacks,
            foreign=len(values) - len(own),
        )

    # Faults -------------------------------------------------------------------------------------

    async def fault(self, fault: Fault) -> None:
        """As `Target.fault`; when it returns it is so, and a node that was restarted is ready."""
        await self._faults.begin(fault)

    async def mend(self, fault: Fault) -> None:
        """As `Target.mend`; when it returns the nodes are ready again. What another fault does goes
        on."""
        await self._faults.end(fault)

    async def image(self, fault: Fault) -> None:
        """Copies are taken of the disks that this "restore" puts back: of what is synced."""
        self._faults.take_images(fault)

    # What nodes say ------------------------------------------------------------------------------

    async def trees_equal(self) -> bool | None:
        """Whether all have the same in each partition, and no tree is being built; not while a node is
        down or stands still, which could not say."""
        found = [self.cluster.nodes[name] for name in self.nodes]
        if not all(node.state == "up" for node in found):
            return False
        roots = [node.services.roots() for node in found if node.services is not None]
        return are_equal([msgspec.to_builtins(one) for one in roots])

    async def wars(self) -> bytes | None:
        """What each node that is up has measured, as `GET /admin/wars` of it would say."""
        told = [
            services.wars()
            for name in self.cluster.up
            if (services := self.cluster.nodes[name].services) is not None
            and self.cluster.nodes[name].state == "up"
        ]
        return msgspec.json.encode(told)


class _Gone(Exception):
    """The request was not made: nobody was there."""


def _milliseconds(timeout: float) -> int:
    return max(1, round(timeout * 1000))


def _outcome(error: Exception) -> Outcome:
    """Of a write. A node that has gone may have done it."""
    if isinstance(error, _Gone) or (isinstance(error, DynamoError) and error.outcome == "none"):
        return "fail"
    return "unknown"


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{error.code}: {error}" if isinstance(error, DynamoError) else str(error)


Main = Callable[[SimulatedTarget, VirtualClock], Awaitable[_T]]


def run_simulated(asked: Asked, seed: int, main: Main[_T]) -> _T:
    """What the coroutine gives that `main` makes of a target that is up and the clock that goes with
    it, in virtual time: the same at every call. Raises what it raises, and TargetFailed for a cluster
    that cannot be simulated or gets nowhere."""

    async def body() -> _T:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        async with SimulatedTarget(asked, seed=seed) as target:
            return await main(target, VirtualClock(loop))

    with quiet():
        try:
            return run_virtual(body(), random=stream(seed, "bench loop"), steps_max=STEPS_MAX)
        except (Deadlock, Livelock) as error:
            raise TargetFailed(f"the simulation gets nowhere: {error}") from None


def simulate(scenario: Scenario, body: Main[_T]) -> _T:
    """What `body` gives on the cluster of a scenario, by its seed. SIGINT and SIGTERM cancel it; it may
    end in an orderly way all the same. Raises as `run_simulated`."""

    async def main(target: SimulatedTarget, clock: VirtualClock) -> _T:
        task = asyncio.current_task()
        assert task is not None
        with _cancelled_by_signals(task):
            return await body(target, clock)

    return run_simulated(scenario.cluster, scenario.seed, main)


@contextmanager
def _cancelled_by_signals(task: asyncio.Task[Any]) -> Iterator[None]:
    """A virtual loop watches no signals itself. Python hears them in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: task.cancel()) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
