"""Hints reach the nodes that they are for: once these are up, each at least once, and none is lost.

The holder's hints are the real ones, over storage in memory; the targets answer as a test says. Time is
virtual.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import pytest
from little_cluster import LoopClock, NobodyCalls

from dynamo.commit import GroupCommit
from dynamo.errors import HintsUndelivered, StorageRefusesWrites
from dynamo.handoff import IN_FLIGHT_MAX, STEADY_AFTER, Handoff
from dynamo.keys import routing_key
from dynamo.lane import REFUSED_MAX
from dynamo.leaf import LeafHasher
from dynamo.metrics import Metrics
from dynamo.pace import FREELY
from dynamo.ports import Failure, Waiter, Write
from dynamo.record import EMPTY, VALUE, Content, Record, encode_content, encode_record, mint
from dynamo.replica import Replica
from dynamo.rpc.messages import Deliver, Delivered, Delivery, Refused, Reply, Request, Store
from dynamo.sim.loop import run_virtual
from dynamo.status import HintTarget
from dynamo.store.memory import MemoryStorage
from dynamo.version import birth_bytes, incarnation_bytes
from ring.member import Member
from ring.ring import ReplicationClass, Ring

NODES = ("a", "b", "c", "d", "e", "f", "g", "h", "i")
RING = Ring.build(
    tuple(Member(id=name, address=f"{name}:1") for name in NODES),
    partitions=64,
    seed=1,
    classes=(ReplicationClass(name="default", id=0, replicas=2),),
)
INCARNATION = incarnation_bytes(1, b"elsewher")
Answer = Reply | Failure | None


class _FullStorage(MemoryStorage):
    """Storage that takes nothing while it is `full`."""

    full = False

    def write(self, writes: Sequence[Write], *, reserve: bool = False) -> int:
        if self.full:
            raise StorageRefusesWrites("full", reason="disk_full")
        return super().write(writes, reserve=reserve)


class Holder:
    """Node a, which keeps hints, and all the others as it sees them."""

    def __init__(self, *, rate: int = 1 << 40, window_s: int = 10_000) -> None:
        self.clock = LoopClock()
        self.metrics = Metrics()
        self.storage = _FullStorage()
        self.commit = GroupCommit(storage=self.storage, metrics=self.metrics)
        self.replica = Replica(
            node_id="a",
            storage=self.storage,
            commit=self.commit,
            clock=self.clock,
            metrics=self.metrics,
            incarnation=incarnation_bytes(1, b"a holder"),
            hasher=LeafHasher(b"secret"),
            hint_window=window_s,
        )
        self.replica.adopt(RING)
        self.hints = self.replica.hints
        #: Peers that are connected, and those of them that are held to be down.
        self.connected: set[str] = set()
        self.down: set[str] = set()
        #: What a peer answers, and after how many seconds.
        self.answer: Callable[[str, Deliver], Answer] = lambda node, message: Delivered()
        self.takes = 0.001
        self.sent: list[tuple[float, str, Deliver]] = []
        self.under_way: dict[str, int] = dict.fromkeys(NODES, 0)
        self.most_under_way = 0
        self.stored: dict[str, list[bytes]] = {name: [] for name in NODES}
        self.rate = rate
        self.tasks: list[asyncio.Task[None]] = []
        self.start()

    def start(self) -> None:
        """Deliver, as after a start of the node."""
        self.handoff = Handoff(
            node_id="a",
            hints=self.hints,
            transport=self,
            down=self.down,
            rate=self.rate,
            clock=self.clock,
            metrics=self.metrics,
        )
        self.handoff.adopt(RING)

    async def __aenter__(self) -> Holder:
        loop = asyncio.get_running_loop()
        works = (self.commit.run(), self.hints.run(asyncio.sleep), self.handoff.run())
        self.tasks = [loop.create_task(work) for work in works]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    # The port Transport, as far as it is used -----------------------------------------------------

    def request(
        self, targets: Sequence[str], message: Request, waiter: Waiter, timeout: float
    ) -> None:
        assert isinstance(message, Deliver)
        (target,) = targets
        loop = asyncio.get_running_loop()
        self.sent.append((loop.time(), target, message))
        self.under_way[target] += 1
        self.most_under_way = max(self.most_under_way, sum(self.under_way.values()))
        answer = self.answer(target, message)
        if answer is None:
            answer = Failure("timed_out", "no answer in time")
            loop.call_later(timeout, self._arrive, target, message, waiter, answer)
        else:
            loop.call_later(self.takes, self._arrive, target, message, waiter, answer)

    def _arrive(
        self, target: str, message: Deliver, waiter: Waiter, answer: Reply | Failure
    ) -> None:
        self.under_way[target] -= 1
        if isinstance(answer, Failure):
            waiter.on_failure(target, answer)
            return
        if isinstance(answer, Delivered):
            refused = dict(answer.refused)
            taken = [e.key for i, e in enumerate(message.entries) if i not in refused]
            self.stored[target] += taken
        waiter.on_reply(target, answer)

    def is_connected(self, node: str) -> bool:
        return node in self.connected

    def stalled_for(self, node: str) -> float:
        return 0.0

    # Verbs --------------------------------------------------------------------------------------

    async def keep(self, target: str, keys: Iterable[bytes], value: bytes = b"v") -> None:
        """Have a hint for each key, on disk."""
        partition = next(p for p in RING.partitions_of(target, 0) if not RING.owns("a", 0, p))
        for key in keys:
            record = encode_record(written(key, value))
            index = NODES.index(target)
            store = Store(key, 0, partition, 1, 1000, record, hint_for=index)
            self.replica.on_store(store, NobodyCalls())
        await asyncio.sleep(0.01)

    def come_up(self, *targets: str) -> None:
        for target in targets:
            self.connected.add(target)
            self.handoff.on_connected(target)

    def held(self) -> dict[str, int]:
        return {one.target: one.count for one in self.hints.held()}

    async def drained(self, seconds: float = 600.0) -> None:
        async with asyncio.timeout(seconds):
            while self.hints.held():
                await asyncio.sleep(0.01)

    def of(self, target: str) -> HintTarget:
        status = self.handoff.status(window_s=1, bytes_max=1)
        return next(one for one in status.targets if one.target == target)


def written(key: bytes, value: bytes, over: Record = EMPTY) -> Record:
    """The record of a key with one more write, which has seen what was there."""
    birth = birth_bytes(INCARNATION, int.from_bytes(key[-5:]))
    return mint(
        over,
        over.vector,
        birth=birth,
        counter=dict(over.vector).get(birth, 0) + 1,
        kind=VALUE,
        content=encode_content(Content(value=value, content_type=b"text/plain")),
        written_ms=1,
    )


def keys(count: int, name: bytes = b"") -> list[bytes]:
    return [routing_key(b"default", b"b", name + b"%05d" % number) for number in range(count)]


def scene(work: Callable[[Holder], Coroutine[Any, Any, None]], **options: int) -> None:
    """Play it in virtual time."""

    async def main() -> None:
        async with Holder(**options) as holder:
            await work(holder)

    run_virtual(main(), random=random.Random(1))


def test_a_node_that_comes_up_gets_all_it_missed_and_nothing_is_left() -> None:
    async def work(holder: Holder) -> None:
        await holder.keep("b", keys(1000))
        await asyncio.sleep(5)
        assert holder.sent == []
        assert holder.of("b").state == "down"
        holder.come_up("b")
        await holder.drained(1.0)
        assert sorted(holder.stored["b"]) == keys(1000)
        assert holder.metrics.count["hints_delivered"] == 1000
        assert holder.of("b").state == "done"

    scene(work)


def test_the_log_says_when_who_was_away_gets_its_hints_and_has_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work(holder: Holder) -> None:
        await holder.keep("b", keys(300))
        holder.come_up("b")
        await holder.drained()
        # One that was up all the time and missed a write is not worth a line.
        await holder.keep("b", keys(1))
        await holder.drained()

    with caplog.at_level(logging.INFO, logger="dynamo.handoff"):
        scene(work)
    began, ended = (record.getMessage() for record in caplog.records)
    assert began == "b is up; hints for it: 300"
    assert ended.startswith("b has its hints: 300 in ")


def test_a_node_that_is_held_to_be_down_gets_none_though_it_is_connected() -> None:
    async def work(holder: Holder) -> None:
        holder.down.add("b")
        await holder.keep("b", keys(3))
        holder.come_up("b")
        await asyncio.sleep(5)
        assert holder.sent == []
        assert holder.of("b").reason == "connected, and held to be down"
        holder.down.clear()
        await holder.drained(2.0)

    scene(work)


def test_a_start_delivers_what_an_earlier_one_left() -> None:
    async def work(holder: Holder) -> None:
        await holder.keep("b", keys(300))
        holder.tasks.pop().cancel()
        holder.start()
        holder.hints.recount()
        holder.connected.add("b")
        holder.tasks.append(asyncio.create_task(holder.handoff.run()))
        await holder.drained(5.0)
        assert sorted(holder.stored["b"]) == keys(300)

    scene(work)


def test_a_hint_for_a_node_that_is_up_is_delivered_soon() -> None:
    async def work(holder: Holder) -> None:
        holder.come_up("b")
        await asyncio.sleep(30)
        for number in range(5):
            await holder.keep("b", keys(1, b"%d" % number))
            await holder.drained(2.0)
        assert len(holder.stored["b"]) == 5

    scene(work)


def test_no_hint_leaves_before_its_target_has_it() -> None:
    """The target executes the batch, and its answer is lost: the hints are sent again."""

    async def work(holder: Holder) -> None:
        await holder.keep("b", keys(10))
        holder.answer = lambda node, message: Failure("lost", "the connection broke")
        holder.come_up("b")
        await asyncio.sleep(20)
        assert holder.held() == {"b": 10}
        assert holder.of("b").state in ("waiting", "delivering")
        assert 3 <= len(holder.sent) <= 10
        holder.answer = lambda node, message: Delivered()
        await holder.drained(60.0)

    scene(work)


def test_an_ack_of_an_older_record_removes_nothing_and_the_newer_is_delivered() -> None:
    async def work(holder: Holder) -> None:
        (key,) = keys(1)
        await holder.keep("b", [key])
        holder.takes = 1.0
        holder.come_up("b")
        await asyncio.sleep(0.5)
        assert len(holder.sent) == 1
        partition = holder.sent[0][2].entries[0].partition
        newer = encode_record(written(key, b"newer", written(key, b"v")))
        store = Store(key, 0, partition, 1, 1000, newer, hint_for=1)
        holder.replica.on_store(store, NobodyCalls())
        await asyncio.sleep(1.0)
        assert holder.held() == {"b": 1}
        await holder.drained(5.0)
        last: Delivery = holder.sent[-1][2].entries[0]
        assert b"newer" in last.record
        assert holder.metrics.count["hints_changed_meanwhile"] == 1

    scene(work)


def test_a_refused_hint_is_passed_over_counted_and_tried_again_later() -> None:
    bad = keys(200)[77]

    def answer(node: str, message: Deliver) -> Answer:
        return Delivered(
            tuple((i, "record_full") for i, e in enumerate(message.entries) if e.key == bad)
        )

    async def work(holder: Holder) -> None:
        await holder.keep("b", keys(200))
        holder.answer = answer
        holder.come_up("b")
        await asyncio.sleep(1.0)
        assert holder.held() == {"b": 1}
        assert len(holder.stored["b"]) == 199
        assert (holder.of("b").state, holder.of("b").refused) == ("refused", {"record_full": 1})
        before = len(holder.sent)
        await asyncio.sleep(600.0)
        tries = len(holder.sent) - before
        assert 600 / REFUSED_MAX - 1 <= tries <= 20
        assert holder.metrics.count["hints_turned_down"] == tries + 1
        holder.answer = lambda node, message: Delivered()
        await holder.drained(REFUSED_MAX + 2)

    scene(work)


@pytest.mark.parametrize(
    "answer",
    [
        Refused("disk_full", True),
        Delivered(tuple((index, "disk_full") for index in range(128))),
    ],
)
def test_a_target_that_takes_nothing_is_left_alone_for_a_while(answer: Reply) -> None:
    async def work(holder: Holder) -> None:
        await holder.keep("b", keys(5000))
        holder.answer = lambda node, message: answer
        holder.come_up("b")
        await asyncio.sleep(120.0)
        assert holder.held() == {"b": 5000}
        assert len(holder.sent) <= 20
        assert "disk_full" in holder.of("b").reason
        holder.answer = lambda node, message: Delivered()
        await holder.drained(REFUSED_MAX + 5)
        assert sorted(set(holder.stored["b"])) == keys(5000)

    scene(work)


def test_a_target_that_stands_still_gets_a_few_batches_and_no_more() -> None:
    async def work(holder: Holder) -> None:
        await holder.keep("b", keys(5000))
        holder.answer = lambda node, message: None
        holder.come_up("b")
        await asyncio.sleep(9.0)
        assert len(holder.sent) == FREELY.in_flight
        await asyncio.sleep(120.0)
        assert len(holder.sent) <= 10 * FREELY.in_flight
        assert holder.held() == {"b": 5000}

    scene(work)


def test_no_target_starves_though_more_are_up_than_can_be_served_at_once() -> None:
    async def work(holder: Holder) -> None:
        others = NODES[1:]
        for target in others:
            await holder.keep(target, keys(2000, target.encode()))
        holder.takes = 0.01
        holder.come_up(*others)
        await asyncio.sleep(0.2)
        delivered = [len(holder.stored[target]) for target in others]
        assert min(delivered) > 0.5 * max(delivered) > 0
        await holder.drained(10.0)
        assert holder.most_under_way == IN_FLIGHT_MAX

    scene(work)


def test_one_target_that_stands_still_holds_up_no_other() -> None:
    async def work(holder: Holder) -> None:
        await holder.keep("b", keys(500))
        await holder.keep("c", keys(5000))
        holder.answer = lambda node, message: None if node == "b" else Delivered()
        holder.come_up("b", "c")
        await asyncio.sleep(2.0)
        assert holder.held() == {"b": 500}

    scene(work)


def test_all_targets_together_get_no_more_than_the_byte_rate() -> None:
    async def work(holder: Holder) -> None:
        await holder.keep("b", keys(1000), value=bytes(1000))
        await holder.keep("c", keys(1000), value=bytes(1000))
        began = asyncio.get_running_loop().time()
        holder.come_up("b", "c")
        await holder.drained()
        took = asyncio.get_running_loop().time() - began
        assert 2_000_000 / 200_000 - 1 <= took <= 2_400_000 / 200_000 + 1

    scene(work, rate=200_000)


def test_a_record_larger_than_a_batch_is_delivered_alone() -> None:
    async def work(holder: Holder) -> None:
        await holder.keep("b", keys(3), value=bytes(1 << 20))
        holder.come_up("b")
        await holder.drained(5.0)
        assert [len(message.entries) for _, _, message in holder.sent] == [1, 1, 1]

    scene(work)


def test_delivery_makes_way_while_this_node_or_the_target_serves_clients() -> None:
    async def rate(*, here: bool, there: bool) -> float:
        async with Holder() as holder:
            await holder.keep("b", keys(3000))
            await asyncio.sleep(2.0)  # what it has kept, clients have written
            holder.takes = 0.004
            holder.answer = lambda node, message: Delivered(busy=there)
            began = asyncio.get_running_loop().time()
            holder.come_up("b")
            while holder.hints.held():
                holder.metrics.count["gets"] += here
                await asyncio.sleep(0.01)
            took = asyncio.get_running_loop().time() - began
            sizes = [len(message.entries) for _, _, message in holder.sent[FREELY.in_flight :]]
            assert max(sizes) == (64 if here or there else 128)
            return 3000 / took

    async def main() -> None:
        free = await rate(here=False, there=False)
        assert await rate(here=True, there=False) < free / 4
        assert await rate(here=False, there=True) < free / 4

    run_virtual(main(), random=random.Random(1))


def test_what_cannot_be_removed_here_is_not_sent_again_at_full_speed() -> None:
    async def work(holder: Holder) -> None:
        await holder.keep("b", keys(100))
        holder.storage.full = True
        holder.come_up("b")
        await asyncio.sleep(30.0)
        assert holder.held() == {"b": 100}
        assert len(holder.sent) <= 20
        holder.storage.full = False
        await holder.drained(40.0)

    scene(work)


def test_the_window_begins_anew_once_a_target_was_up_for_a_minute_and_not_if_it_flaps() -> None:
    async def work(holder: Holder) -> None:
        told: list[str] = []
        holder.hints.steady = told.append  # type: ignore[method-assign, assignment]
        await holder.keep("b", keys(1))
        for _ in range(300):
            holder.come_up("b")
            await asyncio.sleep(0.5)
            holder.connected.clear()
            await asyncio.sleep(0.5)
        assert told == []
        assert holder.held() == {}
        for _ in range(10):
            holder.come_up("b")  # connected anew, and never seen to be down
            await asyncio.sleep(STEADY_AFTER / 2)
        assert told == []
        await asyncio.sleep(STEADY_AFTER)
        assert set(told) == {"b"}

    scene(work)


# Sync points ------------------------------------------------------------------------------------


def test_a_sync_point_returns_at_once_where_nothing_is_held() -> None:
    async def work(holder: Holder) -> None:
        await asyncio.sleep(1)
        assert await holder.handoff.sync(1.0) == {}

    scene(work)


def test_a_sync_point_ends_once_all_that_was_there_is_delivered() -> None:
    async def work(holder: Holder) -> None:
        await holder.keep("b", keys(1000))
        await holder.keep("c", keys(10))
        sync = asyncio.create_task(holder.handoff.sync(100.0))
        await asyncio.sleep(1)
        holder.come_up("b")
        await asyncio.sleep(10)
        assert not sync.done()
        holder.come_up("c")
        assert await sync == {"b": 1000, "c": 10}
        assert holder.held() == {}

    scene(work)


def test_hints_that_keep_coming_do_not_hold_up_a_sync_point() -> None:
    async def work(holder: Holder) -> None:
        await holder.keep("b", keys(1000))
        holder.come_up("b")

        async def more() -> None:
            for number in range(10_000):
                await holder.keep("b", keys(5, b"new%d" % number))

        writer = asyncio.create_task(more())
        await holder.handoff.sync(5.0)
        assert set(keys(1000)) <= set(holder.stored["b"])
        assert not writer.done()
        writer.cancel()

    scene(work)


def test_a_sync_point_that_is_not_met_says_for_whom_and_why() -> None:
    def answer(node: str, message: Deliver) -> Answer:
        if node == "c":
            return Delivered(tuple((i, "corrupt") for i in range(len(message.entries))))
        return Delivered() if node == "d" else None

    async def work(holder: Holder) -> None:
        for target in "bcde":
            await holder.keep(target, keys(3))
        holder.answer = answer
        holder.come_up("c", "d", "e")
        with pytest.raises(HintsUndelivered) as caught:
            await holder.handoff.sync(15.0)
        left = caught.value.details["undelivered"]
        assert {name: (one["hints"], one["state"]) for name, one in left.items()} == {
            "b": (3, "down"),
            "c": (3, "refused"),
            "e": (3, "waiting"),
        }
        assert "corrupt" in left["c"]["reason"]
        assert "no answer" in left["e"]["reason"]

    scene(work)


def test_a_sync_point_asks_at_once_a_target_that_was_put_off() -> None:
    async def work(holder: Holder) -> None:
        await holder.keep("b", keys(3))
        holder.answer = lambda node, message: Refused("disk_full", True)
        holder.come_up("b")
        await asyncio.sleep(300)
        holder.answer = lambda node, message: Delivered()
        await holder.handoff.sync(0.5)

    scene(work)


def test_a_hint_that_is_not_on_disk_yet_is_waited_for_too() -> None:
    """It is there when the sync point begins, and no page shows it before its sync."""

    async def work(holder: Holder) -> None:
        holder.come_up("b")
        await asyncio.sleep(1)
        synced = asyncio.Event()
        flush = holder.storage.flush

        async def slow_flush() -> int:
            await synced.wait()
            return await flush()

        holder.storage.flush = slow_flush  # type: ignore[method-assign]
        await holder.keep("b", keys(1))
        sync = asyncio.create_task(holder.handoff.sync(60.0))
        await asyncio.sleep(5)
        assert not sync.done()
        assert holder.sent == []
        synced.set()
        assert await sync == {"b": 1}

    scene(work)


def test_it_says_to_whom_hints_are_on_their_way() -> None:
    async def work(holder: Holder) -> None:
        assert not holder.handoff.is_delivering("b")
        await holder.keep("b", keys(300))
        assert not holder.handoff.is_delivering("b")  # it is down
        holder.takes = 0.1
        holder.come_up("b")
        await asyncio.sleep(0.05)
        assert holder.handoff.is_delivering("b")
        assert not holder.handoff.is_delivering("c")
        assert not holder.handoff.is_delivering("nobody")
        await holder.drained()
        await asyncio.sleep(1.0)
        assert not holder.handoff.is_delivering("b")
        holder.answer = lambda node, message: Refused("disk_full", True)
        await holder.keep("b", keys(1))
        await asyncio.sleep(0.5)
        assert not holder.handoff.is_delivering("b")  # it does not take them

    scene(work)
