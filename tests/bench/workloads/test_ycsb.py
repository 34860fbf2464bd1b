"""YCSB's workloads by its property names."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from workload_client import MemoryClient, play

import dynamo.config
from bench.scenario import BadScenario
from bench.workloads import make, wanted
from bench.workloads.ycsb import VALUE_BYTES_MAX


@pytest.mark.parametrize(
    ("name", "reads", "writes"),
    [
        ("ycsb-a", 0.5, 0.5),
        ("ycsb-b", 0.95, 0.05),
        ("ycsb-c", 1.0, 0.0),
        ("ycsb-d", 0.95, 0.05),
        ("ycsb-f", 1.0, 0.5),
    ],
)
def test_the_mix_is_ycsbs(name: str, reads: float, writes: float) -> None:
    client = MemoryClient()
    play(name, client, arrivals=2_000, recordcount=100, apart=0.001)
    assert len(client.writes("load")) == 100
    assert len(client.reads()) / 2_000 == pytest.approx(reads, abs=0.03)
    assert len(client.writes()) / 2_000 == pytest.approx(writes, abs=0.03)


def test_keys_are_named_as_ycsb_names_them() -> None:
    hashed = make("ycsb-a", {"recordcount": 2}, n=3, nodes=3)
    assert list(hashed.keys_to_load()) == ["user6284781860667377211", "user8517097267634966620"]
    ordered = make("ycsb-a", {"recordcount": 2, "insertorder": "ordered"}, n=3, nodes=3)
    assert list(ordered.keys_to_load()) == ["user0", "user1"]


def test_d_reads_what_was_inserted_and_hardly_anything_else() -> None:
    client = MemoryClient()
    play("ycsb-d", client, arrivals=4_000, recordcount=1_000, apart=0.002)
    inserted = {op.key for op in client.writes()}
    loaded = {op.key for op in client.writes("load")}
    assert 150 < len(inserted) < 250
    assert not inserted & loaded
    assert all(op.seen for op in client.reads()), "nobody reads a key before its insert is over"
    # A uniform choice would read them in a twelfth of cases.
    share = sum(op.key in inserted for op in client.reads()) / len(client.reads())
    assert share > 0.4


def test_f_writes_back_what_it_has_read() -> None:
    client = MemoryClient()
    play("ycsb-f", client, recordcount=20, apart=0.05)
    assert client.writes()
    for write in client.writes():
        before = client.ops[client.ops.index(write) - 1]
        assert before.kind == "read"
        assert before.key == write.key
        assert set(before.seen) <= set(write.bases)
        assert write.coordinator == before.coordinator


def test_what_was_not_read_is_not_modified() -> None:
    client = MemoryClient(fails=lambda kind, key, place: "fail" if kind == "read" else "ok")
    play("ycsb-f", client, recordcount=20)
    assert client.writes() == []


def test_updates_follow_the_newest_version_known() -> None:
    client = MemoryClient()
    play("ycsb-a", client, recordcount=1, apart=0.05)
    writes = client.writes()
    assert all(earlier.write in later.bases for earlier, later in pairwise(writes))
    client = MemoryClient()
    play("ycsb-a", client, recordcount=1, apart=0.05, context="none", final=False)
    assert {op.bases for op in client.writes()} == {()}


def test_nothing_is_done_beyond_operationcount() -> None:
    client = MemoryClient()
    play("ycsb-c", client, recordcount=5, operationcount=42)
    assert len(client.reads()) == 42


def test_the_popular_keys_are_zipfs_unless_asked_otherwise() -> None:
    client = MemoryClient()
    play("ycsb-c", client, arrivals=4_000, recordcount=500, apart=0.001)
    zipfian = Counter(op.key for op in client.reads()).most_common(1)[0][1]
    client = MemoryClient()
    play(
        "ycsb-c",
        client,
        arrivals=4_000,
        recordcount=500,
        requestdistribution="uniform",
        apart=0.001,
    )
    uniform = Counter(op.key for op in client.reads()).most_common(1)[0][1]
    assert zipfian > 120
    assert uniform < 30


def test_target_and_fields_are_the_loads_to_carry_out() -> None:
    asked = wanted("ycsb-a", {"target": 500, "fieldcount": 3, "fieldlength": 20}, n=3)
    assert (asked.rate, asked.value_bytes) == (500, 60)
    silent = wanted("ycsb-a", {}, n=3)
    assert (silent.rate, silent.value_bytes) == (None, 1_000), "ten fields of 100 bytes, as in YCSB"


def test_the_largest_value_of_the_store_may_be_written() -> None:
    asked = wanted("ycsb-a", {"fieldcount": 8, "fieldlength": 1_000_000}, n=3)
    assert asked.value_bytes == 8_000_000
    assert VALUE_BYTES_MAX == dynamo.config.VALUE_BYTES_MAX


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("ycsb-e", {}, "scans are not offered"),
        ("ycsb-a", {"scanproportion": 0.1}, "scans are not offered"),
        ("ycsb-a", {"readpropotion": 0.1}, r"no option 'readpropotion'; it has: .*readproportion"),
        ("ycsb-a", {"readproportion": -0.1}, "from 0 on"),
        ("ycsb-a", {"readproportion": float("nan")}, "from 0 on"),
        ("ycsb-c", {"readproportion": 0}, "nothing to do"),
        ("ycsb-a", {"recordcount": 0}, "recordcount = 0"),
        ("ycsb-a", {"recordcount": 10**12}, "recordcount"),
        ("ycsb-a", {"recordcount": "many"}, "recordcount"),
        (
            "ycsb-a",
            {"fieldcount": 10_000, "fieldlength": 1_000},
            "fieldcount x fieldlength = 10000 x 1000 = 10000000 bytes: .*--value-bytes-max",
        ),
        ("ycsb-a", {"fieldcount": 10_000, "fieldlength": 10**7}, "fieldlength = 10000000"),
        ("ycsb-a", {"requestdistribution": "hotspot"}, "requestdistribution"),
        ("ycsb-a", {"target": float("inf")}, "target"),
        ("ycsb-a", {"r": 4}, "r = 4: it must be 1 to 3"),
        ("ycsb-a", {"w": 0}, "w = 0: it must be 1 to 3"),
        ("ycsb-z", {}, "there is no workload 'ycsb-z'; there are: .*ycsb-a"),
    ],
)
def test_nonsense_is_refused(name: str, options: dict[str, object], told: str) -> None:
    with pytest.raises(BadScenario, match=told):
        make(name, options, n=3, nodes=3)
