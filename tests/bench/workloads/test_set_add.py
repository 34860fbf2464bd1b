"""Set-add: adds that merge what they have read; the element is the id of the write."""

from __future__ import annotations

from collections import defaultdict

from workload_client import MS, MemoryClient, play


def test_an_add_writes_what_it_has_read_and_its_own_element() -> None:
    client = MemoryClient()
    play("set-add", client)
    assert 70 < len(client.writes()) < 130
    for write in client.writes():
        read = [
            op
            for op in client.reads()
            if op.session == write.session and op.key == write.key and op.end <= write.start
        ][-1]
        assert set(write.elements) == {*read.elements, write.write}
        assert set(read.seen) <= set(write.bases)


def test_adds_beside_each_other_are_all_there_in_the_end() -> None:
    client = MemoryClient()
    play("set-add", client, sets=1, adds=0.8, apart=0.0003)
    assert any(len(op.seen) > 1 for op in client.reads())
    (last,) = client.reads("after")
    assert set(last.elements) == {op.write for op in client.writes()}


def test_blind_adds_leave_their_siblings_alone() -> None:
    client = MemoryClient()
    play("set-add", client, sets=1, context=False)
    assert {op.bases for op in client.writes()} == {()}


def test_full_sets_are_followed_by_others_and_read_at_the_end() -> None:
    client = MemoryClient()
    play("set-add", client, sets=2, elements=10, adds=1.0, apart=0.01)
    adds: dict[str, int] = defaultdict(int)
    for op in client.writes():
        adds[op.key] += 1
    assert len(adds) >= 20
    assert max(adds.values()) == 10
    assert {op.key for op in client.reads("after")} == set(adds)


def test_who_cannot_read_does_not_add() -> None:
    client = MemoryClient(fails=lambda kind, key, place: "fail" if kind == "read" else "ok")
    play("set-add", client)
    assert client.writes() == []
    assert client.reads()


def test_stale_reads_still_end_with_all_elements() -> None:
    client = MemoryClient(lag=10 * MS)
    play("set-add", client, sets=1, elements=1_000)
    last = client.reads("after")[-1]
    assert {op.write for op in client.writes()} >= set(last.elements)
