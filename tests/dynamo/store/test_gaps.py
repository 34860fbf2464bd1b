"""Scans that begin behind what was deleted: they find what any other scan does."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from storages import open_rocks

from dynamo.metrics import Metrics
from dynamo.ports import Family, Write
from dynamo.store import rocks
from dynamo.store.engine import Sizes
from dynamo.store.gaps import GAPS_MAX, Gaps

KEYS = st.binary(min_size=1, max_size=2)


@given(st.lists(st.tuples(st.sampled_from(["scan", "write", "delete"]), KEYS, KEYS), max_size=60))
def test_nothing_that_was_written_is_in_a_gap(steps: list[tuple[str, bytes, bytes]]) -> None:
    gaps = Gaps()
    there: set[bytes] = set()
    for what, key, other in steps:
        if what == "write":
            gaps.written(key)
            there.add(key)
        elif what == "delete":
            there.discard(key)
        else:
            end = max(key, other)
            expected = min((k for k in there if key <= k), default=end)
            assert key <= gaps.after(key)  # of an earlier scan, which may have gone on for longer
            assert not any(key <= k < gaps.after(key) for k in there)
            gaps.note(key, min(expected, end))
    assert len(gaps) <= GAPS_MAX


async def test_a_storage_with_gaps_scans_as_one_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rocks, "SLOW_SEEK", -1.0)  # each scan leaves one
    chance = random.Random(1)
    storage = await open_rocks(tmp_path)
    there: dict[Family, dict[bytes, bytes]] = {"facts": {}, "hints": {}, "records": {}}
    try:
        for _ in range(3_000):
            family = chance.choice(list(there))
            of = there[family]
            key = b"k%03d" % chance.randrange(200)
            if (dice := chance.random()) < 0.3:
                of[key] = b"v"
                storage.put(family, key, b"v")
            elif dice < 0.7:
                gone = [b"k%03d" % chance.randrange(200) for _ in range(3)]
                for one in (key, *gone):
                    of.pop(one, None)
                of[key] = b"w"
                writes = [Write(family, one, None) for one in gone if one != key]
                storage.write([*writes, Write(family, key, b"w")])
            else:
                start = chance.choice([b"k", b"k1", key])
                end = chance.choice([b"k1", b"l", key])
                found = storage.scan(family, start, end, count_max=5, bytes_max=1 << 20)
                assert found == sorted((k, v) for k, v in of.items() if start <= k < end)[:5]
    finally:
        await storage.close()


async def test_a_queue_that_was_worked_off_is_stepped_over_once(tmp_path: Path) -> None:
    metrics = Metrics()
    storage = await open_rocks(tmp_path, metrics=metrics, sizes=Sizes())
    try:
        keys = [b"queue/%08d" % number for number in range(60_000)]
        for at in range(0, len(keys), 1_000):
            storage.write([Write("facts", key, b"") for key in keys[at : at + 1_000]])
        for at in range(0, len(keys), 1_000):
            storage.write([Write("facts", key, None) for key in keys[at : at + 1_000]])
            await asyncio.sleep(0)
        for _ in range(20):
            assert storage.scan("facts", b"queue/", b"queue0", count_max=9, bytes_max=99) == []
        assert 1 <= metrics.count["storage_seeks_slow"] <= 5  # a pause may look like one
        storage.put("facts", keys[7], b"again")
        found = storage.scan("facts", b"queue/", b"queue0", count_max=9, bytes_max=99)
        assert found == [(keys[7], b"again")]
    finally:
        await storage.close()
