"""A `Client` of bench/workloads/protocol.py over a store in memory, on a loop in virtual time.

Each operation takes a millisecond. A replica shows a write `lag` after that was acknowledged, node 0 at
once. It keeps all operations in the order they ended.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from bench.history import Op, Outcome
from bench.workloads import make
from bench.workloads.protocol import Arrival, Workload
from dynamo.sim.chance import stream
from dynamo.sim.loop import run_virtual

MS = 1_000_000


class MemoryClient:
    """`fails`: what becomes of an operation, asked before it is done. `stamps`: commits have the
    coordinator's stamp, half a millisecond before the answer."""

    def __init__(
        self,
        *,
        nodes: int = 3,
        lag: int = 0,
        stamps: bool = False,
        fails: Callable[[str, str, int | None], Outcome] = lambda kind, key, place: "ok",
    ) -> None:
        self.nodes = self.replicas = nodes
        self.ops: list[Op] = []
        self.notes: list[str] = []
        self.healed = 0
        self._lag = lag
        self._stamps = stamps
        self._fails = fails
        self._numbers = self._versions = self._groups = 0
        #: key -> [(visible at, version, what it replaces)]
        self._stored: dict[str, list[tuple[int, int, tuple[int, ...]]]] = {}
        self._elements: dict[int, tuple[int, ...]] = {}

    def now(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)

    def new_group(self) -> int:
        self._groups += 1
        return self._groups

    def note(self, told: str) -> None:
        self.notes.append(told)

    async def sleep_until(self, at: int) -> None:
        left = at - self.now()
        if left > 0:
            await asyncio.sleep(left / 1e9)

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
        self._versions += 1
        version, start = self._versions, self.now()
        bases: tuple[int, ...] = ()
        if after is not None:
            assert after.key == key
            bases = tuple({*after.seen, *((after.write,) if after.write else ()), *after.bases})
        outcome = self._fails("write", key, coordinator)
        await asyncio.sleep(0.001)
        end = self.now()
        if outcome != "fail":
            self._stored.setdefault(key, []).append((end, version, bases))
        if elements is not None:
            self._elements[version] = (*elements, version)
        return self._note(
            arrival,
            "write",
            key,
            start=start,
            due=due,
            outcome=outcome,
            write=version,
            bases=bases,
            w=w or 0,
            coordinator="" if coordinator is None else str(coordinator),
            committed=end - MS // 2 if self._stamps and outcome == "ok" else 0,
            group=group,
            session=arrival.session if session is None else session,
            elements=() if elements is None else (*elements, version),
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
        start = self.now()
        place = coordinator if replica is None else replica
        outcome = self._fails("read", key, place)
        lag = self._lag if place else 0
        await asyncio.sleep(0.001)
        there = [one for one in self._stored.get(key, []) if one[0] + lag <= start]
        replaced = {base for _, _, bases in there for base in bases}
        seen = tuple(version for _, version, _ in there if version not in replaced)
        held = {element for version in seen for element in self._elements.get(version, ())}
        return self._note(
            arrival,
            "read",
            key,
            start=start,
            due=due,
            outcome="fail" if outcome != "ok" else "ok",
            seen=seen if outcome == "ok" else (),
            elements=tuple(sorted(held)) if outcome == "ok" else (),
            r=1 if replica is not None else r or 0,
            coordinator="" if coordinator is None else str(coordinator),
            target="" if replica is None else str(replica),
            group=group,
            offset=offset,
            session=arrival.session if session is None else session,
        )

    def _note(
        self, arrival: Arrival, kind: str, key: str, *, start: int, due: int | None, **rest: Any
    ) -> Op:
        self._numbers += 1
        assert rest.get("coordinator") in ("", *map(str, range(self.nodes)))
        op = Op(
            n=self._numbers,
            kind="read" if kind == "read" else "write",
            key=key,
            intended=arrival.due if due is None else due,
            start=start,
            end=self.now(),
            phase=arrival.phase,
            **rest,
        )
        assert op.intended <= op.start, "nothing starts before it is due"
        self.ops.append(op)
        return op

    # What tests ask ------------------------------------------------------------------------------

    def reads(self, phase: str = "measure") -> list[Op]:
        return [op for op in self.ops if op.kind == "read" and op.phase == phase]

    def writes(self, phase: str = "measure") -> list[Op]:
        return [op for op in self.ops if op.kind == "write" and op.phase == phase]


def play(
    name: str,
    client: MemoryClient,
    *,
    arrivals: int = 200,
    sessions: int = 4,
    apart: float = 0.005,
    seed: int = 1,
    heal_after: int | None = None,
    **options: Any,
) -> Workload:
    """Run a workload with arrivals that are `apart` seconds apart, its final reads too; `heal_after`: so
    many arrivals the last fault is over. The same at every call."""
    workload = make(name, options, n=client.replicas, nodes=client.nodes)
    chance = random.Random(seed)

    async def main() -> None:
        for number, key in enumerate(workload.keys_to_load()):
            await client.write(Arrival(number, client.now(), 0, "load"), key)
        start = client.now()
        async with asyncio.TaskGroup() as group:
            for number in range(arrivals):
                due = start + round(number * apart * 1e9)
                await client.sleep_until(due)
                if number == heal_after:
                    client.healed = client.now()
                arrival = Arrival(number, due, number % sessions, "measure")
                group.create_task(workload.act(arrival, client, chance))
        await workload.finish(client, Arrival(arrivals, client.now(), 0, "after"), chance)

    run_virtual(main(), random=stream(seed, "loop"))
    return workload
