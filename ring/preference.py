"""The preference list of a key: its primaries, then who may stand in for them (Dynamo 4.6).

Knows nothing of who is up: it names all, in order, and the coordinator chooses.
"""

from __future__ import annotations

from typing import Final

import msgspec
from mmh3 import mmh3_x64_128_uintdigest

from ring.partition import TOKEN_MASK, token_shift
from ring.ring import ReplicationClass, Ring

#: Member ids that one planner keeps in fallback lists, over all partitions (8 bytes each).
FALLBACK_IDS_MAX: Final = 1 << 20


class Plan(msgspec.Struct, frozen=True, eq=False):
    """Where the keys of one (class, partition) live, as a coordinator of one datacenter sees it.

    `primaries`: the owners in the datacenter, preferred first. Plans of equal rings are equal.
    """

    class_id: int
    partition: int
    epoch: int
    primaries: tuple[str, ...]
    planner: Planner

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """The other members of the datacenter with a weight, each once: first the owners of the
        partitions that follow on the ring, in turn. Worked out when first asked for."""
        return self.planner.fallbacks(self.class_id, self.partition)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Plan)
            and self.class_id == other.class_id
            and self.partition == other.partition
            and self.planner == other.planner
        )

    def __hash__(self) -> int:
        return hash((self.class_id, self.partition, self.epoch, self.primaries))

    def __repr__(self) -> str:
        return (
            f"Plan(class={self.class_id} partition={self.partition} epoch={self.epoch}"
            f" primaries={','.join(self.primaries)})"
        )


class Planner:
    """Plans for one ring, seen from one datacenter; a plan is made once per (class, partition)."""

    __slots__ = (
        "_fallbacks",
        "_plans",
        "_seed",
        "_shift",
        "datacenter",
        "kept_fallback_ids",
        "ring",
    )

    def __init__(self, ring: Ring, datacenter: str) -> None:
        """Raises ValueError for a datacenter that has no member."""
        if datacenter not in ring.datacenters:
            raise ValueError(f"no member of the ring is in the datacenter {datacenter}")
        self.ring = ring
        self.datacenter = datacenter
        self._seed = ring.seed
        self._shift = token_shift(ring.partitions)
        self._plans: dict[int, list[Plan | None]] = {}
        self._fallbacks: dict[tuple[int, int], tuple[str, ...]] = {}
        #: Member ids in the fallback lists kept now; at most FALLBACK_IDS_MAX.
        self.kept_fallback_ids = 0

    def plan(self, class_: ReplicationClass | int, routing_key: bytes) -> Plan:
        """The plan for a key. Raises KeyError for a class that the ring does not have."""
        class_id = class_ if isinstance(class_, int) else class_.id
        token = mmh3_x64_128_uintdigest(routing_key, self._seed) & TOKEN_MASK
        partition = token >> self._shift
        plans = self._plans.get(class_id)
        if plans is not None:
            plan = plans[partition]
            if plan is not None:
                return plan
        return self.plan_partition(class_id, partition)

    def plan_partition(self, class_id: int, partition: int) -> Plan:
        """The plan for a partition. Raises LookupError if there is no such class or partition."""
        primaries = self.ring.owners(class_id, partition, self.datacenter)
        plans = self._plans.setdefault(class_id, [])
        if not plans:
            plans.extend([None] * self.ring.partitions)
        plan = plans[partition]
        if plan is None:
            plan = plans[partition] = Plan(class_id, partition, self.ring.epoch, primaries, self)
        return plan

    def fallbacks(self, class_id: int, partition: int) -> tuple[str, ...]:
        """As `Plan.fallbacks`. Raises LookupError if there is no such class or partition."""
        key = (class_id, partition)
        found = self._fallbacks.get(key)
        if found is None:
            found = self._walk(class_id, partition)
            while self._fallbacks and self.kept_fallback_ids + len(found) > FALLBACK_IDS_MAX:
                oldest = next(iter(self._fallbacks))
                self.kept_fallback_ids -= len(self._fallbacks.pop(oldest))
            self._fallbacks[key] = found
            self.kept_fallback_ids += len(found)
        return found

    def _walk(self, class_id: int, partition: int) -> tuple[str, ...]:
        ring, datacenter = self.ring, self.datacenter
        primaries = ring.owners(class_id, partition, datacenter)
        wanted = dict.fromkeys(
            member.id
            for member in ring.members
            if member.datacenter == datacenter and member.weight and member.id not in primaries
        )
        found: list[str] = []
        for step in range(1, ring.partitions):
            if not wanted:
                break
            for owner in ring.owners(class_id, (partition + step) % ring.partitions, datacenter):
                if owner in wanted:
                    del wanted[owner]
                    found.append(owner)
        # Who owns nothing comes last, each partition starting with another one.
        rest = list(wanted)
        start = partition % len(rest) if rest else 0
        return (*found, *rest[start:], *rest[:start])

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Planner)
            and self.datacenter == other.datacenter
            and self.ring == other.ring
        )

    def __hash__(self) -> int:
        return hash((self.ring, self.datacenter))

    def __repr__(self) -> str:
        return f"Planner(datacenter={self.datacenter} {self.ring!r})"
