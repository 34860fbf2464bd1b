"""The client that workloads act through: sends each operation to the target and notes what came of it.

It gives write ids, operation numbers and groups, keeps the contexts that a later write may hand back,
and ends operations that a target does not end itself: a write that got no answer is unknown, a read
failed. Every operation begun is noted exactly once, also when the run is cut short. Knows nothing of
schedules.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple

from bench.history import Event, Kind, Line, Op, Outcome, Phase
from bench.load.clock import LoadClock
from bench.load.schedule import SECOND
from bench.targets.protocol import Reply, Target
from bench.workloads.protocol import Arrival

#: What is kept for writes that come `after` something; the oldest go first, counted.
CONTEXTS_MAX: Final = 50_000
CONTEXTS_BYTES_MAX: Final = 64 * 1024 * 1024
#: How much longer than its timeout an operation may take before it is ended from here (seconds).
GRACE: Final = 1.0

#: What is done in these phases is due when it is done.
_UNSCHEDULED: Final = frozenset[Phase](("load", "after"))
_WITHOUT_ANSWER: Final[dict[Kind, Outcome]] = {"read": "fail", "write": "unknown"}


class Ask(NamedTuple):
    """An operation as it is begun: what is known of it before its answer. Fields as of `Op`; `quorum`:
    r of a read, w of a write."""

    n: int
    arrival: Arrival
    session: int
    kind: Kind
    key: str
    intended: int
    start: int
    write: int = 0
    bases: tuple[int, ...] = ()
    group: int = 0
    target: str = ""
    offset: int = -1
    quorum: int = 0


class _Flight(NamedTuple):
    ask: Ask
    task: asyncio.Task[Any] | None


class Recorder:
    """The `Client` of one run. `sink` gets each operation as it ends. `r`, `w`: what the bucket asks for
    where an operation says nothing else; they are noted, the target knows them itself. `timeout`: of
    each operation, seconds.

    `count`: "ended_late" (operations ended from here), "lost_contexts" (writes that came after
    something whose context was no longer kept), "foreign" (values read that nobody here wrote).
    """

    def __init__(
        self,
        target: Target,
        clock: LoadClock,
        sink: Callable[[Line], None],
        *,
        replicas: int,
        r: int,
        w: int,
        timeout: float,
        grace: float = GRACE,
    ) -> None:
        self.nodes = len(target.nodes)
        self.replicas = replicas
        self.count: Counter[str] = Counter()
        #: Operations begun.
        self.begun = 0
        #: To be set by who mends.
        self.healed_at = 0
        #: What a bucket asks for, where an operation does not say; to be set by who knows better.
        self.r = r
        self.w = w
        self._target = target
        self._names = target.nodes
        self._clock = clock
        self._sink = sink
        self._timeout = timeout
        self._limit = round((timeout + grace) * SECOND)
        self._contexts = _Contexts() if target.capabilities.contexts else None
        self._write_ids = 0
        self._groups = 0
        #: By number, in the order of their starts. `_late`: those that are being ended from here.
        self._flights: dict[int, _Flight] = {}
        #: Arrivals of a schedule that are going on and have had an answer: what they ask now follows
        #: from it, and is due when it is asked.
        self._answered: set[int] = set()
        self._late: set[int] = set()

    @property
    def in_flight(self) -> int:
        """Operations that wait for their answers."""
        return len(self._flights)

    def now(self) -> int:
        """Nanoseconds of the run's clock."""
        return self._clock.now()

    def new_group(self) -> int:
        """A number that ties operations together."""
        self._groups += 1
        return self._groups

    @property
    def healed(self) -> int:
        """When the last fault was over (ns), 0 before."""
        return self.healed_at

    def note(self, told: str) -> None:
        """An event "note"."""
        self._sink(Event(kind="note", at=self._clock.now(), told=told))

    async def sleep_until(self, at: int) -> None:
        """Until then (ns)."""
        await self._clock.sleep_until(at)

    async def write(
        self,
        arrival: Arrival,
        key: str,
        *,
        due: int | None = None,
        after: Op | None = None,
        coordinator: int | None = None,
        w: int | None = None,
        group: int = 0,
        elements: tuple[int, ...] | None = None,
        session: int | None = None,
    ) -> Op:
        """Write a new version, and note it; see `bench.workloads.protocol.Client`."""
        self._write_ids = version = self._write_ids + 1
        context, bases = self._past(after) if after is not None else (b"", ())
        self.begun = n = self.begun + 1
        start = self._clock.now()
        ask = Ask(
            n,
            arrival,
            arrival.session if session is None else session,
            "write",
            key,
            self._due(arrival, start) if due is None else due,
            start,
            version,
            bases,
            group,
            quorum=self.w if w is None else w,
        )
        return await self._carry_out(
            ask,
            self._target.write(
                key,
                version,
                context=context,
                w=w,
                coordinator=coordinator,
                elements=() if elements is None else (*elements, version),
                timeout=self._timeout,
            ),
        )

    async def read(
        self,
        arrival: Arrival,
        key: str,
        *,
        due: int | None = None,
        coordinator: int | None = None,
        replica: int | None = None,
        r: int | None = None,
        group: int = 0,
        offset: int = -1,
        session: int | None = None,
    ) -> Op:
        """Read, and note it; see `bench.workloads.protocol.Client`."""
        self.begun = n = self.begun + 1
        start = self._clock.now()
        ask = Ask(
            n,
            arrival,
            arrival.session if session is None else session,
            "read",
            key,
            self._due(arrival, start) if due is None else due,
            start,
            group=group,
            target="" if replica is None else self._names[replica],
            offset=offset,
            quorum=1 if replica is not None else self.r if r is None else r,
        )
        return await self._carry_out(
            ask,
            self._target.read(
                key, r=r, coordinator=coordinator, replica=replica, timeout=self._timeout
            ),
        )

    def _due(self, arrival: Arrival, start: int) -> int:
        """The first operation of an arrival is due when that is, however late it comes to start; so are
        those beside it."""
        if arrival.phase in _UNSCHEDULED or arrival.number in self._answered:
            return start
        return arrival.due

    def over(self, arrival: Arrival) -> None:
        """To be called at the end of each arrival of a schedule."""
        self._answered.discard(arrival.number)

    async def _carry_out(self, ask: Ask, asking: Coroutine[Any, Any, Reply]) -> Op:
        task = asyncio.current_task()
        flights = self._flights
        flights[ask.n] = _Flight(ask, task)
        try:
            reply = await asking
        except asyncio.CancelledError:
            if ask.n not in self._late or task is None or task.uncancel() > 0:
                self._end(ask, _without_answer(ask, "the run ended before it was answered"))
                raise
            reply = _without_answer(ask, f"no answer within {self._limit / SECOND:g} s")
        except BaseException as error:
            self._end(ask, _without_answer(ask, f"the harness failed: {error!r}"))
            raise
        return self._end(ask, reply)

    def _end(self, ask: Ask, reply: Reply) -> Op:
        """Note it, unless it was given up before."""
        op = self._op(ask, reply)
        self._late.discard(ask.n)
        if ask.arrival.phase not in _UNSCHEDULED:
            self._answered.add(ask.arrival.number)
        if self._flights.pop(ask.n, None) is not None:
            if reply.foreign:
                self.count["foreign"] += reply.foreign
            if reply.context and self._contexts is not None:
                self._contexts.keep(ask.n, _Kept(reply.context, reply.seen))
            self._sink(op)
        return op

    def _op(self, ask: Ask, reply: Reply) -> Op:
        is_read = ask.kind == "read"
        return Op(
            n=ask.n,
            session=ask.session,
            kind=ask.kind,
            key=ask.key,
            intended=ask.intended,
            start=ask.start,
            end=self._clock.now(),
            outcome=reply.outcome,
            write=ask.write,
            bases=ask.bases,
            seen=reply.seen if is_read else (),
            elements=reply.elements if is_read else (),
            r=ask.quorum if is_read else 0,
            w=0 if is_read else ask.quorum,
            coordinator=reply.coordinator,
            began=reply.began,
            committed=reply.committed,
            phase=ask.arrival.phase,
            group=ask.group,
            target=ask.target,
            offset=ask.offset,
            fallbacks=reply.fallbacks,
            why=reply.why,
        )

    def _past(self, after: Op) -> tuple[bytes, tuple[int, ...]]:
        """The context to hand back, and the versions that it covers. Without a context the store does
        not know that they were seen: the write then covers none."""
        if self._contexts is None:
            return b"", _seen_by(after) if after.outcome == "ok" else ()
        kept = self._contexts.of(after.n)
        if kept is not None:
            return kept.context, kept.covers or _seen_by(after)
        if after.n <= self._contexts.dropped_up_to:
            self.count["lost_contexts"] += 1
        return b"", ()

    def end_late(self) -> None:
        """End what is out longer than its timeout and the grace. To be called now and then."""
        before = self._clock.now() - self._limit
        for n, flight in self._flights.items():
            if flight.ask.start > before:
                return
            if n not in self._late and flight.task is not None:
                self._late.add(n)
                self.count["ended_late"] += 1
                flight.task.cancel()

    def give_up(self) -> None:
        """Note all that is still out as unanswered; what comes of it later is not noted."""
        for flight in list(self._flights.values()):
            self.count["given_up"] += 1
            self._end(flight.ask, _without_answer(flight.ask, "given up as the run ended"))


def _without_answer(ask: Ask, why: str) -> Reply:
    return Reply(_WITHOUT_ANSWER[ask.kind], why=why)


def _seen_by(op: Op) -> tuple[int, ...]:
    return op.seen if op.kind == "read" else (op.write,)


class _Kept(NamedTuple):
    """`covers`: versions, where the answer said which."""

    context: bytes
    covers: tuple[int, ...]


class _Contexts:
    """Contexts by the number of the operation that brought them: the newest, within two bounds."""

    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}
        self._bytes = 0
        #: The highest number whose context was dropped.
        self.dropped_up_to = 0

    def keep(self, n: int, kept: _Kept) -> None:
        self._kept[n] = kept
        self._bytes += len(kept.context)
        while len(self._kept) > CONTEXTS_MAX or self._bytes > CONTEXTS_BYTES_MAX:
            oldest = next(iter(self._kept))
            self._bytes -= len(self._kept.pop(oldest).context)
            self.dropped_up_to = max(self.dropped_up_to, oldest)

    def of(self, n: int) -> _Kept | None:
        return self._kept.get(n)
