"""Register: the same keys written and read by many at once."""

from __future__ import annotations

from collections import Counter, defaultdict

from workload_client import MemoryClient, play

from bench.history import Op


def test_reads_and_writes_come_in_their_shares_and_share_keys() -> None:
    client = MemoryClient()
    play("register", client, arrivals=1_000, keys=4, writes=0.3, operations=10_000)
    assert abs(len(client.writes()) / 1_000 - 0.3) < 0.05
    assert {op.key for op in client.writes()} == {f"r{number}-0" for number in range(4)}
    assert {op.session for op in client.ops} == set(range(4))


def test_writers_beside_each_other_are_sessions_of_their_own_at_nodes_of_their_own() -> None:
    client = MemoryClient()
    play("register", client, writers=3, writes=1.0, final=False)
    bursts: dict[int, list[Op]] = defaultdict(list)
    for op in client.writes():
        bursts[op.start].append(op)
    assert len(bursts) == 200
    for burst in bursts.values():
        assert len(burst) == len({op.session for op in burst}) == 3
        assert len({op.coordinator for op in burst}) == 3
        assert len({op.key for op in burst}) == 1


def test_no_key_is_used_much_longer_than_asked() -> None:
    client = MemoryClient()
    play("register", client, arrivals=1_000, keys=2, operations=50, final=False, apart=0.0001)
    used = Counter(op.key for op in client.ops)
    assert len(used) in (20, 21)
    assert max(used.values()) == 50


def test_contexts_are_those_known_just_read_or_none() -> None:
    client = MemoryClient()
    play("register", client, keys=1, sessions=1)
    assert any(op.bases for op in client.writes())
    client = MemoryClient()
    play("register", client, keys=1, context="none")
    assert not any(op.bases for op in client.writes())
    client = MemoryClient()
    play("register", client, keys=1, context="read", writes=1.0, apart=0.01)
    writes = client.writes()
    assert len(client.reads()) == len(writes) == 200
    assert all(op.bases for op in writes[1:])


def test_concurrent_writers_leave_siblings() -> None:
    client = MemoryClient()
    play("register", client, keys=2, writers=2, context="read", apart=0.02)
    assert any(len(op.seen) == 2 for op in client.reads())


def test_final_reads_cover_all_keys() -> None:
    client = MemoryClient()
    play("register", client, operations=20)
    assert {op.key for op in client.reads("after")} == {op.key for op in client.writes()}
