"""Visibility: a fresh key a write, one read of each, when it was designed to be."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from workload_client import MS, MemoryClient, play

from bench.scenario import BadScenario
from bench.workloads import make

GRIDS: tuple[dict[str, Any], ...] = (
    {"grid": "uniform", "horizon_ms": 50},
    {"grid": "log", "from_ms": 0.1, "horizon_ms": 100, "at_once": 0.1},
    {"grid": "list", "offsets_ms": [0, 1, 5, 10], "probes": 3},
)


@pytest.mark.parametrize("options", GRIDS)
def test_each_key_is_written_once_and_read_once(options: dict[str, Any]) -> None:
    client = MemoryClient()
    play("visibility", client, **options)
    probes = options.get("probes", 1)
    assert len(client.writes()) == len(client.reads()) == 200 * int(str(probes))
    assert set(Counter(op.key for op in client.writes()).values()) == {1}
    assert set(Counter(op.key for op in client.reads()).values()) == {1}


@pytest.mark.parametrize("options", GRIDS)
@pytest.mark.parametrize("stamps", [True, False])
def test_reads_start_at_their_offset_after_the_commit(
    options: dict[str, Any], stamps: bool
) -> None:
    client = MemoryClient(stamps=stamps)
    play("visibility", client, **options)
    writes = {op.key: op for op in client.writes()}
    for read in client.reads():
        write = writes[read.key]
        commit = write.committed or write.end
        assert read.offset >= 0
        assert abs(read.start - max(commit + read.offset, write.end)) <= 2
        assert read.intended == max(commit + read.offset, write.end)


def test_offsets_count_from_the_clients_commit_where_that_is_asked_for() -> None:
    client = MemoryClient(stamps=True)
    play("visibility", client, origin="client", grid="list", offsets_ms=[0])
    writes = {op.key: op for op in client.writes()}
    assert all(read.start == writes[read.key].end for read in client.reads())


def test_a_uniform_grid_covers_its_horizon_evenly() -> None:
    client = MemoryClient()
    play("visibility", client, arrivals=4_000, horizon_ms=40, apart=0.001)
    tenths = Counter(read.offset * 10 // (40 * MS) for read in client.reads())
    assert sorted(tenths) == list(range(10))
    assert all(300 < count < 500 for count in tenths.values())


def test_a_log_grid_covers_each_decade_alike_often_and_zero_as_asked() -> None:
    client = MemoryClient()
    play("visibility", client, arrivals=4_000, apart=0.001, **GRIDS[1])
    offsets = [read.offset for read in client.reads()]
    assert 320 < offsets.count(0) < 480
    for decade in (0.1, 1.0, 10.0):
        count = sum(decade * MS <= offset < decade * 10 * MS for offset in offsets)
        assert 1_100 < count < 1_300


def test_a_list_is_gone_through_as_often_as_it_goes() -> None:
    client = MemoryClient()
    play("visibility", client, arrivals=400, **GRIDS[2])
    assert set(Counter(read.offset for read in client.reads()).values()) == {300}


@pytest.mark.parametrize(
    ("reader", "same"), [("other", 0.0), ("same", 1.0), ("any", 0.33), ("session", 0.33)]
)
def test_the_reader_is_where_it_is_told_to_be(reader: str, same: float) -> None:
    client = MemoryClient()
    play("visibility", client, arrivals=1_000, reader=reader, apart=0.001)
    writes = {op.key: op for op in client.writes()}
    shared = sum(writes[op.key].coordinator == op.coordinator for op in client.reads())
    assert abs(shared / 1_000 - same) < 0.06


def test_r_and_w_are_passed_on() -> None:
    client = MemoryClient()
    play("visibility", client, r=1, w=2)
    assert {op.w for op in client.writes()} == {2}
    assert {op.r for op in client.reads()} == {1}


def test_what_was_not_committed_is_not_probed() -> None:
    client = MemoryClient(fails=lambda kind, key, place: "unknown" if kind == "write" else "ok")
    play("visibility", client)
    assert client.reads() == []


def test_what_failed_is_read_without_an_offset_if_that_is_asked_for() -> None:
    client = MemoryClient(fails=lambda kind, key, place: "unknown" if kind == "write" else "ok")
    play("visibility", client, probe_failed=True)
    assert {read.offset for read in client.reads()} == {-1}


def test_final_reads_are_made_only_if_asked_for() -> None:
    client = MemoryClient()
    play("visibility", client)
    assert client.reads("after") == []
    client = MemoryClient()
    play("visibility", client, final=True)
    assert sorted(op.key for op in client.reads("after")) == sorted(
        op.key for op in client.writes()
    )
    assert client.notes == []


def test_very_many_final_keys_are_sampled_and_that_is_told() -> None:
    client = MemoryClient()
    play("visibility", client, final=True, final_keys=50)
    keys = [op.key for op in client.reads("after")]
    assert len(set(keys)) == len(keys) == 50
    assert max(int(key[1:]) for key in keys) > 150
    assert client.notes == ["final reads: a sample of 50 of 200 keys written"]
    assert {op.r for op in client.reads("after")} == {3}


def test_a_final_read_without_an_answer_is_made_again_elsewhere() -> None:
    client = MemoryClient(
        fails=lambda kind, key, place: "fail" if kind == "read" and place == 1 else "ok"
    )
    play("visibility", client, final=True, arrivals=30)
    answered = {op.key for op in client.reads("after") if op.outcome == "ok"}
    assert len(answered) == 30
    assert any(op.outcome == "fail" for op in client.reads("after"))


def test_cells_of_a_grid_are_taken_in_turn() -> None:
    client = MemoryClient()
    play("visibility", client, cells=[[1, 2], [3, 1]])
    by_key = {op.key: op for op in client.writes()}
    cells = Counter((op.r, by_key[op.key].w) for op in client.reads())
    assert cells.keys() == {(1, 2), (3, 1)}
    assert abs(cells[1, 2] - cells[3, 1]) <= 1


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"cells": [[0, 1]]}, "r of a cell"),
        ({"cells": [[1, 4]]}, "w of a cell"),
        ({"cells": [[1]]}, "length 2"),
        ({"cells": [[1, 1]], "r": 1}, "already"),
    ],
)
def test_cells_that_cannot_be_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(BadScenario, match=why):
        make("visibility", options, n=3, nodes=3)
