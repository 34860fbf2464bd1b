"""Values read lately: the last that was written, or not kept; never more bytes than allowed."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from storages import open_rocks

from dynamo.ports import Write
from dynamo.store.recent import RecentValues


def test_the_oldest_go_first() -> None:
    recent = RecentValues(bytes_max=100 * 300)
    for number in range(100):
        recent.keep(b"%04d" % number, b"v" * 96)
    assert len(recent) == 100
    recent.keep(b"new!", b"v" * 96)
    assert recent.get(b"0000") is None
    assert recent.get(b"0001") == b"v" * 96
    recent.keep(b"large", b"v" * 301)
    assert recent.get(b"large") is None


@given(st.lists(st.tuples(st.sampled_from("kdc"), st.integers(0, 9), st.binary(max_size=40))))
def test_it_holds_what_was_kept_last_within_its_bound(
    steps: list[tuple[str, int, bytes]],
) -> None:
    recent = RecentValues(bytes_max=2500)
    model: dict[bytes, bytes] = {}
    for step, number, value in steps:
        key = b"%d" % number
        if step == "k":
            recent.keep(key, value)
            model[key] = value
        elif step == "d":
            recent.drop(key)
            model.pop(key, None)
        else:
            recent.clear()
            model.clear()
        assert recent.held_bytes <= 2500
        assert all(recent.get(key) in (None, value) for key, value in model.items())
        assert all(recent.get(b"%d" % n) is None for n in range(10) if b"%d" % n not in model)


async def test_a_value_that_was_read_is_replaced_by_every_kind_of_write(tmp_path: Path) -> None:
    storage = await open_rocks(tmp_path)
    try:
        storage.put("records", b"k", b"1")
        assert storage.get("records", b"k") == b"1"
        storage.put("records", b"k", b"2")
        assert storage.get("records", b"k") == storage.get("records", b"k") == b"2"
        storage.write((Write("records", b"k", b"3"),))
        assert storage.get("records", b"k") == storage.get("records", b"k") == b"3"
        storage.write((Write("records", b"k", None),))
        assert storage.get("records", b"k") is None
        storage.put("facts", b"k", b"a fact")
        assert storage.get("records", b"k") is None
    finally:
        await storage.close()
