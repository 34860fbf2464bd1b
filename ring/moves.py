"""From owners that were good for other members to owners for these, with few moves.

What may stay, stays; what must move goes straight where it can, and along shortest paths where not.
Knows nothing of why the members changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from ring.site import EMPTY, Spread, scrambled

#: Other partitions that are tried for a swap before the slot is left to a full search.
_SWAPS_TRIED_MAX: Final = 512


def move(rows: list[list[int]], width: int, quota: Sequence[int], spread: Spread) -> None:
    """Change `rows` in place: `width` owners each, each node with its quota, within the limits.

    `rows` hold nodes of this site only, none twice. `quota` and `spread` must allow an answer.
    """
    _Mover(rows, width, quota, spread).run()


class _Mover:
    """The rows, and how many each node holds of them.

    A *taker* is below its quota, a *giver* above it; an empty slot is a giver too.
    """

    __slots__ = ("held", "moved", "quota", "rows", "spread", "width")

    def __init__(
        self, rows: list[list[int]], width: int, quota: Sequence[int], spread: Spread
    ) -> None:
        self.rows = rows
        self.width = width
        self.quota = quota
        self.spread = spread
        self.moved: list[tuple[list[int], int]] = []
        self.held = [0] * len(quota)
        for row in rows:
            for node in row:
                self.held[node] += 1

    def run(self) -> None:
        self._trim()
        takers = self._move_directly()
        if takers:
            takers = self._move_by_one(takers)
        if takers:
            self._move_along_paths(takers)

    def _over(self, node: int) -> int:
        return self.held[node] - self.quota[node]

    def _gives(self, node: int) -> bool:
        return node == EMPTY or self.held[node] > self.quota[node]

    def _trim(self) -> None:
        """Empty the slots that are too many, or too many of a host or rack."""
        for row in self.rows:
            while crowd := row if len(row) > self.width else self.spread.excess(row):
                out = max(reversed(crowd), key=self._over)
                row.remove(out)
                self.held[out] -= 1
            row.extend([EMPTY] * (self.width - len(row)))

    def _move_directly(self) -> list[int]:
        """Give takers what givers hold wherever the limits allow it; returns who still takes."""
        takers = deque(
            sorted(
                (node for node in range(len(self.quota)) if self._over(node) < 0), key=self._over
            )
        )
        for partition in sorted(range(len(self.rows)), key=scrambled):
            row = self.rows[partition]
            for slot, giver in enumerate(row):
                if self._gives(giver):
                    taker = self._taker_for(row, slot, takers)
                    if taker != EMPTY:
                        self._give(row, slot, taker)
                        self.moved.append((row, slot))
                        if self._over(taker) == 0:
                            takers.remove(taker)
        return sorted(takers)

    def _taker_for(self, row: Sequence[int], slot: int, takers: deque[int]) -> int:
        for _ in range(len(takers)):
            taker = takers[0]
            takers.rotate(-1)
            if self.spread.allows(row, slot, taker):
                return taker
        return EMPTY

    def _give(self, row: list[int], slot: int, taker: int) -> None:
        giver = row[slot]
        if giver != EMPTY:
            self.held[giver] -= 1
        self.held[taker] += 1
        row[slot] = taker

    def _move_by_one(self, takers: list[int]) -> list[int]:
        """Give a taker a slot of someone who can take a giver's; returns who still takes.

        Tried first on slots that have moved: to give them to another one costs no move more. For
        the rest it is needed for speed only: this is what most paths come to.
        """
        state = 0
        moved = self.moved
        for row in self.rows:
            for slot in range(self.width):
                if not takers or not self._gives(row[slot]):
                    continue
                for attempt in range(_SWAPS_TRIED_MAX):
                    state = scrambled(state)
                    taker = takers[(state >> 40) % len(takers)]
                    if moved and attempt < _SWAPS_TRIED_MAX // 2:
                        other, other_slot = moved[state % len(moved)]
                    else:
                        other = self.rows[state % len(self.rows)]
                        other_slot = (state >> 20) % self.width
                    if self._passed_on(row, slot, other, other_slot, taker):
                        if self._over(taker) == 0:
                            takers.remove(taker)
                        break
        return takers

    def _passed_on(
        self, row: list[int], slot: int, other: list[int], other_slot: int, taker: int
    ) -> bool:
        between = other[other_slot]
        if (
            other is row
            or between == EMPTY
            or not self.spread.allows(row, slot, between)
            or not self.spread.allows(other, other_slot, taker)
        ):
            return False
        self._give(row, slot, between)
        self._give(other, other_slot, taker)
        return True

    def _move_along_paths(self, takers: Iterable[int]) -> None:
        """Where no giver may give to a taker, pass a slot on through nodes between them."""
        # A slot is numbered partition x width + place. Dictionaries, for an order that is the same
        # everywhere.
        slots: dict[int, dict[int, None]] = {node: {} for node in range(EMPTY, len(self.quota))}
        for partition, row in enumerate(self.rows):
            for at, node in enumerate(row):
                slots[node][partition * self.width + at] = None
        wanting = dict.fromkeys(takers)
        while wanting:
            path = self._path_to_any(wanting, slots)
            for slot, node in path:
                row, at = self.rows[slot // self.width], slot % self.width
                del slots[row[at]][slot]
                slots[node][slot] = None
                self._give(row, at, node)
            if self._over(path[0][1]) == 0:
                del wanting[path[0][1]]

    def _path_to_any(
        self, takers: Iterable[int], slots: dict[int, dict[int, None]]
    ) -> list[tuple[int, int]]:
        """Shortest list of (slot, node that takes it), last first, from a giver to a taker.

        The limits nest (node, host, rack), so slots and nodes are a flow network: the quotas are a
        feasible flow, and a shortest augmenting path keeps every limit.
        """
        came: dict[int, tuple[int, int]] = {}
        unseen = _Unseen(self.spread, (n for n in range(len(self.quota)) if not self._gives(n)))
        level = [node for node in slots if slots[node] and self._gives(node)]
        while level:
            # Is a taker in reach? Asked before all others are noted, which costs far more.
            for giver in level:
                for slot in slots[giver]:
                    row, at = self.rows[slot // self.width], slot % self.width
                    for taker in takers:
                        if self.spread.allows(row, at, taker):
                            came[taker] = slot, giver
                            return _traced(taker, came)
            found = []
            for giver in level:
                for slot in slots[giver]:
                    row, at = self.rows[slot // self.width], slot % self.width
                    for node in unseen.taken_for(row, at):
                        came[node] = slot, giver
                        found.append(node)
            level = found
        raise AssertionError("no placement within these quotas exists")


class _Unseen:
    """Nodes that a search has not met, by rack and host, so that full ones are passed over."""

    __slots__ = ("racks", "spread")

    def __init__(self, spread: Spread, nodes: Iterable[int]) -> None:
        self.spread = spread
        self.racks: dict[int, dict[int, list[int]]] = {}
        for node in nodes:
            hosts = self.racks.setdefault(spread.racks[node], {})
            hosts.setdefault(spread.hosts[node], []).append(node)

    def taken_for(self, row: Sequence[int], slot: int) -> list[int]:
        """Take out all that may take this slot of a row."""
        spread = self.spread
        found: list[int] = []
        for rack, hosts in list(self.racks.items()):
            if not spread.has_room_in_rack(row, slot, rack):
                continue
            for host, nodes in list(hosts.items()):
                if not spread.has_room_in_host(row, slot, host):
                    continue
                found += [node for node in nodes if node not in row]
                if left := [node for node in nodes if node in row]:
                    hosts[host] = left
                else:
                    del hosts[host]
            if not hosts:
                del self.racks[rack]
        return found


def _traced(end: int, came: dict[int, tuple[int, int]]) -> list[tuple[int, int]]:
    path = []
    while end in came:
        slot, giver = came[end]
        path.append((slot, end))
        end = giver
    return path
