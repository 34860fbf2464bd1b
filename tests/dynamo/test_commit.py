"""Group commit: one sync serves all who wait, and a failed one tells them all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from little_cluster import GatedStorage
from storages import break_syncs, open_rocks

from dynamo.commit import GroupCommit
from dynamo.errors import DynamoError, StorageError
from dynamo.metrics import Metrics


class Story:
    """A commit over a storage whose flush the test holds back; `told` in the order of the calls."""

    def __init__(self, storage: GatedStorage) -> None:
        self.storage = storage
        self.metrics = Metrics()
        self.commit = GroupCommit(storage=self.storage, metrics=self.metrics)
        self.told: list[tuple[str, DynamoError | None]] = []
        self.running = asyncio.create_task(self.commit.run())

    def write(self, name: str) -> int:
        number = self.storage.put("records", name.encode(), b"")
        self.wait_for(number, name)
        return number

    def wait_for(self, number: int, name: str) -> None:
        self.commit.when_synced(number, lambda error: self.told.append((name, error)))

    def names(self) -> list[str]:
        return [name for name, _ in self.told]

    async def stop(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


@asynccontextmanager
async def a_story(storage: GatedStorage | None = None) -> AsyncIterator[Story]:
    story = Story(storage or GatedStorage())
    yield story
    await story.stop()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_flush_serves_all_who_wait() -> None:
    async with a_story() as story:
        for name in "abc":
            story.write(name)
        assert story.told == []
        await settle()
        assert story.told == [("a", None), ("b", None), ("c", None)]
        assert story.metrics.count["flushes"] == 1


async def test_who_comes_during_a_flush_waits_for_the_next() -> None:
    async with a_story() as story:
        story.storage.gate.clear()
        story.write("a")
        await settle()
        story.write("b")
        story.storage.gate.set()
        await settle()
        assert story.names() == ["a", "b"]
        assert story.metrics.count["flushes"] == 2


async def test_what_is_on_disk_is_told_at_once() -> None:
    async with a_story() as story:
        number = story.write("a")
        await settle()
        assert story.commit.synced == number
        story.wait_for(number, "again")
        assert story.names() == ["a", "again"]
        assert story.metrics.count["flushes"] == 1


async def test_nobody_waits_and_nothing_is_flushed() -> None:
    async with a_story() as story:
        story.storage.put("records", b"k", b"")
        await settle()
        assert story.metrics.count["flushes"] == 0


async def test_a_failed_sync_tells_everybody_now_and_later() -> None:
    async with a_story() as story:
        story.storage.gate.clear()
        story.write("a")
        await settle()
        story.write("b")
        story.storage.broken = True
        story.storage.gate.set()
        await settle()
        story.wait_for(3, "c")
        assert story.names() == ["a", "b", "c"]
        for _, error in story.told:
            assert isinstance(error, StorageError)
            assert error.outcome == "unknown"
        assert story.commit.failed is not None
        assert story.metrics.count["flushes_failed"] == 1
        assert not story.running.done()


class FullStorage(GatedStorage):
    """Its flush fails as on a full disk, which passes."""

    async def flush(self) -> int:
        if self.broken:
            self.refuses = "disk_full"
            raise StorageError("the disk was full")
        return await super().flush()


async def test_a_disk_that_was_full_fails_those_who_waited_only() -> None:
    async with a_story(FullStorage()) as story:
        story.storage.broken = True
        story.write("a")
        await settle()
        story.storage.broken, story.storage.refuses = False, None
        story.write("b")
        await settle()
        assert [error is None for _, error in story.told] == [False, True]
        assert story.commit.failed is None


async def test_stopping_tells_whoever_still_waits_that_nobody_knows() -> None:
    async with a_story() as story:
        story.storage.gate.clear()
        story.write("a")
        await settle()
        await story.stop()
        story.write("late")
        assert story.names() == ["a", "late"]
        for _, error in story.told:
            assert error is not None
            assert error.outcome == "unknown"


async def test_a_callback_that_raises_ends_the_loop_after_the_others_were_told() -> None:
    async with a_story() as story:
        story.write("a")
        story.commit.when_synced(story.storage.write_number, _raise)
        story.write("b")
        with pytest.raises(ZeroDivisionError):
            await story.running
        assert story.told == [("a", None), ("b", None)]
        story.write("c")
        assert story.told[-1][1] is not None


def _raise(error: DynamoError | None) -> None:
    raise ZeroDivisionError


async def test_a_callback_may_write_and_wait_again() -> None:
    async with a_story() as story:

        def again(error: DynamoError | None) -> None:
            assert error is None
            story.write("second")

        story.commit.when_synced(story.storage.put("records", b"first", b""), again)
        await settle()
        assert story.told == [("second", None)]


async def test_on_a_real_disk_every_ack_is_behind_its_sync(tmp_path: Path) -> None:
    storage = await open_rocks(tmp_path)
    metrics = Metrics()
    commit = GroupCommit(storage=storage, metrics=metrics)
    running = asyncio.create_task(commit.run())
    loop = asyncio.get_running_loop()

    async def write(number: int) -> None:
        done: asyncio.Future[None] = loop.create_future()
        reached = storage.put("records", b"%d" % number, b"")

        def synced(error: DynamoError | None) -> None:
            assert error is None
            assert storage.synced_number >= reached
            done.set_result(None)

        commit.when_synced(reached, synced)
        await done

    await asyncio.gather(*(write(number) for number in range(200)))
    assert 1 <= metrics.count["flushes"] < 50
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await storage.close()


async def test_a_real_failed_sync_reaches_who_waits(tmp_path: Path) -> None:
    storage = await open_rocks(tmp_path)
    commit = GroupCommit(storage=storage, metrics=Metrics())
    running = asyncio.create_task(commit.run())
    told: list[DynamoError | None] = []
    number = storage.put("records", b"k", b"v")
    undo = break_syncs(tmp_path)
    commit.when_synced(number, told.append)
    while not told:
        await asyncio.sleep(0.001)
    undo()
    commit.when_synced(number, told.append)
    assert [isinstance(error, StorageError) for error in told] == [True, True]
    assert storage.refusal() == "sync_failed"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    with pytest.raises(StorageError):
        await storage.close()


class OwingStorage(GatedStorage):
    """Reopened: its next flush fails, for the sake of who wrote before."""

    owes = True

    async def flush(self) -> int:
        if self.owes:
            self.owes = False
            raise StorageError("the storage had to be reopened; writes of before may be gone")
        return await super().flush()


async def test_after_a_reopening_the_first_write_does_not_pay_for_those_before() -> None:
    async with a_story(OwingStorage()) as story:
        story.commit.reopened()
        await settle()
        assert story.metrics.count["flushes_failed"] == 1
        story.write("after")
        await settle()
        assert story.told == [("after", None)]


async def test_after_a_reopening_who_wrote_before_is_told() -> None:
    async with a_story(OwingStorage()) as story:
        story.write("before")
        story.commit.reopened()
        await settle()
        ((name, error),) = story.told
        assert (name, isinstance(error, StorageError)) == ("before", True)
