"""The simulator as a target: the same load and workloads, in virtual time, from one seed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import pytest

from bench.faults import Fault, Slow
from bench.history import Event, Line, Op, encode_line
from bench.load.drive import Driven, drive
from bench.scenario import Cluster, Load, Scenario
from bench.targets.protocol import Reply, Setup, TargetFailed
from bench.targets.simulated import SimulatedTarget, VirtualClock, run_simulated, simulate
from bench.workloads import make

ROOT = Path(__file__).parents[3]
T = TypeVar("T")
LOAD = Load(rate=100, warmup=0.5, duration=4, drain=15, sessions=8)
CLUSTER = Cluster()


class Run(NamedTuple):
    driven: Driven
    ops: list[Op]
    events: list[Event]
    digest: str


def run(
    workload: str,
    *faults: Fault,
    seed: int = 1,
    cluster: Cluster = CLUSTER,
    load: Load = LOAD,
    named: str = "t",
    **options: Any,
) -> Run:
    lines: list[Line] = []

    async def main(target: SimulatedTarget, clock: VirtualClock) -> Driven:
        return await drive(
            target,
            make(workload, options, n=cluster.n, nodes=cluster.nodes),
            load,
            setup=Setup(run=named, n=cluster.n, properties=cluster.properties),
            clock=clock,
            sink=lines.append,
            seed=seed,
            faults=faults,
        )

    driven = run_simulated(cluster, seed, main)
    return Run(
        driven,
        [line for line in lines if isinstance(line, Op)],
        [line for line in lines if isinstance(line, Event)],
        hashlib.sha256(b"".join(map(encode_line, lines))).hexdigest(),
    )


def on_a_cluster(
    scene: Callable[[SimulatedTarget], Coroutine[Any, Any, T]],
    cluster: Cluster = CLUSTER,
    **properties: Any,
) -> T:
    """What a scene gives, on a target that was set up."""

    async def main(target: SimulatedTarget, clock: VirtualClock) -> T:
        await target.setup(Setup(run="t", n=cluster.n, properties=properties))
        return await scene(target)

    return run_simulated(cluster, 1, main)


HEALTHY: tuple[Fault, ...] = ()
PARTITION = (Fault(do="partition", at=1, until=2.5, nodes=(0,)),)
PAUSE = (Fault(do="pause", at=1, until=2, nodes=(1,)),)


def test_the_properties_in_effect_are_shown_beside_those_asked_for() -> None:
    async def scene(target: SimulatedTarget) -> tuple[object, ...]:
        return tuple(target.properties[name] for name in ("r", "w", "allow_mult", "n_val"))

    assert on_a_cluster(scene, r=1) == (1, "quorum", True, 3)


# One seed, one history --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("workload", "faults", "options"),
    [
        ("visibility", HEALTHY, {"r": 1}),
        ("probe", PARTITION, {"keys": 10}),
        ("set-add", PAUSE, {}),
    ],
)
def test_a_seed_gives_the_same_history_byte_by_byte(
    workload: str, faults: tuple[Fault, ...], options: dict[str, Any], seed: int
) -> None:
    first, second = (run(workload, *faults, seed=seed, **options) for _ in range(2))
    assert first.digest == second.digest
    assert first.driven == second.driven
    assert len(first.ops) > 400


def test_another_seed_gives_another_history() -> None:
    assert run("session", seed=1).digest != run("session", seed=2).digest


def test_another_process_gives_the_same_history() -> None:
    code = (
        "import test_simulated as t; print(t.run('session', *t.PARTITION, *t.PAUSE, seed=3).digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": os.pathsep.join((str(ROOT), str(Path(__file__).parent))),
            },
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert digests == {run("session", *PARTITION, *PAUSE, seed=3).digest + "\n"}


def test_what_a_run_is_called_changes_nothing() -> None:
    assert run("session", named="a run of today").digest == run("session").digest


# What it measures -------------------------------------------------------------------------------


def test_a_healthy_cluster_answers_everything_in_virtual_time() -> None:
    found = run("visibility", horizon_ms=20, r=1, w=1)
    assert {op.outcome for op in found.ops} == {"ok"}
    assert found.driven.void == ""
    assert found.driven.dropped == 0
    begin, end = found.driven.measured
    assert end - begin == 4_000_000_000
    for op in found.ops:
        assert op.start < op.began <= op.committed < op.end, "clients are a way from the nodes"
        assert op.end - op.start < 60_000_000
    probes = [op for op in found.ops if op.offset >= 0]
    written = {op.key: op.committed for op in found.ops if op.kind == "write"}
    assert all(op.start >= written[op.key] + op.offset for op in probes)


def test_overlapping_quorums_miss_nothing() -> None:
    found = run("visibility", horizon_ms=5, r=2, w=2)
    written = {op.key: op.write for op in found.ops if op.kind == "write"}
    assert all(written[op.key] in op.seen for op in found.ops if op.kind == "read")


def test_a_delay_of_writes_makes_reads_stale_below_it_and_only_there() -> None:
    slow = Cluster(slow={"W": [[1.0, "constant", 40]]}, hints=True)
    found = run("visibility", cluster=slow, horizon_ms=80, r=1, w=1, reader="other")
    began = {op.key: op.began for op in found.ops if op.kind == "write"}
    written = {op.key: op.write for op in found.ops if op.kind == "write"}
    seen = Counter[tuple[str, bool]]()
    for op in found.ops:
        if op.kind == "read":
            after = (op.began - began[op.key]) / 1e6
            band = "before" if after < 40 else "after" if after > 46 else "between"
            seen[band, written[op.key] in op.seen] += 1
    assert seen["before", True] == 0
    assert seen["before", False] > 100
    # A message that meets a long delay of the network itself may come later still.
    assert seen["after", True] > 100
    assert seen["after", False] <= 0.02 * seen["after", True]


def test_delays_can_be_drawn_per_leg_and_belong_to_who_sends() -> None:
    async def scene(target: SimulatedTarget) -> list[float]:
        took = []
        for number in range(20):
            reply = await target.write(f"k{number}", number + 1, w=3, coordinator=0)
            took.append((reply.committed - reply.began) / 1e6)
        return took

    acks = Cluster(slow={"A": [[1.0, "constant", 30]]})
    assert all(30 < ms < 80 for ms in on_a_cluster(scene, acks))
    mixed = Cluster(slow={"W": [[0.5, "exponential", 0.1], [0.5, "constant", 20]]})
    assert len({round(ms) for ms in on_a_cluster(scene, mixed)}) > 5


def test_sets_lose_nothing_over_a_partition() -> None:
    found = run("set-add", *PARTITION)
    added = {op.write for op in found.ops if op.kind == "write" and op.outcome == "ok"}
    last = [op for op in found.ops if op.phase == "after" and op.outcome == "ok"]
    assert len(added) > 100
    assert added <= {element for op in last for element in op.elements}


def test_after_a_heal_the_replicas_converge_and_the_trees_become_equal() -> None:
    found = run("probe", *PARTITION, keys=20, horizon_ms=5, w=1)
    kinds = [event.kind for event in found.events]
    assert {"partition", "heal", "trees_equal"} <= set(kinds)
    heal = next(event.at for event in found.events if event.kind == "heal")
    polls = [op for op in found.ops if op.target and op.offset < 0]
    assert polls
    assert min(op.start for op in polls) >= heal
    finals: dict[tuple[str, str], Op] = {(op.key, op.target): op for op in polls}
    for key in {op.key for op in polls}:
        assert len({frozenset(finals[key, node].seen) for node in "abc"}) == 1


def test_a_paused_node_answers_late_and_a_client_gives_up_in_time() -> None:
    load = msgspec.structs.replace(LOAD, timeout=0.5)
    pause = Fault(do="pause", at=1, until=3.5, nodes=(1,))
    found = run("ycsb-a", pause, recordcount=50, load=load, final=False)
    late = [op for op in found.ops if op.outcome != "ok"]
    assert {op.coordinator for op in late} == {"b"}
    assert {(op.kind, op.outcome) for op in late} == {("read", "fail"), ("write", "unknown")}
    assert {op.why for op in late} == {"no answer in time"}
    assert max(op.end - op.start for op in late) < 1_100_000_000


def test_a_node_that_is_down_certainly_does_nothing() -> None:
    found = run("ycsb-a", Fault(do="crash", at=1, until=2, nodes=(2,)), recordcount=50, final=False)
    down = [op for op in found.ops if op.why == "node c is down"]
    assert down
    assert {op.outcome for op in down} == {"fail"}
    after = [op for op in found.ops if op.coordinator == "c" and op.outcome == "ok"]
    assert max(op.start for op in after) > max(op.start for op in down)


def test_nodes_restart_and_old_disks_are_put_back() -> None:
    found = run(
        "session",
        Fault(do="restart", at=1, nodes=(0,)),
        Fault(do="restore", at=2.5, image_at=1.5, nodes=(1,)),
    )
    assert {"restart", "restore", "heal"} <= {event.kind for event in found.events}
    begin = found.driven.measured[0]
    for node, at in (("a", 1.0), ("b", 2.5)):
        back = [op for op in found.ops if op.coordinator == node and op.outcome == "ok"]
        assert max(op.start for op in back) > begin + int((at + 0.5) * 1e9)


def test_faults_that_overlap_end_when_the_last_does() -> None:
    async def scene(target: SimulatedTarget) -> list[str]:
        states: list[str] = []
        long, short = (Fault(do="pause", at=0, until=end, nodes=(0,)) for end in (9, 3))
        for act, fault in (
            (target.fault, long),
            (target.fault, short),
            (target.mend, short),
            (target.mend, long),
        ):
            await act(fault)
            states.append(target.cluster.nodes["a"].state)
        return states

    assert on_a_cluster(scene) == ["paused", "paused", "paused", "up"]


def test_a_scenario_is_carried_out_by_its_seed_and_cut_short_by_a_signal() -> None:
    async def body(target: SimulatedTarget, clock: VirtualClock) -> str:
        assert len(target.nodes) == 5
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await clock.sleep_until(clock.now() + 10_000_000_000)
        except asyncio.CancelledError:
            return f"ended at {clock.now()}"
        return "not cancelled"

    scenario = Scenario(
        name="x",
        told="",
        targets=("sim",),
        workload="session",
        cluster=Cluster(nodes=5),
        seed=7,
    )
    before = signal.getsignal(signal.SIGINT)
    assert simulate(scenario, body).startswith("ended at ")
    assert signal.getsignal(signal.SIGINT) is before


# What single requests say -----------------------------------------------------------------------


def test_a_directed_read_is_of_one_copy_and_repairs_nothing() -> None:
    async def scene(target: SimulatedTarget) -> list[Reply]:
        cut = Fault(do="partition", at=0, nodes=(2,))
        await target.fault(cut)
        await target.write("k", 7, w=1, coordinator=0)
        replies = [await target.read("k", replica=node) for node in (0, 1, 2, 2)]
        assert not await target.trees_equal()
        await target.mend(cut)
        return replies

    first, second, *others = on_a_cluster(scene)
    assert first.seen == second.seen == (7,)
    assert [(reply.outcome, reply.seen) for reply in others] == [("ok", ()), ("ok", ())]
    assert [reply.coordinator for reply in (first, second, *others)] == ["a", "b", "c", "c"]


def test_a_node_without_a_copy_says_so() -> None:
    async def scene(target: SimulatedTarget) -> Counter[str]:
        await target.write("k", 1, w=3)
        return Counter([(await target.read("k", replica=node)).outcome for node in range(5)])

    assert on_a_cluster(scene, Cluster(nodes=5, n=3)) == {"ok": 3, "fail": 2}


def test_a_write_says_what_its_context_covers_and_siblings_stay_until_then() -> None:
    async def scene(target: SimulatedTarget) -> tuple[Reply, ...]:
        one = await target.write("k", 1)
        blind = await target.write("k", 2)
        both = await target.read("k", r=3)
        over = await target.write("k", 3, context=both.context, elements=(1, 3))
        return one, blind, both, over, await target.read("k", r=3)

    one, blind, both, over, last = on_a_cluster(scene)
    assert one.seen == (1,)
    assert sorted(blind.seen) == sorted(both.seen) == [1, 2]
    assert over.seen == last.seen == (3,)
    assert last.elements == (1, 3)


@pytest.mark.parametrize("repair", [True, False])
def test_reads_repair_unless_the_scenario_says_no(repair: bool) -> None:
    async def scene(target: SimulatedTarget) -> tuple[int, ...]:
        crash = Fault(do="crash", at=0, nodes=(2,))
        await target.fault(crash)
        await target.write("k", 7, coordinator=0)
        await target.mend(crash)
        await target.cluster.ready()
        assert (await target.read("k", replica=2)).seen == ()
        await target.read("k", r=3, coordinator=0)
        await asyncio.sleep(1)
        return (await target.read("k", replica=2)).seen

    asked = Cluster(repair=repair, hints=False, exchange=False)
    assert on_a_cluster(scene, asked) == ((7,) if repair else ())


def test_hints_bring_a_write_to_who_was_cut_off_unless_the_scenario_says_no() -> None:
    async def scene(target: SimulatedTarget) -> tuple[int, ...]:
        crash = Fault(do="crash", at=0, nodes=(2,))
        await target.fault(crash)
        await asyncio.sleep(5)
        await target.write("k", 7, coordinator=0)
        await target.mend(crash)
        await asyncio.sleep(20)
        return (await target.read("k", replica=2)).seen

    nothing_else = Cluster(repair=False, exchange=False)
    assert on_a_cluster(scene, nothing_else) == (7,)
    assert on_a_cluster(scene, msgspec.structs.replace(nothing_else, hints=False)) == ()


def test_properties_are_the_buckets() -> None:
    async def scene(target: SimulatedTarget) -> tuple[Reply, Reply]:
        await target.write("k", 1)
        await target.write("k", 2)
        whole = await target.read("k", r=3)
        return whole, await target.read("k", replica=0)

    for reply in on_a_cluster(scene, last_write_wins=True, allow_mult=False):
        assert reply.seen == (2,)


@pytest.mark.parametrize(
    ("cluster", "properties", "told"),
    [
        (Cluster(nodes=27), {}, "nodes = 27"),
        (Cluster(nodes=3, n=4), {}, "n = 4"),
        (Cluster(flags=("--log-level", "debug")), {}, "does not take --log-level"),
        (Cluster(flags=("--hint-window",)), {}, "without a number"),
        (Cluster(slow={"X": [[1.0, "constant", 1]]}), {}, "slow: "),
        (Cluster(slow={"W": [[1.0, "constant"]]}), {}, "slow: "),
        (Cluster(), {"w": 9}, "properties: "),
        (Cluster(), {"colour": "red"}, "properties: "),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    cluster: Cluster, properties: dict[str, Any], told: str
) -> None:
    async def scene(target: SimulatedTarget) -> None:
        raise AssertionError("it was set up")

    with pytest.raises(TargetFailed, match=told):
        on_a_cluster(scene, cluster, **properties)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault(do="crash", at=0, nodes=(3,)), "no node 3"),
        (Fault(do="partition", at=0), "not all"),
        (Fault(do="slow", at=0), "by which"),
        (Fault(do="slow", at=0, slow=Slow(legs={"W": []})), "slow: "),
        (Fault(do="restore", at=0, nodes=(0,)), "no image"),
    ],
)
def test_faults_that_cannot_be_are_refused(fault: Fault, told: str) -> None:
    async def scene(target: SimulatedTarget) -> None:
        with pytest.raises(TargetFailed, match=told):
            await target.fault(fault)

    on_a_cluster(scene)


def test_what_nodes_measure_themselves_is_told() -> None:
    async def scene(target: SimulatedTarget) -> list[dict[str, Any]]:
        for number in range(300):
            await target.write(f"k{number}", number + 1)
            await target.read(f"k{number}")
        wars = await target.wars()
        assert wars is not None
        told: list[dict[str, Any]] = msgspec.json.decode(wars)
        return told

    told = on_a_cluster(scene)
    assert [one["node"] for one in told] == ["a", "b", "c"]
    assert any(one["writes"] and one["reads"] for one in told)
