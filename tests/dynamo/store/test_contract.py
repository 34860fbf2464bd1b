"""What every storage does alike, in memory, on disk and on a simulated disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from storages import open_rocks, open_sim, quick_disk

from dynamo.errors import StorageError
from dynamo.ports import Family, Storage, Write
from dynamo.sim.storage import SimStorage
from dynamo.store.memory import MemoryStorage
from dynamo.store.rocks import RocksStorage

AnyStorage = MemoryStorage | RocksStorage | SimStorage


async def _open(kind: str, directory: Path) -> AnyStorage:
    if kind == "memory":
        return MemoryStorage()
    return await open_rocks(directory) if kind == "rocks" else await open_sim(quick_disk())


@pytest.fixture(params=["memory", "rocks", "sim"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStorage]:
    made = await _open(request.param, tmp_path)
    yield made
    await made.close()


async def test_it_is_the_port(storage: Storage) -> None:
    assert storage.refusal() is None
    assert storage.synced_number <= storage.write_number


async def test_what_was_put_is_read_back(storage: Storage) -> None:
    assert storage.get("records", b"k") is None
    storage.put("records", b"k", b"v")
    assert storage.get("records", b"k") == b"v"
    storage.put("records", b"k", b"")
    assert storage.get("records", b"k") == b""


async def test_keys_and_values_are_any_bytes(storage: Storage) -> None:
    keys = [b"\0", b"\0\0", b"\xff", b"\xff\xff", "\u00e9".encode(), bytes(range(256)) * 8]
    for number, key in enumerate(keys):
        storage.put("records", key, key * number)
    for number, key in enumerate(keys):
        assert storage.get("records", key) == key * number


async def test_a_value_of_twelve_megabytes_comes_back(storage: Storage) -> None:
    value = b"0123456789abcdef" * (12 << 16)
    storage.put("records", b"k", value)
    await storage.flush()
    assert storage.get("records", b"k") == value


async def test_families_do_not_share_keys(storage: Storage) -> None:
    for family in FAMILIES:
        storage.put(family, b"k", family.encode())
    assert [storage.get(family, b"k") for family in FAMILIES] == [b"records", b"hints", b"facts"]


async def test_a_batch_is_applied_in_order_across_families(storage: Storage) -> None:
    storage.put("hints", b"h", b"old")
    storage.write(
        [
            Write("records", b"k", b"1"),
            Write("hints", b"h", None),
            Write("records", b"k", b"2"),
            Write("facts", b"absent", None),
            Write("facts", b"f", b"3"),
        ]
    )
    assert storage.get("records", b"k") == b"2"
    assert storage.get("hints", b"h") is None
    assert storage.get("facts", b"f") == b"3"


async def test_write_numbers_grow_with_every_write(storage: Storage) -> None:
    numbers = [storage.write_number]
    numbers.append(storage.put("records", b"a", b""))
    numbers.append(storage.write([Write("hints", b"a", None), Write("facts", b"a", b"")]))
    numbers.append(storage.put("records", b"a", b""))
    assert numbers == sorted(set(numbers))
    assert storage.write_number == numbers[-1]


async def test_a_flush_covers_what_was_written_before_it(storage: Storage) -> None:
    number = storage.put("records", b"a", b"")
    assert storage.synced_number < number
    assert await storage.flush() >= number
    assert storage.synced_number >= number
    assert await storage.flush() >= number  # nothing to do


async def test_a_raised_write_number_stays_above(storage: AnyStorage) -> None:
    storage.put("records", b"a", b"")
    storage.raise_write_number(1_000_000)
    raised = storage.write_number
    assert raised >= 1_000_000
    storage.raise_write_number(5)
    assert storage.write_number == raised
    assert storage.put("records", b"a", b"") > raised


async def test_a_scan_is_ordered_and_bounded_by_its_end(storage: Storage) -> None:
    for key in (b"c", b"a", b"b\0", b"b", b"d"):
        storage.put("records", key, key)
        storage.put("hints", key, b"other")
    found = storage.scan("records", b"a", b"d", count_max=10, bytes_max=1000)
    assert found == [(key, key) for key in (b"a", b"b", b"b\0", b"c")]


@pytest.mark.parametrize(("start", "end"), [(b"b", b"b"), (b"c", b"b"), (b"x", b"y"), (b"", b"")])
async def test_a_scan_of_nothing_is_empty(storage: Storage, start: bytes, end: bytes) -> None:
    storage.put("records", b"b", b"")
    assert storage.scan("records", start, end, count_max=10, bytes_max=1000) == []


async def test_a_scan_stops_at_its_count_and_at_its_bytes(storage: Storage) -> None:
    for number in range(10):
        storage.put("records", b"%d" % number, bytes(99))

    def scan(count_max: int, bytes_max: int) -> int:
        return len(storage.scan("records", b"", b"z", count_max=count_max, bytes_max=bytes_max))

    assert scan(3, 10_000) == 3
    assert scan(0, 10_000) == 0
    assert scan(10, 250) == 3  # once so many were collected
    assert scan(10, 1) == 1
    assert scan(10, 0) == 1


async def test_a_value_read_does_not_change_with_a_later_write(storage: Storage) -> None:
    storage.put("records", b"k", b"old")
    got = storage.get("records", b"k")
    page = storage.scan("records", b"", b"z", count_max=9, bytes_max=99)
    storage.put("records", b"k", b"new")
    assert (got, page) == (b"old", [(b"k", b"old")])


async def test_a_closed_storage_refuses_everything(storage: Storage) -> None:
    number = storage.put("records", b"k", b"v")
    await storage.close()
    await storage.close()
    with pytest.raises(StorageError):
        storage.get("records", b"k")
    with pytest.raises(StorageError):
        storage.put("records", b"k", b"v")
    with pytest.raises(StorageError):
        storage.write([Write("records", b"k", None)])
    with pytest.raises(StorageError):
        storage.scan("records", b"", b"z", count_max=1, bytes_max=1)
    with pytest.raises(StorageError):
        await storage.flush()
    assert storage.write_number >= number


FAMILIES: tuple[Family, ...] = ("records", "hints", "facts")
KEYS = st.binary(max_size=3)
ENTRIES = st.lists(
    st.builds(
        Write,
        st.sampled_from(FAMILIES),
        KEYS,
        st.none() | st.binary(max_size=5),
    ),
    min_size=1,
    max_size=4,
)


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    batches=st.lists(ENTRIES, max_size=8),
    start=KEYS,
    end=KEYS,
    count_max=st.integers(0, 4),
    bytes_max=st.integers(0, 20),
)
async def test_disk_and_memory_agree(
    disk: AnyStorage,
    batches: list[list[Write]],
    start: bytes,
    end: bytes,
    count_max: int,
    bytes_max: int,
) -> None:
    memory = MemoryStorage()
    for family in FAMILIES:
        for key, value in disk.scan(family, b"", b"\xff" * 4, count_max=10**6, bytes_max=10**9):
            memory.put(family, key, value)
    for batch in batches:
        numbers = disk.write_number, memory.write_number
        disk.write(batch)
        memory.write(batch)
        assert disk.write_number - numbers[0] == memory.write_number - numbers[1]
    for family in FAMILIES:
        assert disk.scan(
            family, start, end, count_max=count_max, bytes_max=bytes_max
        ) == memory.scan(family, start, end, count_max=count_max, bytes_max=bytes_max)
        assert disk.get(family, start) == memory.get(family, start)


@pytest.fixture(params=["rocks", "sim"])
async def disk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStorage]:
    made = await _open(request.param, tmp_path)
    yield made
    await made.close()
