"""The account of hints: windows, bounds, ages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from antientropy.hints import LIVE_MAX, Held, HintBook

MINUTE = 60_000


def book(*, window_ms: int = 100 * MINUTE, bytes_max: int = 1_000) -> HintBook:
    return HintBook(window_ms=window_ms, bytes_max=bytes_max)


def test_a_window_counts_from_when_it_was_opened_and_is_the_targets_own() -> None:
    hints = book()
    hints.open("t", 5)
    assert hints.why_not("t", 5 + 100 * MINUTE - 1, grows=1, is_new=True) == ""
    assert hints.why_not("t", 5 + 100 * MINUTE, grows=1, is_new=True) == "window"
    assert hints.why_not("t", 5 + 100 * MINUTE, grows=1, is_new=False) == ""
    assert hints.why_not("u", 5 + 100 * MINUTE, grows=1, is_new=True) == ""


def test_a_window_can_be_forgotten_once_all_is_delivered_to_a_target_that_is_well() -> None:
    hints = book()
    hints.open("t", 0)
    hints.add("t", 10, 0)
    hints.steady("t")
    assert not hints.may_forget("t")
    hints.remove("t", 10, 0)
    assert hints.may_forget("t")
    hints.taken("t")
    assert not hints.may_forget("t")
    assert not hints.may_forget("who")


def test_a_clock_that_goes_back_moves_the_window_with_it() -> None:
    hints = book()
    hints.open("t", 1_000 * MINUTE)
    assert hints.why_not("t", 10 * MINUTE, grows=1, is_new=True) == ""
    assert hints.why_not("t", 110 * MINUTE, grows=1, is_new=True) == "window"


def test_what_does_not_grow_always_has_room() -> None:
    hints = book(bytes_max=10)
    assert hints.why_not("t", 0, grows=11, is_new=True) == "full"
    hints.add("t", 10, 0)
    assert hints.why_not("t", 0, grows=1, is_new=False) == "full"
    assert hints.why_not("t", 0, grows=0, is_new=False) == ""
    assert hints.why_not("t", 0, grows=-5, is_new=False) == ""
    hints.remove("t", 10, 0)
    assert hints.why_not("t", 0, grows=10, is_new=True) == ""


def test_a_target_that_is_up_has_a_bound_of_its_own() -> None:
    hints = book(bytes_max=1 << 20)
    for _ in range(LIVE_MAX):
        assert hints.why_not("t", 0, grows=1, is_new=True, is_live=True) == ""
        hints.add("t", 1, 0)
    assert hints.why_not("t", 0, grows=1, is_new=True, is_live=True) == "live"
    assert hints.why_not("t", 0, grows=1, is_new=True) == ""


def test_targets_are_shown_in_order_with_the_time_of_their_oldest_hint() -> None:
    hints = book()
    hints.know("nobody")
    hints.open("b", 3 * MINUTE + 7)
    hints.add("b", 20, 9 * MINUTE + 1)
    hints.add("b", 30, 5 * MINUTE + 1)
    hints.add("a", 1, 2 * MINUTE)
    assert hints.held() == (
        Held("a", 1, 1, 2 * MINUTE, 2 * MINUTE),
        Held("b", 2, 50, 3 * MINUTE + 7, 5 * MINUTE),
    )
    assert [held.target for held in hints.held(empty=True)] == ["a", "b", "nobody"]
    hints.remove("b", 30, 5 * MINUTE + 1)
    assert hints.held()[1].oldest_ms == 9 * MINUTE


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 99), st.integers(0, 9 * MINUTE))))
def test_what_was_added_and_removed_leaves_nothing(hints: list[tuple[str, int, int]]) -> None:
    account = book()
    for target, size, created_ms in hints:
        account.add(target, size, created_ms)
    assert account.bytes == sum(size for _, size, _ in hints)
    for target in "ab":
        assert account.count(target) == sum(1 for name, _, _ in hints if name == target)
    for target, size, created_ms in reversed(hints):
        account.remove(target, size, created_ms)
    assert account.bytes == 0
    assert account.held() == ()
    assert all(held.oldest_ms == 0 for held in account.held(empty=True))
