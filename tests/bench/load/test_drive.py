"""Runs against registers and small stores that misbehave: what is noted, and how a run ends."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from bench.faults import Fault
from bench.history import Event, Line, Op
from bench.load.clock import MonotonicClock
from bench.load.drive import Driven, drive
from bench.load.progress import Progress
from bench.scenario import BadScenario, Load
from bench.targets.protocol import Capabilities, Reply, Setup, Target, TargetFailed
from bench.targets.registers import DelayRegister, NullRegister
from bench.workloads.protocol import Arrival, Client

MS = 1_000_000
KINDS = ("read", "write")
SHORT = Load(rate=400, sessions=4, warmup=0.1, duration=0.3, timeout=0.2, drain=1.0)


class Plain:
    """Each arrival writes a key and reads it again, as one group; `finish` reads all of them."""

    name = "plain"

    def __init__(self, keys: Sequence[str] = ("a", "b")) -> None:
        self.keys = keys

    def keys_to_load(self) -> Sequence[str]:
        return self.keys

    async def act(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
        key = chance.choice(self.keys)
        group = client.new_group()
        wrote = await client.write(arrival, key, group=group)
        await client.read(arrival, wrote.key, group=group)

    async def finish(self, client: Client, arrival: Arrival, chance: random.Random) -> None:
        for key in self.keys:
            await client.read(arrival, key)


class Misbehaving(NullRegister):
    """A null register with something wrong: `on` is awaited before each answer to the phase measured."""

    def __init__(self, on: Callable[[str], Any], verbs: tuple[str, ...] = ()) -> None:
        self._on = on
        self._verbs = verbs
        self.did: list[str] = []

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(verbs=self._verbs, contexts=True, trees=bool(self._verbs))

    async def write(self, key: str, version: int, **asked: Any) -> Reply:
        self.did.append(f"write {asked['context'].decode()}")
        return await self._on("write") or Reply("ok", context=b"c%d" % version)

    async def read(self, key: str, **asked: Any) -> Reply:
        return await self._on("read") or Reply("ok", context=b"r", seen=(7, 9))

    async def fault(self, fault: Fault) -> None:
        self.did.append(f"fault {fault.do}")

    async def mend(self, fault: Fault) -> None:
        self.did.append(f"mend {fault.do}")

    async def trees_equal(self) -> bool | None:
        return True


class OfAType(NullRegister):
    """A null register whose bucket has, once it is set up, what nobody here asked for."""

    def __init__(self) -> None:
        self._properties: dict[str, object] = {}

    @property
    def properties(self) -> dict[str, object]:
        return self._properties

    async def setup(self, setup: Setup) -> None:
        await super().setup(setup)
        self._properties = {"r": "all", "w": 1}


async def nothing(_: str) -> None:
    """No trouble."""


async def run(
    target: Target, load: Load = SHORT, workload: Any = None, n: int = 1, **rest: Any
) -> tuple[Driven, list[Op], list[Event]]:
    lines: list[Line] = []
    async with MonotonicClock() as clock:
        driven = await drive(
            target,
            workload or Plain(),
            load,
            setup=Setup(run="test", n=n),
            clock=clock,
            sink=lines.append,
            **rest,
        )
    ops = [line for line in lines if isinstance(line, Op)]
    return driven, ops, [line for line in lines if isinstance(line, Event)]


async def test_operations_go_by_the_counts_that_are_in_effect() -> None:
    ready: list[dict[str, object]] = []
    target = OfAType()
    _, ops, _ = await run(target, ready=lambda: ready.append(target.properties), n=3)
    assert {(op.kind, op.r, op.w) for op in ops} == {("read", 3, 0), ("write", 0, 1)}
    assert ready == [{"r": "all", "w": 1}]


async def test_a_run_has_its_phases_in_turn_and_notes_all() -> None:
    async with MonotonicClock() as clock:
        driven, ops, events = await run(DelayRegister(0, clock.now))
    assert [op.phase for op in ops][:2] == ["load", "load"]
    assert [op.phase for op in ops][-2:] == ["after", "after"]
    begin, end = driven.measured
    measured = [op for op in ops if op.phase == "measure"]
    assert len(measured) > 100
    assert all(begin <= op.intended <= op.start <= op.end for op in measured)
    assert all(op.intended < end for op in measured if op.kind == "write")
    assert end - begin == 300 * MS
    assert sorted(op.n for op in ops) == list(range(1, driven.operations + 1))
    writes = [op.write for op in sorted(ops, key=lambda op: op.n) if op.kind == "write"]
    assert writes == list(range(1, len(writes) + 1))
    groups = [[op for op in ops if op.group == group] for group in range(1, 50)]
    assert all([op.kind for op in pair] == ["write", "read"] for pair in groups)
    assert all(pair[1].seen >= (pair[0].write,) for pair in groups)
    assert [event.kind for event in events] == ["writers_stopped"]
    assert (driven.cut, driven.dropped) == ("", 0)


async def test_the_delay_register_is_stale_exactly_below_its_delay() -> None:
    delay = 20 * MS

    class Probing(Plain):
        """A fresh key, and one read of it on either side of the delay."""

        async def act(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
            key = f"k{arrival.number}"
            wrote = await client.write(arrival, key)
            offset = chance.choice((delay - 3 * MS, delay + MS // 10))
            await client.sleep_until(wrote.end + offset)
            await client.read(arrival, key, due=wrote.end + offset, offset=offset)

    async with MonotonicClock() as clock:
        _, ops, _ = await run(DelayRegister(delay, clock.now), workload=Probing(()))
    committed = {op.key: op.committed for op in ops if op.kind == "write"}
    probes = [op for op in ops if op.offset >= 0]
    assert len(probes) > 50
    for op in probes:
        assert bool(op.seen) == (op.began - committed[op.key] >= delay)
    assert {bool(op.seen) for op in probes if op.offset > delay} == {True}


async def test_an_open_loop_waits_for_no_answer() -> None:
    async def slowly(_: str) -> None:
        await asyncio.sleep(0.15)

    driven, ops, _ = await run(Misbehaving(slowly), Load(**{**_as_dict(SHORT), "timeout": 2.0}))
    first = [op for op in ops if op.phase == "measure" and op.kind == "write"]
    # 400 a second for 0.3 s, though each takes 0.15 s and there are only 4 sessions.
    assert len(first) > 80
    lags = sorted(op.start - op.intended for op in first)
    assert lags[len(lags) // 2] < 50 * MS
    assert driven.in_flight_max > 40


async def test_what_an_arrival_asks_first_is_due_when_that_was_however_late_it_starts() -> None:
    class Late(Plain):
        async def act(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
            await asyncio.sleep(0.02)
            async with asyncio.TaskGroup() as group:
                group.create_task(client.write(arrival, "a"))
                group.create_task(client.write(arrival, "b"))
            await client.read(arrival, "a")

    async def slowly(_: str) -> None:
        await asyncio.sleep(0.005)

    load = Load(rate=50, arrivals="constant", warmup=0.0, duration=0.3)
    _, ops, _ = await run(Misbehaving(slowly), load, Late())
    measured = [op for op in ops if op.phase == "measure"]
    lags = {kind: [o.start - o.intended for o in measured if o.kind == kind] for kind in KINDS}
    assert min(lags["write"]) > 15 * MS
    assert max(lags["read"]) == 0
    assert len(lags["write"]) == 2 * len(lags["read"]) == 30
    assert all(op.intended == op.start for op in ops if op.phase != "measure")


async def test_what_is_beyond_the_cap_is_dropped_and_shown_in_the_time_line() -> None:
    async def slowly(_: str) -> None:
        await asyncio.sleep(0.1)

    load = Load(rate=500, sessions=4, warmup=0, duration=0.3, in_flight_max=8, drain=1.0)
    driven, ops, events = await run(Misbehaving(slowly), load)
    dropped = sum(int(event.told) for event in events if event.kind == "dropped")
    assert driven.dropped == dropped > 50
    assert driven.in_flight_max == 8
    assert len([op for op in ops if op.kind == "write" and op.phase == "measure"]) >= 8


async def test_a_closed_loop_has_a_session_wait_for_its_answer() -> None:
    async def slowly(_: str) -> None:
        await asyncio.sleep(0.01)

    load = Load(loop="closed", sessions=3, warmup=0.1, duration=0.3, timeout=1)
    driven, ops, _ = await run(Misbehaving(slowly), load)
    assert driven.in_flight_max <= 3
    for session in range(3):
        own = sorted((op for op in ops if op.session == session), key=lambda op: op.start)
        assert len(own) > 10
        assert all(one.end <= two.start for one, two in itertools.pairwise(own))
        assert all(op.start - op.intended < 5 * MS for op in own if op.kind == "read")


async def test_a_closed_loop_at_a_target_that_answers_at_once_ends() -> None:
    load = Load(loop="closed", sessions=2, warmup=0.0, duration=0.2)
    driven, _, _ = await run(NullRegister(), load)
    assert driven.operations > 1000
    assert driven.cut == ""


async def test_what_never_ends_is_unknown_or_failed_and_the_run_goes_on() -> None:
    calls = 0

    async def hang(kind: str) -> None:
        nonlocal calls
        calls += 1
        if calls % 10 == 0:
            await asyncio.get_running_loop().create_future()

    load = Load(rate=100, sessions=2, warmup=0.0, duration=0.3, timeout=0.1, drain=3.0)
    driven, ops, _ = await run(Misbehaving(hang), load)
    hung = [op for op in ops if op.outcome != "ok"]
    assert driven.ended_late == len(hung) > 2
    assert {op.outcome for op in hung} <= {"unknown", "fail"}
    assert all((op.outcome == "unknown") == (op.kind == "write") for op in hung)
    assert all("no answer within" in op.why for op in hung)
    assert sorted(op.n for op in ops) == list(range(1, driven.operations + 1))
    assert driven.cut == ""


async def test_what_is_out_after_the_drain_is_noted() -> None:
    async def hang(kind: str) -> None:
        if kind == "read":
            await asyncio.sleep(60)

    class Unread(Plain):
        async def finish(self, client: Client, arrival: Arrival, chance: random.Random) -> None:
            """Nothing: it would hang too."""

    load = Load(rate=50, sessions=2, warmup=0.0, duration=0.2, timeout=30, drain=0.1)
    driven, ops, events = await run(Misbehaving(hang), load, Unread())
    assert driven.unfinished > 3
    failed = [op for op in ops if op.outcome == "fail"]
    assert len(failed) >= driven.unfinished
    assert any("not over" in event.told for event in events)


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_a_run_cut_short_notes_what_is_known_and_mends(how: str) -> None:
    target = Misbehaving(nothing, ("pause",))
    stop = asyncio.Event()
    load = Load(rate=200, warmup=0.0, duration=30)
    faults = [Fault(do="pause", at=0.05), Fault(do="pause", at=29)]
    running = asyncio.create_task(run(target, load, faults=faults, stop=stop))
    async with asyncio.timeout(30):
        while "fault pause" not in target.did or len(target.did) < 60:
            await asyncio.sleep(0.01)
    if how == "stop":
        stop.set()
    else:
        running.cancel()
        await asyncio.sleep(0.001)
        running.cancel()  # a signal may come twice
    driven, ops, events = await running
    assert driven.cut
    assert "cut short" in driven.void
    assert len(ops) > 50
    assert target.did[-1] == "mend pause"
    assert [event.kind for event in events] == ["pause"]
    assert events[0].until > events[0].at


async def test_faults_come_and_go_at_their_times_then_all_is_healed() -> None:
    target = Misbehaving(nothing, ("pause", "crash"))
    faults = [Fault(do="pause", at=0.1, until=0.2), Fault(do="crash", at=0.05)]
    seen: list[int] = []

    class Healed(Plain):
        async def finish(self, client: Client, arrival: Arrival, chance: random.Random) -> None:
            seen.append(client.healed)

    driven, _, events = await run(target, workload=Healed(), faults=faults)
    begin, end = driven.measured
    by_kind = {event.kind: event for event in events}
    for at, due in (
        (by_kind["pause"].at, begin + 100 * MS),
        (by_kind["pause"].until, begin + 200 * MS),
        (by_kind["crash"].until, end),
    ):
        assert 0 <= at - due < 90 * MS
    assert by_kind["heal"].at >= by_kind["crash"].until
    assert by_kind["trees_equal"].at >= by_kind["heal"].at
    assert seen == [by_kind["heal"].at]
    did = [what for what in target.did if not what.startswith("write")]
    assert did == ["fault crash", "fault pause", "mend pause", "mend crash"]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault(do="crash", at=0.1), "can do pause"),
        (Fault(do="pause", at=5.0), "not within"),
        (Fault(do="pause", at=float("nan")), "not within"),
        (Fault(do="pause", at=0.1, until=0.05), "until"),
        (Fault(do="pause", at=0.1, nodes=(3,)), "no node 3"),
    ],
)
async def test_faults_that_cannot_be_are_refused(fault: Fault, why: str) -> None:
    with pytest.raises(BadScenario, match=why):
        await run(Misbehaving(nothing, ("pause",)), faults=[fault])


async def test_a_fault_that_fails_ends_the_run() -> None:
    class Weak(Misbehaving):
        async def fault(self, fault: Fault) -> None:
            raise TargetFailed("no such process")

    load = Load(rate=50, warmup=0.0, duration=30)
    with pytest.raises(TargetFailed, match="no such process"):
        await run(Weak(nothing, ("pause",)), load, faults=[Fault(do="pause", at=0.1)])


async def test_an_error_of_the_workload_is_raised_once_all_is_over() -> None:
    class Broken(Plain):
        async def act(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
            raise KeyError("of the workload")

    target = Misbehaving(nothing, ("pause",))
    with pytest.raises(KeyError, match="of the workload"):
        await run(target, workload=Broken(), faults=[Fault(do="pause", at=0.0)])
    assert target.did.count("mend pause") == target.did.count("fault pause")


async def test_a_store_that_cannot_be_filled_is_told() -> None:
    async def down(_: str) -> Reply:
        return Reply("fail", why="connection refused")

    with pytest.raises(TargetFailed, match="connection refused"):
        await run(Misbehaving(down))


async def test_a_write_after_a_read_has_its_context_and_replaces_what_it_saw() -> None:
    class After(Plain):
        async def act(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
            read = await client.read(arrival, "a")
            wrote = await client.write(arrival, "a", after=read)
            await client.write(arrival, "a", after=wrote)

    target = Misbehaving(nothing)
    _, ops, _ = await run(target, workload=After())
    first, second = [op for op in ops if op.kind == "write" and op.phase == "measure"][:2]
    assert first.bases == (7, 9)
    assert second.bases == (first.write,)
    assert "write r" in target.did
    assert f"write c{first.write}" in target.did


async def test_a_harness_that_does_not_keep_up_says_so() -> None:
    class Slow(Plain):
        async def act(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
            time.sleep(0.005)  # noqa: ASYNC251 - the harness's own work, not the store's

    load = Load(rate=1000, warmup=0.0, duration=0.2)
    driven, _, _ = await run(NullRegister(), load, Slow())
    assert driven.void.startswith("the harness")
    assert driven.late > 50


async def test_the_same_seed_asks_the_same_at_the_same_times() -> None:
    histories = []
    for seed in (1, 1, 2):
        driven, ops, _ = await run(NullRegister(), seed=seed)
        writes = [op for op in ops if op.phase == "measure" and op.kind == "write"]
        histories.append([(op.key, op.intended - driven.measured[0]) for op in writes])
    assert histories[0] == histories[1] != histories[2]


async def test_each_second_is_told_and_reads_behind_are_seen() -> None:
    told: list[Progress] = []
    load = Load(rate=300, warmup=0.0, duration=1.2, arrivals="constant")
    async with MonotonicClock() as clock:
        await run(DelayRegister(10**12, clock.now), load, live=told.append)
    assert "measure" in [one.phase for one in told]
    assert told[-1].behind_total == told[-1].of_total > 100
    assert sum(one.ok for one in told) > 600


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0.0},
        {"rate": float("nan")},
        {"rate": 1e9},
        {"duration": 0.0},
        {"warmup": -1.0},
        {"sessions": 0},
        {"in_flight_max": 0},
        {"timeout": 0.0},
        {"drain": float("inf")},
    ],
)
async def test_a_load_that_cannot_be_driven_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadScenario, match=next(iter(wrong))):
        await run(NullRegister(), Load(**{**_as_dict(SHORT), **wrong}))


def _as_dict(load: Load) -> dict[str, Any]:
    return {name: getattr(load, name) for name in load.__struct_fields__}
