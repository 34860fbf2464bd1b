"""Which members of one datacenter own which partitions: balanced, spread out, with few moves.

Each node gets a whole number of slots (`ring.shares`). A new placement lays the nodes out in a
line, host by host and rack by rack, and wraps the line around the partitions; then slots are
swapped to spread what each node shares with each other. A later one moves little (`ring.moves`).
Knows nothing of datacenters, of classes, or of chance: the same members give the same owners
everywhere.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from itertools import product
from typing import Final

from ring.member import Member
from ring.moves import move
from ring.roles import choose_leaders
from ring.shares import fair_shares, quotas
from ring.site import Site, Spread, scrambled

#: Swaps tried per partition to part what shares a machine, and for a few partitions at least.
_SWAPS_TRIED: Final = 8
_SWAPS_TRIED_MIN: Final = 4_096

Owners = tuple[tuple[int, ...], ...]


def place(
    members: Sequence[Member],
    partitions: int,
    replicas: int,
    previous: Sequence[Sequence[str]] | None = None,
) -> Owners:
    """Owners of each partition, as indexes into `members`; the first is the preferred primary.

    min(`replicas`, members with weight) distinct owners a partition. Where there are `replicas`
    racks no two share a rack, and where there are so many hosts no two share a host; where there
    are fewer, none holds more of a partition than its share makes it. Each node owns its fair
    share (`ring.shares.fair_shares`) rounded up or down, and goes first in 1/replicas of that,
    rounded up or down.

    `previous` is what was, as member ids a partition: what may stay, stays. The order of `members`
    changes nothing but the indexes. A host that is said to stand in several racks is kept apart as
    far as swaps get it, and only in a new placement.
    """
    site = Site(members)
    width = min(replicas, len(site))
    if width == 0:
        return ((),) * partitions
    shares = fair_shares(site, partitions, width)
    if previous is None:
        quota = quotas(site, shares, [0] * len(site))
        rows = _laid_out(quota, partitions, width)
        if width < len(site):
            spread = Spread(site, quota, partitions)
            _scatter(rows, spread)
            if site.crossed and site.machine_count >= width:
                _part_machines(rows, spread, site.machines)
    else:
        rows = _known_rows(previous, [members[index].id for index in site.order])
        held = Counter(node for row in rows for node in row)
        quota = quotas(site, shares, [held[node] for node in range(len(site))])
        move(rows, width, quota, Spread(site, quota, partitions))
    leaders = choose_leaders(rows, len(site))
    order = site.order
    return tuple(
        (order[leader], *[order[node] for node in row if node != leader])
        for leader, row in zip(leaders, rows, strict=True)
    )


def _laid_out(quota: Sequence[int], partitions: int, width: int) -> list[list[int]]:
    # Wrapped around, a stretch of the line no longer than k x partitions meets none of them more
    # than k times: that keeps nodes, hosts and racks within limits at once (McNaughton's rule).
    line = [node for node, count in enumerate(quota) for _ in range(count)]
    return [line[partition::partitions] for partition in range(partitions)]


def _scatter(rows: list[list[int]], spread: Spread) -> None:
    """Swap slots, within the limits, so that a node's partitions are shared with many others."""
    partitions, width, state = len(rows), len(rows[0]), 0
    allows = spread.allows
    for row in rows:
        for slot in range(width):
            state = scrambled(state)
            other = rows[state % partitions]
            node = row[slot]
            start = state >> 40
            for turn in range(width):
                other_slot = (start + turn) % width
                guest = other[other_slot]
                if allows(row, slot, guest) and allows(other, other_slot, node):
                    row[slot], other[other_slot] = guest, node
                    break


def _part_machines(rows: list[list[int]], spread: Spread, machines: Sequence[int]) -> None:
    """Swap away replicas that share a machine though their racks differ."""

    def clashes(row: Sequence[int]) -> int:
        return len(row) - len({machines[node] for node in row})

    def parted(row: list[int], other: list[int]) -> bool:
        clashes_before, before = clashes(row), clashes(row) + clashes(other)
        for slot, other_slot in product(range(len(row)), repeat=2):
            node, guest = row[slot], other[other_slot]
            if spread.allows(row, slot, guest) and spread.allows(other, other_slot, node):
                row[slot], other[other_slot] = guest, node
                if clashes(row) < clashes_before and clashes(row) + clashes(other) <= before:
                    return True
                row[slot], other[other_slot] = node, guest
        return False

    # A clash that no swap ends is passed on to another partition, where one may.
    waiting = deque(row for row in rows if clashes(row))
    state = 0
    for _ in range(_SWAPS_TRIED_MIN + _SWAPS_TRIED * len(rows)):
        while waiting and not clashes(waiting[0]):
            waiting.popleft()
        if not waiting:
            break
        row = waiting[0]
        state = scrambled(state)
        other = rows[state % len(rows)]
        if other is not row and parted(row, other) and clashes(other):
            waiting.append(other)


def _known_rows(previous: Sequence[Sequence[str]], ids: Sequence[str]) -> list[list[int]]:
    node_of = {name: node for node, name in enumerate(ids)}
    return [[node_of[name] for name in dict.fromkeys(row) if name in node_of] for row in previous]
