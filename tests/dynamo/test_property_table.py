"""The properties that a node holds: the newest stay, whatever the order; what is not taken."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo.errors import Malformed, StorageError, TooManyProperties
from dynamo.metrics import Metrics
from dynamo.properties import DEFAULT_PROPERTIES
from dynamo.property_keeper import AHEAD_MAX, BLOB, PropertyKeeper
from dynamo.property_schema import Own, encode_own
from dynamo.property_table import PropertyTable, decode_table
from dynamo.rpc.messages import Properties, PropertyEntry, Refused, Reply, StoreProperties, Synced
from ring.member import Member
from ring.ring import ReplicationClass, Ring

RING = Ring.build(
    (Member(id="a", address="a:1"),),
    partitions=8,
    seed=1,
    classes=(ReplicationClass(name="t", id=0, replicas=3),),
)


def entry(
    bucket: bytes = b"b", number: int = 1, node: str = "a", *, type_: bytes = b"t", r: int = 1
) -> PropertyEntry:
    return PropertyEntry(type_, bucket, number, node, encode_own(Own(r=r)))


entries = st.lists(
    st.builds(
        PropertyEntry,
        st.sampled_from([b"t", b"u"]),
        st.sampled_from([b"", b"b", b"c"]),
        st.integers(0, 3),
        st.sampled_from(["a", "b"]),
        st.sampled_from([b"", encode_own(Own(r=1)), encode_own(Own(last_write_wins=True))]),
    ),
    max_size=12,
)


@given(entries)
def test_tables_that_have_seen_the_same_are_equal_whatever_the_order(
    seen: list[PropertyEntry],
) -> None:
    one = PropertyTable(seen)
    other = PropertyTable([*reversed(seen), *seen])
    assert one.digest() == other.digest()
    assert one.page((b"", b""), count_max=100) == other.page((b"", b""), count_max=100)
    for bucket_type in (b"t", b"u", b"none"):
        for bucket in (b"b", b"c", b"none"):
            assert one.of(bucket_type, bucket) == other.of(bucket_type, bucket)
    again = decode_table(one.encode({}))
    assert (again.digest(), again.latest) == (one.digest(), one.latest)


@given(entries)
def test_pages_hold_every_entry_once_and_in_order(seen: list[PropertyEntry]) -> None:
    table = PropertyTable(seen)
    found: list[PropertyEntry] = []
    more, after = True, (b"", b"")
    while more:
        page, more = table.page(after, count_max=2)
        found += page
        after = page[-1].name if page else after
    assert [one.name for one in found] == sorted({one.name for one in seen})
    assert PropertyTable(found).digest() == table.digest()


def test_a_page_of_long_names_is_cut() -> None:
    table = PropertyTable(entry(bytes([n]) * 256, n) for n in range(1, 256))
    page, more = table.page((b"", b""), count_max=500)
    assert more
    assert len(page) < 250


def test_tables_that_differ_in_one_entry_have_other_digests() -> None:
    same = entry(b"x")
    digests = {
        PropertyTable(held).digest()
        for held in ([], [same], [same, entry()], [same, entry(number=2)], [same, entry(r=2)])
    }
    assert len(digests) == 5


def test_nothing_set_and_all_reset_costs_and_gives_the_shared_default() -> None:
    table = PropertyTable([entry(), PropertyEntry(b"t", b"b", 2, "a")])
    assert table.of(b"t", b"b") is DEFAULT_PROPERTIES
    assert PropertyTable().of(b"t", b"b") is DEFAULT_PROPERTIES
    assert len(table) == 1


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_malformed(data: bytes) -> None:
    try:
        decode_table(data)
    except Malformed:
        return


class Blobs:
    """One small file, which a test can hold back or refuse."""

    def __init__(self, data: bytes | None = None) -> None:
        self.data = data
        self.full = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.writes = 0

    def read_blob(self, name: str) -> bytes | None:
        assert name == BLOB
        return self.data

    def write_blob(self, name: str, data: bytes) -> None:
        raise AssertionError("the loop would wait for the disk")

    async def keep_blob(self, name: str, data: bytes) -> None:
        await self.gate.wait()
        if self.full:
            raise StorageError("no space")
        self.writes += 1
        self.data = data


class Asked:
    """Somebody who waits for an answer."""

    peer = "b"
    deadline = float("inf")

    def __init__(self) -> None:
        self.answers: list[Reply] = []

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        self.answers.append(reply)


class Kept:
    """A keeper that runs."""

    def __init__(self, blobs: Blobs | None = None) -> None:
        self.blobs = blobs or Blobs()
        self.metrics = Metrics()
        self.keeper = PropertyKeeper(node_id="a", blobs=self.blobs, metrics=self.metrics)
        self.keeper.adopt(RING)

    async def __aenter__(self) -> Kept:
        self.task = asyncio.ensure_future(self.keeper.run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def store(self, *brought: PropertyEntry) -> Asked:
        call = Asked()
        self.keeper.on_store(StoreProperties(1000, brought), call)
        return call


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_nothing_is_answered_or_in_force_before_it_is_on_disk() -> None:
    async with Kept() as kept:
        kept.blobs.gate.clear()
        first = kept.store(entry(r=2))
        await turns()
        more = [kept.store(entry(b"c", n, r=3)) for n in range(2, 12)]
        await turns()
        assert not first.answers
        assert kept.keeper.table.of(b"t", b"b") is DEFAULT_PROPERTIES
        assert kept.keeper.unwritten == 12
        kept.blobs.gate.set()
        await turns()
        assert first.answers == [Synced()]
        assert [call.answers for call in more[:-1]] == [
            [Properties((entry(b"c", 11, r=3),))] for _ in range(9)
        ]
        assert more[-1].answers == [Synced()]
        assert kept.keeper.table.of(b"t", b"b").r == 2
        # Those that came while the disk was busy were written at once.
        assert (kept.blobs.writes, kept.keeper.unwritten) == (2, 0)
        assert decode_table(kept.blobs.data or b"").digest() == kept.keeper.table.digest()


async def test_what_cannot_be_kept_is_refused_and_not_in_force() -> None:
    async with Kept() as kept:
        kept.blobs.full = True
        call = kept.store(entry(r=2))
        await turns()
        assert isinstance(call.answers[0], Refused)
        assert (call.answers[0].code, call.answers[0].definite) == ("storage_error", False)
        assert kept.keeper.table.of(b"t", b"b") is DEFAULT_PROPERTIES
        kept.blobs.full = False
        again = kept.store(entry(r=2))
        await turns()
        assert again.answers == [Synced()]


async def test_an_older_change_is_answered_with_the_newer_one() -> None:
    async with Kept() as kept:
        newer = kept.keeper.issue((b"t", b"b"), encode_own(Own(r=3)))
        call = kept.store(PropertyEntry(b"t", b"b", newer.number - 1, "z", b""))
        await turns()
        assert call.answers == [Properties((newer,))]


@pytest.mark.parametrize(
    ("brought", "code"),
    [
        (entry(type_=b"none"), "unknown_bucket_type"),
        (entry(number=AHEAD_MAX + 2), "number_ahead"),
        (PropertyEntry(b"t", b"b", 1, "a", b"\xff"), "malformed"),
        (entry(r=4), "malformed"),
    ],
)
async def test_what_no_member_can_have_set_is_refused_and_counted(
    brought: PropertyEntry, code: str
) -> None:
    async with Kept() as kept:
        call = kept.store(entry(b"good"), brought)
        assert [one.code for one in call.answers if isinstance(one, Refused)] == [code]
        kept.keeper.merge([entry(b"good"), brought])
        await turns()
        assert len(kept.keeper.table) == 1
        assert kept.metrics.count[f"properties_refused_{code}"] == 2


async def test_a_node_without_a_ring_takes_none() -> None:
    keeper = PropertyKeeper(node_id="a", blobs=Blobs(), metrics=Metrics())
    call = Asked()
    keeper.on_store(StoreProperties(1000, (entry(),)), call)
    assert isinstance(call.answers[0], Refused)
    assert call.answers[0].code == "not_ready"


@pytest.fixture
def few() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dynamo.property_keeper.ENTRIES_MAX", 3)
        patch.setattr("dynamo.property_keeper.WAITING_MAX", 2)
        yield


async def test_there_is_a_bound_and_what_is_kept_can_still_be_changed(few: None) -> None:
    async with Kept() as kept:
        for bucket in (b"1", b"2", b"3"):
            kept.keeper.issue((b"t", bucket), encode_own(Own(r=1)))
        with pytest.raises(TooManyProperties):
            kept.keeper.issue((b"t", b"4"), b"")
        refused = kept.store(entry(b"4", 9))
        assert isinstance(refused.answers[0], Refused)
        assert refused.answers[0].code == "too_many_properties"
        kept.keeper.issue((b"t", b"3"), b"")
        await turns()
        assert len(kept.keeper.table) == 3


async def test_no_more_wait_for_the_disk_than_may(few: None) -> None:
    async with Kept() as kept:
        kept.blobs.gate.clear()
        calls = [kept.store(entry(number=number)) for number in range(1, 5)]
        assert [len(call.answers) for call in calls] == [0, 0, 1, 1]
        assert isinstance(calls[2].answers[0], Refused)
        assert calls[2].answers[0].code == "busy"


async def test_a_file_that_is_none_is_an_alarm_and_nothing_more() -> None:
    kept = Kept(Blobs(b"\xc1"))
    assert len(kept.keeper.table) == 0
    assert kept.metrics.count["properties_damaged"] == 1
