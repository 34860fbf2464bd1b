"""What was worked out of bytes is known for those bytes only, and within bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dynamo.memo import ENTRY_BYTES, Memo, ObjectMemo


def test_a_value_is_known_for_the_very_bytes_it_came_from() -> None:
    memo: Memo[int] = Memo(bytes_max=100_000)
    memo.put(b"k", b"data", 1)
    assert memo.get(b"k", b"data") == 1
    assert memo.get(b"k", b"dat!") is None
    assert memo.get(b"j", b"data") is None
    memo.put(b"k", b"dat!", 2)
    assert memo.get(b"k", b"data") is None
    assert memo.get(b"k", b"dat!") == 2


def test_the_oldest_goes_first_and_what_is_too_large_is_not_kept() -> None:
    memo: Memo[int] = Memo(bytes_max=100 * (ENTRY_BYTES + 23))
    for number in range(101):
        memo.put(b"%03d" % number, b"x" * 10, number)
    assert memo.get(b"000", b"x" * 10) is None
    assert memo.get(b"001", b"x" * 10) == 1
    memo.put(b"001", b"y" * 1000, 1)
    assert memo.get(b"001", b"y" * 1000) is None
    assert memo.get(b"001", b"x" * 10) is None


_puts = st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=60), st.integers()), max_size=60)


@given(_puts)
def test_it_never_holds_more_than_it_may_and_never_answers_wrongly(
    puts: list[tuple[int, bytes, int]],
) -> None:
    memo: Memo[int] = Memo(bytes_max=3000)
    last: dict[bytes, tuple[bytes, int]] = {}
    for number, data, value in puts:
        name = b"%d" % number
        memo.put(name, data, value)
        last[name] = (data, value)
        assert memo.held_bytes <= 3000
        for known, (seen, worked_out) in last.items():
            assert memo.get(known, seen) in (None, worked_out)
    assert memo.held_bytes >= len(memo) * ENTRY_BYTES


def test_what_was_made_of_an_object_is_known_for_that_object_alone() -> None:
    memo: ObjectMemo[list[int], str] = ObjectMemo(count_max=2)
    one, same = [1], [1]
    memo.put("k", one, "made of one")
    assert memo.get("k", one) == "made of one"
    assert memo.get("k", same) is None
    memo.put("k", same, "made of the other")
    assert memo.get("k", one) is None
    memo.put("j", one, "j")
    memo.put("i", one, "i")
    assert len(memo) == 2
    assert memo.get("k", same) is None
    assert memo.get("i", one) == "i"
