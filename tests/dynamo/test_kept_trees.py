"""Trees from a clean close to the next start: believed where they are true, and never otherwise."""

from __future__ import annotations

import shutil
from array import array
from pathlib import Path
from struct import Struct
from zlib import crc32

import pytest
from grown_trees import PLACES, SECRET, Grown, grown, record_key
from lone_replica import foreign
from storages import SMALL

from dynamo.kept_trees import HEADER_FACT, PIECE_BYTES, SECRET_FACT, KeptTrees
from dynamo.keys import PREFIX_BYTES, partition_prefix
from dynamo.leaf import LeafHasher
from dynamo.metrics import Metrics
from dynamo.ports import Opening, Write
from dynamo.record import encode_record
from dynamo.sim.disk import Disk
from dynamo.sim.storage import SimStorage
from dynamo.store.engine import Engine
from dynamo.store.memory import MemoryStorage
from dynamo.stored import decode_stored

ALL = len(PLACES)
RECORDS = 60
OTHER = b"o" * 32
MARK = LeafHasher(SECRET).mark


def fill(node: Grown, value: bytes = b"v") -> None:
    for number in range(RECORDS):
        node.write(number, value + b"%d" % number)


async def fill_and_close(directory: Path) -> None:
    async with grown(directory) as node:
        fill(node)


def copied(source: Path, target: Path) -> Path:
    """What another process would find there now: the disk of a node that was killed."""
    shutil.copytree(source, target)
    (target / "db" / "LOCK").unlink(missing_ok=True)
    return target


async def test_trees_are_ready_at_once_after_a_clean_restart(tmp_path: Path) -> None:
    await fill_and_close(tmp_path)
    for turn in range(3):
        async with grown(tmp_path, existed=True) as node:
            assert node.ready == ALL
            node.check()
            node.write(turn, b"again")
            node.check()


async def test_they_are_believed_again_after_a_run_without_a_write(tmp_path: Path) -> None:
    await fill_and_close(tmp_path)
    for _ in range(2):
        async with grown(tmp_path, existed=True) as node:
            assert node.ready == ALL


async def test_trees_that_were_not_ready_are_built_the_others_are_kept(tmp_path: Path) -> None:
    doubted = partition_prefix(0, PLACES[1])
    async with grown(tmp_path) as node:
        fill(node)
        node.forest.doubt(doubted)
    async with grown(tmp_path, existed=True) as node:
        assert list(node.forest.unready) == [doubted]
        node.check()
        node.build()
        node.check()


@pytest.mark.parametrize("writes", [0, 1, 2])
async def test_a_node_killed_after_its_start_does_not_believe_them_again(
    tmp_path: Path, writes: int
) -> None:
    (tmp_path / "a").mkdir()
    await fill_and_close(tmp_path / "a")
    async with grown(tmp_path / "a", existed=True) as node:
        assert node.ready == ALL
        for number in range(writes):
            node.write(number, b"after the start")
        await node.storage.flush()
        copied(tmp_path / "a", tmp_path / "b")
    async with grown(tmp_path / "b", existed=True) as node:
        assert node.ready == 0
        node.build()
        node.check()


async def test_a_node_killed_while_it_runs_has_kept_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    async with grown(tmp_path / "a") as node:
        fill(node)
        await node.storage.flush()
        copied(tmp_path / "a", tmp_path / "b")
    async with grown(tmp_path / "b", existed=True) as node:
        assert node.ready == 0


async def test_an_old_image_that_is_put_back_has_the_trees_of_its_records(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    await fill_and_close(tmp_path / "a")
    copied(tmp_path / "a", tmp_path / "old")
    async with grown(tmp_path / "a", existed=True) as node:
        fill(node, b"newer")
    async with grown(tmp_path / "old", existed=True) as node:
        assert node.ready == ALL
        node.check()


async def test_records_that_another_tool_has_written_make_them_worthless(tmp_path: Path) -> None:
    await fill_and_close(tmp_path)
    engine = Engine(tmp_path / "db", sizes=SMALL, create=False, point_in_time=False)
    data = engine.get["records"](record_key(1))
    assert data is not None
    engine.put["records"](record_key(RECORDS), data)
    engine.close()
    async with grown(tmp_path, existed=True) as node:
        assert node.ready == 0


async def test_a_database_that_lost_something_keeps_no_trees(tmp_path: Path) -> None:
    await fill_and_close(tmp_path)
    (tmp_path / "db.synced").unlink()
    async with grown(tmp_path, existed=True) as node:
        assert node.storage.opening.state == "lost_tail"
        assert node.ready == 0
        node.build()
        node.check()


async def test_a_disk_that_takes_no_writes_keeps_none_and_hinders_no_close() -> None:
    disk = Disk(name="a", seed=1)
    node = Grown(await SimStorage.open(disk, metrics=Metrics(), existed=False))
    fill(node)
    await node.storage.flush()
    disk.busy(True)
    await node.close()
    disk.busy(False)
    node = Grown(await SimStorage.open(disk, metrics=Metrics(), existed=True))
    assert node.ready == 0


@pytest.mark.parametrize("kept", range(12))
@pytest.mark.parametrize("starts", [0, 1, 2])
async def test_whatever_a_crash_takes_back_no_tree_is_ready_and_wrong(
    kept: int, starts: int
) -> None:
    """A crash during a run, before or after the first writes, or in the middle of the keeping."""
    disk = Disk(name="a", seed=1)
    for turn in range(starts):
        node = Grown(await SimStorage.open(disk, metrics=Metrics(), existed=turn > 0))
        fill(node, b"%d" % turn)
        await node.close()
    node = Grown(await SimStorage.open(disk, metrics=Metrics(), existed=starts > 0))
    assert node.ready == ALL
    if kept % 2:
        node.write(3, b"before the crash")
        node.write(RECORDS, b"a new one")
    if kept % 3 == 0:
        node.trees.keep()
    disk.crash(kept=min(kept, disk.unsynced))
    node = Grown(await SimStorage.open(disk, metrics=Metrics(), existed=True))
    node.check()
    node.build()
    node.check()


# What is read ---------------------------------------------------------------------------------


class Lasting(MemoryStorage):
    """A storage in memory that counts as opened anew."""

    state = "clean"

    @property
    def opening(self) -> Opening:
        return Opening("clean", "", self._recovered, 0)

    def reopen(self) -> None:
        self._recovered = self._number

    _recovered = 0

    @property
    def settled(self) -> bool:
        return True

    def free_bytes(self) -> int | None:
        return None

    def settle(self) -> None:
        """Nothing was lost."""

    async def recover(self) -> bool:
        return False

    def facts(self) -> dict[bytes, bytes]:
        return dict(self._families["facts"])


TREES = {partition_prefix(0, number): array("Q", range(16)) for number in range(4)}


def kept_in(storage: Lasting, trees: dict[bytes, array[int]], leaves: int = 16) -> None:
    KeptTrees(storage=storage, mark=MARK).keep(trees, leaves)
    storage.reopen()


def taken_from(storage: Lasting, mark: bytes = MARK) -> dict[bytes, array[int]]:
    return KeptTrees(storage=storage, mark=mark).take()


def test_what_is_kept_is_taken_once() -> None:
    storage = Lasting()
    kept_in(storage, TREES)
    assert taken_from(storage) == TREES
    assert storage.get("facts", HEADER_FACT) is None
    storage.reopen()
    assert taken_from(storage) == {}


def test_trees_of_several_pieces_are_kept_and_fewer_later() -> None:
    storage = Lasting()
    many = {partition_prefix(0, number): array("Q", range(1024)) for number in range(300)}
    kept_in(storage, many, 1024)
    assert max(map(len, storage.facts().values())) == PIECE_BYTES
    assert taken_from(storage) == many
    kept_in(storage, TREES)
    assert len(storage.facts()) == 2
    assert taken_from(storage) == TREES


def test_another_secret_reads_none_of_them() -> None:
    storage = Lasting()
    kept_in(storage, TREES)
    assert taken_from(storage, LeafHasher(OTHER).mark) == {}


def test_a_write_after_them_and_one_before_they_are_taken_make_them_worthless() -> None:
    for reopened_after in (True, False):
        storage = Lasting()
        kept_in(storage, TREES)
        storage.put("facts", b"x", b"y")
        if reopened_after:
            storage.reopen()
        assert taken_from(storage) == {}


def test_any_flipped_bit_in_them_is_found() -> None:
    whole = Lasting()
    kept_in(whole, TREES)
    for fact, value in whole.facts().items():
        for byte in range(0, len(value), 1 if fact == HEADER_FACT else 17):
            storage = Lasting()
            kept_in(storage, TREES)
            bad = bytearray(value)
            bad[byte] ^= 1
            storage._families["facts"][fact] = bytes(bad)
            assert taken_from(storage) == {}
            assert storage.get("facts", HEADER_FACT) is None


def test_a_piece_that_is_missing_is_found() -> None:
    storage = Lasting()
    kept_in(storage, TREES)
    del storage._families["facts"][b"trees/00000000"]
    assert taken_from(storage) == {}


# Another secret -------------------------------------------------------------------------------


async def test_records_of_another_secret_are_written_anew_before_a_tree_is_ready(
    tmp_path: Path,
) -> None:
    await fill_and_close(tmp_path)
    async with grown(tmp_path, existed=True, secret=OTHER) as node:
        assert node.ready == 0
        node.write(1, b"meanwhile")
        node.build()
        node.check()
        # Where a key lies is taken from the record that is replaced: so that one as well.
        assert node.metrics.count["records_reseated"] == RECORDS
        key = record_key(2)
        stored = decode_stored(key, node.storage.get("records", key) or b"")
        assert (stored.position, stored.element) == node.replica.hasher.compute(key, stored)
        assert node.replica.look(key)
    async with grown(tmp_path, existed=True, secret=OTHER) as node:
        assert node.ready == ALL
        node.check()


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("after", [SECRET, OTHER])
async def test_a_crash_while_they_are_written_anew_is_made_good_by_the_next_start(
    steps: int, after: bytes
) -> None:
    disk = Disk(name="a", seed=1)
    node = Grown(await SimStorage.open(disk, metrics=Metrics(), existed=False))
    for number in range(600):
        node.write(number, b"v")
    await node.close()
    node = Grown(await SimStorage.open(disk, metrics=Metrics(), existed=True), secret=OTHER)
    for _ in range(steps):
        node.step()
        await node.storage.flush()
    node.write(1, b"by the other")
    await node.storage.flush()
    disk.crash(kept=0)
    node = Grown(await SimStorage.open(disk, metrics=Metrics(), existed=True), secret=after)
    node.build()
    node.check()
    for number in range(600):
        key = record_key(number)
        stored = decode_stored(key, node.storage.get("records", key) or b"")
        assert (stored.position, stored.element) == node.replica.hasher.compute(key, stored)


async def test_a_database_of_before_there_were_trees_is_read_as_it_is() -> None:
    disk = Disk(name="a", seed=1)
    storage = await SimStorage.open(disk, metrics=Metrics(), existed=False)
    for number in range(RECORDS):
        key, encoded = record_key(number), encode_record(foreign(b"v"))
        rest = Struct(">QBI").pack(0, 0, len(encoded)) + encoded
        data = Struct(">BI").pack(1, crc32(key + rest)) + rest
        storage.write((Write("records", key, data),))
    node = Grown(storage)
    assert node.ready == 0
    node.build()
    node.check()
    assert node.metrics.count["records_reseated"] == 0
    assert storage.get("facts", SECRET_FACT) == MARK
    for number in range(0, RECORDS, 2):
        node.write(number, b"anew")
    node.check()
    node.verify()
    node.check()
    assert node.metrics.count["trees_wrong"] == 0


async def test_damage_that_is_met_on_the_way_is_put_aside() -> None:
    disk = Disk(name="a", seed=1)
    node = Grown(await SimStorage.open(disk, metrics=Metrics(), existed=False))
    fill(node)
    await node.close()
    assert disk.rot("records", record_key(7))
    node = Grown(await SimStorage.open(disk, metrics=Metrics(), existed=True), secret=OTHER)
    node.build()
    node.check()
    assert node.replica.damaged == {record_key(7)}
    assert node.forest.trees[record_key(7)[:PREFIX_BYTES]].is_ready
