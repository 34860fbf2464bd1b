"""Messages that are held go at their own time, in order of time, and not beyond what may be held."""

from __future__ import annotations

from collections.abc import Callable

from dynamo.metrics import Metrics
from dynamo.rpc.holding import Holding


class Alarm:
    """Rings when it is told to."""

    precise = True

    def __init__(self, ring: Callable[[], None]) -> None:
        self.ring = ring
        self.at: float | None = None
        self.closed = False

    def set(self, at: float) -> None:
        self.at = at

    def close(self) -> None:
        self.closed = True


class Bench:
    """A holding by a clock that is set by hand."""

    def __init__(self, *, held_max: int = 10, bytes_max: int = 100) -> None:
        self.now = 0.0
        self.metrics = Metrics()
        self.sent: list[str] = []
        self.holding = Holding(
            make_alarm=self._make,
            monotonic=lambda: self.now,
            metrics=self.metrics,
            held_max=held_max,
            bytes_max=bytes_max,
        )

    def _make(self, ring: Callable[[], None]) -> Alarm:
        self.alarm = Alarm(ring)
        return self.alarm

    def hold(self, due: float, name: str, size: int = 1) -> bool:
        return self.holding.hold(due, size, lambda: self.sent.append(name))

    def ring_at(self, now: float) -> list[str]:
        self.now = now
        self.alarm.ring()
        return self.sent


def test_what_is_due_first_goes_first() -> None:
    bench = Bench()
    for due, name in ((3.0, "c"), (1.0, "a"), (2.0, "b"), (1.0, "a2")):
        assert bench.hold(due, name)
    assert bench.alarm.at == 1.0
    assert bench.ring_at(1.0) == ["a", "a2"]
    assert bench.alarm.at == 2.0
    assert bench.ring_at(5.0) == ["a", "a2", "b", "c"]
    assert len(bench.holding) == 0


def test_above_the_bound_nothing_is_held_and_that_is_counted() -> None:
    bench = Bench(held_max=2)
    assert bench.hold(1.0, "a")
    assert bench.hold(2.0, "b")
    assert not bench.hold(0.5, "c")
    assert bench.ring_at(9.0) == ["a", "b"]
    assert bench.hold(10.0, "d")
    assert not Bench(bytes_max=5).hold(1.0, "a", size=6)
    assert bench.metrics.count["faults_messages_unheld"] == 1
    assert bench.metrics.count["faults_messages_held"] == 3


def test_a_bug_in_one_keeps_no_other_back() -> None:
    bench = Bench()

    def fail() -> None:
        raise ZeroDivisionError

    bench.holding.hold(1.0, 1, fail)
    bench.hold(1.0, "b")
    assert bench.ring_at(1.0) == ["b"]
    assert bench.metrics.count["faults_messages_failed"] == 1


def test_who_is_let_go_may_be_held_again() -> None:
    bench = Bench()

    def hold_again() -> None:
        assert bench.hold(4.0, "again")

    bench.holding.hold(1.0, 1, hold_again)
    assert bench.ring_at(1.0) == []
    assert bench.alarm.at == 4.0
    assert bench.ring_at(4.0) == ["again"]


def test_after_the_end_nothing_goes() -> None:
    bench = Bench()
    bench.hold(1.0, "a")
    bench.holding.close()
    assert bench.alarm.closed
    assert bench.ring_at(9.0) == []
    assert not bench.hold(1.0, "b")
    assert bench.metrics.count["faults_messages_abandoned"] == 1
