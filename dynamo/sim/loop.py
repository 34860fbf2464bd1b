"""An event loop whose time jumps to the next timer, and processes in it that stop and die.

Ordinary asyncio code runs on it unchanged. `time()` starts at 0 and moves only when nothing is
ready. The order of everything comes from the code and from `random`: timers due at the same instant
run in an order that is drawn, tasks hash by their number. Knows nothing of sockets or real time.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextvars import Context, ContextVar
from typing import Any, Final, Literal, NoReturn, TypeVar, TypeVarTuple, Unpack

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

#: Turns of the loop that the tasks of a killed process get to end, and between two cancellations.
KILL_TURNS_MAX: Final = 200
KILL_TURNS_EACH: Final = 20
#: Callbacks that the tasks get to end that are left when a run ends.
FINISH_STEPS_MAX: Final = 100_000
#: Cancelled timers are thrown out once they are more than this, and more than half of all.
CANCELLED_TIMERS_MAX: Final = 128
#: No run lasts longer, if nothing else is said (virtual seconds): a day.
SECONDS_MAX: Final = 86_400.0
#: Tasks that are named where nothing goes on.
NAMED_TASKS_MAX: Final = 20

ProcessState = Literal["running", "paused", "dying", "dead"]


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is armed, and yet somebody waits."""


class Livelock(RuntimeError):
    """More callbacks than any honest run needs."""


class SimHandle(asyncio.Handle):
    """A handle without what only debugging needs: a million a minute are made."""

    __slots__ = ()

    _callback: Callable[..., object] | None
    _context: Context
    _loop: asyncio.AbstractEventLoop
    _repr: str | None
    _source_traceback: None

    def __init__(
        self,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = contextvars.copy_context() if context is None else context
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class SimTimer(asyncio.TimerHandle):
    """A timer. `clock` and `due`: who armed it by which time of its own, for a clock that drifts."""

    __slots__ = ("clock", "due")

    _callback: Callable[..., object] | None
    _context: Context
    _loop: asyncio.AbstractEventLoop
    _repr: str | None
    _scheduled: bool
    _source_traceback: None
    _when: float

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = contextvars.copy_context() if context is None else context
        self._cancelled = False
        self._repr = None
        self._source_traceback = None
        self._when = when
        self._scheduled = True
        self.clock: object = None
        self.due = 0.0

    __hash__ = object.__hash__


AnyHandle = SimHandle | SimTimer


class SimTask(asyncio.Task[_T]):
    """A task that hashes by its number: sets of tasks have an order that comes from the run."""

    def __init__(
        self,
        coro: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
        *,
        loop: SimLoop,
        name: object,
        context: Context | None,
    ) -> None:
        # Before the task registers itself, in a set.
        self.number = loop.next_task_number()
        #: The process that it belongs to, None for none.
        self.process = _PROCESS.get(None) if context is None else context.get(_PROCESS)
        #: It was cut down with its process: how it ends is no concern of anybody.
        self.killed = False
        super().__init__(
            coro,
            loop=loop,
            name=f"Task-{self.number}" if name is None else str(name),
            context=context,
        )

    def __hash__(self) -> int:
        return self.number


class Process:
    """One simulated operating-system process: all that is scheduled from inside it.

    What it schedules inherits its context, and with it its fate: held while it is paused, gone
    once it is dead.
    """

    def __init__(self, loop: SimLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.state: ProcessState = "running"
        #: True if its handles cannot just run.
        self.gated = False
        #: What handles must be given to run in it.
        self.context = Context()
        self.context.run(_PROCESS.set, self)
        self._held: deque[AnyHandle] = deque()
        self._turns_left = 0
        #: What it has been given to do takes its processor until then.
        self._busy_until = 0.0
        self._next_turn: SimTimer | None = None
        self._dead = asyncio.Event()
        #: Tasks that did not end with it, kept: collecting them would run their code.
        self._stuck: list[SimTask[Any]] = []

    def __repr__(self) -> str:
        held = f" held={len(self._held)}" if self._held else ""
        return f"Process({self.name} {self.state}{held})"

    # Scheduling from outside --------------------------------------------------------------------

    def spawn(self, coro: Coroutine[Any, Any, _T], *, name: str | None = None) -> SimTask[_T]:
        """Run `coro` as a task of the process. Raises RuntimeError if it has been killed."""
        if self.state in ("dying", "dead"):
            coro.close()
            raise RuntimeError(f"process {self.name} is {self.state}")
        return self.loop.create_task(coro, name=name, context=self.context.copy())

    def call_soon(self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts) -> asyncio.Handle:
        """`loop.call_soon`, into the process."""
        return self.loop.call_soon(callback, *args, context=self.context)

    def call_later(
        self, delay: float, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts
    ) -> SimTimer:
        """`loop.call_later`, into the process."""
        return self.loop.call_later(delay, callback, *args, context=self.context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts
    ) -> SimTimer:
        """`loop.call_at`, into the process."""
        return self.loop.call_at(when, callback, *args, context=self.context)

    def tasks(self) -> list[SimTask[Any]]:
        """Its tasks that have not ended, in order of creation."""
        return [task for task in self.loop.pending_tasks() if task.process is self]

    @property
    def waiting(self) -> int:
        """How much of it waits until it goes on, or has the time."""
        return len(self._held)

    # Fates --------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Run nothing of it until `resume`, as SIGSTOP does."""
        if self.state == "running":
            self.state = "paused"
            self.gated = True

    def resume(self) -> None:
        """Run what has come due meanwhile, in its order, and go on: at once, if it has the time."""
        if self.state == "paused":
            self.state = "running"
            if self.loop._now < self._busy_until:
                self._wait_turn()
            else:
                self.gated = False
                self._release(self._held)

    def spend(self, seconds: float) -> None:
        """Use its processor for so many seconds more: what comes due in it waits for that, in its
        order. What runs now goes on."""
        self._busy_until = max(self._busy_until, self.loop._now) + seconds
        self.gated = True

    def kill(self) -> None:
        """A crash: nothing of it runs any more, but for the end of its tasks, which are cancelled.

        Cut it off from disk and network first: what its tasks do in ending must reach nobody.
        """
        if self.state in ("dying", "dead"):
            return
        self.state = "dying"
        self.gated = True
        self._release([handle for handle in self._held if _ends_tasks(handle)])
        self._turns_left = KILL_TURNS_MAX
        self._reap()

    async def gone(self) -> None:
        """Return once it is dead."""
        await self._dead.wait()

    def admits(self, handle: AnyHandle) -> bool:
        """Whether one of its handles runs now. It is kept if it must run later."""
        if self.state == "paused":
            self._held.append(handle)
            return False
        if self.state == "dying":
            return _ends_tasks(handle)
        if self.state != "running":
            return False
        if self._held or self.loop._now < self._busy_until:
            self._held.append(handle)
            self._wait_turn()
            return False
        self.gated = False
        return True

    def _wait_turn(self) -> None:
        if self._next_turn is None:
            self._next_turn = self.loop.call_at(
                self._busy_until, self._take_turns, context=self.loop.outside
            )

    def _take_turns(self) -> None:
        """Run what has waited for the processor, until something of it uses that again."""
        self._next_turn = None
        while self._held and self.state == "running":
            if self.loop._now < self._busy_until:
                self._wait_turn()
                return
            handle = self._held.popleft()
            if not handle._cancelled:
                handle._run()

    def _release(self, handles: Iterable[AnyHandle]) -> None:
        """Make them ready, before those of the process that became ready after them."""
        self._held = deque()
        ready = self.loop.ready
        later = [handle for handle in ready if handle._context.get(_PROCESS) is self]
        if later:
            others = [handle for handle in ready if handle._context.get(_PROCESS) is not self]
            # In place, and never fewer: the loop is in the middle of it.
            ready.clear()
            ready.extend(others)
        ready.extend(handles)
        ready.extend(later)

    def _reap(self) -> None:
        tasks = self.tasks()
        for task in tasks:
            task.killed = True
        if tasks and self._turns_left > 0:
            if self._turns_left % KILL_TURNS_EACH == 0:
                for task in tasks:
                    task.cancel()
            self._turns_left -= 1
            self.loop.call_soon(self._reap, context=self.loop.outside)
            return
        for task in tasks:
            self.loop.problems.append(f"{_describe(task)} did not end with process {self.name}")
            # It has been told; asyncio would tell it again, whenever the task is collected.
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._stuck = tasks
        self.state = "dead"
        self.loop.drop_timers(lambda timer: timer._context.get(_PROCESS) is self)
        self.loop.processes.remove(self)
        self._dead.set()


#: The process that the running code belongs to.
_PROCESS: Final[ContextVar[Process | None]] = ContextVar("process")


def current_process() -> Process | None:
    """The process that the running code belongs to, None outside all."""
    return _PROCESS.get(None)


def _ends_tasks(handle: AnyHandle) -> bool:
    """Whether it is a task's step, or tells of a future that is done: gather waits by such."""
    if isinstance(handle, SimTimer) or handle._cancelled:
        return False
    callback, args = handle._callback, handle._args
    return isinstance(getattr(callback, "__self__", None), asyncio.Task) or (
        len(args) == 1 and asyncio.isfuture(args[0])
    )


_Entry = tuple[float, float, int, SimTimer]


class SimLoop(asyncio.BaseEventLoop):
    """`random` orders the timers of one instant. `steps_max`: callbacks before it is a Livelock.

    `problems` collects what callbacks raised and nobody awaited.
    """

    _closed: bool
    _ready: deque[AnyHandle]
    _stopping: bool

    def __init__(
        self,
        *,
        random: random.Random,
        steps_max: int = 20_000_000,
        seconds_max: float = SECONDS_MAX,
    ) -> None:
        super().__init__()
        self._seconds_max = seconds_max
        self._now = 0.0
        self._draw = random.random
        self._steps_left = steps_max
        self._timers: list[_Entry] = []
        self._timers_made = 0
        self._timers_cancelled = 0
        self._tasks_made = 0
        #: The context of what belongs to no process.
        self.outside = Context()
        #: Those that are not dead.
        self.processes: list[Process] = []
        self.problems: list[str] = []
        #: Handles that run in this turn and the next.
        self.ready = self._ready
        self.set_exception_handler(_note_problem)

    def __repr__(self) -> str:
        return (
            f"SimLoop(at {self._now:.6f} s, {len(self._ready)} ready, {len(self.armed())} timers, "
            f"{len(self.problems)} problems)"
        )

    # Time ---------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def armed(self) -> list[float]:
        """When timers are due that nobody has cancelled."""
        return sorted(entry[0] for entry in self._timers if not entry[3]._cancelled)

    # Scheduling ---------------------------------------------------------------------------------

    def new_process(self, name: str) -> Process:
        """A process in which nothing runs yet."""
        process = Process(self, name)
        self.processes.append(process)
        return process

    def call_soon(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        handle = SimHandle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    #: There is one thread.
    call_soon_threadsafe = call_soon

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> SimTimer:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> SimTimer:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        timer = SimTimer(when, callback, args, self, context)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._draw(), self._timers_made, timer))
        return timer

    def create_task(
        self,
        coro: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> SimTask[_T]:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        return SimTask(coro, loop=self, name=name, context=context)

    def next_task_number(self) -> int:
        """A number for a task, from 1 on."""
        self._tasks_made += 1
        return self._tasks_made

    def pending_tasks(self) -> list[SimTask[Any]]:
        """All tasks that have not ended, in order of creation."""
        tasks = [task for task in asyncio.all_tasks(self) if isinstance(task, SimTask)]
        return sorted(tasks, key=lambda task: task.number)

    def run_in_executor(
        self, executor: object, func: Callable[[Unpack[_Ts]], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """Run it here and now; the future is done when this returns."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001 - it belongs to who awaits the future
            future.set_exception(error)
        else:
            future.set_result(result)
        return future

    # Timers that are taken back -----------------------------------------------------------------

    def retime(self, clock: object, when_of: Callable[[float], float]) -> None:
        """Move the timers of a clock that runs otherwise now; `when_of`: own time to loop time."""
        for index, (_, tiebreak, number, timer) in enumerate(self._timers):
            if timer.clock is clock:
                timer._when = when = max(self._now, when_of(timer.due))
                self._timers[index] = (when, tiebreak, number, timer)
        heapq.heapify(self._timers)

    def drop_timers(self, dropped: Callable[[SimTimer], bool]) -> None:
        """Forget those, and the cancelled ones."""
        self._timers[:] = [
            entry for entry in self._timers if not (entry[3]._cancelled or dropped(entry[3]))
        ]
        heapq.heapify(self._timers)
        self._timers_cancelled = 0

    def _timer_handle_cancelled(self, handle: SimTimer) -> None:
        if not handle._scheduled:
            return
        self._timers_cancelled += 1
        if self._timers_cancelled > CANCELLED_TIMERS_MAX and self._timers_cancelled * 2 > len(
            self._timers
        ):
            # The one being cancelled is not marked yet.
            self.drop_timers(lambda timer: timer is handle)

    # Running ------------------------------------------------------------------------------------

    def _run_once(self) -> None:
        """Turn after turn, until the loop is told to stop."""
        ready, timers = self._ready, self._timers
        take, pop, variable = ready.popleft, heapq.heappop, _PROCESS
        while True:
            if not ready:
                self._wait()
            if timers:
                now = self._now
                while timers and timers[0][0] <= now:
                    timer = pop(timers)[3]
                    timer._scheduled = False
                    if timer._cancelled:
                        self._timers_cancelled -= 1
                    else:
                        ready.append(timer)
            count = len(ready)
            self._steps_left -= count
            if self._steps_left < 0:
                raise Livelock(f"too many callbacks, {self._standstill()}")
            for _ in range(count):
                handle = take()
                if handle._cancelled:
                    continue
                process = handle._context.get(variable)
                if process is not None and process.gated and not process.admits(handle):
                    continue
                handle._run()
            if self._stopping:
                return

    def _wait(self) -> None:
        """Jump to the next timer."""
        if self._stopping:
            return
        timers = self._timers
        while timers and timers[0][3]._cancelled:
            heapq.heappop(timers)[3]._scheduled = False
            self._timers_cancelled -= 1
        if not timers:
            raise Deadlock(f"nothing is ready, no timer is armed, {self._standstill()}")
        if timers[0][0] > self._seconds_max:
            # Nodes have timers for ever: what waits for nothing else would never be told.
            raise Deadlock(f"nobody got anywhere in {self._seconds_max:g} s, {self._standstill()}")
        self._now = max(self._now, timers[0][0])

    def _standstill(self) -> str:
        tasks = self.pending_tasks()
        named = "".join(f"\n  {_describe(task)}" for task in tasks[:NAMED_TASKS_MAX])
        more = f"\n  and {len(tasks) - NAMED_TASKS_MAX} more" * (len(tasks) > NAMED_TASKS_MAX)
        paused = [process.name for process in self.processes if process.state == "paused"]
        held = f"; paused: {', '.join(paused)}" if paused else ""
        return f"at {self._now:.3f} s{held}; {len(tasks)} tasks wait:{named}{more}"

    def finish(self) -> None:
        """Cancel what still runs, let it end, and close. Those that do not end are a problem."""
        tasks = [
            task
            for task in self.pending_tasks()
            if task.process is None or task.process.state != "dead"
        ]
        self._steps_left = FINISH_STEPS_MAX
        for process in self.processes:
            process.resume()
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                self.run_until_complete(asyncio.wait(tasks))
            self.run_until_complete(self.shutdown_asyncgens())
        except (Deadlock, Livelock) as error:
            self.problems.append(f"what was left did not end: {error}")
        for task in self.pending_tasks():
            # What did not end is among the problems; collected later, it would be told in another run.
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.close()

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no files to watch."""

    def _write_to_self(self) -> None:
        """There is nobody to wake it: one thread."""


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise RuntimeError(f"a simulated loop has no {name}: nothing here reaches outside")

    return refuse


#: What a loop has and this one must not: ways out.
_REFUSED: Final = """
    add_reader add_writer remove_reader remove_writer add_signal_handler remove_signal_handler
    create_connection create_server create_unix_connection create_unix_server
    create_datagram_endpoint connect_accepted_socket connect_read_pipe connect_write_pipe
    subprocess_exec subprocess_shell getaddrinfo getnameinfo start_tls sendfile sock_accept
    sock_connect sock_recv sock_recv_into sock_recvfrom sock_recvfrom_into sock_sendall sock_sendto
    sock_sendfile set_default_executor
"""
for _name in _REFUSED.split():
    setattr(SimLoop, _name, _refusal(_name))


def _note_problem(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Keep it, unless it is the death rattle of a process."""
    assert isinstance(loop, SimLoop)
    task, handle = context.get("future"), context.get("handle")
    if isinstance(task, SimTask) and task.killed:
        return
    if handle is not None:
        process = handle._context.get(_PROCESS)
        if process is not None and process.state in ("dying", "dead"):
            return
    loop.problems.append(f"{context.get('message')}: {context.get('exception')!r}")


def _describe(task: asyncio.Task[Any]) -> str:
    """Name of a task and the place where it waits."""
    place: Any = task.get_coro()
    while (inner := getattr(place, "cr_await", None)) is not None and hasattr(inner, "cr_frame"):
        place = inner
    frame = getattr(place, "cr_frame", None)
    where = "?" if frame is None else f"{place.__qualname__}:{frame.f_lineno}"
    return f"{task.get_name()} at {where}"


def run_virtual(
    main: Coroutine[Any, Any, _T],
    *,
    random: random.Random,
    steps_max: int = 20_000_000,
    seconds_max: float = SECONDS_MAX,
) -> _T:
    """What `main` returns, after as much virtual time as it takes; no garbage is collected before.

    Raises what it raises, Deadlock, Livelock, or AssertionError for what a callback raised.
    """
    loop = SimLoop(random=random, steps_max=steps_max, seconds_max=seconds_max)
    collecting = gc.isenabled()
    # The moment of a collection is no part of the run; a finalizer in the middle would be.
    gc.disable()
    try:
        try:
            result = loop.run_until_complete(main)
        finally:
            loop.finish()
            # Only what is young, so of this run: exceptions that nobody has looked at are told now.
            gc.collect(0)
    finally:
        if collecting:
            gc.enable()
    assert not loop.problems, loop.problems
    return result
