"""How the nodes of one datacenter share hosts and racks, and what that forbids.

Nodes are numbered by (rack, host, id), so that those of a host and of a rack are neighbours. Knows
nothing of how many partitions a node should own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from ring.member import Member

#: Where a partition's row has no owner yet.
EMPTY: Final = -1

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def scrambled(number: int) -> int:
    """A fixed 64-bit mix of a number: order by it to spread what lies together."""
    number = (number + 1) * _GOLDEN & _MASK
    number = (number ^ number >> 32) * 0xD6E8FEB86659FD93 & _MASK
    return number ^ number >> 32


class Site:
    """The nodes of one datacenter that own partitions, and how they share hosts and racks.

    `order[node]` is the node's index among the members given. `hosts[node]` numbers its (rack,
    host), so that hosts nest in racks; `machines[node]` its host alone: they differ only where one
    host is said to stand in several racks, and then `crossed` is true.
    """

    __slots__ = ("crossed", "hosts", "machine_count", "machines", "order", "racks", "weights")

    def __init__(self, members: Sequence[Member]) -> None:
        self.order = sorted(
            (i for i, member in enumerate(members) if member.weight > 0),
            key=lambda i: (members[i].rack, members[i].machine, members[i].id),
        )
        nodes = [members[i] for i in self.order]
        self.weights = [node.weight for node in nodes]
        self.racks = _numbered([node.rack for node in nodes])
        self.hosts = _numbered([(node.rack, node.machine) for node in nodes])
        self.machines = _numbered([node.machine for node in nodes])
        self.machine_count = len(set(self.machines))
        self.crossed = self.machine_count < len(set(self.hosts))

    def __len__(self) -> int:
        return len(self.order)


def _numbered(labels: Sequence[object]) -> list[int]:
    numbers: dict[object, int] = {}
    return [numbers.setdefault(label, len(numbers)) for label in labels]


def grouped(numbers: Sequence[int]) -> list[list[int]]:
    """The nodes of each group, where `numbers[node]` is its group."""
    groups: list[list[int]] = [[] for _ in range(max(numbers) + 1)]
    for node, number in enumerate(numbers):
        groups[number].append(node)
    return groups


class Spread:
    """How often a partition may be held within one rack and one host."""

    __slots__ = ("host_limit", "hosts", "rack_limit", "racks")

    def __init__(self, site: Site, quota: Sequence[int], partitions: int) -> None:
        self.racks = site.racks
        self.hosts = site.hosts
        self.rack_limit = _limits(site.racks, quota, partitions)
        self.host_limit = _limits(site.hosts, quota, partitions)

    def allows(self, row: Sequence[int], slot: int, node: int) -> bool:
        """True if `node` may take this slot of a partition's row."""
        if node in row:
            return False
        rack, host = self.racks[node], self.hosts[node]
        rack_room, host_room = self.rack_limit[rack], self.host_limit[host]
        for at, other in enumerate(row):
            if at != slot and other != EMPTY and self.racks[other] == rack:
                rack_room -= 1
                if self.hosts[other] == host:
                    host_room -= 1
        return rack_room > 0 and host_room > 0

    def has_room_in_rack(self, row: Sequence[int], slot: int, rack: int) -> bool:
        """True if the rack may have one more of a row that gives this slot up."""
        return _others(row, slot, rack, self.racks) < self.rack_limit[rack]

    def has_room_in_host(self, row: Sequence[int], slot: int, host: int) -> bool:
        """True if the host may have one more of a row that gives this slot up."""
        return _others(row, slot, host, self.hosts) < self.host_limit[host]

    def excess(self, row: Sequence[int]) -> list[int]:
        """The nodes of the row in a host or rack that has too many of them; [] if all is well."""
        for groups, limit in ((self.hosts, self.host_limit), (self.racks, self.rack_limit)):
            for group, count in Counter(groups[node] for node in row).items():
                if count > limit[group]:
                    return [node for node in row if groups[node] == group]
        return []


def _others(row: Sequence[int], slot: int, group: int, groups: Sequence[int]) -> int:
    """How many nodes of a group the row has, apart from the one at `slot`."""
    return sum(groups[node] == group for at, node in enumerate(row) if at != slot and node != EMPTY)


def _limits(groups: Sequence[int], quota: Sequence[int], partitions: int) -> list[int]:
    totals = [0] * (max(groups) + 1)
    for node, group in enumerate(groups):
        totals[group] += quota[node]
    return [max(1, -(-total // partitions)) for total in totals]
