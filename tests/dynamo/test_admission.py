"""The door: bounds, shares, lag that stands, and that all is given back."""

from __future__ import annotations

import asyncio
import contextlib
import math

import pytest

from dynamo.admission import (
    ADMIN_MAX,
    LAG_MAX,
    LATE_RUNNING_MAX,
    LOOK_INTERVAL,
    RETRY_MS,
    STANDING_SECONDS,
    Admission,
    Client,
    Standing,
)
from dynamo.errors import DynamoError, Overloaded, TooManyRequests
from dynamo.metrics import Metrics
from dynamo.sim.chance import stream
from dynamo.sim.clock import SimClock
from dynamo.sim.loop import SimLoop, run_virtual


class Door:
    """An admission over a virtual clock, and one client."""

    def __init__(
        self, *, requests_max: int = 8, bytes_max: int = 1000, lag_max: float = math.inf
    ) -> None:
        loop = SimLoop(random=stream(0, "loop"))
        self.clock = SimClock(loop)
        loop.close()
        self.metrics = Metrics()
        self.admission = Admission(
            clock=self.clock,
            entropy=stream(0, "retry").randbytes,
            metrics=self.metrics,
            requests_max=requests_max,
            bytes_max=bytes_max,
            lag_max=lag_max,
        )
        self.client = self.admission.join("a")

    def admit(self, client: Client | None = None, *, size: int = 0, now: float = 0.0) -> None:
        self.admission.admit(client or self.client, size, now)

    def refusal(self, client: Client | None = None, *, size: int = 0, now: float = 0.0) -> str:
        before = (self.admission.running, self.admission.bytes)
        with pytest.raises(DynamoError) as caught:
            self.admit(client, size=size, now=now)
        assert caught.value.outcome == "none"
        assert (self.admission.running, self.admission.bytes) == before
        return str(caught.value.details.get("reason", caught.value.code))


def test_no_more_requests_are_in_flight_than_there_may_be() -> None:
    door = Door(requests_max=8)
    for _ in range(8):
        door.admit()
    assert door.refusal() == "requests"
    door.admission.release(door.client, 0)
    door.admit()
    assert door.metrics.count["requests_shed_requests"] == 1


def test_bytes_have_a_bound_and_a_large_request_alone_comes_in() -> None:
    door = Door(bytes_max=1000)
    door.admit(size=5000)
    assert door.refusal(size=1) == "bytes"
    door.admission.release(door.client, 5000)
    door.admit(size=600)
    door.admit(size=400)
    assert door.refusal(size=1) == "bytes"
    assert door.metrics.count["requests_shed_bytes"] == 2


def test_a_client_over_its_share_is_told_so_while_others_come() -> None:
    door = Door(requests_max=8)
    other = door.admission.join("b")
    for _ in range(8):
        door.admit()
    assert door.refusal() == "requests"  # it is alone: no share to be over
    assert door.refusal(other, now=1) == "requests"
    assert door.refusal(now=1.1) == "too_many_requests"
    door.admission.release(door.client, 0)
    assert door.refusal(now=1.2) == "too_many_requests"
    door.admit(other, now=1.2)
    assert door.metrics.count["requests_shed_share"] == 2


def test_a_client_is_alone_again_once_the_others_have_not_come_for_a_while() -> None:
    door = Door(requests_max=4)
    other = door.admission.join("b")
    door.admit(other)
    door.admission.release(other, 0)
    for _ in range(3):
        door.admit()
    assert door.refusal(now=0.5) == "too_many_requests"
    door.admit(now=5.0)


def test_equal_clients_are_not_over_their_share() -> None:
    door = Door(requests_max=8)
    clients = [door.admission.join(str(number)) for number in range(4)]
    for client in clients * 2:
        door.admit(client)
    assert {door.refusal(client) for client in clients} == {"requests"}


def test_the_table_of_clients_holds_those_who_are_connected() -> None:
    door = Door()
    for number in range(1000):
        door.admission.leave(door.admission.join(str(number)))
    assert "clients=1)" in repr(door.admission)
    again = door.admission.join("a")
    assert again is door.client
    door.admit()
    door.admission.leave(again)
    door.admission.leave(door.client)
    door.admission.release(door.client, 0)
    assert repr(door.admission).endswith("running=0 bytes=0 lag=0ms clients=0)")


def test_when_to_try_again_is_drawn() -> None:
    door = Door(requests_max=1)
    door.admit()
    drawn = set()
    for _ in range(50):
        with pytest.raises(Overloaded) as caught:
            door.admit()
        drawn.add(caught.value.details["retry_after_ms"])
    assert len(drawn) > 40
    assert RETRY_MS[0] <= min(drawn) < max(drawn) <= RETRY_MS[1]


def test_a_lane_has_room_of_its_own_and_a_bound() -> None:
    door = Door(requests_max=1)
    door.admit()
    assert door.refusal() == "requests"
    for _ in range(ADMIN_MAX):
        door.admission.enter(door.admission.admin)
    with pytest.raises(Overloaded):
        door.admission.enter(door.admission.admin)
    door.admission.enter(door.admission.health)
    door.admission.admin.running -= 1
    door.admission.enter(door.admission.admin)


#: Looks (time, lag), and whether the queue stands at the last of them.
LOOKS: tuple[tuple[str, tuple[tuple[float, float], ...], bool], ...] = (
    ("one long turn is no queue", ((1.0, 0.9), (1.02, 0.0)), False),
    ("nor is the first look after it", ((1.0, 0.9),), False),
    ("a lag that stays is", ((1.0, 0.06), (1.05, 0.07), (1.11, 0.06)), True),
    ("long turns are", ((1.0, 0.3), (1.32, 0.3)), True),
    ("one look without begins anew", ((1.0, 0.06), (1.05, 0.01), (1.11, 0.06)), False),
    ("it ends at once", ((1.0, 0.3), (1.32, 0.3), (1.34, 0.05)), False),
    ("and comes back at once", ((1.0, 0.3), (1.32, 0.3), (1.34, 0.0), (1.9, 0.06)), True),
    ("but not later", ((1.0, 0.3), (1.32, 0.3), (1.34, 0.0), (2.5, 0.06)), False),
)


@pytest.mark.parametrize(("what", "looks", "stands"), LOOKS)
def test_a_queue_that_stands_is_told_from_a_burst(
    what: str, looks: tuple[tuple[float, float], ...], stands: bool
) -> None:
    standing = Standing(LAG_MAX)
    assert [standing.note(lag, now) for now, lag in looks][-1] is stands


def test_a_loop_that_stays_behind_sheds_and_takes_again_once_it_has_caught_up() -> None:
    async def scene() -> list[str]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        process = loop.new_process("node")
        metrics = Metrics()
        admission = Admission(
            clock=SimClock(loop), entropy=stream(0, "x").randbytes, metrics=metrics
        )
        client = admission.join("a")
        seen = []

        def ask() -> None:
            try:
                admission.admit(client, 0, loop.time())
            except Overloaded as error:
                seen.append(f"{error.details['reason']} at {loop.time():.2f}")
            else:
                admission.release(client, 0)

        async def work(seconds: float) -> None:
            """As much as the loop has to do, and three times that."""
            until = loop.time() + seconds
            for _ in range(LATE_RUNNING_MAX):
                admission.admit(client, 0, loop.time())
            while loop.time() < until:
                process.spend(0.15)
                ask()
                await asyncio.sleep(0.05)

        working = process.spawn(work(1.0))
        await working
        assert seen
        busy = len(seen)
        await asyncio.sleep(STANDING_SECONDS + 3 * LOOK_INTERVAL)
        process.call_soon(ask)
        for _ in range(LATE_RUNNING_MAX):
            admission.release(client, 0)
        await asyncio.sleep(2 * LOOK_INTERVAL)
        assert len(seen) == busy, "it goes on shedding"
        assert metrics.count["requests_shed_lag"] == busy
        assert not [when for when in loop.armed() if when > loop.time() + 1], "it still looks"
        process.kill()
        await process.gone()
        return seen

    assert run_virtual(scene(), random=stream(0, "loop"))


def test_too_many_requests_is_an_error_of_its_own() -> None:
    assert (TooManyRequests.code, Overloaded.code) == ("too_many_requests", "overloaded")
    assert not issubclass(TooManyRequests, Overloaded)


def test_however_late_it_is_some_are_carried_out() -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        process = loop.new_process("node")
        admission = Admission(
            clock=SimClock(loop), entropy=stream(0, "x").randbytes, metrics=Metrics()
        )
        client = admission.join("a")

        def crowd() -> None:
            process.spend(0.2)
            with contextlib.suppress(Overloaded):
                while admission.running < 1000:
                    admission.admit(client, 0, loop.time())

        process.call_soon(admission.admit, client, 0, 0.0)
        for turn in range(5):
            process.call_at(0.01 + turn / 5, process.spend, 0.2)
        process.call_at(1.0, crowd)
        await asyncio.sleep(2)
        assert admission.running == LATE_RUNNING_MAX
        process.kill()
        await process.gone()

    run_virtual(scene(), random=stream(0, "loop"))
