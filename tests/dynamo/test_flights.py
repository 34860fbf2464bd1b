"""What is under way, told apart by when it began."""

from __future__ import annotations

import asyncio

import pytest
from little_cluster import LittleCluster, values

from dynamo.flights import Flights
from dynamo.requests import ReadOptions, WriteOptions
from dynamo.rpc.messages import Condition, Mint, Store


def test_what_begins_later_is_not_waited_for() -> None:
    flights = Flights()
    with flights.hold() as early:
        generation = flights.begin()
        assert early < generation == flights.now
        with flights.hold() as late:
            assert late == generation
            assert flights.holds_before(generation) == 1
        assert flights.holds_before(generation) == 1
    assert flights.holds_before(generation) == 0


def test_holds_of_one_generation_are_counted() -> None:
    flights = Flights()
    with flights.hold():
        with flights.hold():
            assert flights.holds_before(flights.begin()) == 2
        assert flights.holds_before(flights.begin()) == 1


def test_a_hold_ends_with_whatever_ends_it() -> None:
    flights = Flights()
    with pytest.raises(KeyError), flights.hold():
        raise KeyError
    assert flights.holds_before(flights.begin()) == 0


async def test_a_conditional_write_is_as_old_as_what_it_has_read() -> None:
    async with LittleCluster(3) as cluster:
        await cluster.put("a", b"k", b"old")
        context = (await cluster.get("a", b"k")).context
        coordinator = cluster.nodes["a"].coordinator
        cluster.links.delay = lambda: 0.02
        cluster.links.sent.clear()
        condition = Condition(if_match=("*",))
        writing = asyncio.ensure_future(
            cluster.put("a", b"k", b"new", context, WriteOptions(condition=condition))
        )
        await asyncio.sleep(0.01)
        generation = coordinator._flights.begin()
        assert coordinator._flights.holds_before(generation) == 1
        # The mint and the stores that follow are of before, too.
        while not any(type(message) is Mint for _, _, message in cluster.links.sent):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert coordinator._flights.holds_before(generation) == 0
        flights = {getattr(call._waiter, "flight", None) for call in cluster.links.calls}
        assert generation - 1 in flights
        await writing
        assert values(await cluster.get("b", b"k")) == {b"new"}


async def test_operations_know_when_they_began_and_repairs_need_not() -> None:
    async with LittleCluster(3) as cluster:
        a = cluster.nodes["a"].coordinator
        cluster.lose("c")
        await cluster.put("a", b"k", b"v")
        cluster.regain("c")
        a._flights.begin()
        cluster.links.delay = lambda: 0.02
        reading = asyncio.ensure_future(cluster.get("a", b"k", ReadOptions(r=3)))
        await asyncio.sleep(0.01)
        assert {getattr(call._waiter, "flight", None) for call in cluster.links.calls} == {1}
        await reading
        stores = [call for call in cluster.links.calls if call.target == "c"]
        assert any(type(message) is Store for _, _, message in cluster.links.sent[-3:])
        assert [getattr(call._waiter, "flight", None) for call in stores] == [None]
