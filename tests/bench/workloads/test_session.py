"""Sessions: a write, then reads of the same key, each at another coordinator."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from workload_client import MS, MemoryClient, play


def test_a_turn_is_a_write_and_then_reads_of_its_key_one_after_the_other() -> None:
    client = MemoryClient()
    play("session", client, sessions=2, apart=0.02, reads=3)
    turns = [client.ops[i : i + 4] for i in range(0, 800, 4)]
    for turn in turns:
        assert [op.kind for op in turn] == ["write", "read", "read", "read"]
        assert len({op.key for op in turn}) == len({op.session for op in turn}) == 1
        assert all(a.end <= b.start for a, b in pairwise(turn))


def test_own_keys_are_nobody_elses() -> None:
    client = MemoryClient()
    play("session", client, keys=3)
    users: dict[str, set[int]] = {}
    for op in client.reads():
        users.setdefault(op.key, set()).add(op.session)
    assert len(users) == 12
    assert all(len(sessions) == 1 for sessions in users.values())


def test_shared_keys_are_everybodys() -> None:
    client = MemoryClient()
    play("session", client, keys=2, shared=True)
    assert {(op.key, op.session) for op in client.reads()} == {
        (f"s{key}", session) for key in range(2) for session in range(4)
    }


def test_writes_hand_back_what_the_session_knows() -> None:
    client = MemoryClient()
    play("session", client, keys=1, apart=0.02)
    newest: dict[str, int] = {}
    for op in client.writes():
        assert newest.get(op.key, 0) in (*op.bases, 0)
        newest[op.key] = op.write
    assert all(len(op.seen) == 1 for op in client.reads())


def test_blind_writes_hand_back_nothing() -> None:
    client = MemoryClient()
    play("session", client, context=False)
    assert {op.bases for op in client.writes()} == {()}


def test_stale_replicas_break_the_guarantees() -> None:
    client = MemoryClient(lag=20 * MS)
    play("session", client, apart=0.05)
    assert any(not op.seen for op in client.reads())


def test_coordinators_change_or_stick_to_the_session() -> None:
    client = MemoryClient()
    play("session", client)
    assert set(Counter(op.coordinator for op in client.ops)) == {"0", "1", "2"}
    client = MemoryClient()
    play("session", client, writer="session", reader="session")
    assert all(op.coordinator == str(op.session % 3) for op in client.reads())


def test_reads_wait_for_up_to_the_pause() -> None:
    client = MemoryClient()
    play("session", client, pause_ms=10, reads=1, apart=0.05)
    ends = {(op.session, op.key, op.end) for op in client.writes()}
    assert len(ends) == 200
    measured = client.ops[:400]
    waits = [
        read.start - write.end for write, read in zip(measured[::2], measured[1::2], strict=True)
    ]
    assert 0 <= min(waits) < 2 * MS
    assert 8 * MS < max(waits) <= 10 * MS


def test_all_that_was_written_is_read_at_the_end() -> None:
    client = MemoryClient()
    play("session", client)
    assert {op.key for op in client.reads("after")} == {op.key for op in client.writes()}


def test_after_a_heal_nothing_is_written_and_keys_are_polled_if_that_is_asked_for() -> None:
    client = MemoryClient()
    play("session", client, heal_after=100, shared=True, keys=5, poll_keys=5, final=False)
    heal = client.healed
    assert heal
    assert not [op for op in client.writes() if op.start > heal + MS]
    polled = [op for op in client.reads() if op.target]
    assert {op.key for op in polled} == {f"s{number}" for number in range(5)}
    assert [op for op in client.reads() if not op.target and op.start > heal]


def test_without_that_a_heal_changes_nothing() -> None:
    client = MemoryClient()
    play("session", client, heal_after=100, final=False)
    assert [op for op in client.writes() if op.start > client.healed > 0]
    assert not [op for op in client.reads() if op.target]
