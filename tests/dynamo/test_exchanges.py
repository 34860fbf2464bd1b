"""Exchanges between real replicas: what one has missed comes to it without a read."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from exchanging import Exchanging, grow_trees
from little_cluster import GatedStorage, LittleCluster

from dynamo.errors import InvalidArgument, NotAnOwner, RepairRunning, WriteUncertain
from dynamo.exchange_what import RepairWhat
from dynamo.keys import bucket_prefix
from dynamo.ports import Call
from dynamo.record import RECORD_BYTES_MAX
from dynamo.repair_run import RepairRun
from dynamo.requests import WriteOptions
from dynamo.rpc.exchange_messages import CompareRoots, KeyElements, ListElements
from dynamo.rpc.messages import Reply, Store


def drop_stores(cluster: LittleCluster, *names: str) -> None:
    """These nodes miss every write that another mints."""
    cluster.links.loses = lambda source, target, message: (
        isinstance(message, Store) and not message.repair and target in names
    )


async def repaired(exchanging: Exchanging, node: str, what: RepairWhat | None = None) -> RepairRun:
    run = exchanging.of[node].start_repair(what or RepairWhat())
    async with asyncio.timeout(30):
        await run.ended()
    return run


W1 = WriteOptions(w=1)


async def test_a_missed_write_is_mended_without_a_read() -> None:
    async with LittleCluster(3) as cluster, Exchanging(cluster) as exchanging:
        drop_stores(cluster, "c")
        for number in range(20):
            await cluster.put("a", b"k%d" % number, b"v", options=W1)
        await cluster.settle()
        assert not exchanging.same()
        run = await repaired(exchanging, "a")
        assert run.state == "done", run.progress()
        assert exchanging.same()
        progress = run.progress()
        assert (progress.pulled, progress.pushed) == (0, 20)


async def test_a_node_takes_what_it_has_missed_itself() -> None:
    async with LittleCluster(3) as cluster, Exchanging(cluster) as exchanging:
        drop_stores(cluster, "a")
        for number in range(10):
            await cluster.put("b", b"k%d" % number, b"v", options=W1)
        await cluster.settle()
        run = await repaired(exchanging, "a", RepairWhat(peers=("b",)))
        progress = run.progress()
        assert (progress.pulled, progress.pushed) == (10, 0)
        assert exchanging.same("a", "b")
        assert exchanging.holds >= 1
        assert exchanging.count("repairs_by_exchange_pulled") == 10
        assert cluster.nodes["a"].metrics.count["deliveries_by_exchange"] == 10
        assert exchanging.count("deliveries_stored") == 0


async def test_concurrent_records_get_both_ways_and_then_there_is_quiet() -> None:
    async with LittleCluster(2, replicas=2) as cluster, Exchanging(cluster) as exchanging:
        cluster.links.sever("a", "b")
        await cluster.put("a", b"k", b"left", options=W1)
        await cluster.put("b", b"k", b"right", options=W1)
        cluster.links.cut.clear()
        run = await repaired(exchanging, "a")
        assert run.progress().passes == 2
        assert exchanging.same()
        records = cluster.records(b"k")
        assert len(records["a"].siblings) == 2
        assert records["a"] == records["b"]
        moved = exchanging.count("repairs_by_exchange_pulled")
        for node in ("a", "b"):
            assert (await repaired(exchanging, node)).progress().keys_compared == 0
        assert exchanging.count("repairs_by_exchange_pulled") == moved


async def test_differences_move_as_many_records_and_few_hashes() -> None:
    """Of many keys only those that differ are moved, and hashes by their number."""
    async with LittleCluster(2, replicas=2) as cluster, Exchanging(cluster) as exchanging:
        for number in range(600):
            await cluster.put("a", b"k%d" % number, b"v" * 50, options=W1)
        await cluster.settle()
        assert exchanging.same()
        drop_stores(cluster, "b")
        for number in range(7):
            await cluster.put("a", b"new%d" % number, b"v", options=W1)
        await cluster.settle()
        await repaired(exchanging, "a")
        assert exchanging.same()
        assert exchanging.count("repairs_by_exchange_pushed") == 7
        assert exchanging.count("exchange_hash_bytes") <= (7 + 8) * 2000


async def test_a_write_that_is_under_way_counts_as_nothing() -> None:
    async with LittleCluster(2, replicas=2) as cluster, Exchanging(cluster, deadline=0.3) as ex:
        held: list[float] = []
        cluster.links.delay = lambda: 0.02
        for _ in range(3):
            writes = [cluster.put("a", b"k%d" % n, b"v", options=W1) for n in range(10)]
            run = ex.of["a"].start_repair(RepairWhat())
            await asyncio.gather(*writes)
            async with asyncio.timeout(10):
                await run.ended()
            held.append(run.progress().keys_differing)
        assert held == [0, 0, 0]
        assert ex.count("repairs_by_exchange_pushed") == ex.count("repairs_by_exchange_pulled") == 0
        assert ex.same()


async def test_a_key_that_is_written_all_the_time_is_mended_all_the_same() -> None:
    """Its leaf never stands still, the replica that misses it does."""
    async with LittleCluster(2, replicas=2) as cluster, Exchanging(cluster) as exchanging:
        drop_stores(cluster, "b")
        context = (await cluster.put("a", b"k", b"v", options=W1)).context
        run = exchanging.of["a"].start_repair(RepairWhat())
        while run.state == "running" and not run.progress().pushed:
            written = await cluster.put("a", b"k", b"v", context, options=W1)
            context = written.context
            await asyncio.sleep(0.005)
        assert run.progress().pushed
        run.stop()
        await run.ended()
        assert cluster.nodes["b"].record(cluster.storage_key(b"k"))


async def test_one_partition_that_cannot_be_compared_does_not_keep_up_the_others() -> None:
    async with LittleCluster(3) as cluster, Exchanging(cluster) as exchanging:
        drop_stores(cluster, "c")
        for number in range(40):
            await cluster.put("a", b"k%d" % number, b"v", options=W1)
        await cluster.settle()
        forest = cluster.nodes["c"].replica.forest
        name = cluster.storage_key(b"k0")[:6]
        forest.doubt(name)
        run = exchanging.of["a"].start_repair(RepairWhat(peers=("c",)))
        async with asyncio.timeout(10):
            while not run.progress().waiting_for or run.progress().pairs_done < 7:
                await asyncio.sleep(0.01)
        assert run.progress().state == "running"
        assert list(run.progress().waiting_for) == [
            "the peer's hash tree of it is being built, or it is being refilled"
        ]
        assert not cluster.nodes["c"].record(cluster.storage_key(b"k0"))
        grow_trees(cluster.nodes["c"])
        async with asyncio.timeout(10):
            await run.ended()
        assert run.progress().state == "done"
        assert exchanging.same()


async def test_a_damaged_record_is_not_taken_for_an_absent_one() -> None:
    async with LittleCluster(2, replicas=2) as cluster, Exchanging(cluster) as exchanging:
        await cluster.put("a", b"k", b"v")
        await cluster.settle()
        storage_key = cluster.storage_key(b"k")
        for task in cluster.nodes["b"].tasks[1:]:  # nobody mends it
            task.cancel()
        node = cluster.nodes["b"]
        data = node.storage.get("records", storage_key)
        assert data is not None
        node.replica.put_aside(storage_key, data[:-1] + bytes([data[-1] ^ 1]))
        grow_trees(node)
        run = exchanging.of["a"].start_repair(RepairWhat())
        async with asyncio.timeout(10):
            while not run.progress().waiting_for:
                await asyncio.sleep(0.01)
        run.stop()
        await run.ended()
        assert list(run.progress().waiting_for) == ["some of its records are damaged"]
        assert exchanging.count("repairs_by_exchange_pushed") == 0


async def test_hints_on_their_way_are_waited_for() -> None:
    async with LittleCluster(2, replicas=2) as cluster, Exchanging(cluster) as exchanging:
        drop_stores(cluster, "b")
        await cluster.put("a", b"k", b"v", options=W1)
        exchanging.delivering.add(("a", "b"))
        run = exchanging.of["a"].start_repair(RepairWhat())
        async with asyncio.timeout(10):
            while not run.progress().waiting_for:
                await asyncio.sleep(0.01)
        assert list(run.progress().waiting_for) == ["hints for it are being delivered"]
        exchanging.delivering.clear()
        async with asyncio.timeout(10):
            await run.ended()
        assert exchanging.same()


async def test_a_repair_of_a_bucket_leaves_the_others_alone() -> None:
    async with LittleCluster(2, replicas=2) as cluster, Exchanging(cluster) as exchanging:
        drop_stores(cluster, "b")
        await cluster.put("a", b"k", b"v", options=W1)
        await cluster.settle()
        run = await repaired(exchanging, "a", RepairWhat(prefix=bucket_prefix(b"default", b"x")))
        assert run.state == "done"
        assert run.progress().pushed == 0
        run = await repaired(exchanging, "a", RepairWhat(prefix=bucket_prefix(b"default", b"b")))
        assert run.progress().pushed == 1


async def test_a_record_as_large_as_one_may_be_gets_across() -> None:
    async with LittleCluster(2, replicas=2) as cluster, Exchanging(cluster) as exchanging:
        drop_stores(cluster, "b")
        big = b"x" * (RECORD_BYTES_MAX - 4096)
        cluster.nodes["a"].coordinator._value_bytes_max = len(big)
        for number in range(2):
            await cluster.put("a", b"big%d" % number, big, options=W1)
        await cluster.put("a", b"small", b"v", options=W1)
        await cluster.settle()
        run = await repaired(exchanging, "a")
        assert run.progress().pushed == 3
        assert run.progress().bytes_pushed > 2 * len(big)
        assert exchanging.same()


async def test_one_repair_runs_at_a_time_and_the_last_can_be_read() -> None:
    async with LittleCluster(2, replicas=2) as cluster, Exchanging(cluster) as exchanging:
        drop_stores(cluster, "b")
        await cluster.put("a", b"k", b"v", options=W1)
        exchanges = exchanging.of["a"]
        run = exchanges.start_repair(RepairWhat())
        with pytest.raises(RepairRunning) as refused:
            exchanges.start_repair(RepairWhat())
        assert refused.value.details["repair"]["number"] == 1
        run.stop()
        await run.ended()
        assert exchanges.repair is run
        assert run.progress().state == "stopped"
        again = await repaired(exchanging, "a")
        assert (again.number, again.state) == (2, "done")
        assert exchanging.same()


async def test_what_the_ring_does_not_have_is_refused() -> None:
    async with LittleCluster(4) as cluster, Exchanging(cluster) as exchanging:
        exchanges = exchanging.of["a"]
        with pytest.raises(InvalidArgument, match="no member"):
            exchanges.start_repair(RepairWhat(peers=("z",)))
        with pytest.raises(InvalidArgument, match="itself"):
            exchanges.start_repair(RepairWhat(peers=("a",)))
        with pytest.raises(InvalidArgument, match="no partition"):
            exchanges.start_repair(RepairWhat(places=((0, 99),)))
        ring = cluster.ring
        foreign = next(p for p in range(ring.partitions) if not ring.owns("a", 0, p))
        with pytest.raises(NotAnOwner) as refused:
            exchanges.start_repair(RepairWhat(places=((0, foreign),)))
        assert sorted(refused.value.details["owners"]["default"]) == ["b", "c", "d"]


async def test_a_peer_that_is_down_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynamo.repair_run.PATIENCE", 0.0)
    async with LittleCluster(3) as cluster, Exchanging(cluster) as exchanging:
        cluster.lose("c")
        run = await repaired(exchanging, "a")
        progress = run.progress()
        assert progress.state == "incomplete"
        assert progress.unreached == {"c": "the peer is down"}
        assert progress.pairs_done == 8


async def test_exchanges_begin_by_themselves_and_go_quiet() -> None:
    async with (
        LittleCluster(3) as cluster,
        Exchanging(cluster, interval=0.05, interval_remote=0.05) as exchanging,
    ):
        drop_stores(cluster, "b", "c")
        for number in range(5):
            await cluster.put("a", b"k%d" % number, b"v", options=W1)
        async with asyncio.timeout(10):
            while not exchanging.same():
                await asyncio.sleep(0.02)
            statuses = [exchanges.status() for exchanges in exchanging.of.values()]
            while any(status.agreed_s is None for status in statuses):
                await asyncio.sleep(0.02)
                statuses = [exchanges.status() for exchanges in exchanging.of.values()]
        moved = exchanging.count("deliveries_by_exchange")
        sent = len(cluster.links.sent)
        await asyncio.sleep(0.5)
        assert exchanging.count("deliveries_by_exchange") == moved
        kinds = {type(message).__name__ for _, _, message in cluster.links.sent[sent:]}
        assert kinds == {"CompareRoots"}


async def test_paused_exchanges_do_nothing() -> None:
    async with (
        LittleCluster(2, replicas=2) as cluster,
        Exchanging(cluster, interval=0.05) as exchanging,
    ):
        for exchanges in exchanging.of.values():
            exchanges.pause("an operator said so")
        assert exchanging.of["a"].status().state == "paused"
        assert exchanging.of["a"].status().reason == "an operator said so"
        drop_stores(cluster, "b")
        await cluster.put("a", b"k", b"v", options=W1)
        await asyncio.sleep(0.3)
        assert not exchanging.same()
        for exchanges in exchanging.of.values():
            exchanges.resume()
        async with asyncio.timeout(10):
            while not exchanging.same():
                await asyncio.sleep(0.02)


async def test_a_peer_that_connects_anew_does_not_wait_for_its_turn() -> None:
    async with (
        LittleCluster(2, replicas=2) as cluster,
        Exchanging(cluster, interval=600) as exchanging,
    ):
        drop_stores(cluster, "b")
        await cluster.put("a", b"k", b"v", options=W1)
        exchanging.of["a"].on_connected("b")
        async with asyncio.timeout(10):
            while not exchanging.same():
                await asyncio.sleep(0.02)


async def test_a_peer_that_does_not_answer_is_left_alone_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dynamo.exchange_keys.ASK_TIMEOUT", 0.1)
    async with LittleCluster(3) as cluster, Exchanging(cluster, interval=0.05) as exchanging:
        cluster.links.frozen.add("b")
        drop_stores(cluster, "c")
        await cluster.put("a", b"k", b"v", options=W1)
        async with asyncio.timeout(10):
            while not exchanging.same("a", "c"):
                await asyncio.sleep(0.02)
            while exchanging.of["a"].status().peers[0].state != "backing_off":
                await asyncio.sleep(0.01)
        assert exchanging.of["a"].status().peers[0].reason == "no answer in time"


async def test_nothing_is_shown_that_a_power_loss_takes_back() -> None:
    storages = {name: GatedStorage() for name in "ab"}
    async with (
        LittleCluster(2, replicas=2, storage=storages.__getitem__) as cluster,
        Exchanging(cluster) as exchanging,
    ):
        drop_stores(cluster, "b")
        await cluster.put("a", b"k", b"v", options=W1)
        await cluster.settle()
        storages["a"].gate.clear()
        with pytest.raises(WriteUncertain):
            await cluster.put("a", b"k2", b"v", options=WriteOptions(w=1, timeout_ms=50))
        run = exchanging.of["b"].start_repair(RepairWhat())
        await asyncio.sleep(0.4)
        assert not cluster.nodes["b"].record(cluster.storage_key(b"k2"))
        storages["a"].gate.set()
        async with asyncio.timeout(20):
            await run.ended()
        assert exchanging.same()


async def test_a_key_of_another_partition_is_not_taken_from_a_peer_that_tells_of_it() -> None:
    async with LittleCluster(2, replicas=2) as cluster, Exchanging(cluster) as exchanging:
        drop_stores(cluster, "a")
        await cluster.put("b", b"k", b"v", options=W1)
        await cluster.settle()
        handlers = cluster.links.handlers
        listed = handlers["b"][ListElements]
        count = cluster.nodes["a"].metrics.count

        def list_also_others(message: ListElements, call: Call) -> None:
            listed(message, _Adding(call, b"a key of anywhere"))

        handlers["b"] = {**handlers["b"], ListElements: list_also_others}
        run = exchanging.of["a"].start_repair(RepairWhat())
        async with asyncio.timeout(30):
            while not count["exchange_keys_strange"]:
                await asyncio.sleep(0.01)
            assert count["repairs_by_exchange_pulled"] == 0
            handlers["b"] = {**handlers["b"], ListElements: listed}
            await run.ended()
        assert run.state == "done", run.progress()
        assert exchanging.same()


class _Adding:
    """A call whose answer tells of one key more."""

    def __init__(self, call: Call, key: bytes) -> None:
        self._call = call
        self._key = key
        self.peer, self.deadline = call.peer, call.deadline

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        assert isinstance(reply, KeyElements)
        entries = tuple(sorted((*reply.entries, (self._key, b"\1" * 8))))
        self._call.reply(msgspec.structs.replace(reply, entries=entries), last=last)


async def test_a_peer_that_does_not_answer_holds_up_no_repair_with_the_others() -> None:
    async with LittleCluster(3) as cluster, Exchanging(cluster) as exchanging:
        drop_stores(cluster, "c")
        for number in range(20):
            await cluster.put("a", b"k%d" % number, b"v", options=W1)
        await cluster.settle()
        handlers = cluster.links.handlers
        handlers["b"] = {**handlers["b"], CompareRoots: lambda message, call: None}
        run = exchanging.of["a"].start_repair(RepairWhat())
        async with asyncio.timeout(5):
            while not exchanging.same("a", "c"):
                await asyncio.sleep(0.01)
        run.stop()
        await run.ended()


async def test_very_many_roots_go_in_several_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynamo.exchange_round.ROOTS_AT_ONCE", 3)
    async with LittleCluster(2, replicas=2) as cluster, Exchanging(cluster) as exchanging:
        drop_stores(cluster, "b")
        for number in range(20):
            await cluster.put("a", b"k%d" % number, b"v", options=W1)
        await cluster.settle()
        run = await repaired(exchanging, "a")
        assert run.progress().pushed == 20
        assert exchanging.same()
        pairs = run.progress().pairs_total
        asked = cluster.nodes["a"].metrics.count["exchange_roots_asked"]
        assert asked == run.progress().passes * -(-pairs // 3)
