"""Probe: the same read at every replica at once; after a heal, polling until all agree."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import pytest
from workload_client import MS, MemoryClient, play

from bench.history import Op
from bench.scenario import BadScenario
from bench.workloads import make, wanted


def _groups(ops: list[Op]) -> list[list[Op]]:
    groups: dict[int, list[Op]] = defaultdict(list)
    for op in ops:
        if op.group:
            groups[op.group].append(op)
    return list(groups.values())


def test_a_probe_reads_every_replica_at_one_moment() -> None:
    client = MemoryClient(lag=5 * MS)
    play("probe", client, grid="list", offsets_ms=[0, 2, 10], probes=3, final=False)
    writes = {op.key: op for op in client.writes()}
    groups = _groups(client.reads())
    assert len(groups) == 600
    for group in groups:
        assert sorted(op.target for op in group) == ["0", "1", "2"]
        assert {op.r for op in group} == {1}
        assert len({(op.key, op.offset, op.start) for op in group}) == 1
        first = group[0]
        assert abs(first.start - writes[first.key].end - first.offset) <= 2
    agreed = defaultdict(set)
    for group in groups:
        agreed[group[0].offset // MS].add(len({op.seen for op in group}) == 1)
    assert agreed == {0: {False}, 2: {False}, 10: {True}}


def test_keys_are_fresh_or_written_in_turn() -> None:
    client = MemoryClient()
    play("probe", client)
    assert len({op.key for op in client.writes()}) == 200
    client = MemoryClient()
    play("probe", client, keys=10, horizon_ms=1)
    writes = client.writes()
    assert len({op.key for op in writes}) == 10
    assert all(later.bases for later in writes[20:])


def test_nothing_is_polled_where_nothing_was_healed() -> None:
    client = MemoryClient()
    play("probe", client, final=False)
    assert client.reads("after") == []


def test_after_a_heal_keys_are_polled_until_they_agree_and_nothing_is_written() -> None:
    client = MemoryClient(lag=300 * MS)
    play(
        "probe",
        client,
        heal_after=100,
        horizon_ms=1,
        poll_keys=50,
        poll_ms=50,
        calm=3,
        final=False,
    )
    heal = client.healed
    assert not [op for op in client.writes() if op.start > heal + MS]
    polls: dict[str, list[list[Op]]] = defaultdict(list)
    for group in _groups(client.ops):
        if group[0].offset < 0:
            polls[group[0].key].append(group)
    assert sorted(polls) == sorted(op.key for op in client.writes()[-50:])
    for rounds in polls.values():
        same = [len({op.seen for op in group}) == 1 for group in rounds]
        assert same[-3:] == [True] * 3
        starts = [group[0].start for group in rounds]
        assert all(b - a >= 45 * MS for a, b in pairwise(starts))
    assert max(map(len, polls.values())) > 5, "some did not agree at once"
    polled = [op for rounds in polls.values() for group in rounds for op in group]
    assert {op.offset for op in polled} == {-1}, "no probes: nobody designed when they come"
    assert client.notes == ["polling: the 50 keys written last, 50 older ones are left out"]


def test_a_heal_after_the_last_arrival_is_polled_in_the_end() -> None:
    client = MemoryClient(lag=100 * MS)
    play("probe", client, heal_after=199, poll_keys=10, final=False, arrivals=200)
    assert client.reads("after") or any(op.offset < 0 for op in client.reads())


def test_polling_ends_in_its_time_and_tells_what_is_not_calm() -> None:
    client = MemoryClient(lag=10**15)
    play("probe", client, heal_after=100, poll_keys=5, poll_for_ms=1_000, final=False)
    assert client.notes[-1] == "polling ended with 5 keys that were not calm yet"
    assert max(op.end for op in client.ops) < client.healed + 1_100 * MS


def test_it_needs_every_node_to_be_a_replica() -> None:
    with pytest.raises(BadScenario, match="n = nodes, not n = 3 of 5"):
        make("probe", {}, n=3, nodes=5)
    assert wanted("probe", {}, n=3).directed
    assert not wanted("visibility", {}, n=3).directed
