"""Byte rates, room for clients, and rates of late: numbers in, numbers out."""

from __future__ import annotations

import pytest

from dynamo.pace import (
    BESIDE_CLIENTS,
    FREELY,
    PAUSE_MAX,
    ClientLoad,
    Recent,
    TokenBucket,
    pause_after,
    step,
)


def test_a_bucket_lets_so_many_bytes_through_in_a_second() -> None:
    bucket, now, sent = TokenBucket(1000, 0.0), 0.0, 0
    while now < 20.0:
        if not bucket.wait(now):
            bucket.take(100, now)
            sent += 100
        now += 0.01
    assert 20_000 <= sent <= 20_500


def test_what_is_larger_than_the_rate_leaves_once_and_is_paid_off_after() -> None:
    bucket = TokenBucket(1000, 0.0)
    assert bucket.wait(0.0) == 0.0
    bucket.take(5000, 0.0)
    assert bucket.wait(0.0) == pytest.approx(4.75, abs=0.01)
    assert bucket.wait(4.0) > 0.0
    assert bucket.wait(4.8) == 0.0


def test_idle_time_does_not_add_up() -> None:
    bucket = TokenBucket(1000, 0.0)
    bucket.take(300, 3600.0)
    assert bucket.wait(3600.0) > 0.0


def test_clients_are_seen_for_a_second_after_their_last_request() -> None:
    count = {"gets": 7}
    load = ClientLoad(count)
    assert not load.is_busy(100.0)  # when those came nobody can say
    assert not load.is_busy(100.5)
    count["stores"] = 1
    assert load.is_busy(101.0)
    assert load.is_busy(101.9)
    assert not load.is_busy(102.0)


def test_what_nobody_looked_at_for_long_is_not_taken_for_now() -> None:
    count = {"gets": 0}
    load = ClientLoad(count)
    load.is_busy(0.0)
    count["gets"] = 1_000
    assert not load.is_busy(60.0)


def test_beside_clients_less_is_sent_at_a_time_and_more_is_waited() -> None:
    assert step(clients=False) is FREELY
    assert step(clients=True) is BESIDE_CLIENTS
    assert pause_after(0.01, clients=False) == 0.0
    assert pause_after(0.01, clients=True) == pytest.approx(0.01)
    assert pause_after(60.0, clients=True) == PAUSE_MAX


def test_a_rate_is_that_of_the_last_ten_seconds() -> None:
    recent = Recent()
    assert recent.rates(0.0) == (0.0, 0.0)
    for second in range(100, 160):
        recent.note(50, 5_000, second + 0.5)
    count, size = recent.rates(160.0)
    assert count == pytest.approx(50, rel=0.15)
    assert size == pytest.approx(5_000, rel=0.15)
    assert recent.rates(175.0) == (0.0, 0.0)
