"""Pair: rows of keys that are written in order and read from the end."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from workload_client import MS, MemoryClient, play

from bench.history import Op
from bench.scenario import BadScenario
from bench.workloads import make


def _groups(ops: list[Op]) -> list[list[Op]]:
    groups: dict[int, list[Op]] = defaultdict(list)
    for op in ops:
        if op.group:
            groups[op.group].append(op)
    return list(groups.values())


def _place(op: Op) -> tuple[str, int]:
    """Row, and place in it."""
    row, _, place = op.key.partition("-")
    return row, int(place)


@pytest.mark.parametrize("keys", [2, 4])
def test_a_writer_writes_its_row_in_order_each_after_the_one_before(keys: int) -> None:
    client = MemoryClient()
    play("pair", client, keys=keys)
    groups = _groups(client.writes())
    assert len(groups) == 200
    for group in groups:
        assert [_place(op)[1] for op in group] == list(range(keys))
        assert len({_place(op)[0] for op in group}) == len({op.session for op in group}) == 1
        assert all(a.end <= b.start for a, b in pairwise(group))


@pytest.mark.parametrize("keys", [2, 4])
def test_readers_read_rows_from_the_end_back_to_back_as_one_group(keys: int) -> None:
    client = MemoryClient()
    play("pair", client, keys=keys, readers=3)
    groups = _groups(client.reads())
    assert len(groups) == 600
    for group in groups:
        assert [_place(op)[1] for op in group] == list(reversed(range(keys)))
        assert len({_place(op)[0] for op in group}) == len({op.session for op in group}) == 1
        assert all(a.end == b.start for a, b in pairwise(group))


@pytest.mark.parametrize("mode", ["writer", "reader-writes"])
def test_a_row_has_one_writer_and_one_round_at_a_time(mode: str) -> None:
    client = MemoryClient()
    play("pair", client, mode=mode, apart=0.002, horizon_ms=30)
    rows: dict[tuple[str, int], list[Op]] = defaultdict(list)
    for op in client.writes():
        rows[_place(op)].append(op)
    assert len(rows) > 4
    for ops in rows.values():
        assert len({op.session for op in ops}) == 1
        assert all(a.end <= b.start and a.write in b.bases for a, b in pairwise(ops))


def test_readers_are_no_writers_of_their_row() -> None:
    client = MemoryClient()
    play("pair", client, readers=2)
    assert not {op.session for op in client.writes()} & {op.session for op in client.reads()}


def test_readers_start_within_the_horizon() -> None:
    client = MemoryClient()
    play("pair", client, horizon_ms=20, apart=0.05)
    first = [group[0] for group in _groups(client.reads())]
    offsets = [op.intended - op.intended // (50 * MS) * (50 * MS) for op in first]
    assert max(offsets) > 15 * MS
    assert max(offsets) <= 20 * MS


def test_who_writes_after_reading_has_seen_what_it_follows() -> None:
    client = MemoryClient(lag=5 * MS)
    play("pair", client, mode="reader-writes", apart=0.05)
    followed = 0
    for write in client.writes():
        if _place(write)[1] != 1:
            continue
        followed += 1
        firsts = [op for op in client.writes() if op.group == write.group and op is not write]
        assert len(firsts) == 1
        own = [op for op in client.reads() if op.session == write.session and not op.group]
        assert any(firsts[0].write in op.seen and op.end <= write.start for op in own)
        assert write.session != firsts[0].session
    assert followed == 200


def test_lagging_replicas_show_writes_out_of_order() -> None:
    client = MemoryClient(lag=3 * MS)
    play("pair", client, apart=0.02, horizon_ms=15)
    round_of = {op.write: op.group for op in client.writes()}
    anomalies = 0
    for y, x in _groups(client.reads()):
        if y.seen and (not x.seen or round_of[x.seen[0]] < round_of[y.seen[0]]):
            anomalies += 1
    assert anomalies > 0


def test_a_row_ends_with_a_write_that_is_not_acknowledged() -> None:
    client = MemoryClient(
        fails=lambda kind, key, place: "unknown" if kind == "write" and place == 1 else "ok"
    )
    play("pair", client, apart=0.05)
    rows: dict[str, list[Op]] = defaultdict(list)
    for op in client.writes():
        rows[_place(op)[0]].append(op)
    for ops in rows.values():
        assert all(op.outcome == "ok" for op in ops[:-1])


def test_rows_are_renewed_after_their_rounds() -> None:
    client = MemoryClient()
    play("pair", client, rounds=10, apart=0.05)
    assert len({_place(op)[0] for op in client.writes()}) == 20


@pytest.mark.parametrize(
    "options", [{"keys": 1}, {"readers": 0}, {"mode": "reader-writes", "keys": 3}, {"mode": "x"}]
)
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadScenario, match="workload pair"):
        make("pair", options, n=3, nodes=3)
