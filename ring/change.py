"""From one ring to the next: which partitions' data goes where.

Says what has to move, not when nor how. Knows nothing of who is up.
"""

from __future__ import annotations

import msgspec

from ring.ring import Ring


class Transfer(msgspec.Struct, frozen=True):
    """A partition of a class that a member comes to own.

    `sources`: the old owners, those of the target's datacenter first; each of them may have writes
    that the others lack. Some of them may have left with the change.
    """

    class_id: int
    partition: int
    sources: tuple[str, ...]
    target: str


def transfers(old: Ring, new: Ring) -> tuple[Transfer, ...]:
    """What each new owner has to get, sorted by class and partition.

    A class that only one of the rings has moves nothing. Raises ValueError for rings that cut keys
    into other partitions.
    """
    if (old.partitions, old.seed) != (new.partitions, new.seed):
        raise ValueError("two rings with other partitions or another hash seed share no data")
    found: list[Transfer] = []
    for cls in new.classes:
        if old.class_with(cls.id) is None:
            continue
        for partition in range(new.partitions):
            before = old.all_owners(cls.id, partition)
            for datacenter in new.datacenters:
                near = old.owners(cls.id, partition, datacenter)
                far = tuple(name for name in before if name not in near)
                found += [
                    Transfer(cls.id, partition, near + far, target)
                    for target in new.owners(cls.id, partition, datacenter)
                    if target not in before
                ]
    return tuple(found)
