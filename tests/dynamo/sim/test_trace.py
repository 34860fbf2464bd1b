"""The trace: one hash for all that happened."""

from __future__ import annotations

from dynamo.sim.trace import TAIL_ENTRIES, Trace


def traced(*entries: tuple[str | int | float, ...], at: float = 1.0) -> Trace:
    trace = Trace(now=lambda: at)
    for entry in entries:
        trace.note(*entry)
    return trace


def test_the_same_entries_give_the_same_hash_and_no_others_do() -> None:
    same = traced(("a", 1), ("b", 2)).hash
    assert same == traced(("a", 1), ("b", 2)).hash
    others = [
        traced(("b", 2), ("a", 1)),
        traced(("a", 1)),
        traced(("a", 1), ("b", 2), ("b", 2)),
        traced(("a", 1, "b", 2)),
        traced(("a", 1), ("b", 2), at=1.5),
        traced(),
    ]
    assert len({same, *(other.hash for other in others)}) == 7


def test_bytes_count_with_their_time_their_place_and_their_order() -> None:
    def hashed(*came: tuple[str, bytes], at: float = 1.0) -> str:
        trace = Trace(now=lambda: at)
        for name, data in came:
            trace.note_bytes(name, data)
        return trace.hash

    first, second = ("a>b", b"one"), ("b>a", b"two")
    assert hashed(first, second) == hashed(first, second)
    others = [
        hashed(first, second),
        hashed(second, first),
        hashed(first, second, at=2.0),
        hashed(("a>c", b"one"), second),
        hashed(("a>b", b"onf"), second),
        hashed(first),
    ]
    assert len(set(others)) == len(others)


def test_the_last_entries_can_be_read() -> None:
    trace = traced(*(("step", number) for number in range(TAIL_ENTRIES + 5)))
    assert trace.count == TAIL_ENTRIES + 5
    assert trace.tail()[0] == "1.000000 step 5"
    assert len(trace.tail()) == TAIL_ENTRIES


def test_who_watches_sees_each_entry_as_a_line() -> None:
    trace, lines = Trace(now=lambda: 2.0), list[str]()
    trace.watch = lines.append
    trace.note("cut", "a", "b")
    assert lines == ["2.000000 cut a b"]
