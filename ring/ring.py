"""The ring: at one epoch, who the members are, which classes there are, and who owns what.

Immutable, and the same bytes everywhere: the owners are kept, not computed again, so that another
version of the placement cannot change a ring that was agreed. Knows nothing of who is up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from ring.member import Member, check_member
from ring.partition import check_partitions, check_seed
from ring.placement import place
from ring.replication import ReplicationClass as ReplicationClass
from ring.replication import check_class
from ring.wire import FORMAT, RingParts, decode_parts, encode_parts

DIGEST_BYTES: Final = 16
EPOCH_MAX: Final = (1 << 63) - 1
CLASSES_MAX: Final = 256
DATACENTERS_MAX: Final = 64
MEMBERS_MAX: Final = 65_535

#: Owners of each partition, as member ids, preferred first.
Rows = tuple[tuple[str, ...], ...]


class Ring:
    """Members, classes and owners at one epoch. Equal rings have equal bytes.

    `members` are sorted by id and `classes` by id; `partitions` is Q, `seed` that of the key hash.
    """

    __slots__ = (
        "_bytes",
        "_changed",
        "_classes_by_id",
        "_classes_by_name",
        "_digest",
        "_index",
        "_owners",
        "classes",
        "datacenters",
        "epoch",
        "members",
        "partitions",
        "seed",
    )

    epoch: int
    partitions: int
    seed: int
    members: tuple[Member, ...]
    classes: tuple[ReplicationClass, ...]
    #: Every datacenter that has a member, sorted.
    datacenters: tuple[str, ...]

    _bytes: bytes | None
    _changed: dict[int, tuple[int, ...]]
    _classes_by_id: dict[int, ReplicationClass]
    _classes_by_name: dict[str, ReplicationClass]
    _digest: bytes | None
    _index: dict[str, int]
    _owners: dict[int, dict[str, Rows]]

    def __init__(
        self,
        *,
        epoch: int,
        partitions: int,
        seed: int,
        members: tuple[Member, ...],
        classes: tuple[ReplicationClass, ...],
        owners: dict[int, dict[str, Rows]],
        changed: dict[int, tuple[int, ...]],
    ) -> None:
        """Parts that are known to fit together: use `build`, `successor` or `from_bytes`."""
        fill = super().__setattr__
        fill("epoch", epoch)
        fill("partitions", partitions)
        fill("seed", seed)
        fill("members", members)
        fill("classes", classes)
        fill("datacenters", _datacenters(members))
        fill("_owners", owners)
        fill("_changed", changed)
        fill("_index", {member.id: index for index, member in enumerate(members)})
        fill("_classes_by_id", {cls.id: cls for cls in classes})
        fill("_classes_by_name", {cls.name: cls for cls in classes})
        fill("_bytes", None)
        fill("_digest", None)

    @classmethod
    def build(
        cls,
        members: Iterable[Member],
        *,
        partitions: int = 256,
        seed: int,
        classes: Iterable[ReplicationClass],
        epoch: int = 1,
    ) -> Ring:
        """A ring placed afresh. Raises ValueError, in one line that says which part cannot be."""
        return _placed(
            members, partitions=partitions, seed=seed, classes=classes, epoch=epoch, old=None
        )

    def successor(
        self, members: Iterable[Member], *, classes: Iterable[ReplicationClass] | None = None
    ) -> Ring:
        """The next epoch's ring, with these members and few moves. Raises ValueError as `build`."""
        return _placed(
            members,
            partitions=self.partitions,
            seed=self.seed,
            classes=self.classes if classes is None else classes,
            epoch=self.epoch + 1,
            old=self,
        )

    def class_named(self, name: str) -> ReplicationClass | None:
        """The class of this name, or None."""
        return self._classes_by_name.get(name)

    def class_with(self, id: int) -> ReplicationClass | None:
        """The class with this id, or None."""
        return self._classes_by_id.get(id)

    def member(self, id: str) -> Member | None:
        """The member with this id, or None."""
        index = self._index.get(id)
        return None if index is None else self.members[index]

    def index(self, id: str) -> int | None:
        """Where in `members` this id stands, or None; how messages of this epoch name a member."""
        return self._index.get(id)

    def owners(self, class_id: int, partition: int, datacenter: str) -> tuple[str, ...]:
        """Member ids in this datacenter, preferred first; () for a datacenter without any.

        Raises LookupError for a class or partition that is not there.
        """
        if partition < 0:
            raise IndexError(f"no partition {partition}")
        rows = self._owners[class_id].get(datacenter)
        return () if rows is None else rows[partition]

    def all_owners(self, class_id: int, partition: int) -> tuple[str, ...]:
        """Member ids in all datacenters, one datacenter after the other. Raises as `owners`."""
        if partition < 0:
            raise IndexError(f"no partition {partition}")
        found: tuple[str, ...] = ()
        for rows in self._owners[class_id].values():
            found += rows[partition]
        return found

    def owns(self, member_id: str, class_id: int, partition: int) -> bool:
        """True if the member is a primary of the partition; False for anything unknown.

        Takes time for the replicas of one datacenter, whatever the size of the ring.
        """
        index = self._index.get(member_id)
        by_datacenter = self._owners.get(class_id)
        if index is None or by_datacenter is None or not 0 <= partition < self.partitions:
            return False
        return member_id in by_datacenter[self.members[index].datacenter][partition]

    def partitions_of(self, member_id: str, class_id: int) -> tuple[int, ...]:
        """The partitions this member is a primary of, ascending; walks all Q. () if unknown."""
        member = self.member(member_id)
        if member is None or class_id not in self._owners:
            return ()
        rows = self._owners[class_id][member.datacenter]
        return tuple(partition for partition, row in enumerate(rows) if member_id in row)

    def changed_epoch(self, class_id: int, partition: int) -> int:
        """The epoch that last changed who owns this partition. Raises as `owners`."""
        if partition < 0:
            raise IndexError(f"no partition {partition}")
        return self._changed[class_id][partition]

    def to_bytes(self) -> bytes:
        """The canonical bytes: msgpack, about 3 bytes an owner."""
        if self._bytes is None:
            super().__setattr__("_bytes", encode_parts(_to_parts(self)))
            assert self._bytes is not None
        return self._bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Ring:
        """The ring of `to_bytes`. Raises ValueError for anything that it would not have written."""
        return _from_parts(decode_parts(data))

    def digest(self) -> bytes:
        """DIGEST_BYTES bytes that name this ring: equal for equal rings."""
        if self._digest is None:
            digest = blake2b(self.to_bytes(), digest_size=DIGEST_BYTES).digest()
            super().__setattr__("_digest", digest)
            assert self._digest is not None
        return self._digest

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Ring) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a ring does not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a ring does not change")

    def __repr__(self) -> str:
        counts = dict.fromkeys(self.datacenters, 0)
        for member in self.members:
            counts[member.datacenter] += 1
        return (
            f"Ring(epoch={self.epoch} partitions={self.partitions}"
            f" members={','.join(f'{name}:{count}' for name, count in counts.items())}"
            f" classes={','.join(f'{cls.name}:{cls.replicas}' for cls in self.classes)}"
            f" digest={self.digest().hex()[:8]})"
        )


# Placing ----------------------------------------------------------------------------------------


def _placed(
    members: Iterable[Member],
    *,
    partitions: int,
    seed: int,
    classes: Iterable[ReplicationClass],
    epoch: int,
    old: Ring | None,
) -> Ring:
    sorted_members = tuple(sorted(members, key=lambda member: member.id))
    sorted_classes = tuple(
        msgspec.structs.replace(cls, by_datacenter=tuple(sorted(cls.by_datacenter)))
        for cls in sorted(classes, key=lambda cls: cls.id)
    )
    _check_parts(epoch, partitions, seed, sorted_members, sorted_classes)
    by_datacenter = _by_datacenter(sorted_members)
    # Classes that ask for the same, from the same start, share their rows.
    known: dict[tuple[str, int, int], Rows] = {}
    owners: dict[int, dict[str, Rows]] = {}
    for cls in sorted_classes:
        owners[cls.id] = {}
        for datacenter, nodes in by_datacenter.items():
            count = cls.in_datacenter(datacenter)
            previous = _rows_of(old, cls.id, datacenter)
            asked = (datacenter, count, id(previous))
            if asked not in known:
                placed = place(nodes, partitions, count, previous)
                known[asked] = tuple(tuple(nodes[at].id for at in row) for row in placed)
            owners[cls.id][datacenter] = known[asked]
    return Ring(
        epoch=epoch,
        partitions=partitions,
        seed=seed,
        members=sorted_members,
        classes=sorted_classes,
        owners=owners,
        changed={
            cls.id: _changed_epochs(old, cls.id, owners[cls.id], epoch, partitions)
            for cls in sorted_classes
        },
    )


def _rows_of(ring: Ring | None, class_id: int, datacenter: str) -> Rows | None:
    return None if ring is None else ring._owners.get(class_id, {}).get(datacenter)


def _changed_epochs(
    old: Ring | None, class_id: int, owners: Mapping[str, Rows], epoch: int, partitions: int
) -> tuple[int, ...]:
    if old is None or old.class_with(class_id) is None:
        return (epoch,) * partitions
    return tuple(
        old.changed_epoch(class_id, partition)
        if set(old.all_owners(class_id, partition))
        == {name for rows in owners.values() for name in rows[partition]}
        else epoch
        for partition in range(partitions)
    )


def _datacenters(members: Iterable[Member]) -> tuple[str, ...]:
    return tuple(sorted({member.datacenter for member in members}))


def _by_datacenter(members: Sequence[Member]) -> dict[str, list[Member]]:
    """Members of each datacenter; both sorted."""
    found: dict[str, list[Member]] = {name: [] for name in _datacenters(members)}
    for member in members:
        found[member.datacenter].append(member)
    return found


# Checking ---------------------------------------------------------------------------------------


def _check_parts(
    epoch: int,
    partitions: int,
    seed: int,
    members: Sequence[Member],
    classes: Sequence[ReplicationClass],
) -> None:
    if not 1 <= epoch <= EPOCH_MAX:
        raise ValueError(f"an epoch is from 1 to {EPOCH_MAX}, not {epoch}")
    check_partitions(partitions)
    check_seed(seed)
    _check_members(members)
    _check_classes(classes)
    eligible = {
        datacenter: sum(member.weight > 0 for member in nodes)
        for datacenter, nodes in _by_datacenter(members).items()
    }
    if len(eligible) > DATACENTERS_MAX:
        raise ValueError(f"a ring has at most {DATACENTERS_MAX} datacenters, not {len(eligible)}")
    for cls in classes:
        for datacenter, _ in cls.by_datacenter:
            if datacenter not in eligible:
                raise ValueError(
                    f"class {cls.name} names the datacenter {datacenter}, which has no member"
                )
        if not any(min(cls.in_datacenter(name), count) for name, count in eligible.items()):
            raise ValueError(f"class {cls.name} would have no replica in any datacenter")


def _check_members(members: Sequence[Member]) -> None:
    if not 1 <= len(members) <= MEMBERS_MAX:
        raise ValueError(f"a ring has from 1 to {MEMBERS_MAX} members, not {len(members)}")
    for member in members:
        check_member(member)
    _check_unique("member id", [member.id for member in members])
    _check_unique("address", [member.address for member in members])


def _check_classes(classes: Sequence[ReplicationClass]) -> None:
    if not 1 <= len(classes) <= CLASSES_MAX:
        raise ValueError(f"a ring has from 1 to {CLASSES_MAX} classes, not {len(classes)}")
    for cls in classes:
        check_class(cls)
    _check_unique("class id", [cls.id for cls in classes])
    _check_unique("class name", [cls.name for cls in classes])


def _check_unique(what: str, values: Sequence[object]) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"the {what} {value} is there twice")
        seen.add(value)


# Bytes ------------------------------------------------------------------------------------------


def _to_parts(ring: Ring) -> RingParts:
    index = ring._index
    return RingParts(
        FORMAT,
        ring.epoch,
        ring.partitions,
        ring.seed,
        tuple((m.id, m.address, m.datacenter, m.rack, m.host, m.weight) for m in ring.members),
        tuple((c.name, c.id, c.replicas, c.by_datacenter) for c in ring.classes),
        tuple(
            tuple(
                tuple(tuple(index[name] for name in row) for row in rows)
                for rows in ring._owners[cls.id].values()
            )
            for cls in ring.classes
        ),
        tuple(ring._changed[cls.id] for cls in ring.classes),
    )


def _from_parts(parts: RingParts) -> Ring:
    """Raises ValueError unless the parts fit together."""
    members = tuple(Member(*fields) for fields in parts.members)
    classes = tuple(ReplicationClass(*fields) for fields in parts.classes)
    _check_parts(parts.epoch, parts.partitions, parts.seed, members, classes)
    _check_sorted("members", [member.id for member in members])
    _check_sorted("classes", [cls.id for cls in classes])
    for cls in classes:
        _check_sorted(f"datacenters of class {cls.name}", cls.by_datacenter)
    if len(parts.owners) != len(classes) or len(parts.changed) != len(classes):
        raise ValueError("not a ring: there are owners for other classes than it has")
    names: dict[str, dict[int, str]] = {name: {} for name in _datacenters(members)}
    for index, member in enumerate(members):
        if member.weight:
            names[member.datacenter][index] = member.id
    owners: dict[int, dict[str, Rows]] = {}
    changed: dict[int, tuple[int, ...]] = {}
    for cls, by_datacenter, epochs in zip(classes, parts.owners, parts.changed, strict=True):
        if len(by_datacenter) != len(names):
            raise ValueError("not a ring: there are owners for other datacenters than it has")
        owners[cls.id] = {
            datacenter: _named_rows(
                rows, parts.partitions, names[datacenter], cls.in_datacenter(datacenter)
            )
            for datacenter, rows in zip(names, by_datacenter, strict=True)
        }
        if len(epochs) != parts.partitions or not all(1 <= at <= parts.epoch for at in epochs):
            raise ValueError(f"not a ring: class {cls.name} changed at epochs that were not")
        changed[cls.id] = epochs
    return Ring(
        epoch=parts.epoch,
        partitions=parts.partitions,
        seed=parts.seed,
        members=members,
        classes=classes,
        owners=owners,
        changed=changed,
    )


def _named_rows(
    rows: Sequence[tuple[int, ...]], partitions: int, names: Mapping[int, str], replicas: int
) -> Rows:
    width = min(replicas, len(names))
    if len(rows) != partitions:
        raise ValueError(f"not a ring: there are owners for {len(rows)} of {partitions} partitions")
    for row in rows:
        if len(row) != width or len(set(row)) != width or not names.keys() >= set(row):
            raise ValueError("not a ring: a partition has owners that cannot be")
    return tuple(tuple(names[index] for index in row) for row in rows)


def _check_sorted(what: str, keys: Sequence[Any]) -> None:
    if list(keys) != sorted(keys):
        raise ValueError(f"not a ring: its {what} are not in order")
