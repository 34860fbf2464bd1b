"""Writes that wait for the storage: their order, their bounds, their end."""

from __future__ import annotations

from collections.abc import Callable

from dynamo.backlog import BYTES_MAX, REQUESTS_MAX, RETRY_SECONDS, Backlog
from dynamo.metrics import Metrics
from dynamo.ports import Call, Timer
from dynamo.rpc.messages import AskRing, Refused, Reply, Request, Synced


class Moment:
    """A timer of a clock that is moved by hand."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class HandClock:
    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Moment] = []

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return 0

    def wall_ns(self) -> int:
        return 0

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        assert delay == RETRY_SECONDS
        self.timers.append(Moment(callback))
        return self.timers[-1]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due, self.timers = self.timers, []
        for timer in due:
            if timer.callback is not None:
                timer.callback()


class OneCall:
    peer = "test"

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.replies: list[Reply] = []

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        self.replies.append(reply)


class BusyStore:
    """Carries out what it is asked once it is not busy, and hands it to the backlog while it is."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.metrics = Metrics()
        self.backlog = Backlog(clock=self.clock, metrics=self.metrics)
        self.room = 0
        self.share = 1.0
        self.done: list[Call] = []

    def ask(self, *, deadline: float = 1.0, size: int = 1) -> OneCall:
        call = OneCall(deadline)
        self.handle(AskRing(1000), call, size=size)
        return call

    def handle(self, message: Request, call: Call, size: int = 1) -> None:
        if self.room:
            self.room -= 1
            self.done.append(call)
            call.reply(Synced())
        elif not self.backlog.wait(self.handle, message, call, size, share=self.share):
            call.reply(Refused("storage_busy", True))


def codes(*calls: OneCall) -> list[str]:
    """How each ended; "" for one that waits."""
    found = []
    for call in calls:
        assert len(call.replies) <= 1
        reply = call.replies[0] if call.replies else None
        found.append(reply.code if isinstance(reply, Refused) else "done" if reply else "")
    return found


def test_what_waits_is_carried_out_in_order_as_room_comes() -> None:
    store = BusyStore()
    calls = [store.ask() for _ in range(5)]
    store.clock.pass_time(RETRY_SECONDS)
    assert codes(*calls) == [""] * 5
    store.room = 2
    store.clock.pass_time(RETRY_SECONDS)
    assert store.done == calls[:2]
    late = store.ask()
    store.room = 9
    store.clock.pass_time(RETRY_SECONDS)
    assert store.done == [*calls, late]
    assert len(store.backlog) == 0
    assert store.clock.timers == []
    assert store.metrics.count["writes_waited"] == 6


def test_who_has_no_time_left_to_wait_is_refused_while_someone_still_listens() -> None:
    store = BusyStore()
    call = store.ask(deadline=RETRY_SECONDS)
    assert codes(call) == ["storage_busy"]
    call = store.ask(deadline=1.5 * RETRY_SECONDS)
    store.clock.pass_time(RETRY_SECONDS)
    assert codes(call) == ["storage_busy"]


def test_what_nobody_waits_for_any_more_is_not_carried_out() -> None:
    store = BusyStore()
    gone, waits = store.ask(deadline=1.0), store.ask(deadline=3.0)
    store.room = 9
    store.clock.pass_time(2.0)
    assert codes(gone, waits) == ["deadline_past", "done"]
    assert store.metrics.count["writes_waited_in_vain"] == 1


def test_requests_and_bytes_are_bounded() -> None:
    store = BusyStore()
    calls = [store.ask() for _ in range(REQUESTS_MAX + 1)]
    assert codes(*calls) == [*[""] * REQUESTS_MAX, "storage_busy"]
    store.room = REQUESTS_MAX
    store.clock.pass_time(RETRY_SECONDS)
    half = BYTES_MAX // 2
    assert codes(*(store.ask(size=half) for _ in range(3))) == ["", "", "storage_busy"]


def test_a_close_refuses_what_waits() -> None:
    store = BusyStore()
    calls = [store.ask() for _ in range(2)]
    store.backlog.close()
    assert codes(*calls) == ["not_ready"] * 2
    store.clock.pass_time(RETRY_SECONDS)
    assert codes(*calls) == ["not_ready"] * 2


def test_who_may_wait_for_a_share_of_its_time_is_refused_while_there_is_time_left() -> None:
    store = BusyStore()
    store.share = 0.5
    call = store.ask()
    store.clock.pass_time(0.49)
    assert codes(call) == [""]
    store.clock.pass_time(0.02)
    assert codes(call) == ["storage_busy"]
