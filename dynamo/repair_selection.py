"""What a repair on demand goes over: what was asked for, held against the ring.

Pure: a request and a ring in, partitions and peers out. Knows nothing of how replicas are compared.
"""

from __future__ import annotations

from dynamo.errors import InvalidArgument, NotAnOwner
from dynamo.exchange_what import RepairWhat
from dynamo.keys import bucket_prefix
from dynamo.requests import RepairAsked
from ring.replication import ReplicationClass
from ring.ring import Ring

#: The bucket type of a bucket that is named without one.
TYPE_DEFAULT = b"default"
#: Members that an error names.
NAMED_MAX = 64


def what_of(asked: RepairAsked, ring: Ring, node_id: str) -> RepairWhat:
    """What this node has to compare. Raises InvalidArgument that names the field, and NotAnOwner
    with the owners where the partition is not this node's."""
    classes = _classes(asked, ring)
    if asked.peer:
        _check_peer(asked.peer, ring, node_id)
    places = [
        (cls.id, partition)
        for cls in classes
        for partition in _partitions(asked.partition, cls, ring, node_id)
    ]
    if asked.partition is not None and not places:
        raise _not_an_owner(asked.partition, classes, ring)
    if asked.peer and places:
        _check_shares(asked.peer, places, ring, node_id)
    bucket_type = asked.bucket_type or TYPE_DEFAULT
    return RepairWhat(
        places=places,
        prefix=bucket_prefix(bucket_type, asked.bucket) if asked.bucket else b"",
        peers=(asked.peer,) if asked.peer else None,
    )


def _check_shares(peer: str, places: list[tuple[int, int]], ring: Ring, node_id: str) -> None:
    owners = {owner for place in places for owner in ring.all_owners(*place)} - {node_id}
    if peer not in owners:
        raise InvalidArgument(
            f"{peer} shares none of these partitions with this node",
            field="peer",
            allowed=_named(sorted(owners)),
        )


def _classes(asked: RepairAsked, ring: Ring) -> tuple[ReplicationClass, ...]:
    name = asked.bucket_type or (TYPE_DEFAULT if asked.bucket else b"")
    if not name:
        return ring.classes
    found = ring.class_named(name.decode("utf-8", "backslashreplace"))
    if found is None:
        raise InvalidArgument(
            "the cluster has no bucket type of this name",
            field="type",
            allowed=_named([cls.name for cls in ring.classes]),
        )
    return (found,)


def _check_peer(peer: str, ring: Ring, node_id: str) -> None:
    others = [member.id for member in ring.members if member.id != node_id]
    if peer not in others:
        why = "is this node itself" if peer == node_id else "is no member of the ring"
        raise InvalidArgument(f"peer {why}", field="peer", allowed=_named(others))


def _partitions(
    partition: int | None, cls: ReplicationClass, ring: Ring, node_id: str
) -> tuple[int, ...]:
    if partition is None:
        return ring.partitions_of(node_id, cls.id)
    if not 0 <= partition < ring.partitions:
        raise InvalidArgument(
            f"partition is not in 0..{ring.partitions - 1}",
            field="partition",
            allowed=f"0 to {ring.partitions - 1}",
        )
    return (partition,) if ring.owns(node_id, cls.id, partition) else ()


def _not_an_owner(partition: int, classes: tuple[ReplicationClass, ...], ring: Ring) -> NotAnOwner:
    owners = {cls.name: list(ring.all_owners(cls.id, partition)) for cls in classes}
    told = "; ".join(f"{name}: {', '.join(ids)}" for name, ids in owners.items())
    return NotAnOwner(f"partition {partition} is not kept here, but by {told}", owners=owners)


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more
