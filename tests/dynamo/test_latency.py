"""Times of requests: where they are counted, and what is told of the last minute."""

from __future__ import annotations

import pytest

from dynamo.latency import BOUNDS, DELETE, GET, PUT, SLICE_S, WINDOW_S, Histogram, RequestTimes


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def of(*seconds: float) -> Histogram:
    time = Time()
    times = RequestTimes(time)
    for taken in seconds:
        times.note(GET, 200, time.now - taken)
    return times.last_minute(GET)


def test_a_request_is_counted_once_under_its_operation_and_class() -> None:
    time = Time()
    times = RequestTimes(time)
    for operation, status in ((GET, 200), (GET, 404), (PUT, 204), (PUT, 503), (DELETE, 300)):
        times.note(operation, status, time.now - 0.5)
    found = {
        (operation, status_class): times.since_start(operation, status_class).count
        for operation in (GET, PUT, DELETE)
        for status_class in range(4)
    }
    counted = {(GET, 0), (GET, 2), (PUT, 0), (PUT, 3), (DELETE, 1)}
    assert found == {place: int(place in counted) for place in found}


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_bucket_holds_its_upper_end(bound: float) -> None:
    times = RequestTimes(lambda: bound)
    times.note(GET, 200, 0.0)
    assert times.last_minute(GET).counts[BOUNDS.index(bound)] == 1


def test_what_takes_longer_than_any_bound_is_counted_all_the_same() -> None:
    assert (of(999.0).count, of(999.0).counts[-1]) == (1, 1)
    assert BOUNDS[-1] < of(999.0).quantile(0.99) <= 999.0


def test_quantiles_are_those_of_the_values_within_a_bucket() -> None:
    values = [0.0001 * (1.003**i) for i in range(3000)]  # 0.1 ms to 0.8 s
    found = of(*values)
    assert found.mean == pytest.approx(sum(values) / len(values))
    assert found.longest == pytest.approx(max(values))
    for q in (0.05, 0.5, 0.95, 0.99):
        assert found.quantile(q) == pytest.approx(values[int(q * 3000)], rel=0.25)
    assert of().quantile(0.5) == of().mean == 0.0


def test_the_last_minute_forgets_and_the_total_does_not() -> None:
    time = Time()
    times = RequestTimes(time)
    for _ in range(300):
        times.note(GET, 200, time.now - 0.001)
        time.now += 1.0
    assert times.since_start(GET, 0).count == 300
    assert WINDOW_S - 2 * SLICE_S < times.last_minute(GET).count <= WINDOW_S
    assert len(times._ended) <= WINDOW_S / SLICE_S
    time.now += WINDOW_S + SLICE_S
    assert times.last_minute(GET).count == 0
    assert times.since_start(GET, 0).count == 300
