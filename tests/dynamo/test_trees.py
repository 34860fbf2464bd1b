"""The trees of a node, kept true: built while writes go on, held against their records, paced."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from grown_trees import PLACES, Grown, grown, record_key
from lone_replica import RING
from storages import HandClock

from dynamo.errors import StorageCorrupt, StorageError
from dynamo.keys import PREFIX_BYTES, partition_prefix, place_of
from dynamo.metrics import Metrics
from dynamo.sim.disk import Disk
from dynamo.sim.storage import SimStorage
from dynamo.trees import BESIDE_CLIENTS, FREELY, UNREADABLE_DELAY, VERIFY_PAUSE, VERIFYING

#: So many that a partition has several pages beside clients.
MANY = 700 * len(PLACES)


async def simulated() -> Grown:
    return Grown(await SimStorage.open(disk(), metrics=Metrics(), existed=False))


def disk() -> Disk:
    return Disk(name="a", seed=1)


async def rot(node: Grown, number: int) -> None:
    """Flip a bit of a record where it lies."""
    await node.storage.flush()
    assert isinstance(node.storage, SimStorage)
    assert node.storage._disk.rot("records", record_key(number))


def serve_clients(node: Grown) -> None:
    """Somebody asks it for something, between any two looks."""

    class Busy(HandClock):
        def monotonic(self) -> float:
            node.metrics.count["fetches"] += 1
            return self.now

    node.trees._clock = busy = Busy()
    busy.now = node.clock.now
    node.clock = busy


async def test_the_trees_of_an_empty_database_are_ready_at_once(tmp_path: Path) -> None:
    async with grown(tmp_path) as node:
        assert node.ready == len(PLACES)
        node.write(1, b"v")
        node.check()


async def test_trees_wait_for_a_ring_and_are_ready_with_it(tmp_path: Path) -> None:
    async with grown(tmp_path, ring=None) as node:
        assert node.step() > 0
        node.adopt(RING)
        assert node.ready == len(PLACES)


@pytest.mark.parametrize("seed", range(8))
async def test_a_tree_is_never_ready_and_wrong_while_writes_go_on(seed: int) -> None:
    chance = random.Random(seed)
    node = await simulated()
    if seed % 2:
        serve_clients(node)
    for number in range(MANY // 4):
        node.write(number, b"first %d" % number)
    node.forest.doubt_all()
    for turn in range(1500):
        what = chance.random()
        if what < 0.5:
            node.write(chance.randrange(MANY), b"%d" % turn)
        elif what < 0.504:
            name = partition_prefix(0, chance.choice(PLACES))
            node.forest.doubt(name)
        elif what < 0.52:
            key = record_key(chance.randrange(MANY // 4))
            before = node.replica.load_for_merge(key)
            if before is not None and what < 0.512:
                node.replica.drop(((key, before),))
            elif before is not None:
                node.replica.remove(key, before, ())
        elif what < 0.53:
            number = chance.randrange(MANY // 4)
            data = node.storage.get("records", record_key(number))
            if data is not None:
                node.replica.put_aside(record_key(number), data)
        else:
            node.step()
        if turn % 25 == 0:
            node.check()
    node.build()
    node.verify()
    node.check()
    assert node.metrics.count["trees_wrong"] == 0


async def test_a_wrong_tree_is_an_alarm_and_is_put_right() -> None:
    node = await simulated()
    for number in range(100):
        node.write(number, b"v")
    wrong = node.forest.trees[record_key(5)[:PREFIX_BYTES]]
    wrong.leaves[3] ^= 1
    node.verify()
    assert (node.metrics.count["trees_wrong"], node.metrics.count["alarms"]) == (1, 1)
    node.check()
    assert node.trees.status().wrong == 1


async def test_verification_finds_damage_and_puts_it_aside() -> None:
    node = await simulated()
    for number in range(100):
        node.write(number, b"v")
    await rot(node, 5)
    node.verify()
    assert node.replica.damaged == {record_key(5)}
    assert node.storage.get("records", record_key(5)) is None
    node.build()
    node.check()
    assert node.metrics.count["trees_wrong"] == 0


async def test_damage_that_is_met_while_building_is_in_no_tree() -> None:
    node = await simulated()
    for number in range(100):
        node.write(number, b"v")
    node.forest.doubt_all()
    for number in range(0, 100, 3):
        await rot(node, number)
    node.build()
    node.check()
    assert len(node.replica.damaged) == 34
    # No tree was begun anew for it: each was read once.
    assert node.metrics.count["trees_rebuilt"] == len(PLACES)


async def test_damage_that_cannot_be_put_aside_is_in_no_tree_and_does_not_hold_it_up() -> None:
    node = await simulated()
    for number in range(100):
        node.write(number, b"v")
    node.forest.doubt_all()
    await rot(node, 5)
    assert isinstance(node.storage, SimStorage)
    node.storage._disk.fill()
    node.build()
    node.check()
    assert record_key(5) in node.replica.damaged


async def test_a_range_that_cannot_be_read_is_left_alone_for_a_while() -> None:
    node = await simulated()
    for number in range(100):
        node.write(number, b"v")
    await node.storage.flush()
    node.forest.doubt_all()
    assert isinstance(node.storage, SimStorage)
    key = record_key(5)
    node.storage._disk.rot_block("records", key, key + b"\0")
    reads = node.metrics.count["trees_keys_read"]
    began = node.clock.now
    steps = 0
    while node.clock.now < began + UNREADABLE_DELAY / 2:
        node.step()
        steps += 1
    assert list(node.forest.unready) == [key[:PREFIX_BYTES]]
    assert node.doubted[0][0] == place_of(key[:PREFIX_BYTES])
    assert len(node.doubted) == 1
    assert steps < 100
    assert node.metrics.count["trees_keys_read"] > reads


async def test_a_reopened_storage_is_read_anew_at_once() -> None:
    node = await simulated()
    for number in range(100):
        node.write(number, b"v")
    await node.storage.flush()
    assert isinstance(node.storage, SimStorage)
    key = record_key(5)
    node.forest.doubt_all()
    node.storage._disk.rot_block("records", key, key + b"\0")
    node.steps(lambda: len(node.forest.unready) == 1)
    node.step()
    assert await node.storage.recover()
    node.forest.doubt_all()
    before = node.clock.now
    node.build()
    assert node.clock.now < before + 1
    node.check()


async def test_a_write_that_may_have_failed_dooms_its_tree() -> None:
    node = await simulated()
    node.write(1, b"v")
    assert isinstance(node.storage, SimStorage)
    node.storage._disk.fail_write()
    with pytest.raises(StorageError):
        node.write(1, b"w")
    assert list(node.forest.unready) == [record_key(1)[:PREFIX_BYTES]]
    node.build()
    node.check()


async def test_a_refused_write_dooms_nothing() -> None:
    node = await simulated()
    node.write(1, b"v")
    assert isinstance(node.storage, SimStorage)
    node.storage._disk.busy(True)
    with pytest.raises(StorageError):
        node.write(1, b"w")
    assert not node.forest.unready
    node.check()


async def test_whatever_a_read_finds_damaged_dooms_its_tree() -> None:
    node = await simulated()
    node.write(1, b"v")
    await rot(node, 1)
    with pytest.raises(StorageCorrupt):
        node.replica.look(record_key(1))
    node.check()
    node.write(1, b"anew")
    node.build()
    node.check()


async def test_building_keeps_to_a_rate_and_makes_way_for_clients() -> None:
    took = []
    for busy in (False, True):
        node = await simulated()
        if busy:
            serve_clients(node)
        for number in range(MANY):
            node.write(number, b"v")
        node.step()  # the first look only begins to count clients
        node.forest.doubt_all()
        began = node.clock.now
        node.build()
        took.append(node.clock.now - began)
    assert took[0] >= 0.5 * MANY / FREELY.rate
    assert took[1] >= 0.9 * MANY / BESIDE_CLIENTS.rate


async def test_verification_takes_its_time() -> None:
    node = await simulated()
    for number in range(MANY):
        node.write(number, b"v")
    began = node.clock.now
    node.verify()
    took = node.clock.now - began
    assert took >= MANY / VERIFYING.rate
    few = await simulated()
    began = few.clock.now
    few.verify()
    assert few.clock.now - began >= VERIFY_PAUSE * (len(PLACES) - 1)


async def test_large_records_count_for_more_than_one() -> None:
    node = await simulated()
    for number in range(0, 40 * len(PLACES), len(PLACES)):
        node.write(number, b"v" * (100 << 10))
    node.forest.doubt_all()
    began = node.clock.now
    node.build()
    assert node.clock.now - began >= 40 * (100 << 10) / 400 / FREELY.rate
    node.check()


async def test_a_tree_that_somebody_began_anew_is_built_all_the_same() -> None:
    node = await simulated()
    for number in range(100):
        node.write(number, b"v")
    node.forest.trees[record_key(1)[:PREFIX_BYTES]].begin()
    node.steps(lambda: node.metrics.count["trees_rebuilt"] == 1)
    node.check()


async def test_its_status_says_how_far_it_is() -> None:
    node = await simulated()
    for number in range(10):
        node.write(number, b"v")
    node.forest.doubt_all()
    status = node.trees.status()
    assert (status.trees, status.ready, status.all_verified_s) == (len(PLACES), 0, None)
    node.build()
    node.verify()
    node.verify()
    status = node.trees.status()
    assert (status.ready, status.built, status.wrong) == (len(PLACES), len(PLACES), 0)
    assert status.all_verified_s is not None
    assert 0 < status.all_verified_s <= 3 * VERIFY_PAUSE * len(PLACES)
