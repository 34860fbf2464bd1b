"""A plan names each node of the datacenter once: primaries, then fallbacks in ring order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ring.preference
from ring.member import Member
from ring.partition import partition_of, token
from ring.preference import Planner
from ring.ring import ReplicationClass, Ring

DEFAULT = ReplicationClass("default", 0)


def _ring(count: int, partitions: int = 64, replicas: int = 3) -> Ring:
    members = [Member(f"n{n}", f"n{n}:7400") for n in range(count)]
    members.append(Member("idle", "idle:7400", weight=0))
    members.append(Member("far", "far:7400", "dc2"))
    cls = ReplicationClass("default", 0, replicas)
    return Ring.build(members, partitions=partitions, seed=7, classes=[cls])


@given(st.binary(max_size=40))
def test_a_key_is_planned_in_its_partition(key: bytes) -> None:
    ring = _ring(5)
    plan = Planner(ring, "dc1").plan(DEFAULT, key)
    assert plan.partition == partition_of(token(key, 7), 64)
    assert plan.primaries == ring.owners(0, plan.partition, "dc1")
    assert (plan.class_id, plan.epoch) == (0, 1)


@given(st.integers(1, 9), st.sampled_from([1, 2, 64]), st.integers(1, 4), st.data())
def test_primaries_and_fallbacks_name_every_node_with_weight_once(
    count: int, partitions: int, replicas: int, data: st.DataObject
) -> None:
    planner = Planner(_ring(count, partitions, replicas), "dc1")
    plan = planner.plan_partition(0, data.draw(st.integers(0, partitions - 1)))
    assert sorted(plan.primaries + plan.fallbacks) == [f"n{n}" for n in range(count)]


def test_fallbacks_are_the_owners_of_the_partitions_that_follow() -> None:
    ring = _ring(9)
    for partition in range(64):
        plan = Planner(ring, "dc1").plan_partition(0, partition)
        expected: list[str] = []
        for step in range(1, 64):
            for owner in ring.owners(0, (partition + step) % 64, "dc1"):
                if owner not in plan.primaries and owner not in expected:
                    expected.append(owner)
        assert list(plan.fallbacks) == expected


def test_the_work_of_a_dead_node_falls_to_all_the_others() -> None:
    planner = Planner(_ring(9, partitions=256), "dc1")
    plans = [planner.plan_partition(0, partition) for partition in range(256)]
    first = [plan.fallbacks[0] for plan in plans if "n0" in plan.primaries]
    # 85 or 86 partitions, 8 others.
    assert len(set(first)) == 8
    assert max(first.count(name) for name in set(first)) < 30


def test_who_owns_nothing_stands_in_by_turns() -> None:
    planner = Planner(_ring(9, partitions=2, replicas=1), "dc1")
    left, right = planner.plan_partition(0, 0), planner.plan_partition(0, 1)
    assert left.fallbacks[0] == right.primaries[0]
    assert left.fallbacks[1] != right.fallbacks[1]


def test_a_class_without_replicas_here_has_fallbacks_only() -> None:
    members = [Member("a", "a:1"), Member("b", "b:1"), Member("c", "c:1", "dc2")]
    cls = ReplicationClass("x", 3, 1, (("dc1", 0),))
    plan = Planner(Ring.build(members, seed=7, classes=[cls]), "dc1").plan(cls, b"key")
    assert plan.primaries == ()
    assert sorted(plan.fallbacks) == ["a", "b"]


def test_a_plan_is_made_once_and_found_by_class_or_id() -> None:
    planner = Planner(_ring(5), "dc1")
    plan = planner.plan(DEFAULT, b"key")
    assert planner.plan(0, b"key") is plan
    assert planner.plan_partition(0, plan.partition) is plan
    assert plan.fallbacks is plan.fallbacks


def test_planners_of_equal_rings_make_equal_plans() -> None:
    ring = _ring(5)
    plan = Planner(ring, "dc1").plan(DEFAULT, b"key")
    same = Planner(Ring.from_bytes(ring.to_bytes()), "dc1").plan(DEFAULT, b"key")
    assert plan == same
    assert hash(plan) == hash(same)
    assert plan != Planner(_ring(6), "dc1").plan_partition(0, plan.partition)
    assert plan != Planner(ring, "dc2").plan_partition(0, plan.partition)


def test_fallback_lists_are_kept_within_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring.preference, "FALLBACK_IDS_MAX", 20)
    planner = Planner(_ring(9), "dc1")
    lists = [planner.plan_partition(0, partition).fallbacks for partition in range(64)]
    # Six ids a list: three lists fit.
    assert planner.kept_fallback_ids == 18
    assert lists == [planner.plan_partition(0, partition).fallbacks for partition in range(64)]


@pytest.mark.parametrize(("class_id", "partition"), [(1, 0), (0, -1), (0, 64)])
def test_what_is_not_there_cannot_be_planned(class_id: int, partition: int) -> None:
    planner = Planner(_ring(3), "dc1")
    for ask in (planner.plan_partition, planner.fallbacks):
        with pytest.raises(LookupError):
            ask(class_id, partition)
    with pytest.raises(KeyError):
        planner.plan(1, b"key")


def test_a_datacenter_without_members_has_no_planner() -> None:
    with pytest.raises(ValueError, match="dc9"):
        Planner(_ring(3), "dc9")


def test_plan_and_planner_are_printed_in_one_line() -> None:
    planner = Planner(_ring(1), "dc1")
    assert repr(planner.plan_partition(0, 3)) == "Plan(class=0 partition=3 epoch=1 primaries=n0)"
    assert repr(planner).startswith("Planner(datacenter=dc1 Ring(epoch=1 ")
