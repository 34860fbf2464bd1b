"""Transfers bring each new owner what the old owners have, and nothing else moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ring.change import Transfer, transfers
from ring.member import Member
from ring.ring import ReplicationClass, Ring

CLASSES = [ReplicationClass("default", 0, 2), ReplicationClass("single", 1, 1)]


def _members(names: str, datacenter: str = "dc1", **by_name: str) -> list[Member]:
    return [Member(name, f"{name}:7400", by_name.get(name, datacenter)) for name in names]


@given(
    st.sets(st.sampled_from("abcdefg"), min_size=1), st.sets(st.sampled_from("abcdefg"), min_size=1)
)
def test_after_its_transfers_every_owner_has_what_it_owns(
    before: set[str], after: set[str]
) -> None:
    old = Ring.build(_members("".join(before)), partitions=16, seed=7, classes=CLASSES)
    new = old.successor(_members("".join(after)))
    holds = {(cls, p, name) for cls in (0, 1) for p in range(16) for name in old.all_owners(cls, p)}
    for transfer in transfers(old, new):
        arrived = (transfer.class_id, transfer.partition, transfer.target)
        assert arrived not in holds
        assert transfer.sources == old.all_owners(transfer.class_id, transfer.partition)
        holds.add(arrived)
    wanted = {
        (cls, p, name) for cls in (0, 1) for p in range(16) for name in new.all_owners(cls, p)
    }
    assert wanted <= holds
    moved = transfers(old, new)
    assert list(moved) == sorted(moved, key=lambda t: (t.class_id, t.partition))
    assert all(new.owns(t.target, t.class_id, t.partition) for t in moved)


def test_the_same_owners_move_nothing() -> None:
    old = Ring.build(_members("abc"), seed=7, classes=CLASSES)
    assert transfers(old, old.successor(_members("abc"))) == ()


def test_a_single_node_hands_its_partition_over() -> None:
    old = Ring.build(_members("a"), partitions=1, seed=7, classes=CLASSES[1:])
    assert transfers(old, old.successor(_members("b"))) == (Transfer(1, 0, ("a",), "b"),)


def test_sources_of_the_same_datacenter_come_first() -> None:
    members = _members("abx", x="dc2")
    old = Ring.build(members, partitions=1, seed=7, classes=CLASSES[:1])
    new = old.successor(_members("abxy", x="dc2", y="dc2"))
    (transfer,) = transfers(old, new)
    assert (transfer.target, transfer.sources[0]) == ("y", "x")
    assert set(transfer.sources) == {"a", "b", "x"}


def test_a_class_that_comes_or_goes_moves_nothing() -> None:
    old = Ring.build(_members("abc"), seed=7, classes=CLASSES[:1])
    assert transfers(old, old.successor(_members("abc"), classes=CLASSES)) == ()
    assert transfers(old, old.successor(_members("abd"), classes=CLASSES[1:])) == ()


@pytest.mark.parametrize(("partitions", "seed"), [(128, 7), (256, 8)])
def test_rings_that_cut_keys_otherwise_have_no_transfers(partitions: int, seed: int) -> None:
    old = Ring.build(_members("abc"), partitions=256, seed=7, classes=CLASSES)
    new = Ring.build(_members("abc"), partitions=partitions, seed=seed, classes=CLASSES, epoch=2)
    with pytest.raises(ValueError, match="share no data"):
        transfers(old, new)
