"""One run: fill the store, warm up, measure, mend, drain, read what is left to read.

Every operation and event goes to `sink` as it ends. However a run ends, what was begun is noted, what
was broken is mended, and why it was cut short is said: such a run counts for nothing. Knows nothing
of files, of terminals, nor of which store, workload or clock it is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from bench.faults import Fault
from bench.history import Event, Line
from bench.load.arriving import LATE, ClosedLoop, Crew, OpenLoop
from bench.load.clock import LoadClock, MonotonicClock
from bench.load.faulting import Faulting, check_faults, watch_trees
from bench.load.filling import fill
from bench.load.progress import Progress, Tally
from bench.load.quorums import asked_of
from bench.load.recorder import Recorder
from bench.load.schedule import SECOND, Span, arrivals, check_load, nanoseconds, span
from bench.load.watch import Lag, LoopWatch
from bench.scenario import Load
from bench.targets.protocol import Setup, Target, TargetFailed
from bench.workloads.protocol import Arrival, Workload

#: Between the last preparation and the begin of the warm-up (ns).
LEAD: Final = SECOND // 20
#: A run counts for nothing if more than this share of its arrivals is begun late.
LATE_SHARE_MAX: Final = 0.01
#: Between two looks at what is out too long (ns).
LOOK: Final = SECOND // 10
#: For the last reads, whatever the workload wants with them; for the end of all that is out (seconds).
FINISH_SECONDS_MAX: Final = 600.0
ENDING_SECONDS_MAX: Final = 5.0
#: Who interrupts a run's end after this long (seconds) breaks it off.
BREAK_OFF_SECONDS: Final = 2.0


class Driven(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was, for its manifest (fields as there). `cut`: why it was cut short, "" if it was
    not; `void` says that too. `ended_late`: operations that the target did not end in time;
    `given_up`: those that could not even be ended; `late`: arrivals of the phase measured that the
    harness itself began late; `lost_contexts`: writes that went without one since
    it was no longer kept; `foreign`: values read that this run had not written. `unfinished`:
    arrivals that were in flight still when the drain was over."""

    began_at: int
    measured: tuple[int, int]
    operations: int
    dropped: int
    in_flight_max: int
    lag_ms_p99: float
    lag_ms_max: float
    cpu_seconds: float
    void: str
    cut: str = ""
    ended_late: int = 0
    given_up: int = 0
    late: int = 0
    lost_contexts: int = 0
    foreign: int = 0
    unfinished: int = 0


async def drive(
    target: Target,
    workload: Workload,
    load: Load,
    *,
    setup: Setup,
    clock: LoadClock,
    sink: Callable[[Line], None],
    seed: int = 1,
    faults: Sequence[Fault] = (),
    live: Callable[[Progress], None] | None = None,
    stop: asyncio.Event | None = None,
    ready: Callable[[], None] | None = None,
) -> Driven:
    """Set the target up and drive `workload` at it. `sink` gets all lines, `live` a look each second,
    `ready` is called once the target is set up. `stop` cuts the run short; so does cancelling, once: the
    run then ends in an orderly way and what it was is returned all the same, void. The harness's own
    lag is watched where the clock is real.

    Raises BadScenario for a load or faults that cannot be carried out; TargetFailed if the target cannot
    be set up, filled, broken or mended; whatever the workload or `sink` raise.
    """
    check_load(load)
    check_faults(faults, load, target)
    run = _Run(
        target,
        workload,
        load,
        setup=setup,
        clock=clock,
        sink=sink,
        seed=seed,
        faults=faults,
        live=live,
    )
    await target.setup(setup)
    run.goes_by(target.properties)
    if ready is not None:
        ready()
    return await run.through(stop)


class _Run:
    """One run: what it consists of, and how far it is."""

    def __init__(
        self,
        target: Target,
        workload: Workload,
        load: Load,
        *,
        setup: Setup,
        clock: LoadClock,
        sink: Callable[[Line], None],
        seed: int,
        faults: Sequence[Fault],
        live: Callable[[Progress], None] | None,
    ) -> None:
        self._target = target
        self._workload = workload
        self._load = load
        self._clock = clock
        self._seed = seed
        self._chance = random.Random(f"{seed} workload")
        self._live = live
        self._tally = Tally()
        self._note = sink if live is None else _both(sink, self._tally.note)
        self._recorder = Recorder(
            target,
            clock,
            self._note,
            replicas=setup.n,
            r=asked_of(setup.properties, "r", setup.n),
            w=asked_of(setup.properties, "w", setup.n),
            timeout=load.timeout,
        )
        self._faulting = Faulting(faults, target, clock, self._note, self._healed)
        real = isinstance(clock, MonotonicClock)
        self._watch = LoopWatch(clock) if real else None
        self._lag = Lag(0, 0.0, 0.0, 0.0)
        #: Tasks of arrivals, and all others.
        self._arriving = Crew(eager=real, failed=self._failed)
        self._helping = Crew(eager=False, failed=self._failed)
        self._open = OpenLoop(clock, self._arriving, self._note, in_flight_max=load.in_flight_max)
        self._began_at = clock.now()
        self._times = span(load, self._began_at)
        self._phase = "load"
        self._unfinished = 0
        self._error: BaseException | None = None
        #: Set when there is nothing more to do, or no more should be done.
        self._ending = asyncio.Event()
        self._trees_seen = asyncio.Event()

    def goes_by(self, properties: Mapping[str, object]) -> None:
        """What the bucket asks for, where a scenario does not say: its type may have other counts than
        the store's default. Raises BadScenario."""
        if properties:
            self._recorder.r = asked_of(properties, "r", self._recorder.replicas)
            self._recorder.w = asked_of(properties, "w", self._recorder.replicas)

    async def through(self, stop: asyncio.Event | None) -> Driven:
        """All of it, up to its orderly end."""
        self._helping.start(self._end_late(), "late operations")
        if self._live is not None:
            self._helping.start(self._tell(self._live), "live")
        if stop is not None:
            self._helping.start(self._end_at(stop), "stop")
        body = asyncio.get_running_loop().create_task(self._body(), name="load")
        body.add_done_callback(lambda _: self._ending.set())
        cut = ""
        try:
            await self._ending.wait()
        except asyncio.CancelledError:
            _go_on()
            cut = "interrupted"
        if not body.done():
            cut = cut or "stopped"
            body.cancel()
        await self._surely_end(body)
        if self._error is not None:
            raise self._error
        return self._driven(cut)

    async def _surely_end(self, body: asyncio.Task[None]) -> None:
        """The orderly end, also for whom interrupts it: only some time later is that meant to break it
        off. A signal may well come twice, from a terminal and from whoever passes it on."""
        ending = asyncio.get_running_loop().create_task(self._end(body), name="end")
        begun = self._clock.now()
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                if self._clock.now() - begun > nanoseconds(BREAK_OFF_SECONDS):
                    ending.cancel()
                    raise
                _go_on()
        ending.result()

    def _failed(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        self._ending.set()

    def _healed(self, at: int) -> None:
        self._recorder.healed_at = at
        self._helping.start(self._see_trees(at), "trees")

    async def _end(self, body: asyncio.Task[None]) -> None:
        """Have all that goes on end, and all be noted."""
        await asyncio.wait((body,))
        if not body.cancelled() and (error := body.exception()) is not None:
            self._failed(error)
        self._arriving.cancel()
        self._helping.cancel()
        until = self._clock.now() + nanoseconds(ENDING_SECONDS_MAX)
        await self._arriving.ended(self._clock, until)
        await self._helping.ended(self._clock, until)
        self._recorder.give_up()
        if failed := await self._faulting.mend_all():
            self._failed(TargetFailed("; ".join(failed)))
        if self._watch is not None:
            self._lag = await self._watch.end()
        if self._live is not None:
            self._look(self._live)

    def _driven(self, cut: str) -> Driven:
        count = self._recorder.count
        return Driven(
            began_at=self._began_at,
            measured=(self._times.measured, self._times.end),
            operations=self._recorder.begun,
            dropped=self._open.dropped,
            in_flight_max=self._arriving.most,
            lag_ms_p99=round(self._lag.p99_ms, 3),
            lag_ms_max=round(self._lag.max_ms, 3),
            cpu_seconds=round(self._lag.cpu_seconds, 3),
            void=f"the run was cut short: {cut}" if cut else self._lag.void() or self._late(),
            cut=cut,
            ended_late=count["ended_late"],
            given_up=count["given_up"],
            late=self._open.late,
            lost_contexts=count["lost_contexts"],
            foreign=count["foreign"],
            unfinished=self._unfinished,
        )

    def _late(self) -> str:
        """Whether too many arrivals were begun late, though the loop itself was not."""
        late, begun = self._open.late, self._open.begun
        if late <= begun * LATE_SHARE_MAX:
            return ""
        return (
            f"the harness did not keep up: {late} of {begun} arrivals were begun more than"
            f" {LATE / 1e6:g} ms late"
        )

    # Its phases -----------------------------------------------------------------------------------

    async def _body(self) -> None:
        load, clock = self._load, self._clock
        own = Arrival(0, clock.now(), load.sessions, "load")
        await fill(self._workload.keys_to_load(), self._recorder, own, load.sessions)
        if self._watch is not None:
            self._watch.prepare()
        self._times = times = span(load, clock.now() + LEAD)
        self._phase = ""
        for work in self._faulting.works(times):
            self._helping.start(work, "fault")
        if self._watch is not None:
            self._helping.start(self._begin_watch(self._watch, times), "loop watch")
        await self._arrive(times)
        await clock.sleep_until(times.end)
        if self._watch is not None:
            self._lag = await self._watch.end()
        self._note(Event(kind="writers_stopped", at=clock.now()))
        self._phase = "drain"
        await self._faulting.over.wait()
        await self._drain()
        self._phase = "after"
        await self._finish()
        await self._trees()

    async def _arrive(self, times: Span) -> None:
        if self._load.loop == "open":
            chance = random.Random(f"{self._seed} arrivals")
            await self._open.run(arrivals(self._load, times, chance, first=1), self._act, times)
        else:
            closed = ClosedLoop(self._clock, self._arriving, sessions=self._load.sessions)
            await closed.run(self._act, times, first=1)

    async def _act(self, arrival: Arrival) -> None:
        try:
            await self._workload.act(arrival, self._recorder, self._chance)
        finally:
            self._recorder.over(arrival)

    async def _drain(self) -> None:
        """Wait for what is in flight; what is not over by then is ended, and noted as it is."""
        until = self._clock.now() + nanoseconds(self._load.drain)
        if await self._arriving.ended(self._clock, until):
            return
        self._unfinished = len(self._arriving)
        self._recorder.note(f"{self._unfinished} arrivals were not over when the drain was")
        self._arriving.cancel()
        ending = self._clock.now() + nanoseconds(ENDING_SECONDS_MAX)
        await self._arriving.ended(self._clock, ending)

    async def _finish(self) -> None:
        load, clock = self._load, self._clock
        after = Arrival(0, clock.now(), load.sessions, "after")
        self._arriving.start(self._workload.finish(self._recorder, after, self._chance), "finish")
        until = clock.now() + nanoseconds(FINISH_SECONDS_MAX)
        if not await self._arriving.ended(clock, until):
            self._recorder.note(f"the last reads were not over after {FINISH_SECONDS_MAX:g} s")
            self._arriving.cancel()

    async def _trees(self) -> None:
        """Give trees the drain's time to become equal, if there was something to heal."""
        until = self._clock.now() + nanoseconds(self._load.drain)
        if not self._recorder.healed or not self._target.capabilities.trees:
            return
        while not self._trees_seen.is_set() and self._clock.now() < until:
            await self._clock.sleep_until(min(until, self._clock.now() + LOOK))

    # Beside them ----------------------------------------------------------------------------------

    async def _see_trees(self, since: int) -> None:
        if self._target.capabilities.trees:
            await watch_trees(self._target, self._clock, self._note, since)
        self._trees_seen.set()

    async def _begin_watch(self, watch: LoopWatch, times: Span) -> None:
        await self._clock.sleep_until(times.measured)
        watch.begin()

    async def _end_late(self) -> None:
        while True:
            await self._clock.sleep_until(self._clock.now() + LOOK)
            self._recorder.end_late()

    async def _end_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._ending.set()

    async def _tell(self, live: Callable[[Progress], None]) -> None:
        due = self._clock.now()
        while True:
            due += SECOND
            await self._clock.sleep_until(due)
            self._look(live)

    def _look(self, live: Callable[[Progress], None]) -> None:
        now = self._clock.now()
        live(
            self._tally.progress(
                second=(now - self._times.measured) / SECOND,
                phase=self._phase or self._times.phase(now),
                in_flight=len(self._arriving),
                dropped=self._open.dropped,
                faults=self._faulting.active,
            )
        )


def _go_on() -> None:
    """This task was cancelled, and goes on all the same, to end in order."""
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()


def _both(first: Callable[[Line], None], second: Callable[[Line], None]) -> Callable[[Line], None]:
    def note(line: Line) -> None:
        first(line)
        second(line)

    return note
