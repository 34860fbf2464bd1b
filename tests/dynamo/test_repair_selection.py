"""What a repair on demand goes over, for a ring of five members and two classes."""

from __future__ import annotations

import pytest

from dynamo.errors import InvalidArgument, NotAnOwner
from dynamo.keys import bucket_prefix
from dynamo.repair_selection import what_of
from dynamo.requests import RepairAsked
from ring.member import Member
from ring.replication import ReplicationClass
from ring.ring import Ring

RING = Ring.build(
    [Member(f"n{i}", f"10.0.0.{i}:7400") for i in range(1, 6)],
    partitions=16,
    seed=1,
    classes=[ReplicationClass("default", 0, 3), ReplicationClass("pairs", 1, 2)],
)
OWN = RING.partitions_of("n1", 0)
FOREIGN = next(p for p in range(16) if not any(RING.owns("n1", c, p) for c in (0, 1)))


def asked(**fields: object) -> RepairAsked:
    return RepairAsked(**fields)  # type: ignore[arg-type]


def test_without_a_word_it_is_every_partition_with_every_other_owner() -> None:
    what = what_of(asked(), RING, "n1")
    places = [(0, partition) for partition in OWN]
    places += [(1, partition) for partition in RING.partitions_of("n1", 1)]
    assert (what.places, what.prefix, what.peers) == (places, b"", None)


def test_a_partition_is_one_of_every_class_that_is_here() -> None:
    partition = next(p for p in OWN if RING.owns("n1", 1, p))
    assert what_of(asked(partition=partition), RING, "n1").places == [
        (0, partition),
        (1, partition),
    ]
    only = what_of(asked(partition=partition, bucket_type=b"pairs"), RING, "n1")
    assert only.places == [(1, partition)]


def test_a_bucket_without_a_type_is_of_the_default_one() -> None:
    what = what_of(asked(bucket=b"carts"), RING, "n1")
    assert what.prefix == bucket_prefix(b"default", b"carts")
    assert what.places == [(0, partition) for partition in OWN]
    other = what_of(asked(bucket=b"x", bucket_type=b"pairs"), RING, "n1")
    assert other.prefix == bucket_prefix(b"pairs", b"x")


def test_one_peer_leaves_out_the_others() -> None:
    assert what_of(asked(peer="n3"), RING, "n1").peers == ("n3",)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"partition": 16}, "partition"),
        ({"partition": -1}, "partition"),
        ({"bucket_type": b"unknown"}, "type"),
        ({"bucket_type": b"\xff"}, "type"),
        ({"peer": "n9"}, "peer"),
        ({"peer": "n1"}, "peer"),
    ],
)
def test_what_the_ring_does_not_have_is_named(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        what_of(asked(**fields), RING, "n1")
    assert caught.value.details["field"] == field
    assert caught.value.details["allowed"]


def test_a_partition_of_others_names_them() -> None:
    with pytest.raises(NotAnOwner) as caught:
        what_of(asked(partition=FOREIGN), RING, "n1")
    assert caught.value.details["owners"] == {
        "default": list(RING.all_owners(0, FOREIGN)),
        "pairs": list(RING.all_owners(1, FOREIGN)),
    }


def test_a_peer_that_shares_none_of_it_names_those_that_do() -> None:
    partition = OWN[0]
    owners = RING.all_owners(0, partition)
    stranger = next(m.id for m in RING.members if m.id not in owners)
    with pytest.raises(InvalidArgument) as caught:
        what_of(asked(partition=partition, bucket_type=b"default", peer=stranger), RING, "n1")
    assert set(caught.value.details["allowed"].split(", ")) == set(owners) - {"n1"}
