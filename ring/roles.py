"""Which owner of each partition goes first, so that each node leads its part of what it owns.

Knows nothing of weights, racks or hosts: who owns more leads more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

#: (partition, node it is taken from, node it is given to)
_Handover = tuple[int, int, int]


def choose_leaders(rows: Sequence[Sequence[int]], node_count: int) -> list[int]:
    """One owner of each partition (`rows[partition]`, all of one length n >= 1, distinct nodes).

    A node that owns q partitions leads floor(q / n) or ceil(q / n) of them. Who stands first in its
    row stays first where that allows it.
    """
    return _Leaders(rows, node_count).balanced()


class _Leaders:
    __slots__ = ("high", "leader", "led", "low", "owned", "rows")

    def __init__(self, rows: Sequence[Sequence[int]], node_count: int) -> None:
        self.rows = rows
        self.owned: list[list[int]] = [[] for _ in range(node_count)]
        for partition, row in enumerate(rows):
            for node in row:
                self.owned[node].append(partition)
        replicas = len(rows[0])
        self.low = [len(owned) // replicas for owned in self.owned]
        self.high = [-(-len(owned) // replicas) for owned in self.owned]
        # Dictionaries, not sets: their order is that of insertion, the same everywhere.
        self.led: list[dict[int, None]] = [{} for _ in range(node_count)]
        self.leader = [self._first_guess(partition) for partition in range(len(rows))]

    def _first_guess(self, partition: int) -> int:
        led, high = self.led, self.high
        leader = self.rows[partition][0]
        if len(led[leader]) >= high[leader]:
            leader = max(self.rows[partition], key=lambda node: high[node] - len(led[node]))
        led[leader][partition] = None
        return leader

    def balanced(self) -> list[int]:
        # Leading 1/n of each owned partition is a fractional answer within [low, high] for every
        # node, so a whole one exists (flows are integral), and so do these paths to it.
        led, low, high = self.led, self.low, self.high
        for node in range(len(led)):
            while len(led[node]) > high[node]:
                self._hand_over(_path(node, lambda v: len(led[v]) < high[v], self._can_give))
        for node in range(len(led)):
            while len(led[node]) < low[node]:
                self._hand_over(_path(node, lambda v: len(led[v]) > low[v], self._can_take))
        return self.leader

    def _can_give(self, node: int) -> Iterable[tuple[int, _Handover]]:
        for partition in self.led[node]:
            for other in self.rows[partition]:
                yield other, (partition, node, other)

    def _can_take(self, node: int) -> Iterable[tuple[int, _Handover]]:
        for partition in self.owned[node]:
            other = self.leader[partition]
            yield other, (partition, other, node)

    def _hand_over(self, path: Iterable[_Handover]) -> None:
        for partition, giver, taker in path:
            del self.led[giver][partition]
            self.led[taker][partition] = None
            self.leader[partition] = taker


def _path(
    start: int,
    is_goal: Callable[[int], bool],
    steps: Callable[[int], Iterable[tuple[int, _Handover]]],
) -> list[_Handover]:
    """The handovers along a shortest path from `start` to a goal; there is one."""
    came: dict[int, tuple[int, _Handover]] = {}
    queue = deque([start])
    while queue:
        at = queue.popleft()
        for node, handover in steps(at):
            if node == start or node in came:
                continue
            came[node] = at, handover
            if is_goal(node):
                path = []
                while node != start:
                    node, handover = came[node]
                    path.append(handover)
                return path
            queue.append(node)
    raise AssertionError("no balanced choice of leaders exists")
