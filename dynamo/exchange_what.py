"""What a repair on demand goes over: pairs of a partition and another owner of it, and of their keys
those of one bucket.

Pure: a ring and what was asked for in, pairs out. Knows nothing of how replicas are compared.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from dynamo.errors import InvalidArgument, NotAnOwner
from dynamo.refill_marks import Partition
from ring.ring import Ring

#: Names that an error gives.
NAMED_MAX = 64


class RepairWhat(NamedTuple):
    """`places`: (class, partition), None for all of this node's. `prefix`: what the routing keys begin
    with that count, b"" for all (`dynamo.keys.bucket_prefix`). `peers`: None for all other owners."""

    places: Collection[Partition] | None = None
    prefix: bytes = b""
    peers: Collection[str] | None = None


def shared_with(ring: Ring, node: str, peer: str) -> tuple[Partition, ...]:
    """The partitions that both own, in the order of (class, partition): the same at both."""
    return tuple(
        (cls.id, partition)
        for cls in ring.classes
        for partition in ring.partitions_of(node, cls.id)
        if ring.owns(peer, cls.id, partition)
    )


def selected(what: RepairWhat, ring: Ring, node: str) -> dict[str, tuple[Partition, ...]]:
    """The partitions to compare, by peer, in order; peers that share none are left out.

    Raises InvalidArgument for a peer, class or partition that the ring does not have, and NotAnOwner,
    with the owners, for a partition of others.
    """
    others = [member.id for member in ring.members if member.id != node]
    peers = others if what.peers is None else [peer for peer in others if peer in what.peers]
    for peer in what.peers or ():
        if peer not in others:
            why = "is this node itself" if peer == node else "is no member of the ring"
            raise InvalidArgument(f"{peer} {why}", field="peer", allowed=_named(others))
    for place in what.places or ():
        _check_place(place, ring, node)
    found = {}
    for peer in peers:
        places = shared_with(ring, node, peer)
        if what.places is not None:
            wanted = set(what.places)
            places = tuple(place for place in places if place in wanted)
        if places:
            found[peer] = places
    return found


def _check_place(place: Partition, ring: Ring, node: str) -> None:
    cls = ring.class_with(place[0])
    if cls is None:
        allowed = _named([str(one.id) for one in ring.classes])
        raise InvalidArgument(f"there is no class {place[0]}", field="class", allowed=allowed)
    if not 0 <= place[1] < ring.partitions:
        allowed = f"0 to {ring.partitions - 1}"
        raise InvalidArgument(
            f"there is no partition {place[1]}", field="partition", allowed=allowed
        )
    if not ring.owns(node, *place):
        owners = list(ring.all_owners(*place))
        raise NotAnOwner(
            f"partition {place[1]} is not kept here, but by {', '.join(owners)}",
            owners={cls.name: owners},
        )


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more
