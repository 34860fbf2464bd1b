"""What a member says before a tombstone goes: what it owes, and that what it had under way has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

import pytest
from little_cluster import GatedStorage
from lone_replica import (
    FALLBACK,
    KEY,
    OWNERS,
    PLACE,
    RING,
    Asked,
    LoneReplica,
    code_of,
    foreign,
    index,
    lone_replica,
)

from dynamo.flights import Flights
from dynamo.ports import Failure, Waiter
from dynamo.record import encode_record
from dynamo.rpc.messages import Ping, Pong, Refused, Request, Store
from dynamo.rpc.reap_messages import HintsSeen, LookHints, Settled, SettleUp, Shown
from dynamo.settling import WAITING_MAX, Settling, Standing

FIRST = OWNERS[0]
ELSEWHERE = (0, 1)


class Operation:
    """Waits for an answer, and may send more then."""

    def __init__(self, flight: int | None) -> None:
        if flight is not None:
            self.flight = flight

    def on_reply(self, node: str, reply: object) -> None:
        raise AssertionError

    def on_failure(self, node: str, failure: Failure) -> None:
        raise AssertionError


class Wire:
    """A transport on which a test says who waits, and who answers pings."""

    def __init__(self) -> None:
        self.waiting: list[Waiter] = []
        self.pinged: list[str] = []
        self.silent: dict[str, str] = {}
        self.held: list[tuple[str, Waiter]] = []
        self.holds = False

    def request(
        self, targets: Sequence[str], message: Request, waiter: Waiter, timeout: float
    ) -> None:
        assert isinstance(message, Ping)
        assert getattr(waiter, "follows", False), "what was asked before might be sent after it"
        for target in targets:
            self.pinged.append(target)
            if self.holds:
                self.held.append((target, waiter))
            elif target in self.silent:
                waiter.on_failure(target, Failure("not_sent", self.silent[target]))
            else:
                waiter.on_reply(target, Pong())

    def waiters(self) -> list[Waiter]:
        return self.waiting

    def is_connected(self, node: str) -> bool:
        return True

    def stalled_for(self, node: str) -> float:
        return 0.0


class Member:
    """A fallback, and what is asked of it."""

    def __init__(self, node: LoneReplica) -> None:
        self.node = node
        self.wire = Wire()
        self.flights = Flights()
        self.start = 3
        self.later = 0
        self.kept: list[tuple[str, int, int]] = []
        self.cannot_keep = ""
        self.settling = Settling(
            node_id=node.who,
            replica=node.replica,
            storage=node.storage,
            commit=node.commit,
            transport=self.wire,
            flights=self.flights,
            standing=lambda: Standing(self.start, b"incarnation"),
            keep_shown=self._keep,
            clock=node.clock,
            sleep=asyncio.sleep,
            metrics=node.metrics,
            later_epoch=lambda: self.later,
        )
        self.settling.adopt(RING)

    async def _keep(self, shown: Iterable[tuple[str, int, int]]) -> str:
        await asyncio.sleep(0)
        self.kept += shown
        return self.cannot_keep

    @property
    def storage(self) -> GatedStorage:
        assert isinstance(self.node.storage, GatedStorage)
        return self.node.storage

    async def look(self, *known: Shown) -> HintsSeen | Refused:
        message = LookHints(1000, 1, (PLACE, ELSEWHERE), known)
        (reply,) = await self.node.asked(self.settling.on_look_hints, message)
        assert isinstance(reply, HintsSeen | Refused)
        return reply

    async def blocked(self) -> list[str]:
        reply = await self.look()
        assert isinstance(reply, HintsSeen)
        assert all(at == 0 for at, _ in reply.blocked)
        return [why for _, why in reply.blocked]

    def settle(self, seconds: float = 5.0, epoch: int = 1) -> Asked:
        call = Asked(self.node.clock.monotonic() + seconds)
        self.settling.on_settle_up(SettleUp(int(seconds * 1000), epoch), call)
        return call


@pytest.fixture
async def member() -> AsyncIterator[Member]:
    async with lone_replica(FALLBACK, GatedStorage()) as node:
        member = Member(node)
        tasks = [
            asyncio.ensure_future(work)
            for work in (member.settling.run(), member.settling.run_looks())
        ]
        yield member
        for task in tasks:
            assert not task.done()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# What it owes -------------------------------------------------------------------------------------


async def test_a_member_without_hints_blocks_nothing(member: Member) -> None:
    reply = await member.look()
    assert isinstance(reply, HintsSeen)
    assert (reply.blocked, reply.start, reply.taken) == ((), 3, (0, 0))
    assert reply.incarnation == b"incarnation"
    assert reply.write_number == member.storage.synced_number


async def test_a_hint_blocks_its_partition_until_it_is_delivered_and_was_taken_for_ever(
    member: Member,
) -> None:
    await member.node.store(foreign(b"v"), hint_for=FIRST)
    assert await member.blocked() == ["it owes writes of the partition to others (hints)"]
    hints, _ = member.node.hints.page(FIRST, b"", count_max=9, bytes_max=1 << 20)
    assert member.node.hints.settle(hints) == 1
    assert await member.blocked() == []
    reply = await member.look()
    assert isinstance(reply, HintsSeen)
    assert reply.taken == (1, 0)


async def test_a_marker_blocks_as_well() -> None:
    async with lone_replica(FIRST, GatedStorage()) as node:
        member = Member(node)
        await node.mint(b"v")
        await node.owe(OWNERS[1])
        assert await member.blocked() == ["it owes writes of the partition to others (hints)"]


async def test_that_a_hint_is_gone_is_said_once_no_crash_brings_it_back(member: Member) -> None:
    await member.node.store(foreign(b"v"), hint_for=FIRST)
    hints, _ = member.node.hints.page(FIRST, b"", count_max=9, bytes_max=1 << 20)
    member.node.hints.settle(hints)
    member.storage.gate.clear()
    looking = asyncio.create_task(member.look())
    await asyncio.sleep(0.01)
    assert not looking.done()
    member.storage.gate.set()
    reply = await looking
    assert isinstance(reply, HintsSeen)
    assert reply.write_number == member.storage.synced_number


async def test_a_hint_that_waits_for_the_storage_blocks(member: Member) -> None:
    member.storage.busy = 1_000_000
    call = Asked(member.node.clock.monotonic() + 5)
    late = Store(KEY, *PLACE, 1, 5000, encode_record(foreign(b"v")), hint_for=index(FIRST))
    member.node.replica.on_store(late, call)
    assert await member.blocked() == ["a hint waits for its storage"]
    member.node.replica.close()


async def test_what_hints_there_are_has_to_be_known() -> None:
    storage = GatedStorage()
    async with lone_replica(FALLBACK, storage) as node:
        await node.store(foreign(b"v"), hint_for=FIRST)
    async with lone_replica(FALLBACK, storage, count=False) as node:
        member = Member(node)
        reply = await member.look()
        assert isinstance(reply, HintsSeen)
        assert dict(reply.blocked)[1] == "it does not know yet which hints it has"


async def test_a_later_ring_blocks(member: Member) -> None:
    member.later = 2
    reply = await member.look()
    assert isinstance(reply, HintsSeen)
    assert reply.blocked[0] == (0, "it knows of a ring of epoch 2")


async def test_what_members_have_shown_is_on_disk_before_the_second_look_is_answered(
    member: Member,
) -> None:
    shown = Shown(index("x"), 4, 99)
    assert isinstance(await member.look(shown), HintsSeen)
    assert member.kept == [("x", 4, 99)]
    member.cannot_keep = "no space"
    reply = await member.look(shown)
    assert (code_of(reply), reply.detail) == ("not_ready", "no space")  # type: ignore[union-attr]


# What is under way --------------------------------------------------------------------------------


async def test_a_member_with_nothing_under_way_pings_all_others_and_has_settled(
    member: Member,
) -> None:
    call = member.settle()
    await call.done.wait()
    assert call.replies == [Settled(3)]
    assert sorted(member.wire.pinged) == sorted(m.id for m in RING.members if m.id != FALLBACK)


async def test_operations_that_began_before_are_waited_for_and_later_ones_are_not(
    member: Member,
) -> None:
    member.wire.waiting = [Operation(0), Operation(None)]
    call = member.settle()
    await asyncio.sleep(0.05)
    assert not member.wire.pinged
    member.wire.waiting = [Operation(member.flights.now), Operation(None)]
    await call.done.wait()
    assert call.replies == [Settled(3)]


async def test_records_that_are_held_between_two_requests_are_waited_for(member: Member) -> None:
    with member.flights.hold():
        call = member.settle()
        await asyncio.sleep(0.05)
        assert not call.replies
    with member.flights.hold():
        await call.done.wait()
    assert call.replies == [Settled(3)]


async def test_what_does_not_end_in_time_is_said(member: Member) -> None:
    member.wire.waiting = [Operation(0)]
    call = member.settle(0.05)
    await call.done.wait()
    (reply,) = call.replies
    assert isinstance(reply, Refused)
    assert (reply.code, reply.detail) == (
        "not_settled",
        "operations are under way that began before (1)",
    )


async def test_a_member_that_cannot_be_pinged_is_named(member: Member) -> None:
    member.wire.silent[FIRST] = "not connected"
    call = member.settle()
    await call.done.wait()
    (reply,) = call.replies
    assert isinstance(reply, Refused)
    assert reply.detail == f"{FIRST} did not answer a ping: not connected"


async def test_who_asks_during_a_round_is_served_by_the_next(member: Member) -> None:
    member.wire.holds = True
    first = member.settle()
    await asyncio.sleep(0.01)
    second, third = member.settle(), member.settle()
    member.wire.holds = False
    for target, waiter in member.wire.held:
        waiter.on_reply(target, Pong())
    pings = len(member.wire.pinged)
    await asyncio.gather(*(call.done.wait() for call in (first, second, third)))
    assert (len(member.wire.pinged), member.flights.now) == (2 * pings, 2)


async def test_so_many_wait_and_no_more(member: Member) -> None:
    member.wire.waiting = [Operation(0)]
    calls = [member.settle() for _ in range(WAITING_MAX + 1)]
    assert code_of(calls[-1].replies[0]) == "busy"
    assert member.settling.waiting == WAITING_MAX
    member.settling.close()
    assert code_of(calls[0].replies[0]) == "not_ready"
    member.wire.waiting = []
    late = member.settle()
    await late.done.wait()
    assert late.replies == [Settled(3)]


async def test_another_ring_settles_nothing(member: Member) -> None:
    assert code_of(member.settle(epoch=2).replies[0]) == "stale_epoch"
