"""What YCSB draws by, against its published shape."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from bench.workloads.distributions import (
    SCRAMBLED_ZETA,
    Acknowledged,
    Latest,
    ScrambledZipfian,
    Uniform,
    Zipfian,
    fnv_hash,
    zeta,
)

DRAWS = 100_000


def test_the_hash_is_the_one_of_ycsb() -> None:
    # The first key that YCSB loads, as its logs and issues show it.
    assert fnv_hash(0) == 6284781860667377211
    assert fnv_hash(1) == 8517097267634966620


def test_zeta_is_a_sum_that_can_be_continued() -> None:
    assert zeta(1) == 1.0
    assert zeta(3) == pytest.approx(1 + 2**-0.99 + 3**-0.99)
    assert zeta(1000, known=100, of_known=zeta(100)) == pytest.approx(zeta(1000))


def test_the_constant_of_the_scrambled_one_is_the_sum_of_ten_billion() -> None:
    # By Euler and Maclaurin, from the first 100,000 on.
    first, last, theta = 100_000, 10_000_000_000, 0.99
    integral = (last ** (1 - theta) - first ** (1 - theta)) / (1 - theta)
    rest = integral + (last**-theta - first**-theta) / 2
    assert zeta(first) + rest == pytest.approx(SCRAMBLED_ZETA, rel=1e-9)


def test_the_head_of_a_zipfian_is_as_published() -> None:
    chance = random.Random(1)
    ranks, count = Zipfian(1_000), 1_000
    drawn = Counter(ranks.next(chance) for _ in range(DRAWS))
    total = zeta(count)
    for rank in (0, 1):  # exact in Gray's algorithm
        assert drawn[rank] / DRAWS == pytest.approx((rank + 1) ** -0.99 / total, rel=0.03)
    for few in (10, 100):  # approximate
        share = sum(drawn[rank] for rank in range(few)) / DRAWS
        assert share == pytest.approx(zeta(few) / total, abs=0.02)
    assert min(drawn) == 0
    assert max(drawn) < count


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_small_zipfian_stays_in_its_range(count: int) -> None:
    chance = random.Random(2)
    drawn = Counter(Zipfian(count).next(chance) for _ in range(10_000))
    assert set(drawn) == set(range(count))
    assert drawn[0] / 10_000 == pytest.approx(1 / zeta(count), abs=0.02)


def test_a_zipfian_grows() -> None:
    grown, whole = Zipfian(10), Zipfian(500)
    grown.grow(500)
    one, other = random.Random(3), random.Random(3)
    assert [grown.next(one) for _ in range(1_000)] == [whole.next(other) for _ in range(1_000)]
    with pytest.raises(ValueError, match="0 items"):
        Zipfian(0)


def test_scrambled_favourites_lie_anywhere_and_are_as_popular_as_published() -> None:
    chance = random.Random(4)
    chooser = ScrambledZipfian(1_000)
    drawn = Counter(chooser.next(1_000, chance) for _ in range(DRAWS))
    first, second = drawn.most_common(2)
    # 1 / zeta, and what all other ranks give each key by their hashes.
    assert first[0] == fnv_hash(0) % 1_000
    assert first[1] / DRAWS == pytest.approx(1 / SCRAMBLED_ZETA, abs=0.004)
    assert second[0] == fnv_hash(1) % 1_000
    assert second[1] / DRAWS == pytest.approx(0.5**0.99 / SCRAMBLED_ZETA, abs=0.003)
    assert len(drawn) > 990
    assert not {0, 1} & {first[0], second[0]}


def test_scrambled_draws_no_key_that_is_not_there_yet() -> None:
    chance = random.Random(5)
    chooser = ScrambledZipfian(1_000)
    assert max(chooser.next(10, chance) for _ in range(2_000)) < 10
    assert ScrambledZipfian(10**9).next(1, chance) == 0


def test_latest_favours_the_newest() -> None:
    chance = random.Random(6)
    chooser = Latest(100)
    drawn = Counter(chooser.next(500, chance) for _ in range(DRAWS))
    for back in (0, 1):
        share = drawn[499 - back] / DRAWS
        assert share == pytest.approx((back + 1) ** -0.99 / zeta(500), rel=0.03)
    assert min(drawn) >= 0
    assert max(drawn) == 499


def test_uniform_is_uniform() -> None:
    chance = random.Random(7)
    drawn = Counter(Uniform().next(20, chance) for _ in range(20_000))
    assert len(drawn) == 20
    assert all(850 < count < 1_150 for count in drawn.values())


def test_an_insert_counts_once_all_before_it_are_settled() -> None:
    inserts = Acknowledged(10)
    a, b, c = inserts.take(), inserts.take(), inserts.take()
    assert (a, b, c) == (10, 11, 12)
    inserts.settle(b)
    assert inserts.known == 10
    inserts.settle(a)
    assert inserts.known == 12
    inserts.settle(c)
    assert inserts.known == 13
