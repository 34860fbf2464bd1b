"""Replication classes: how many replicas the keys of a bucket type have, and where.

Knows nothing of which members they are.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ring.member import check_name

CLASS_ID_MAX: Final = 65_534
CLASS_NAME_BYTES_MAX: Final = 255
REPLICAS_MAX: Final = 64


class ReplicationClass(msgspec.Struct, frozen=True):
    """How many replicas the keys of a bucket type have.

    `replicas`: in each datacenter that `by_datacenter`, pairs of (datacenter, count), does not
    name; a count of 0 keeps none there.
    """

    name: str
    id: int
    replicas: int = 3
    by_datacenter: tuple[tuple[str, int], ...] = ()

    def in_datacenter(self, datacenter: str) -> int:
        """Replicas wanted in this datacenter; fewer are there if it has fewer members."""
        for name, count in self.by_datacenter:
            if name == datacenter:
                return count
        return self.replicas


def check_class(cls: ReplicationClass) -> None:
    """Raises ValueError, in one line that names the field, unless every field is in its range."""
    # isprintable is false for lone surrogates, so that encode cannot fail.
    if not cls.name.isprintable() or not 1 <= len(cls.name.encode()) <= CLASS_NAME_BYTES_MAX:
        raise ValueError(
            f"a class name is 1 to {CLASS_NAME_BYTES_MAX} bytes of printable text, not {cls.name!r}"
        )
    if not 0 <= cls.id <= CLASS_ID_MAX:
        raise ValueError(f"the id of class {cls.name} is from 0 to {CLASS_ID_MAX}, not {cls.id}")
    if not 1 <= cls.replicas <= REPLICAS_MAX:
        raise ValueError(
            f"the replicas of class {cls.name} are from 1 to {REPLICAS_MAX}, not {cls.replicas}"
        )
    seen: set[str] = set()
    for datacenter, count in cls.by_datacenter:
        check_name(f"a datacenter of class {cls.name}", datacenter)
        if not 0 <= count <= REPLICAS_MAX:
            raise ValueError(
                f"the replicas of class {cls.name} in {datacenter} are from 0 to {REPLICAS_MAX},"
                f" not {count}"
            )
        if datacenter in seen:
            raise ValueError(f"class {cls.name} names the datacenter {datacenter} twice")
        seen.add(datacenter)
