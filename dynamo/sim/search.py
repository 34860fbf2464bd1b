"""Looks for seeds that fail, on all cores, and tries whether planted bugs are found.

Each worker process takes its share of the seeds. Knows nothing of how a run is carried out.
"""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, cast

from dynamo.sim.checks import Finding
from dynamo.sim.crew import Died, Task, Tell, run_tasks
from dynamo.sim.draw import draw_plan
from dynamo.sim.kinds import Kind
from dynamo.sim.run import run_plan

#: A run takes a fraction of a second; one that takes so long will not end.
PATIENCE: Final = 180.0
#: Seeds in which a planted bug must be found.
PLANTED_SEEDS: Final = 200
#: What a planted bug shows is collected from so many seeds that find it, of so many from the first on.
_CATCHES_MAX: Final = 5
_LOOK_FURTHER: Final = 20


def fresh_seed() -> int:
    """A seed that nobody has tried: from the clock, a thousand a second."""
    return time.time_ns() // 1_000_000 % 1_000_000_000


# New seeds ----------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What came of a seed. `seconds`: of a core's time that it took."""

    seed: int
    findings: tuple[Finding, ...]
    operations: int
    messages: int
    virtual_seconds: float
    injected: Counter[Kind]
    seconds: float


def try_seed(seed: int) -> Outcome:
    """Draw the plan of a seed, and run it."""
    start = time.process_time()
    result = run_plan(draw_plan(seed))
    return Outcome(
        seed=seed,
        findings=result.findings,
        operations=result.operations,
        messages=result.messages,
        virtual_seconds=result.virtual_seconds,
        injected=result.injected,
        seconds=time.process_time() - start,
    )


@dataclass(slots=True)
class Tally:
    """What came of all seeds of a search. `died`: a line for each worker that did.

    `busy`: seconds of a core that the runs took; `seconds`: that the search took.
    """

    seeds: int = 0
    operations: int = 0
    messages: int = 0
    virtual_seconds: float = 0.0
    busy: float = 0.0
    seconds: float = 0.0
    injected: Counter[Kind] = field(default_factory=Counter)
    found: list[Outcome] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def failed(self) -> bool:
        """True if anything was found."""
        return bool(self.found or self.died)

    def add(self, outcome: Outcome) -> None:
        """Count one seed more."""
        self.seeds += 1
        self.operations += outcome.operations
        self.messages += outcome.messages
        self.virtual_seconds += outcome.virtual_seconds
        self.busy += outcome.seconds
        self.injected += outcome.injected
        if outcome.findings:
            self.found.append(outcome)

    def __str__(self) -> str:
        """Some lines for people, without what was found."""
        seconds, busy = max(self.seconds, 1e-9), max(self.busy, 1e-9)
        faults = ", ".join(f"{kind} {count}" for kind, count in self.injected.most_common())
        return (
            f"{self.seeds} seeds, {self.operations} operations, {self.messages} messages,"
            f" {self.virtual_seconds / 3600:.2f} virtual hours in {self.seconds:.1f} s\n"
            f"{self.seeds / busy:.2f} seeds a second a core, {self.messages / seconds:.0f} messages"
            f" a second, {self.virtual_seconds / seconds:.0f} times real time\n"
            f"{self.injected.total()} faults: {faults or 'none'}"
        )


def search(
    *,
    first: int,
    jobs: int,
    seconds: float,
    count: int | None = None,
    until_found: bool = False,
    told: Callable[[Outcome | str], None] = lambda what: None,
) -> Tally:
    """Try seeds from `first` on for so long, or so many, in `jobs` processes.

    `told` gets each outcome with findings at once, and a line for each worker that died. Ctrl-C ends
    the search, not the process.
    """
    tally, start = Tally(), time.monotonic()
    last = None if count is None else first + count
    tasks = [Task(_look, (first + number, jobs, last, seconds)) for number in range(jobs)]
    at: dict[int, int] = {}
    try:
        with closing(run_tasks(tasks, at_once=jobs, patience=PATIENCE)) as events:
            for event in events:
                if isinstance(event, Died):
                    where = f"at seed {at[event.task]}" if event.task in at else "at its start"
                    tally.died.append(f"a worker {event.why}, {where}")
                    told(tally.died[-1])
                elif isinstance(event.what, Outcome):
                    tally.add(event.what)
                    if event.what.findings:
                        told(event.what)
                elif isinstance(event.what, int):
                    at[event.task] = event.what
                if until_found and tally.failed:
                    break
    except KeyboardInterrupt:
        tally.interrupted = True
    tally.seconds = time.monotonic() - start
    tally.found.sort(key=lambda outcome: outcome.seed)
    return tally


def _look(tell: Tell, first: int, stride: int, last: int | None, seconds: float) -> None:
    """In a worker: say which seed is next, then what came of it."""
    until, seed = time.monotonic() + seconds, first
    while time.monotonic() < until and (last is None or seed < last):
        tell(seed)
        tell(try_seed(seed))
        seed += stride


# Planted bugs -------------------------------------------------------------------------------------


class Bug(Protocol):
    """A bug that can be switched on."""

    @property
    def name(self) -> str: ...
    @property
    def what(self) -> str: ...


class Catalogue(Protocol):
    """A module of planted bugs. `planted(name)` switches one on while it is entered."""

    @property
    def PLANTED(self) -> Mapping[str, Bug]: ...
    def planted(self, name: str) -> AbstractContextManager[object]: ...


class Hunt(NamedTuple):
    """What came of the search for a planted bug. `seeds`: those that found it, the first ones;
    `invariants`: how many of these seeds each was found broken in. `tried`: how many seeds."""

    name: str
    seeds: tuple[int, ...]
    invariants: Counter[str]
    tried: int


def catalogue(module: str) -> Catalogue:
    """The bugs of a module of that name."""
    return cast(Catalogue, importlib.import_module(module))


def hunt(
    names: Sequence[str],
    *,
    module: str,
    jobs: int,
    seeds: int = PLANTED_SEEDS,
    told: Callable[[Hunt | str], None] = lambda what: None,
) -> list[Hunt]:
    """Search seeds 0 to `seeds` - 1 for each of these bugs, a process a bug.

    `told` gets each hunt when it is over, and a line for each worker that died. Raises
    KeyboardInterrupt.
    """
    tasks = [Task(_hunt, (module, name, seeds)) for name in names]
    hunts: list[Hunt] = []
    with closing(run_tasks(tasks, at_once=jobs, patience=PATIENCE)) as events:
        for event in events:
            if isinstance(event, Died):
                told(f"the worker that looked for {names[event.task]} {event.why}")
            elif isinstance(event.what, Hunt):
                hunts.append(event.what)
                told(event.what)
    return hunts


def _hunt(tell: Tell, module: str, name: str, seeds: int) -> None:
    caught: list[int] = []
    invariants: Counter[str] = Counter()
    tried = 0
    with catalogue(module).planted(name):
        for seed in range(seeds):
            if caught and (len(caught) == _CATCHES_MAX or seed > caught[0] + _LOOK_FURTHER):
                break
            tell(seed)
            tried += 1
            broken = {finding.invariant for finding in run_plan(draw_plan(seed)).findings}
            if broken:
                caught.append(seed)
                invariants.update(sorted(broken))
    tell(Hunt(name, tuple(caught), invariants, tried))
