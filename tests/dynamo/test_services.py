"""A node that is told that it is behind: what it notes, in which order, and what outlives a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from free_ports import HeldPorts
from grown_trees import wrong_trees

from dynamo.cluster.topology import Known
from dynamo.cluster_file import ClusterFile
from dynamo.config import NodeConfig, Settings, build_config
from dynamo.errors import (
    DataDirectoryError,
    NotReady,
    StorageFull,
    StorageRefusesWrites,
    Unavailable,
)
from dynamo.keys import partition_prefix, routing_key
from dynamo.metrics import Metrics
from dynamo.node import Machine
from dynamo.record import Content
from dynamo.refill_marks import RefillMark
from dynamo.requests import ReadOptions, WriteOptions, Written
from dynamo.services import NodeServices
from dynamo.store.rocks import RocksStorage
from ring.member import Member

PARTITIONS = 8
KNOWN = Known(9, 500)


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Callable[[bool], NodeConfig]]:
    """Of node n1 with a peer that never answers; the cluster file names them or does not."""
    ports = HeldPorts(3)
    http, own, other = (f"127.0.0.1:{ports.first + index}" for index in range(3))
    members = (Member(id="n1", address=own), Member(id="n2", address=other))

    def build(named: bool) -> NodeConfig:
        cluster = ClusterFile(
            id="c",
            secret=b"s" * 32,
            seed=7,
            partitions=PARTITIONS,
            members=members if named else (),
        )
        settings = Settings(
            node_id="n1",
            data_dir=str(tmp_path / "n1"),
            http=http,
            rpc=own,
            peers=(other,),
            free_space_min=1,
        )
        return build_config(settings, cluster)

    with ports:
        yield build


@pytest.fixture
async def start() -> AsyncIterator[Callable[[NodeConfig], asyncio.Future[NodeServices]]]:
    """Starts nodes, and closes them in the end."""
    started: list[NodeServices] = []

    async def starting(config: NodeConfig) -> NodeServices:
        node = NodeServices(config, world=Machine(config), metrics=Metrics())
        started.append(node)
        await node.start()
        node.serve()
        return node

    yield lambda config: asyncio.ensure_future(starting(config))
    for node in started:
        await node.close()


Start = Callable[[NodeConfig], asyncio.Future[NodeServices]]


def _refuse(writes: object, *, reserve: bool = False) -> int:
    """As `Storage.write` of a disk without any room."""
    raise StorageRefusesWrites("no room", reason="disk_full")


async def synced(node: NodeServices, above: int) -> None:
    assert node._storage is not None
    async with asyncio.timeout(10):
        while node._storage.synced_number <= above:
            await asyncio.sleep(0.005)


async def test_a_node_behind_marks_everything_and_shows_more_than_is_known(
    config: Callable[[bool], NodeConfig], start: Start
) -> None:
    node = await start(config(True))
    node._recovery.on_behind(KNOWN)
    await synced(node, KNOWN.write_number)
    assert node._refill.waiting == PARTITIONS
    standing = node._topology.greeting()
    assert (standing.start, standing.write_number > KNOWN.write_number) == (10, True)


async def test_an_old_disk_is_marked_as_gone_back_and_an_emptied_one_has_nothing_of_before(
    config: Callable[[bool], NodeConfig], start: Start
) -> None:
    """The old one has grown past what the peer knows by the time it meets it."""
    node = await start(config(True))
    node._recovery.on_behind(KNOWN)
    assert {mark.back for mark in node._replica.refilling.values()} == {0}
    await node.close()
    node = await start(config(True))
    first = node._replica.incarnation
    assert node._storage is not None
    assert node._topology.greeting().write_number == node._storage.opening.recovered
    node._replica.mark_refill([((0, 0), RefillMark(("n2",), serving=True))])
    node._recovery.on_behind(Known(1, 1))
    marks = node._replica.refilling.values()
    assert len(marks) == PARTITIONS
    assert all(mark.back and mark.ours == (first, node._replica.incarnation) for mark in marks)
    assert node._replica.incarnation != first


async def test_a_node_that_is_above_what_a_peer_knows_syncs_what_it_shows(
    config: Callable[[bool], NodeConfig], start: Start
) -> None:
    """A peer goes by the synced number, and nobody else syncs where nobody writes."""
    node = await start(config(True))
    node._recovery.on_behind(KNOWN)
    await synced(node, KNOWN.write_number)
    storage = node._storage
    assert storage is not None
    node._replica.mark_refill([((0, 0), RefillMark(("n2",), serving=True))])
    above = storage.write_number - 1
    assert storage.synced_number <= above
    node._recovery.on_behind(Known(9, above))
    await synced(node, above)


async def test_the_marks_are_written_before_the_number_that_lets_the_node_in_again(
    config: Callable[[bool], NodeConfig], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start(config(True))
    storage = node._storage
    assert storage is not None
    raise_number = storage.raise_write_number
    marks: list[int] = []

    def noted(number: int) -> None:
        scanned = storage.scan("facts", b"refill/", b"refill0", count_max=99, bytes_max=1 << 20)
        marks.append(len(scanned))
        raise_number(number)

    monkeypatch.setattr(storage, "raise_write_number", noted)
    node._recovery.on_behind(KNOWN)
    assert marks == [PARTITIONS]


async def test_a_node_behind_drops_its_hints_before_it_is_let_in_again(
    config: Callable[[bool], NodeConfig], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start(config(True))
    storage, hints = node._storage, node._replica.hints
    assert storage is not None
    owed = hints.owe(
        partition_prefix(0, 0) + routing_key(b"default", b"b", b"k"), ("n2",), (), False
    )
    assert [held.target for held in hints.held()] == ["n2"]
    kept: list[int] = []
    raising = storage.raise_write_number

    def watched(number: int) -> None:
        kept.append(len(storage.scan("hints", b"", b"\xff", count_max=9, bytes_max=1 << 20)))
        raising(number)

    monkeypatch.setattr(storage, "raise_write_number", watched)
    node._recovery.on_behind(Known(9, owed.number + 500))
    assert kept == [0]
    assert hints.held() == ()
    assert node.metrics.count["hints_discarded"] == 1


async def test_a_node_without_a_ring_remembers_over_a_restart_that_it_must_refill(
    config: Callable[[bool], NodeConfig], start: Start
) -> None:
    node = await start(config(False))
    assert node._topology.ring is None
    node._recovery.on_behind(KNOWN)
    await synced(node, KNOWN.write_number)
    await node.close()
    again = await start(config(False))
    assert again._replica.must_refill
    members = config(True).cluster.members
    again._topology._adopt(again._topology._build(members))
    assert again._refill.waiting == PARTITIONS
    assert not again._replica.must_refill


async def test_a_node_whose_marks_cannot_be_read_marks_everything_anew(
    config: Callable[[bool], NodeConfig], start: Start, tmp_path: Path
) -> None:
    node = await start(config(True))
    node._recovery.on_behind(KNOWN)
    await synced(node, KNOWN.write_number)
    await node.close()
    (table,) = (
        path for path in (tmp_path / "n1" / "db").glob("*.sst") if b"refill/" in path.read_bytes()
    )
    data = bytearray(table.read_bytes())
    data[data.index(b"refill/")] ^= 1
    table.write_bytes(data)
    for _ in range(12):  # every stop writes a table, until there are enough to compact
        again = await start(config(True))
        assert again._refill.waiting == PARTITIONS
        async with asyncio.timeout(10):
            while again._recovery._why or again.ready().reasons[1:]:  # besides the partitions
                await asyncio.sleep(0.01)
        await again.close()
    assert (tmp_path / "n1" / "db.damaged-1").exists()


async def test_marks_that_a_full_disk_refuses_hold_in_memory_and_are_tried_again(
    config: Callable[[bool], NodeConfig], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start(config(True))
    storage = node._storage
    assert storage is not None
    write = storage.write

    monkeypatch.setattr(storage, "write", _refuse)
    node._recovery.on_behind(KNOWN)
    assert node._refill.waiting == PARTITIONS
    assert storage.write_number < KNOWN.write_number
    monkeypatch.setattr(storage, "write", write)
    async with asyncio.timeout(10):
        while node._recovery._why:
            await asyncio.sleep(0.05)
    node._recovery.on_behind(KNOWN)
    await synced(node, KNOWN.write_number)


async def test_a_node_without_room_for_its_marks_says_so_once(
    config: Callable[[bool], NodeConfig], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamo.recovery.WATCH_INTERVAL", 0.01)
    node = await start(config(True))
    assert isinstance(node._storage, RocksStorage)
    node._storage._space._min = 1 << 62
    node._storage._space.look()
    write = node._storage.write
    monkeypatch.setattr(node._storage, "write", _refuse)  # not even what is kept free is there
    node._recovery.on_behind(KNOWN)
    await asyncio.sleep(0.3)
    assert node._refill.waiting == PARTITIONS
    assert node.metrics.count["alarms"] == 1
    node._storage._space._min = 1
    monkeypatch.setattr(node._storage, "write", write)
    async with asyncio.timeout(10):
        while node._recovery._why:
            await asyncio.sleep(0.01)
    assert node.metrics.count["alarms"] == 2


async def test_what_is_owed_names_those_who_owe_it_to_what_serves(
    config: Callable[[bool], NodeConfig], start: Start
) -> None:
    node = await start(config(True))
    marks = node._replica.refilling
    marks[(0, 0)] = RefillMark(("n2",), serving=False)
    marks[(1, 0)] = RefillMark((), serving=True)  # of a class with one replica
    assert "refilled without" not in str(node.ready().reasons)
    marks[(0, 1)] = RefillMark(("n3",), serving=True)
    assert "1 partitions were refilled without n3 so far" in node.ready().reasons


async def test_a_new_node_answers_no_read_before_it_has_tried_its_peers(
    config: Callable[[bool], NodeConfig], start: Start
) -> None:
    """Its disk may have been emptied; the peers know."""
    silence = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silence.wait()
        writer.close()

    named = config(True)
    host, _, port = named.peers[0].rpartition(":")
    async with await asyncio.start_server(accept, host, int(port)):
        node = await start(named)
        read = ReadOptions(r=1, timeout_ms=300)
        with pytest.raises(NotReady, match="properties"):
            await node.get(b"default", b"b", b"k", read)
        with pytest.raises(Unavailable) as refused:  # as a peer's coordinator would
            await node._coordinator.get(b"default", b"b", b"k", read)
        assert "not tried its peers" in refused.value.details["reasons"]["n1"]
        silence.set()
        async with asyncio.timeout(10):
            while not node.ready().ready:
                await asyncio.sleep(0.01)
        assert not (await node.get(b"default", b"b", b"k", ReadOptions(r=1))).siblings
        await node.close()
        again = await start(named)  # not new any more
        found = await again._coordinator.get(b"default", b"b", b"k", ReadOptions(r=1))
        assert not found.siblings


async def test_an_incarnation_that_cannot_be_written_down_is_left_all_the_same(
    config: Callable[[bool], NodeConfig], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start(config(True))
    before = node._replica._incarnation

    def fail(above: int) -> None:
        raise DataDirectoryError("no room")

    monkeypatch.setattr(node._directory, "raise_start", fail)
    node._recovery.renew_incarnation()
    assert node._replica._incarnation != before


async def test_a_node_short_of_disk_space_refuses_values_and_takes_deletes(
    config: Callable[[bool], NodeConfig], start: Start
) -> None:
    node = await start(config(True))
    key = (b"default", b"b", b"k")
    one = WriteOptions(w=1, r=1)
    assert node._transport is not None
    await node._transport.first_attempts_done()
    await node.put(*key, Content(b"1", b"text/plain"), b"", one)
    assert isinstance(node._storage, RocksStorage)
    node._storage._space._min = 1 << 62
    node._storage._space.look()
    with pytest.raises(StorageFull):
        await node.put(*key, Content(b"2", b"text/plain"), b"", one)
    assert isinstance(await node.delete(*key, b"", one), Written)
    assert (await node.get(*key, ReadOptions(r=1))).deleted


async def test_a_node_has_its_trees_at_once_after_a_clean_restart_and_not_after_a_failure(
    config: Callable[[bool], NodeConfig], start: Start
) -> None:
    put = WriteOptions(w=1, timeout_ms=1000)
    node = await start(config(True))
    for number in range(20):
        await node._coordinator.put(b"default", b"b", b"%d" % number, Content(b"v"), b"", put)
    await node.close()
    for fails in (False, True):
        node = await start(config(True))
        assert node.trees is not None
        assert node.trees.status().ready == PARTITIONS
        assert node.metrics.count["trees_rebuilt"] == 0
        assert node._storage is not None
        assert wrong_trees(node._replica, node._storage) == []
        if fails:
            assert node._failed is not None
            node._failed.set_exception(RuntimeError("a task has failed"))
        await node.close()
    node = await start(config(True))
    assert node.trees is not None
    async with asyncio.timeout(10):
        while node.trees.status().ready < PARTITIONS:
            await asyncio.sleep(0.01)
    assert node.metrics.count["trees_rebuilt"] == PARTITIONS
    assert node._storage is not None
    assert wrong_trees(node._replica, node._storage) == []
