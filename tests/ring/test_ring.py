"""A ring says who owns what, never changes, and is refused when its parts cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from ring.member import Member
from ring.ring import ReplicationClass, Ring

DEFAULT = ReplicationClass("default", 0)


def _members(count: int, datacenter: str = "dc1") -> list[Member]:
    return [
        Member(f"{datacenter}-n{n}", f"{datacenter}-{n}:7400", datacenter) for n in range(count)
    ]


def _ring(count: int = 5, **fields: Any) -> Ring:
    return Ring.build(_members(count), **{"seed": 7, "classes": [DEFAULT], **fields})


def test_a_ring_has_256_partitions_and_epoch_1_unless_told() -> None:
    ring = _ring()
    assert (ring.partitions, ring.epoch, ring.seed) == (256, 1, 7)
    assert ring.changed_epoch(0, 255) == 1


def test_members_and_classes_are_found_by_name_and_by_number() -> None:
    other = ReplicationClass("archive", 9, replicas=2)
    ring = Ring.build(reversed(_members(3)), seed=7, classes=[other, DEFAULT])
    assert [member.id for member in ring.members] == ["dc1-n0", "dc1-n1", "dc1-n2"]
    assert ring.classes == (DEFAULT, other)
    assert ring.class_named("archive") == ring.class_with(9) == other
    assert ring.class_named("nothing") is ring.class_with(1) is None
    assert ring.member("dc1-n1") == ring.members[1]
    assert ring.index("dc1-n1") == 1
    assert ring.member("nobody") is None
    assert ring.index("nobody") is None


def test_owners_owns_and_partitions_of_agree() -> None:
    ring = _ring(7)
    for member in ring.members:
        owned = ring.partitions_of(member.id, 0)
        assert owned == tuple(p for p in range(256) if member.id in ring.owners(0, p, "dc1"))
        assert all(ring.owns(member.id, 0, p) == (p in owned) for p in range(256))


@pytest.mark.parametrize(
    ("member", "class_id", "partition"),
    [("nobody", 0, 0), ("dc1-n0", 1, 0), ("dc1-n0", 0, -1), ("dc1-n0", 0, 256)],
)
def test_nobody_owns_what_is_not_there(member: str, class_id: int, partition: int) -> None:
    ring = _ring(1)
    assert ring.owns("dc1-n0", 0, 0)
    assert not ring.owns(member, class_id, partition)


def test_what_is_not_there_has_no_owners_to_name() -> None:
    ring = _ring()
    assert ring.owners(0, 0, "dc9") == ()
    assert ring.partitions_of("nobody", 0) == ring.partitions_of("dc1-n0", 1) == ()
    for class_id, partition in ((1, 0), (0, -1), (0, 256)):
        for ask in (ring.all_owners, ring.changed_epoch):
            with pytest.raises(LookupError):
                ask(class_id, partition)
        with pytest.raises(LookupError):
            ring.owners(class_id, partition, "dc1")


def test_each_datacenter_has_its_own_number_of_replicas() -> None:
    cls = ReplicationClass("default", 0, 3, (("dc2", 1), ("dc3", 0)))
    members = _members(4) + _members(2, "dc2") + _members(2, "dc3")
    ring = Ring.build(members, seed=7, classes=[cls])
    assert ring.datacenters == ("dc1", "dc2", "dc3")
    for partition in range(256):
        owners = [ring.owners(0, partition, name) for name in ring.datacenters]
        assert [len(row) for row in owners] == [3, 1, 0]
        assert ring.all_owners(0, partition) == owners[0] + owners[1]
    assert not any(ring.owns("dc3-n0", 0, partition) for partition in range(256))


def test_classes_that_ask_for_the_same_have_the_same_owners() -> None:
    ring = _ring(classes=[DEFAULT, ReplicationClass("carts", 1)])
    assert all(ring.all_owners(0, p) == ring.all_owners(1, p) for p in range(256))


A, B = Member("a", "a:1"), Member("b", "b:1")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"members": []}, "1 to 65535 members"),
        ({"members": [A, Member("a", "c:1")]}, "member id a is there twice"),
        ({"members": [A, Member("c", "a:1")]}, "address a:1 is there twice"),
        ({"members": [Member("a", "nowhere")]}, "address of a"),
        ({"members": [Member(f"n{n}", f"n{n}:1", f"d{n}") for n in range(65)]}, "datacenters"),
        ({"members": [Member("a", "a:1", weight=0)]}, "no replica in any"),
        ({"partitions": 100}, "power of two"),
        ({"seed": 1 << 32}, "seed"),
        ({"epoch": 0}, "epoch"),
        ({"classes": []}, "1 to 256 classes"),
        ({"classes": [ReplicationClass("x", 0, replicas=0)]}, "replicas of class x"),
        ({"classes": [ReplicationClass("x", 0, replicas=65)]}, "replicas of class x"),
        ({"classes": [ReplicationClass("x", 65_535)]}, "id of class x"),
        ({"classes": [ReplicationClass("", 0)]}, "class name"),
        ({"classes": [ReplicationClass("\ud800", 0)]}, "class name"),
        ({"classes": [ReplicationClass("é" * 128, 0)]}, "class name"),
        ({"classes": [DEFAULT, ReplicationClass("x", 0)]}, "class id 0 is there twice"),
        ({"classes": [DEFAULT, ReplicationClass("default", 1)]}, "class name default is there"),
        ({"classes": [ReplicationClass("x", 0, 3, (("dc1", -1),))]}, "in dc1 are from 0"),
        ({"classes": [ReplicationClass("x", 0, 3, (("dc1", 1), ("dc1", 2)))]}, "twice"),
        ({"classes": [ReplicationClass("x", 0, 3, (("dc9", 1),))]}, "dc9, which has no member"),
        ({"classes": [ReplicationClass("x", 0, 3, (("dc1", 0),))]}, "no replica in any"),
    ],
)
def test_parts_that_cannot_be_are_refused_in_one_line(fields: dict[str, Any], text: str) -> None:
    given = {"members": [A, B], "seed": 7, "classes": [DEFAULT], **fields}
    with pytest.raises(ValueError, match=text) as caught:
        Ring.build(given.pop("members"), **given)
    assert "\n" not in str(caught.value)


def test_a_ring_does_not_change() -> None:
    ring = _ring()
    with pytest.raises(AttributeError):
        ring.epoch = 2
    with pytest.raises(AttributeError):
        del ring.members


def test_rings_of_the_same_parts_are_equal_in_any_order() -> None:
    ring = _ring()
    same = Ring.build(reversed(_members(5)), seed=7, classes=[DEFAULT])
    assert ring == same
    assert hash(ring) == hash(same)
    assert ring.to_bytes() == same.to_bytes()
    assert ring.digest() == same.digest()
    assert len(ring.digest()) == 16
    for other in (_ring(4), _ring(seed=8), _ring(partitions=128), _ring(epoch=2)):
        assert ring != other
    assert ring != "a ring"


def test_the_next_ring_says_which_partitions_changed_owners() -> None:
    old = _ring(5)
    new = old.successor(_members(6))
    assert new.epoch == 2
    assert 0 < len(new.partitions_of("dc1-n5", 0)) < 256
    for partition in range(256):
        same = set(old.all_owners(0, partition)) == set(new.all_owners(0, partition))
        assert new.changed_epoch(0, partition) == (1 if same else 2)
    assert new.successor(_members(6)).changed_epoch(0, 0) == new.changed_epoch(0, 0)


def test_a_class_that_is_new_in_a_ring_changed_with_it() -> None:
    new = _ring().successor(_members(5), classes=[DEFAULT, ReplicationClass("x", 1, 2)])
    assert {new.changed_epoch(0, p) for p in range(256)} == {1}
    assert {new.changed_epoch(1, p) for p in range(256)} == {2}


def test_a_ring_is_printed_in_one_line() -> None:
    text = repr(_ring(5))
    assert text.startswith("Ring(epoch=1 partitions=256 members=dc1:5 classes=default:3 digest=")
    assert "\n" not in text
