"""Primaries are down, others stand in: what counts, what is owed, and what a client is told."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from little_cluster import GatedStorage, LittleCluster, values

from dynamo.errors import StorageFull, Unavailable, WriteUncertain
from dynamo.ports import NO_ANSWER, Call, Handler
from dynamo.properties import BucketProperties
from dynamo.quorum import LOST, MET, PENDING, State
from dynamo.read_operation import LARGE_BYTES, LARGE_KEPT
from dynamo.read_tally import SloppyReadTally
from dynamo.record import EMPTY, VALUE, mint, record_digest
from dynamo.requests import Found, ReadOptions, WriteOptions, Written
from dynamo.rpc.messages import Fetch, Mint, Owe, Refused, Request, Store
from dynamo.sim.loop import run_virtual
from dynamo.write_operation import LOST_GRACE, WriteOperation
from dynamo.write_tally import WriteTally

K = b"k"
ALL = WriteOptions(w="all")


class Five(LittleCluster):
    """Five nodes of which three own K and two can stand in; in the order of K's preference list."""

    def __init__(self, nodes: int = 5, **more: Any) -> None:
        super().__init__(nodes, storage=lambda name: GatedStorage(), **more)

    @property
    def primaries(self) -> tuple[str, ...]:
        return self.plan(K).primaries

    @property
    def fallbacks(self) -> tuple[str, ...]:
        return self.plan(K).fallbacks

    def gated(self, node: str) -> GatedStorage:
        storage = self.nodes[node].storage
        assert isinstance(storage, GatedStorage)
        return storage

    def answer(self, node: str, kind: type[Request], handler: Handler) -> None:
        """From now on the node answers messages of this kind so."""
        self.links.handlers[node] = {**self.links.handlers[node], kind: handler}

    def refuse(self, node: str, kind: type[Request], code: str, *, definite: bool = True) -> None:
        """From now on the node refuses messages of this kind."""
        self.answer(node, kind, lambda message, call: call.reply(Refused(code, definite)))

    def asked(self, kind: type[Request]) -> list[tuple[str, Any]]:
        """Who was sent what of this kind, in order."""
        return [(target, sent) for _, target, sent in self.links.sent if type(sent) is kind]

    def count(self, counter: str) -> int:
        return sum(node.metrics.count[counter] for node in self.nodes.values())

    def all_hints(self) -> dict[str, dict[str, bool]]:
        """Holder -> target -> whether it is a bare marker, of K."""
        found = {name: self.hints(name, K) for name in sorted(self.nodes)}
        return {name: hints for name, hints in found.items() if hints}

    async def write(self, node: str, value: bytes = b"1", **options: Any) -> Written:
        return await self.put(node, K, value, options=WriteOptions(**options))

    async def read(self, node: str, **options: Any) -> Found:
        return await self.get(node, K, ReadOptions(**options))


def acks(written: Written) -> tuple[int, int]:
    return written.primary_acks, written.fallback_acks


# Writes --------------------------------------------------------------------------------------------


async def test_of_five_nodes_one_may_be_down_and_a_fallback_acknowledges_in_its_place() -> None:
    async with Five() as five:
        (a, b, c), (d, _) = five.primaries, five.fallbacks
        five.lose(c)
        assert acks(await five.write(a, w="all")) == (2, 1)
        assert five.all_hints() == {d: {c: False}}
        assert values(await five.read(b)) == {b"1"}


async def test_of_five_nodes_two_may_be_down_and_w_is_met_all_the_same() -> None:
    async with Five() as five:
        (a, b, c), (d, e) = five.primaries, five.fallbacks
        five.lose(b, c)
        assert acks(await five.write(a, w="all")) == (1, 2)
        assert five.all_hints() == {d: {b: False}, e: {c: False}}
        assert values(await five.read(d, r="all")) == {b"1"}


async def test_with_all_primaries_down_a_stand_in_mints_and_another_stores() -> None:
    async with Five() as five:
        (a, b, c), (d, e) = five.primaries, five.fallbacks
        five.lose(a, b, c)
        assert acks(await five.write(d)) == (0, 2)
        await five.settle()
        assert [(to, mint.hint_for) for to, mint in five.asked(Mint)] == [
            (d, five.ring.index(a)),
        ]
        # Nobody can stand in for the third: who stands in for another keeps that as well.
        assert five.all_hints() == {d: {a: False, c: False}, e: {b: False}}
        assert values(await five.read(e)) == {b"1"}
        with pytest.raises(Unavailable) as caught:
            await five.write(d, b"2", w="all")
        assert caught.value.details == {
            "required": 3,
            "received": 2,
            "primaries": 0,
            "fallbacks": 2,
            "alive": 0,
            "reasons": {a: "down", b: "down", c: "down"},
        }


async def test_a_stand_in_judges_the_condition_by_what_was_read_and_by_what_it_holds() -> None:
    async with Five() as five:
        (a, b, c), (d, _) = five.primaries, five.fallbacks
        five.lose(a, b, c)
        first = await five.write(d, returnbody=True)
        assert first.context
        both = await five.write(d, b"2")
        assert both.siblings == ()
        assert values(await five.read(d)) == {b"1", b"2"}
        await five.put(d, K, b"3", (await five.read(d)).context)
        assert values(await five.read(d)) == {b"3"}


async def test_a_delete_through_stand_ins_hides_what_they_hold() -> None:
    async with Five() as five:
        five.lose(*five.primaries)
        d, e = five.fallbacks
        await five.write(d)
        assert isinstance(await five.delete(e, K), Written)
        found = await five.read(d)
        assert found.deleted
        assert not found.siblings


async def test_the_last_write_wins_through_stand_ins_too() -> None:
    lww = BucketProperties(conflict="lww")
    async with Five(properties=lambda bucket_type, bucket: lww) as five:
        a, b, c = five.primaries
        d, e = five.fallbacks
        await five.write(a, w="all")
        five.lose(a, b, c)
        await five.write(d, b"2")
        await five.settle()
        await five.write(e, b"3")
        assert values(await five.read(d)) == {b"3"}
        five.regain(a)
        await five.settle()  # a millisecond or more: it knows no stamp but its own
        assert acks(await five.write(a, b"4", w="all")) == (1, 2)
        assert values(await five.read(e, r="all")) == {b"4"}


async def test_where_no_node_is_spare_the_minter_notes_what_it_owes_with_the_write() -> None:
    async with Five(3) as three:
        a, b, c = three.primaries
        three.lose(c)
        assert acks(await three.write(b)) == (2, 0)
        await three.settle()
        assert three.all_hints() == {b: {c: True}}
        assert three.asked(Owe) == []
        assert three.count("writes_missed") == 0
        with pytest.raises(Unavailable) as caught:
            await three.write(a, b"2", w="all")
        assert caught.value.details["received"] == 2
        assert [target for target, _ in three.asked(Mint)] == [b]


async def test_what_the_minter_was_to_owe_is_owed_by_another_where_the_minter_is_lost() -> None:
    async with Five(4) as four:
        (a, b, c), (d,) = four.primaries, four.fallbacks
        four.lose(c)
        four.links.kill(d)
        four.nodes[d].opinions.down.update((a, b))
        for node in (a, b):
            four.nodes[node].opinions.down.add(d)
        four.refuse(b, Mint, "refilling")
        four.gated(a).gate.clear()
        writing = asyncio.create_task(four.write(b, w=1))
        await four.settle()
        assert [(target, mint.owes) for target, mint in four.asked(Mint)] == [
            (b, (four.ring.index(c),)),
            (a, (four.ring.index(c),)),
        ]
        await writing
        four.lose(a)
        await four.settle()
        assert four.all_hints()[b] == {a: True, c: True}


@pytest.mark.parametrize("counted", ["pw", "w"])
async def test_primaries_that_cannot_be_met_are_refused_before_anybody_is_asked(
    counted: str,
) -> None:
    async with Five() as five:
        a, b, c = five.primaries
        five.lose(b, c)
        five.links.sent.clear()
        with pytest.raises(Unavailable) as caught:
            await five.write(a, **{"w": "all", "pw": 2} if counted == "pw" else {"pw": "all"})
        assert caught.value.outcome == "none"
        assert caught.value.details == {
            "required": 3 if counted == "pw" else 2,
            "received": 3,
            "primaries": 1,
            "fallbacks": 2,
            "primaries_required": 2 if counted == "pw" else 3,
            "alive": 1,
            "reasons": {b: "down", c: "down"},
        }
        assert five.links.sent == []
        assert acks(await five.write(a, pw=1, node_confirms=3)) == (1, 2)


async def test_a_store_that_is_lost_moves_to_a_fallback_while_w_needs_it() -> None:
    async with Five() as five:
        (a, b, c), (d, e) = five.primaries, five.fallbacks
        five.links.frozen |= {b, c}
        writing = asyncio.create_task(five.write(a))
        await five.settle()
        five.lose(c)
        assert acks(await writing) == (1, 1)
        await five.settle()
        assert five.all_hints() == {d: {c: False}}
        five.lose(b)
        await five.settle()
        # That one was not needed any more: it is owed, and not by a node that would be one more.
        assert five.all_hints() == {a: {b: True}, d: {c: False}}
        assert [target for target, _ in five.asked(Store)] == [b, c, d]
        assert e not in five.all_hints()


async def test_a_primary_that_cannot_store_is_stood_in_for_and_asked_once_each() -> None:
    async with Five() as five:
        (a, b, c), (d, e) = five.primaries, five.fallbacks
        for node in (b, c):
            five.gated(node).refuses = "disk_full"
        assert acks(await five.write(a, w="all")) == (1, 2)
        assert sorted(five.all_hints()) == sorted([d, e])
        targets = [target for target, _ in five.asked(Store)]
        assert sorted(targets) == sorted([b, c, d, e])


async def test_a_primary_that_refused_to_mint_is_asked_again_to_store() -> None:
    async with Five() as five:
        a, _, _ = five.primaries
        five.refuse(a, Mint, "refilling")
        assert acks(await five.write(a, w="all")) == (3, 0)
        assert five.all_hints() == {}


async def test_a_hint_that_is_refused_never_counts() -> None:
    async with Five() as five:
        (a, b, c), (d, e) = five.primaries, five.fallbacks
        five.lose(b, c)
        five.refuse(d, Store, "hint_refused")
        with pytest.raises(WriteUncertain) as caught:
            await five.write(a, w="all")
        assert caught.value.details["received"] == 2
        assert caught.value.details["fallbacks"] == 1
        assert caught.value.details["reasons"][d] == "hint_refused"
        await five.settle()
        held = five.all_hints()
        assert sorted(held) == sorted([a, e])
        assert {**held[a], **held[e]} == {b: held[e].get(b, True), c: held[e].get(c, True)}


async def test_a_stand_in_that_fails_is_replaced_by_the_next() -> None:
    async with Five() as five:
        (a, _, c), (d, e) = five.primaries, five.fallbacks
        five.lose(c)
        five.links.kill(d)  # nobody knows yet
        assert acks(await five.write(a, w="all")) == (2, 1)
        assert five.all_hints() == {e: {c: False}}


async def test_a_stand_in_that_refuses_to_mint_leaves_it_to_the_next() -> None:
    async with Five(6) as six:
        six.lose(*six.primaries)
        d, e, _ = six.fallbacks
        six.refuse(d, Mint, "hint_refused")
        assert acks(await six.write(e)) == (0, 2)
        assert [target for target, _ in six.asked(Mint)] == [d, e]
        assert d not in [target for target, _ in six.asked(Store)]


async def test_a_stand_in_that_dies_once_it_has_minted_is_replaced() -> None:
    async with Five(6) as six:
        six.lose(*six.primaries)
        d, e, f = six.fallbacks
        six.gated(d).gate.clear()
        writing = asyncio.create_task(six.write(f))
        await six.settle()
        six.lose(d)
        assert acks(await writing) == (0, 2)
        await six.settle()
        assert sorted(six.all_hints()) == sorted([e, f])


async def test_no_stand_in_mints_while_a_primary_that_is_there_says_no() -> None:
    async with Five() as five:
        (a, b, c), (d, _) = five.primaries, five.fallbacks
        five.lose(b, c)
        five.gated(a).refuses = "disk_full"
        with pytest.raises(StorageFull):
            await five.write(d)
        assert five.all_hints() == {}
        assert [target for target, _ in five.asked(Mint)] == [a]


@pytest.mark.parametrize("w", [1, 2, 3])
async def test_whoever_stays_silent_is_owed_the_write_exactly_once_by_who_has_it(w: int) -> None:
    async with Five() as five:
        a, b, c = five.primaries
        five.links.mute |= {b, c}
        if w == 1:
            await five.write(a, w=1, timeout_ms=50)
        else:
            with pytest.raises(WriteUncertain) as caught:
                await five.write(a, w=w, timeout_ms=50)
            assert caught.value.details["received"] == 1
        await asyncio.sleep(0.08)
        await five.settle()
        owed = five.asked(Owe)
        assert [(target, sorted(owe.targets)) for target, owe in owed] == [
            (a, sorted(five.ring.index(node) or 0 for node in (b, c)))
        ]
        assert five.all_hints()[a] == {b: True, c: True}
        assert five.count("writes_missed") == 2


async def test_a_client_that_goes_away_takes_no_debt_with_it() -> None:
    async with Five() as five:
        a, b, c = five.primaries
        five.links.mute |= {b, c}
        writing = asyncio.create_task(five.write(a, w="all", timeout_ms=50))
        await five.settle()
        writing.cancel()
        await asyncio.sleep(0.08)
        await five.settle()
        assert five.all_hints() == {a: {b: True, c: True}}
        assert len(five.asked(Owe)) == 1


async def test_a_write_that_nobody_acknowledged_is_counted_as_owed_by_nobody() -> None:
    async with Five(3) as three:
        a, _, _ = three.primaries
        three.links.mute |= set(three.primaries)
        with pytest.raises(WriteUncertain):
            await three.write(a, timeout_ms=30)
        await asyncio.sleep(0.06)
        assert three.asked(Owe) == []


async def test_stores_that_are_lost_are_lost_at_once() -> None:
    async with Five(3) as three:
        a, b, c = three.primaries
        three.links.frozen |= {b, c}
        writing = asyncio.create_task(three.write(a, w="all"))
        await three.settle()
        three.lose(b)
        three.lose(c)
        with pytest.raises(WriteUncertain) as caught:
            await asyncio.wait_for(writing, 0.4)
        assert caught.value.details["received"] == 1
        assert caught.value.details["primaries"] == 1


def test_what_is_lost_for_certain_waits_a_moment_for_the_reasons_and_no_longer() -> None:
    async def run() -> None:
        async with Five(3) as three:
            a, b, c = three.primaries
            three.links.frozen |= {b, c}
            writing = asyncio.create_task(three.write(a, w="all"))
            await three.settle()
            three.lose(b)
            began = asyncio.get_running_loop().time()
            with pytest.raises(WriteUncertain) as caught:
                await writing
            taken = asyncio.get_running_loop().time() - began
            assert taken == pytest.approx(LOST_GRACE)
            assert caught.value.details["reasons"] == {b: "the connection broke", c: NO_ANSWER}

    run_virtual(run(), random=random.Random(1))


async def test_a_straggler_keeps_no_value_alive() -> None:
    async with Five() as five:
        a, b, _ = five.primaries
        five.links.frozen.add(b)
        five.links.handlers[b] = {}
        await five.write(a, b"v" * 10_000)
        await five.settle()
        five.links.held.clear()  # the network's own copies
        waiting = {call._waiter for call in five.links.calls if call.target == b}
        (operation,) = waiting
        assert isinstance(operation, WriteOperation)
        kept = [
            thing
            for thing in gc.get_referents(operation)
            if len(repr(thing)) > 5_000 or type(thing) is asyncio.Future
        ]
        assert kept == []


@pytest.mark.parametrize("size", [100, 10_000])
def test_a_straggler_of_a_read_keeps_a_large_value_for_a_second_only(size: int) -> None:
    async def run() -> None:
        async with Five() as five:
            a, b, _ = five.primaries
            await five.write(a, b"v" * size, w="all")
            await five.settle()
            five.links.frozen.add(b)
            assert values(await five.read(a)) == {b"v" * size}
            (operation,) = [call._waiter for call in five.links.calls if call.target == b]
            await asyncio.sleep(LARGE_KEPT + 0.1)
            kept = [thing for thing in gc.get_referents(operation) if len(repr(thing)) > size]
            assert bool(kept) is (size < LARGE_BYTES)
            assert five.count("read_repairs_left") == (size > LARGE_BYTES)
            five.links.thaw(b)
            await five.settle()
            assert five.count("read_repairs") == 0
            assert values(await five.read(b, r="all")) == {b"v" * size}

    run_virtual(run(), random=random.Random(1))


async def test_a_mint_that_moves_on_from_a_busy_replica_spends_of_a_budget() -> None:
    async with Five() as five:
        a, b, c = five.primaries
        five.refuse(a, Mint, "storage_busy")
        for number in range(10):
            await five.write(a, b"%d" % number)
        with pytest.raises(Unavailable, match="no more writes may be tried") as caught:
            await five.write(a)
        assert caught.value.outcome == "none"
        assert caught.value.details["reasons"] == {a: "storage_busy"}
        assert five.count("mints_retried") == 10
        assert five.count("mint_retries_denied") == 1
        # What was never sent is no retry; and requests bring new ones.
        for _ in range(10):
            await five.read(a)
        await five.write(a, b"again")
        five.links.down.add(a)
        for number in range(20):
            await five.write(b, b"other %d" % number)
        assert five.count("mint_retries_denied") == 1
        assert c


async def test_a_busy_stand_in_is_no_reason_to_ask_all_of_them() -> None:
    async with Five(6) as six:
        six.lose(*six.primaries)
        d, e, f = six.fallbacks
        for node in (d, e):
            six.refuse(node, Mint, "storage_busy")
        for number in range(5):
            await six.write(f, b"%d" % number, w=1)
        with pytest.raises(Unavailable, match="no more writes may be tried"):
            await six.write(f, w=1)


# Reads ---------------------------------------------------------------------------------------------


async def test_absence_at_a_fallback_never_counts() -> None:
    async with Five() as five:
        a, b, c = five.primaries
        five.lose(b, c)
        with pytest.raises(Unavailable) as caught:
            await five.read(a)
        assert caught.value.details["received"] == 1
        assert caught.value.details["fallbacks"] == 0
        assert caught.value.details["alive"] == 1
        found = await five.read(a, r=1)
        assert not found.siblings
        five.lose(a)
        with pytest.raises(Unavailable):
            await five.read(five.fallbacks[0], r=1)


async def test_what_a_fallback_holds_counts_for_what_the_primaries_cannot_give() -> None:
    async with Five() as five:
        a, b, c = five.primaries
        five.lose(b, c)
        await five.write(a)
        assert values(await five.read(a)) == {b"1"}
        assert values(await five.read(a, r="all")) == {b"1"}
        with pytest.raises(Unavailable) as caught:
            await five.read(a, pr=2)
        assert caught.value.details == {
            "required": 2,
            "received": 3,
            "primaries": 1,
            "fallbacks": 2,
            "primaries_required": 2,
            "alive": 1,
            "reasons": {b: "down", c: "down"},
        }
        five.regain(b)
        # Two primaries can answer: what a fallback holds is merged, and makes up for neither.
        five.refuse(b, Fetch, "refilling")
        assert values(await five.read(a)) == {b"1"}


async def test_a_key_that_only_a_stand_in_holds_is_not_called_absent() -> None:
    async with Five() as five:
        (a, b, c), (d, e) = five.primaries, five.fallbacks
        five.lose(a, b, c)
        await five.write(d)
        await five.settle()
        five.regain(a, b)
        # Both primaries answer first, and have nothing.
        five.links.frozen.add(d)
        reading = asyncio.create_task(five.read(e))
        await five.settle()
        assert not reading.done()
        five.links.thaw(d)
        assert values(await reading) == {b"1"}


async def test_absence_is_believed_once_a_stand_in_has_had_its_time() -> None:
    async with Five() as five:
        a, b, c = five.primaries
        five.lose(c)
        five.links.frozen.add(five.fallbacks[0])
        for options in ({}, {"timeout_ms": 30}):
            assert not (await asyncio.wait_for(five.read(a, **options), 1.0)).siblings
        assert b


async def test_read_repair_goes_to_primaries_only() -> None:
    async with Five() as five:
        (a, b, c), (d, _) = five.primaries, five.fallbacks
        five.lose(c)
        await five.write(a, w="all")
        await five.settle()
        await five.write(b, b"2", w="all")
        await five.settle()
        five.lose(a)
        await five.write(b, b"3", w=1)
        await five.settle()
        five.regain(a, c)
        five.links.sent.clear()
        assert values(await five.read(a, r="all")) == {b"1", b"2", b"3"}
        await five.settle()
        repaired = {target for target, store in five.asked(Store) if store.repair}
        assert repaired == {a, c}
        five.lose(b)
        five.links.sent.clear()
        await five.read(a)
        await five.settle()
        assert {target for target, fetch in five.asked(Fetch) if fetch.hinted} == {d}
        assert five.asked(Store) == []


async def test_blocking_repair_waits_for_primaries_and_says_so_where_too_few_are_up() -> None:
    async with Five() as five:
        (a, b, c), (d, _) = five.primaries, five.fallbacks
        five.lose(a, b, c)
        await five.write(d)
        await five.settle()
        five.regain(a, b)
        assert values(await five.read(a, read_repair="blocking")) == {b"1"}
        held = five.records(K)
        assert held[a].siblings
        assert held[b].siblings
        five.lose(b)
        with pytest.raises(Unavailable) as caught:
            await five.read(a, read_repair="blocking")
        assert caught.value.details["primaries_required"] == 2


async def test_an_answer_of_a_stand_in_is_withdrawn_if_its_record_never_comes() -> None:
    async with Five() as five:
        (a, b, c), (d, e) = five.primaries, five.fallbacks
        await five.write(a, w="all")
        five.lose(b, c)
        await five.write(a, b"2", w="all")
        five.gated(a).refuses = None
        real = five.links.handlers[d][Fetch]

        def digests_only(message: Fetch, call: Call) -> None:
            if message.body:
                call.reply(Refused("corrupt", True))
            else:
                real(message, call)

        for node in (d, e):
            five.answer(node, Fetch, digests_only)
        assert values(await five.read(a)) == {b"1", b"2"}  # the same record: no body is needed
        five.lose(a)
        with pytest.raises(Unavailable) as caught:
            await five.read(d, r=1)
        assert caught.value.details["received"] == 0


@pytest.mark.parametrize("basic_quorum", [False, True])
async def test_notfound_ok_false_takes_no_absence_for_an_answer(basic_quorum: bool) -> None:
    async with Five() as five:
        a, _, c = five.primaries
        five.lose(c)
        reading = five.read(a, notfound_ok=False, basic_quorum=basic_quorum)
        if basic_quorum:
            assert not (await reading).siblings
        else:
            with pytest.raises(Unavailable):
                await reading


async def test_a_delete_counts_primaries_before_it_calls_a_key_gone() -> None:
    async with Five() as five:
        a, b, c = five.primaries
        await five.write(a, w="all")
        five.lose(c)
        assert isinstance(await five.delete(a, K), Written)
        await five.settle()
        assert isinstance(await five.delete(b, K), Found)
        five.lose(b)
        # At one primary and a stand-in only: a tombstone more does no harm, its lack might.
        assert isinstance(await five.delete(a, K), Written)


async def test_the_preference_list_shows_who_stands_in() -> None:
    async with Five() as five:
        (a, b, c), (d, _) = five.primaries, five.fallbacks
        five.lose(c)
        owners = five.nodes[a].coordinator.preflist(b"default", b"b", K)
        assert [(owner.node, owner.primary, owner.connected) for owner in owners] == [
            (a, True, True),
            (b, True, True),
            (c, True, False),
            (d, False, True),
        ]


# The tally ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("w", "pw", "events", "state"),
    [
        (2, 0, "a s", MET),
        (3, 0, "a s", PENDING),
        (3, 0, "a s s", MET),
        # A stand-in is one node more and no primary.
        (2, 2, "s s a", LOST),
        (3, 1, "a s s", MET),
        (2, 2, "s a", PENDING),
        (2, 2, "s a a", MET),
        (2, 3, "s", LOST),
        # One that fails is as lost as the primary that it stood in for.
        (3, 0, "x", LOST),
        (2, 0, "x f", LOST),
        (2, 0, "x a", PENDING),
    ],
)
def test_a_write_counts_nodes_and_primaries_apart(
    w: int, pw: int, events: str, state: State
) -> None:
    """`a`: a primary has it, `f`: it fails. `s`: another has it in its place, `x`: that fails."""
    tally = WriteTally(3, w=w, pw=pw, node_confirms=0)
    assert tally.state is PENDING
    for number, event in enumerate(events.split()):
        primary, other = f"primary {number}", f"stand-in {number}"
        if event == "a":
            tally.ack(primary)
        elif event == "f":
            tally.fail(primary, "refused")
        else:
            tally.stand_in_for(primary, "down")
            assert tally.reasons[primary] == "down"
            if event == "s":
                tally.ack_stand_in(other)
            else:
                tally.fail_stand_in(other, "refused")
    assert tally.state is state
    counts = tally.counts()
    assert (counts["primaries"], counts["fallbacks"]) == (events.count("a"), events.count("s"))
    assert counts["received"] == tally.received == counts["primaries"] + counts["fallbacks"]
    assert tally.settled is (len(events.split()) == 3)


GONE, THERE = (
    EMPTY,
    mint(EMPTY, (), birth=b"b" * 17, counter=1, kind=VALUE, content=b"v", written_ms=1),
)


@pytest.mark.parametrize(
    ("down", "r", "pr", "answers", "state", "counted"),
    [
        # Two primaries can give two answers: what d holds makes up for none of them.
        ("c", 2, 0, "d+", PENDING, (0, 0)),
        ("c", 2, 0, "d+ a-", PENDING, (1, 0)),
        ("c", 2, 0, "d+ a- b-", MET, (2, 0)),
        ("c", 2, 0, "d- a- b!", LOST, (1, 0)),
        ("c", 2, 0, "d+ a- b!", MET, (1, 1)),
        # Of three, one has to be made up for.
        ("c", 3, 0, "a+ b+", PENDING, (2, 0)),
        ("c", 3, 0, "a+ b+ d-", LOST, (2, 0)),
        ("c", 3, 0, "a+ b+ d+", MET, (2, 1)),
        ("c", 3, 0, "a+ b+ d!", LOST, (2, 0)),
        # Nor do stand-ins make up for primaries that were asked for.
        ("bc", 2, 1, "d+ e+", PENDING, (0, 1)),
        ("bc", 2, 1, "d+ a-", MET, (1, 1)),
        ("bc", 2, 2, "", LOST, (0, 0)),
        ("bc", 1, 1, "a! d+ e+", LOST, (0, 1)),
        # With no primary there is nothing but them.
        ("abc", 2, 0, "d+ e-", LOST, (0, 1)),
        ("abc", 2, 0, "d+ e+", MET, (0, 2)),
        ("abc", 1, 0, "d- e+", MET, (0, 1)),
        ("abc", 1, 0, "d- e-", LOST, (0, 0)),
    ],
)
def test_what_stand_ins_hold_counts_for_what_the_primaries_cannot_give(
    down: str, r: int, pr: int, answers: str, state: State, counted: tuple[int, int]
) -> None:
    """`+`: it holds the record, `-`: it holds none, `!`: it fails."""
    tally = SloppyReadTally("abc", stand_ins="de"[: len(down)], r=r, pr=pr)
    for node in down:
        tally.fail(node, "down")
    for answer in answers.split():
        node, what = answer[0], answer[1]
        if what == "!":
            tally.fail(node, "refused")
        else:
            record = THERE if what == "+" else GONE
            tally.add_body(node, record, record_digest(record))
    counts = tally.counts()
    assert (tally.state, (counts["primaries"], counts["fallbacks"])) == (state, counted)
    assert tally.received == sum(counted)


# Any order -----------------------------------------------------------------------------------------

STEP = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 4)),
    st.tuples(st.just("get"), st.integers(0, 4)),
    st.tuples(st.just("lose"), st.integers(0, 4)),
    st.tuples(st.just("regain"), st.just(0)),
    st.tuples(st.just("settle"), st.just(0)),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEP, min_size=4, max_size=30), seed=st.integers(0, 1 << 16))
def test_with_one_node_down_at_a_time_a_read_sees_every_write(
    steps: list[tuple[str, int]], seed: int
) -> None:
    async def run() -> None:
        chance = random.Random(seed)
        async with Five() as five:
            five.links.delay = lambda: chance.uniform(0.0005, 0.02)
            names = sorted(five.nodes)
            lost: str | None = None
            written: set[bytes] = set()
            for number, (verb, at) in enumerate(steps):
                up = [name for name in names if name != lost]
                node = up[at % len(up)]
                if verb == "put":
                    value = b"%d" % number
                    assert (await five.write(node, value)).context == b""
                    written.add(value)
                elif verb == "get":
                    assert values(await five.read(node)) == written
                elif verb == "settle":
                    await asyncio.sleep(0.1)
                else:
                    # Who goes or comes does so when all is quiet: one fault at a time.
                    await asyncio.sleep(0.1)
                    if lost is not None:
                        five.regain(lost)
                        lost = None
                    if verb == "lose":
                        lost = names[at]
                        five.lose(lost)

    run_virtual(run(), random=random.Random(seed))
