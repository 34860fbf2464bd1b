"""Any bytes are a ring or a ValueError, and a ring has one form in bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ring.member import Member
from ring.ring import ReplicationClass, Ring

SPOT = st.tuples(st.sampled_from(["dc1", "dc2"]), st.sampled_from(["r1", "r2"]), st.integers(1, 3))


@st.composite
def _rings(draw: st.DrawFn) -> Ring:
    spots = draw(st.lists(SPOT, min_size=1, max_size=6))
    members = [
        Member(f"n{n}", f"n{n}:7400", datacenter, rack, "", weight)
        for n, (datacenter, rack, weight) in enumerate(spots)
    ]
    counts = draw(st.dictionaries(st.integers(0, 65_534), st.integers(1, 4), min_size=1))
    classes = [ReplicationClass(f"c{id}", id, count) for id, count in counts.items()]
    partitions = draw(st.sampled_from([1, 4, 16]))
    seed = draw(st.integers(0, 2**32 - 1))
    ring = Ring.build(members, partitions=partitions, seed=seed, classes=classes)
    if draw(st.booleans()):
        ring = ring.successor([*members, Member("late", "late:7400", members[0].datacenter)])
    return ring


def _ring() -> Ring:
    members = [Member("a", "a:1"), Member("b", "b:1"), Member("c", "c:1", "dc2", "r2", "h", 2)]
    classes = [
        ReplicationClass("default", 0, 2),
        ReplicationClass("x", 5, 1, (("dc1", 0), ("dc2", 1))),
    ]
    return Ring.build(members, partitions=4, seed=7, classes=classes)


def _is_ring_or_refused(data: bytes) -> None:
    try:
        ring = Ring.from_bytes(data)
    except ValueError:
        return
    assert ring.to_bytes() == data


@given(_rings())
def test_a_ring_comes_back_from_its_bytes(ring: Ring) -> None:
    data = ring.to_bytes()
    back = Ring.from_bytes(data)
    assert back == ring
    assert back.to_bytes() == data
    assert (back.members, back.classes, back.datacenters) == (
        ring.members,
        ring.classes,
        ring.datacenters,
    )
    for cls in ring.classes:
        for partition in range(ring.partitions):
            assert back.all_owners(cls.id, partition) == ring.all_owners(cls.id, partition)
            assert back.changed_epoch(cls.id, partition) == ring.changed_epoch(cls.id, partition)


def test_the_bytes_of_a_ring_never_change() -> None:
    assert _ring().digest().hex() == "af9effe8ef34273402bcd862e60b554e"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_ring_or_refused(data: bytes) -> None:
    _is_ring_or_refused(data)


@given(st.data())
def test_a_ring_with_bytes_changed_is_a_ring_or_refused(data: st.DataObject) -> None:
    good = bytearray(_ring().to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(good) - 1))
        good[at] = data.draw(st.integers(0, 255))
    _is_ring_or_refused(bytes(good))


@pytest.mark.parametrize("end", [0, 1, 2, 40, -1])
def test_a_ring_cut_short_is_refused(end: int) -> None:
    with pytest.raises(ValueError, match="not a ring"):
        Ring.from_bytes(_ring().to_bytes()[:end])


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\x98\x01\x01\x04\x07\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x99\x01" + b"\x91" * 100_000,
    ],
)
def test_huge_counts_and_deep_nests_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="ring"):
        Ring.from_bytes(data)


def test_a_newer_format_is_refused_by_its_number() -> None:
    data = bytearray(_ring().to_bytes())
    data[1] = 2
    with pytest.raises(ValueError, match="format 2"):
        Ring.from_bytes(bytes(data))


def _set(*path: int, to: Any) -> Callable[[Any], None]:
    def change(parts: Any) -> None:
        for step in path[:-1]:
            parts = parts[step]
        parts[path[-1]] = to

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_set(1, to=0), id="epoch 0"),
        pytest.param(_set(2, to=8), id="more partitions than rows"),
        pytest.param(_set(2, to=3), id="three partitions"),
        pytest.param(_set(3, to=-1), id="a negative seed"),
        pytest.param(_set(3, to=True), id="a seed that is true"),
        pytest.param(_set(4, 0, 0, to="bb"), id="members out of order"),
        pytest.param(_set(4, 0, 0, to="b"), id="a member twice"),
        pytest.param(_set(4, 0, 5, to=0), id="an owner without weight"),
        pytest.param(_set(5, 0, 1, to=9), id="classes out of order"),
        pytest.param(_set(5, 1, 3, to=[["dc2", 1], ["dc1", 0]]), id="datacenters out of order"),
        pytest.param(_set(6, 0, 0, 0, to=[0]), id="too few owners"),
        pytest.param(_set(6, 0, 0, 0, to=[0, 0]), id="an owner twice"),
        pytest.param(_set(6, 0, 0, 0, to=[0, 2]), id="an owner of another datacenter"),
        pytest.param(_set(6, 0, 0, 0, to=[0, 3]), id="an owner who is no member"),
        pytest.param(_set(6, 0, 0, 0, to=[0, -1]), id="an owner below nobody"),
        pytest.param(_set(6, 0, 0, to=[]), id="no rows"),
        pytest.param(_set(6, 0, to=[]), id="no datacenters"),
        pytest.param(_set(6, to=[]), id="no owners"),
        pytest.param(_set(7, to=[]), id="no epochs"),
        pytest.param(_set(7, 0, to=[1, 1, 1]), id="too few epochs"),
        pytest.param(_set(7, 0, 0, to=2), id="changed in the future"),
        pytest.param(_set(7, 0, 0, to=0), id="changed before the first epoch"),
        pytest.param(lambda parts: parts.append(1), id="one field more"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: Callable[[Any], None]) -> None:
    parts = msgspec.msgpack.decode(_ring().to_bytes())
    assert Ring.from_bytes(msgspec.msgpack.encode(parts)) == _ring()
    change(parts)
    with pytest.raises(ValueError, match=r"."):
        Ring.from_bytes(msgspec.msgpack.encode(parts))


def test_another_form_of_the_same_ring_is_refused() -> None:
    data = _ring().to_bytes()
    assert data[:3] == b"\x98\x01\x01"
    for other in (b"\xdc\x00\x08" + data[1:], data[:2] + b"\xcc\x01" + data[3:], data + b"\x00"):
        with pytest.raises(ValueError, match="ring"):
            Ring.from_bytes(other)
