"""What a workload is to the load that drives it: what happens at an arrival.

The same code drives every target, by the wall clock or by a virtual one: time comes from `Client`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from bench.history import Op, Phase

#: Session numbers from here on are a workload's own to give; those of arrivals are below.
OWN_SESSIONS: Final = 1_000_000


class Arrival(NamedTuple):
    """One tick of the schedule: its number, when it is due (ns), and the client session it falls to."""

    number: int
    due: int
    session: int
    phase: Phase


class Client(Protocol):
    """What a workload may do; every read and write is noted in the history. Nothing raises for what a
    store does: the operation that is returned says it.

    `due`: when the operation was intended to start; None for the first of an arrival, which is due
    when that is. One that follows from an answer says so itself, else all it waited for would count.
    Sessions, write ids and group numbers are the load's to give.
    """

    nodes: int
    replicas: int

    def now(self) -> int:
        """Nanoseconds of the run's clock."""
        ...

    def new_group(self) -> int:
        """A number that ties operations together."""
        ...

    @property
    def healed(self) -> int:
        """When the last fault of the run was over (ns); 0 if it is not yet, or there is none."""
        ...

    def note(self, told: str) -> None:
        """Say something in the history, as an event "note": what was left out, say."""
        ...

    async def sleep_until(self, at: int) -> None:
        """Until then (ns), as precisely as the clock lets one."""
        ...

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
        """Write a new version; `after`: with the context (and `bases`) of this read or write of the key.
        `elements`: of a set: those that it had; the new version is added to them. `w`: None for the
        bucket's own."""
        ...

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
        """Read; arguments as in `Target.read`. `r`: None for the bucket's own."""
        ...


class Workload(Protocol):
    """One kind of load. Made anew for each run; `chance` is its own stream."""

    name: str

    def keys_to_load(self) -> Sequence[str]:
        """What is written once before anything else."""
        ...

    async def act(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
        """What happens at an arrival: one or more operations, in turn or beside each other."""
        ...

    async def finish(self, client: Client, arrival: Arrival, chance: random.Random) -> None:
        """After the last arrival, with all faults over: final reads (phase "after"), if any."""
        ...
