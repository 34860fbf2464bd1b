"""Zones against trying every order: atomicity, Delta and Gamma of thousands of small histories."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from bench.staleness.zones import Cluster, cluster, distance, is_atomic


class Operation(NamedTuple):
    """Of a register; value 0 was there at the beginning."""

    start: float
    end: float
    value: int
    is_write: bool


def linearizes(operations: Sequence[Operation]) -> bool:
    """Whether some order of all of them, in which what ended before another started comes first, has
    each read return what was written last."""
    tried: set[tuple[int, int]] = set()

    def search(done: int, value: int) -> bool:
        if done == (1 << len(operations)) - 1:
            return True
        if (done, value) in tried:
            return False
        tried.add((done, value))
        left = [n for n in range(len(operations)) if not done >> n & 1]
        first_end = min(operations[n].end for n in left)
        for n in left:
            one = operations[n]
            may_be_next = one.start <= first_end and (one.is_write or one.value == value)
            if may_be_next and search(done | 1 << n, one.value if one.is_write else value):
                return True
        return False

    return search(0, 0)


def clusters(operations: Sequence[Operation]) -> list[Cluster]:
    reads: dict[int, list[tuple[float, float]]] = {}
    for one in operations:
        if not one.is_write:
            reads.setdefault(one.value, []).append((one.start, one.end))
    found = [
        cluster(one.start, one.end, reads.get(one.value, ())) for one in operations if one.is_write
    ]
    if 0 in reads:
        found.append(cluster(-math.inf, -math.inf, reads[0]))
    return found


def drawn(chance: random.Random) -> list[Operation]:
    """Few operations on a small grid of times, so that ties and all kinds of overlap are frequent. A
    read of a value may end before its write starts."""
    writes = chance.randrange(1, 4)
    operations = []
    for number in range(writes + chance.randrange(1, 5)):
        start = chance.randrange(16)
        end = start + chance.randrange(8)
        if number < writes:
            operations.append(Operation(start, end, number + 1, True))
        else:
            operations.append(Operation(start, end, chance.randrange(writes + 1), False))
    return operations


def least(shifted: object, operations: Sequence[Operation]) -> float:
    """The least whole shift (all times are whole) that makes it atomic; infinite if none up to 64."""
    assert callable(shifted)
    low, high = 0, 64
    if not linearizes(shifted(operations, high)):
        return math.inf
    while low < high:
        middle = (low + high) // 2
        if linearizes(shifted(operations, middle)):
            high = middle
        else:
            low = middle + 1
    return low


def reads_earlier(operations: Sequence[Operation], by: float) -> list[Operation]:
    return [one if one.is_write else one._replace(start=one.start - by) for one in operations]


def wider(operations: Sequence[Operation], by: float) -> list[Operation]:
    return [one._replace(start=one.start - by / 2, end=one.end + by / 2) for one in operations]


@pytest.mark.parametrize("seed", range(6))
def test_zones_say_what_trying_every_order_says(seed: int) -> None:
    chance = random.Random(seed)
    atomic = unbounded = 0
    for _ in range(500):
        operations = drawn(chance)
        found = clusters(operations)
        expected = linearizes(operations)
        assert is_atomic(found) == expected, operations
        far = distance(found, pairs=1_000)
        assert far is not None
        assert far.delta == least(reads_earlier, operations), operations
        assert far.gamma == least(wider, operations), operations
        assert (far.gamma == 0) == expected
        assert (max(far.partners) < 0) == expected
        atomic += expected
        unbounded += math.isinf(far.delta)
    assert 50 < atomic < 450
    assert unbounded > 10


def test_a_stale_read_is_as_far_from_atomic_as_it_is_late() -> None:
    found = clusters(
        [Operation(0, 1, 1, True), Operation(10, 11, 2, True), Operation(31, 33, 1, False)]
    )
    far = distance(found, pairs=10)
    assert far is not None
    assert not is_atomic(found)
    assert (far.delta, far.gamma) == (20.0, 9.0)
    assert (far.scores, far.partners) == ([9.0, 9.0], [1, 0])


def test_a_read_that_ends_before_its_write_begins_is_beyond_any_delta() -> None:
    far = distance(clusters([Operation(10, 11, 1, True), Operation(2, 4, 1, False)]), pairs=10)
    assert far is not None
    assert (far.delta, far.gamma, far.partners) == (math.inf, 6.0, [0])


def test_beyond_its_budget_a_distance_is_not_known_but_atomicity_is() -> None:
    chance = random.Random(5)
    operations = [Operation(n, n + 1, n + 1, True) for n in range(200)]
    operations += [Operation(300, 301, n + 1, False) for n in range(200)]
    chance.shuffle(operations)
    assert distance(clusters(operations), pairs=1_000) is None
    assert not is_atomic(clusters(operations))


def test_many_values_are_swept_as_few_are() -> None:
    chance = random.Random(9)
    for _ in range(200):
        found = []
        for _ in range(60):
            start = chance.randrange(1_000)
            reads = [
                (start + chance.randrange(12), start + 20 + chance.randrange(9))
            ] * chance.randrange(2)
            found.append(cluster(start, start + chance.randrange(1, 9), reads))
        far = distance(found, pairs=10_000)
        assert far is not None
        assert is_atomic(found) == (far.gamma == 0)
    assert is_atomic([])
