"""A whole run: clients and faults, then healing, then judgement."""

from __future__ import annotations

import msgspec
import pytest

from dynamo.sim.draw import draw_plan
from dynamo.sim.kinds import Kind
from dynamo.sim.plan import Burst, Fault, Plan
from dynamo.sim.points import Point
from dynamo.sim.run import run_plan

#: Who is crashed where hints are taken and delivered: their holder, or their target.
HINT_CRASHES: tuple[tuple[str, Point], ...] = (
    ("a", "hinted"),
    ("a", "deliver_left"),
    ("b", "delivering"),
    ("b", "delivered"),
    ("a", "hint_removed"),
)
#: Who is crashed where tombstones are reaped: who is asked, or who asks.
REAP_CRASHES: tuple[tuple[str, Point], ...] = (
    ("a", "held"),
    ("a", "hints_seen"),
    ("a", "settled"),
    ("c", "drop_left"),
    ("a", "dropping"),
    ("a", "dropped"),
)
#: Something of every kind, on three nodes.
FAULTS: tuple[Fault, ...] = (
    Fault(1.0, "partition", ("a",), 0.5),
    Fault(1.0, "isolate", ("b",), 0.5),
    Fault(1.0, "one_way", ("a", "b"), 0.5),
    Fault(1.0, "bridge", ("a", "b"), 0.5),
    Fault(1.0, "flap", ("a", "b"), 0.5, 5),
    Fault(1.0, "clog", ("a", "b"), 0.5, 3),
    Fault(1.05, "reset", ("a", "b")),
    Fault(1.05, "half_open", ("a", "b")),
    Fault(1.0, "slow_link", ("a", "b"), 0.5, 30),
    Fault(1.0, "dribble", ("a", "b"), 0.5),
    Fault(1.05, "flip", ("a", "b"), 0.0, 1),
    Fault(1.05, "tear", ("a", "b"), 0.0, 1),
    Fault(1.05, "repeat", ("a", "b"), 0.0, 1),
    Fault(1.05, "swap", ("a", "b"), 0.0, 1),
    Fault(1.05, "replay", ("a", "b"), 0.0, 1),
    Fault(1.0, "lose_messages", (), 0.5, 30),
    Fault(1.0, "double_messages", (), 0.5, 30),
    Fault(1.0, "late_messages", (), 0.5, 30),
    Fault(1.0, "replay_messages", (), 0.5, 30),
    Fault(1.1, "crash", ("a",), 0.3, 5),
    Fault(1.1, "power_cut", ("a",), 0.3, 5),
    Fault(1.1, "stop", ("a",), 0.3, 0),
    Fault(1.1, "crash_all", (), 0.3, 5),
    *(
        Fault(1.0, "crash_at", ("a",), 0.5, 1, point)
        for point in ("minted", "minted_left", "stored", "before_sync", "after_sync", "answer")
    ),
    Fault(1.1, "pause", ("a",), 0.5),
    Fault(1.0, "slow_node", ("a",), 0.5, 20),
    Fault(1.2, "wipe", ("a",), 0.1),
    Fault(1.1, "restore", ("a",), 0.2),
    Fault(1.3, "rot", ("a",), 0.0, 1),
    Fault(1.3, "rot_block", ("a",), 0.0, 1),
    Fault(1.2, "lose_log", ("a",), 0.1, 3),
    Fault(1.2, "lose_database", ("a",), 0.1),
    Fault(1.2, "lose_partition", ("a",), 0.1, 1),
    Fault(1.0, "slow_sync", ("a",), 0.5, 20),
    Fault(1.1, "fail_sync", ("a",), 0.3),
    Fault(1.1, "fail_write", ("a",), 0.3),
    Fault(1.1, "disk_full", ("a",), 0.3),
    Fault(1.1, "disk_end", ("a",), 0.3),
    Fault(1.1, "busy_disk", ("a",), 0.2),
    Fault(1.1, "jump", ("a",), 0.0, 600_000),
    Fault(1.0, "drift", ("a",), 0.5, 50),
    Fault(1.0, "flap_node", ("a",), 1.0, 3),
    Fault(1.1, "owners_away", (), 0.3, 5),
    Fault(1.7, "hint_rot", ("a",), 0.0, 1),
    Fault(1.0, "exchange_crash", ("a",), 4.0, 0, "compared"),
    *(Fault(0.1, "reap_crash", (name,), 4.0, 0, point) for name, point in REAP_CRASHES),
    *(Fault(1.0, "hint_crash", (name,), 3.0, 0, point) for name, point in HINT_CRASHES),
)
#: There are hints while a node is away.
AWAY = Fault(0.9, "crash", ("b",), 1.2)


def plan_of(*faults: Fault, dead: tuple[str, ...] = ()) -> Plan:
    return Plan(
        seed=1,
        nodes=("a", "b", "c"),
        replicas=3,
        partitions=4,
        formed="file",
        keys=2,
        latency_ms=2.0,
        sync_ms=3.0,
        seconds=3.0,
        bursts=(
            Burst(0, 0.2, 0.3, 2, 20, (0, 1)),
            Burst(1, 1.0, 0.5, 4, 60, (0, 1)),
            Burst(2, 1.6, 0.5, 2, 20, (0,)),
        ),
        faults=faults,
        dead=dead,
    )


def test_a_calm_run_has_nothing_to_find_and_nothing_fails() -> None:
    result = run_plan(plan_of())
    assert result.findings == ()
    # Each key is written and read once more at the end, and then examined.
    assert 110 < result.operations < 200
    assert result.messages > 500
    assert result.outcomes["get ok"] > 20
    assert result.outcomes["put ok"] > 20
    assert not any(outcome.endswith("unknown") for outcome in result.outcomes) or (
        result.outcomes["put unknown"] < 10  # who has 5 ms, or goes away
    )


@pytest.mark.parametrize(
    "fault", FAULTS, ids=lambda fault: f"{fault.kind} {fault.point or ''}".strip()
)
def test_a_fault_comes_to_something_and_breaks_no_promise(fault: Fault) -> None:
    faults = (AWAY, fault) if fault.kind.startswith("hint_") else (fault,)
    plan = plan_of(*faults)
    if fault.kind in ("exchange_crash", "reap_crash"):
        plan = msgspec.structs.replace(plan, exchange=1, straggler=0.5, reap_after=0)
    result = run_plan(plan)
    assert result.findings == ()
    assert result.injected[fault.kind] == 1


def test_every_kind_of_fault_has_such_a_run() -> None:
    kinds: set[Kind] = {fault.kind for fault in FAULTS}
    assert kinds == set(msgspec.structs.fields(Fault)[1].type.__args__)


def test_nodes_that_stay_dead_are_no_excuse_for_the_others() -> None:
    result = run_plan(plan_of(Fault(1.0, "crash", ("b",), 0.3), dead=("c",)))
    assert result.findings == ()


def test_a_run_is_told_entry_by_entry() -> None:
    entries: list[str] = []
    result = run_plan(plan_of(), watch=entries.append)
    assert len(entries) > 500
    assert any(" ask 0 " in entry for entry in entries)
    assert run_plan(plan_of()).trace == result.trace


def test_a_run_that_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise ZeroDivisionError("a bug of the simulator's own")

    monkeypatch.setattr("dynamo.sim.run.check_all", fail)
    (finding,) = run_plan(plan_of()).findings
    assert "ZeroDivisionError" in finding.text


def test_leaving_out_a_fault_moves_no_client() -> None:
    """What a client asks first does not depend on the faults."""
    asked = []
    plan = draw_plan(3)
    for faults in (plan.faults, plan.faults[:2], ()):
        entries: list[str] = []
        run_plan(msgspec.structs.replace(plan, faults=faults), watch=entries.append)
        asked.append(next(entry for entry in entries if " ask 0 " in entry).split(" ", 1)[1])
    assert len(set(asked)) == 1
