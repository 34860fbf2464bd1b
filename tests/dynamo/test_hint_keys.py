"""Which hints there are, as long as they are few."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dynamo.hint_keys import HintKeys

NAMES = st.integers(0, 9).map(lambda number: b"%d" % number)


def test_all_are_known_as_soon_as_those_that_are_not_have_left() -> None:
    keys = HintKeys()
    keys.add("b", b"2")
    assert keys.all_after("b", b"", 2) is None
    keys.add("b", b"1")
    assert keys.all_after("b", b"", 2) == [b"1", b"2"]
    assert keys.all_after("b", b"1", 2) == [b"2"]
    keys.remove("b", b"1")
    assert keys.all_after("b", b"", 1) == [b"2"]


def test_of_a_target_without_hints_all_are_known() -> None:
    assert HintKeys().all_after("b", b"", 0) == []
    assert HintKeys().all_after("b", b"", 1) is None


def test_more_than_the_bound_are_forgotten_until_they_have_left() -> None:
    keys = HintKeys(keys_max=3)
    for name in b"1", b"2", b"3", b"4":
        keys.add("b", name)
    assert keys.all_after("b", b"", 4) is None
    for name in b"1", b"2", b"3":
        keys.remove("b", name)
    assert keys.all_after("b", b"", 1) == [b"4"]


def test_what_a_look_at_all_has_found_is_known() -> None:
    keys = HintKeys(keys_max=3)
    keys.learn("b", (b"2", b"1"))
    assert keys.all_after("b", b"", 2) == [b"1", b"2"]
    keys.learn("c", (b"1", b"2", b"3", b"4"))
    assert keys.all_after("c", b"", 4) is None


@given(st.lists(st.tuples(st.booleans(), NAMES), max_size=60), NAMES)
def test_what_is_called_all_is_all(steps: list[tuple[bool, bytes]], position: bytes) -> None:
    keys = HintKeys(keys_max=3)
    there: set[bytes] = set()
    most = 0
    for is_added, name in steps:
        if is_added and name not in there:
            there.add(name)
            keys.add("b", name)
        elif not is_added and name in there:
            there.remove(name)
            keys.remove("b", name)
        most = max(most, len(there))
        told = keys.all_after("b", position, len(there))
        assert told in (None, sorted(one for one in there if one > position))
        assert told is not None or most > 3
