"""Buckets whose last write wins: what is shown, what counts, and clocks that are wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from little_cluster import LittleCluster, LittleNode, values

from dynamo.context import stamp_of
from dynamo.errors import PreconditionFailed, Unavailable, WriteUncertain
from dynamo.hybrid_clock import AHEAD_MS_MAX, STAMP_MAX, stamp_at
from dynamo.ports import Call, Write
from dynamo.properties import DEFAULT_PROPERTIES, BucketProperties
from dynamo.record import (
    EMPTY,
    TOMBSTONE,
    VALUE,
    Content,
    Record,
    encode_content,
    encode_record,
    merge,
    mint,
)
from dynamo.requests import Found, ReadOptions, WriteOptions, Written
from dynamo.rpc.messages import Condition, Fetch, Mint, Refused, Request, Store, Synced
from dynamo.version import birth_bytes, incarnation_bytes

ALL_READ = ReadOptions(r="all")
ALL = WriteOptions(w="all")
ONE = WriteOptions(w=1)
K = b"k"
TEN_MINUTES_MS = 600_000


class Policy:
    """The properties of every bucket; a test may change them."""

    def __init__(self) -> None:
        self.properties = BucketProperties(conflict="lww")

    def __call__(self, bucket_type: bytes, bucket: bytes) -> BucketProperties:
        return self.properties


@pytest.fixture
def policy() -> Policy:
    return Policy()


@pytest.fixture
async def cluster(policy: Policy) -> AsyncIterator[LittleCluster]:
    async with LittleCluster(3, properties=policy) as made:
        yield made


def skew(cluster: LittleCluster, node: str, ms: int) -> None:
    cluster.nodes[node].clock.offset_ms += ms


def cut_off(cluster: LittleCluster, node: str) -> None:
    for other in "abc":
        if other != node:
            cluster.links.sever(node, other)


def stamps(cluster: LittleCluster, node: str) -> list[int]:
    return sorted(sibling.stamp for sibling in cluster.records(K)[node].siblings)


def stored(cluster: LittleCluster, node: str) -> set[bytes]:
    return {one.read().value for one in cluster.records(K)[node].siblings if one.kind == VALUE}


async def test_the_last_of_two_blind_writes_is_shown_alone(cluster: LittleCluster) -> None:
    await cluster.put("a", K, b"1")
    await cluster.put("b", K, b"2")
    for node in "abc":
        assert values(await cluster.get(node, K, ALL_READ)) == {b"2"}
    assert [len(record.siblings) for record in cluster.records(K).values()] == [1, 1, 1]


async def test_a_write_with_an_old_context_replaces_what_came_since(cluster: LittleCluster) -> None:
    await cluster.put("a", K, b"1")
    old = (await cluster.get("a", K)).context
    await cluster.put("b", K, b"2")
    await cluster.put("c", K, b"3", old)
    assert values(await cluster.get("a", K, ALL_READ)) == {b"3"}


@pytest.mark.parametrize("offset_ms", [-TEN_MINUTES_MS, -1, TEN_MINUTES_MS])
async def test_who_holds_a_write_stamps_above_it_whatever_the_clock(
    cluster: LittleCluster, offset_ms: int
) -> None:
    await cluster.put("a", K, b"1", options=ALL)
    before = stamps(cluster, "b")[0]
    skew(cluster, "b", offset_ms)
    await cluster.put("b", K, b"2", options=ONE)
    assert stamps(cluster, "b")[0] > before
    assert values(await cluster.get("c", K, ALL_READ)) == {b"2"}


async def test_a_write_below_what_others_hold_is_uncertain_and_the_next_is_not(
    cluster: LittleCluster,
) -> None:
    cut_off(cluster, "c")
    await cluster.put("a", K, b"1")
    cluster.links.cut.clear()
    skew(cluster, "c", -TEN_MINUTES_MS)
    with pytest.raises(WriteUncertain) as caught:
        await cluster.put("c", K, b"2")
    reasons = caught.value.details["reasons"]
    assert caught.value.details["received"] == 1
    assert all(reason.startswith("older than") for reason in reasons.values())
    assert values(await cluster.get("b", K)) == {b"1"}
    await cluster.settle()
    assert cluster.nodes["c"].metrics.count["minters_told"] == 1
    assert sum(isinstance(message, Mint) for _, _, message in cluster.links.sent) == 2
    written = await cluster.put("c", K, b"3")
    assert written.primary_acks >= 2
    assert values(await cluster.get("a", K, ALL_READ)) == {b"3"}


async def test_a_write_that_others_hide_counts_where_it_is_shown(cluster: LittleCluster) -> None:
    cut_off(cluster, "c")
    await cluster.put("a", K, b"1")
    cluster.links.cut.clear()
    skew(cluster, "c", -TEN_MINUTES_MS)
    written = await cluster.put("c", K, b"2", options=ONE)
    assert written.primary_acks == 1
    assert values(await cluster.get("c", K, ALL_READ)) == {b"1"}


async def test_the_minter_adopts_the_stamp_that_it_was_below(cluster: LittleCluster) -> None:
    cut_off(cluster, "c")
    await cluster.put("a", K, b"1")
    cluster.links.cut.clear()
    skew(cluster, "c", -AHEAD_MS_MAX // 2)
    with pytest.raises(WriteUncertain):
        await cluster.put("c", K, b"2")
    await cluster.settle()
    seen = stamps(cluster, "c")[-1]
    written = await cluster.put("c", b"other", b"3")
    assert written.record.siblings[0].stamp > seen


async def test_what_a_client_was_shown_is_below_what_it_writes(cluster: LittleCluster) -> None:
    """The minter has nothing of the key, and its clock is behind."""
    cut_off(cluster, "c")
    await cluster.put("a", K, b"1")
    context = (await cluster.get("b", K)).context
    cluster.links.cut.clear()
    skew(cluster, "c", -TEN_MINUTES_MS)
    written = await cluster.put("c", K, b"2", context)
    assert stamp_of(context) < written.record.siblings[0].stamp
    assert values(await cluster.get("a", K, ALL_READ)) == {b"2"}


async def test_a_clock_from_the_future_is_refused_and_repaired_all_the_same(
    cluster: LittleCluster,
) -> None:
    skew(cluster, "a", TEN_MINUTES_MS)
    with pytest.raises(WriteUncertain) as caught:
        await cluster.put("a", K, b"1")
    assert "ahead of this node's" in caught.value.details["reasons"]["b"]
    assert cluster.nodes["b"].metrics.count["refused_ahead"] == 1
    assert stored(cluster, "b") == set()
    # It may be there, so a read that meets it has to leave it where the next one finds it.
    assert values(await cluster.get("b", K, ALL_READ)) == {b"1"}
    await cluster.settle()
    assert stored(cluster, "b") == stored(cluster, "c") == {b"1"}
    assert cluster.nodes["b"].metrics.count["stamps_not_adopted"] == 1
    sent = len(cluster.links.sent)
    await cluster.get("c", K, ALL_READ)
    await cluster.settle()
    assert all(isinstance(one, Fetch) for _, _, one in cluster.links.sent[sent:])


async def test_a_key_with_stamps_from_the_future_takes_writes_of_right_clocks(
    cluster: LittleCluster,
) -> None:
    skew(cluster, "a", TEN_MINUTES_MS)
    with pytest.raises(WriteUncertain):
        await cluster.put("a", K, b"1")
    skew(cluster, "a", -TEN_MINUTES_MS)
    await cluster.put("a", K, b"2", options=ALL)
    await cluster.put("b", K, b"3", options=ALL)
    assert values(await cluster.get("c", K, ALL_READ)) == {b"3"}
    # And other keys have not been drawn along.
    other = await cluster.put("b", b"other", b"4", options=ALL)
    assert other.record.siblings[0].stamp <= stamp_at(cluster.nodes["b"].clock.wall_ms() + 1000)


async def test_a_clock_that_lags_takes_part_once_it_is_told(cluster: LittleCluster) -> None:
    skew(cluster, "b", -TEN_MINUTES_MS)
    await cluster.put("a", K, b"1")  # by a's clock, which to b is ahead
    with pytest.raises(WriteUncertain):
        await cluster.put("b", K, b"2")
    await cluster.settle()
    await cluster.put("b", K, b"3", options=ALL)
    assert values(await cluster.get("c", K, ALL_READ)) == {b"3"}


async def test_a_delete_hides_all_and_is_made_once(cluster: LittleCluster) -> None:
    await cluster.put("a", K, b"1")
    old = (await cluster.get("a", K)).context
    await cluster.put("b", K, b"2", options=ALL)
    assert isinstance(await cluster.delete("c", K, old, ALL), Written)
    gone = await cluster.get("a", K, ALL_READ)
    assert gone.deleted
    assert not gone.siblings
    assert stamp_of(gone.context) > 0
    for context in (b"", old, gone.context):
        assert isinstance(await cluster.delete("b", K, context), Found)


async def test_a_late_write_of_before_a_delete_stays_hidden(cluster: LittleCluster) -> None:
    cut_off(cluster, "c")
    await cluster.put("a", K, b"1")
    skew(cluster, "c", -TEN_MINUTES_MS)
    with pytest.raises(WriteUncertain):
        await cluster.put("c", K, b"2")  # nobody else gets it
    assert isinstance(await cluster.delete("a", K), Written)
    cluster.links.cut.clear()
    gone = await cluster.get("c", K, ALL_READ)
    assert gone.deleted
    assert {one.kind for one in gone.record.siblings} == {VALUE, TOMBSTONE}
    await cluster.settle()
    assert isinstance(await cluster.delete("b", K), Found)
    skew(cluster, "c", TEN_MINUTES_MS)
    await cluster.put("b", K, b"3", gone.context, ALL)
    assert [len(record.siblings) for record in cluster.records(K).values()] == [1, 1, 1]


async def test_a_value_that_expired_hides_what_is_below_it(cluster: LittleCluster) -> None:
    cut_off(cluster, "c")
    await cluster.put("a", K, b"1", options=WriteOptions(expires_ms=1))
    skew(cluster, "c", -TEN_MINUTES_MS)
    with pytest.raises(WriteUncertain):
        await cluster.put("c", K, b"2")
    cluster.links.cut.clear()
    found = await cluster.get("b", K, ALL_READ)
    assert found.deleted
    assert not found.siblings


async def test_conditions_go_by_what_is_shown(cluster: LittleCluster) -> None:
    await cluster.put("a", K, b"1")
    first = (await cluster.get("a", K)).siblings[0].vtag()
    await cluster.put("b", K, b"2", options=ALL)
    shown = (await cluster.get("c", K)).siblings[0].vtag()
    for condition in (Condition(if_match=(first,)), Condition(if_none_match=("*",))):
        with pytest.raises(PreconditionFailed):
            await cluster.put("c", K, b"3", options=WriteOptions(condition=condition))
    named = WriteOptions(condition=Condition(if_match=(shown,)), returnbody=True)
    written = await cluster.put("c", K, b"3", options=named)
    assert [one.read().value for one in written.siblings] == [b"3"]
    assert isinstance(await cluster.delete("a", K), Written)
    await cluster.put("a", K, b"4", options=WriteOptions(condition=Condition(if_none_match=("*",))))


async def test_a_condition_of_a_hidden_value_does_not_hold(
    cluster: LittleCluster, policy: Policy
) -> None:
    policy.properties = DEFAULT_PROPERTIES
    await cluster.put("a", K, b"1")
    hidden = (await cluster.get("a", K)).siblings[0].vtag()
    policy.properties = BucketProperties(conflict="lww")
    await cluster.put("b", K, b"2", options=ALL)
    given = WriteOptions(condition=Condition(if_match=(hidden,)))
    with pytest.raises(PreconditionFailed):
        await cluster.put("c", K, b"3", options=given)


async def test_siblings_of_before_are_all_kept_and_one_is_shown(
    cluster: LittleCluster, policy: Policy
) -> None:
    policy.properties = DEFAULT_PROPERTIES
    await cluster.put("a", K, b"1", options=ALL)
    await cluster.put("b", K, b"2", options=ALL)
    policy.properties = BucketProperties(conflict="lww")
    shown = values(await cluster.get("a", K, ALL_READ))
    assert len(shown) == 1
    assert values(await cluster.get("c", K, ALL_READ)) == shown
    policy.properties = DEFAULT_PROPERTIES
    assert values(await cluster.get("a", K, ALL_READ)) == {b"1", b"2"}


async def test_what_was_written_while_siblings_were_shown_is_above_what_was_stamped_before(
    cluster: LittleCluster, policy: Policy
) -> None:
    await cluster.put("a", K, b"1", options=ALL)
    policy.properties = DEFAULT_PROPERTIES
    await cluster.put("b", K, b"2", options=ALL)
    assert values(await cluster.get("c", K, ALL_READ)) == {b"1", b"2"}
    policy.properties = BucketProperties(conflict="lww")
    assert values(await cluster.get("c", K, ALL_READ)) == {b"2"}


async def test_a_bucket_of_siblings_has_no_stamps(cluster: LittleCluster, policy: Policy) -> None:
    policy.properties = DEFAULT_PROPERTIES
    written = await cluster.put("a", K, b"1", options=WriteOptions(returnbody=True))
    assert [one.stamp for one in written.record.siblings] == [0]
    assert stamp_of(written.context) == 0


# One replica, asked directly ------------------------------------------------------------------------


class Asked:
    """A `Call` that keeps what it was answered."""

    peer = "test"
    deadline = float("inf")

    def __init__(self) -> None:
        self.replies: list[object] = []

    def reply(self, reply: object, *, last: bool = True) -> None:
        self.replies.append(reply)


def one_write(stamp: int, value: bytes, *, node: int = 9, written_ms: int = 1) -> Record:
    return mint(
        EMPTY,
        (),
        birth=birth_bytes(incarnation_bytes(node, b"elsewher"), 1),
        counter=1,
        kind=VALUE,
        content=encode_content(Content(value)),
        written_ms=written_ms,
        stamp=stamp,
    )


async def ask(cluster: LittleCluster, handler: str, message: Request) -> list[object]:
    call = Asked()
    given: Call = call
    getattr(cluster.nodes["a"].replica, handler)(message, given)
    await cluster.settle()
    return call.replies


def message_of(cluster: LittleCluster) -> tuple[bytes, int, int, int, int]:
    routing, plan = cluster.nodes["a"].coordinator._plan(b"default", b"b", K)
    return routing, plan.class_id, plan.partition, 1, 1000


async def store(
    cluster: LittleCluster, record: Record, *, lww: bool = True, repair: bool = False
) -> object:
    message = Store(*message_of(cluster), encode_record(record), repair, lww=lww)
    (reply,) = await ask(cluster, "on_store", message)
    return reply


def node_a(cluster: LittleCluster) -> LittleNode:
    return cluster.nodes["a"]


@pytest.mark.parametrize(
    ("held", "comes", "older"),
    [
        ((5, 1), (6, 2), False),
        ((6, 1), (5, 2), True),
        # Equal stamps: the higher dot is shown, so the other does not count.
        ((5, 1), (5, 2), False),
        ((5, 2), (5, 1), True),
        ((0, 1), (5, 2), False),
    ],
)
async def test_a_replica_counts_a_write_only_if_it_shows_it(
    cluster: LittleCluster, held: tuple[int, int], comes: tuple[int, int], older: bool
) -> None:
    there = one_write(held[0], b"there", node=held[1])
    write = one_write(comes[0], b"write", node=comes[1])
    assert isinstance(await store(cluster, there), Synced)
    for _ in range(2):  # and when it comes again
        reply = await store(cluster, write)
        if older:
            assert isinstance(reply, Refused)
            assert (reply.code, reply.definite, reply.stamp) == ("older", False, held[0])
            assert reply.record
        else:
            assert isinstance(reply, Synced)
    merged = merge(there, write)
    assert node_a(cluster).record(cluster.storage_key(K)) == merged
    # A repair is no write: it is stored, and that is all.
    assert isinstance(await store(cluster, write, lww=False, repair=True), Synced)


async def test_a_write_of_a_clock_too_far_ahead_leaves_nothing(cluster: LittleCluster) -> None:
    now_ms = node_a(cluster).clock.wall_ms()
    for ahead_ms, code in ((AHEAD_MS_MAX, ""), (AHEAD_MS_MAX + 1000, "ahead")):
        at_ms = now_ms + ahead_ms
        write = one_write(stamp_at(at_ms), b"x", node=ahead_ms, written_ms=at_ms)
        before = node_a(cluster).record(cluster.storage_key(K))
        reply = await store(cluster, write)
        if code:
            assert isinstance(reply, Refused)
            assert (reply.code, reply.definite) == (code, True)
            assert node_a(cluster).record(cluster.storage_key(K)) == before
        else:
            assert isinstance(reply, Synced)
    assert node_a(cluster).metrics.count["refused_ahead"] == 1


async def test_a_repair_is_stored_whatever_its_stamp(cluster: LittleCluster) -> None:
    last = one_write(STAMP_MAX, b"x", written_ms=STAMP_MAX)
    assert isinstance(await store(cluster, last, lww=False, repair=True), Synced)
    assert stored(cluster, "a") == {b"x"}


async def test_nothing_is_minted_above_the_highest_stamp_there_is(cluster: LittleCluster) -> None:
    await store(cluster, one_write(STAMP_MAX, b"x"), lww=False, repair=True)
    message = Mint(*message_of(cluster), (), VALUE, b"", lww=True)
    (reply,) = await ask(cluster, "on_mint", message)
    assert isinstance(reply, Refused)
    assert (reply.code, reply.definite) == ("stamps_used_up", True)
    for node in "bc":
        cluster.links.down.add(node)
    with pytest.raises(Unavailable):
        await cluster.put("a", K, b"2")


async def test_a_record_without_siblings_harms_nobody(cluster: LittleCluster) -> None:
    empty = Record(1, ((birth_bytes(incarnation_bytes(9, b"elsewher"), 1), 1),), ())
    assert isinstance(await store(cluster, empty), Synced)
    assert isinstance(await store(cluster, one_write(5, b"x", node=3)), Synced)


@pytest.mark.parametrize("lost", ["disk", "record"])
async def test_a_copy_that_may_have_lost_a_higher_stamp_counts_for_no_write(
    cluster: LittleCluster, lost: str
) -> None:
    skew(cluster, "c", 30_000)
    cluster.links.sever("c", "b")
    await cluster.put("c", K, b"1")
    cut_off(cluster, "c")
    replica = cluster.nodes["a"].replica
    storage_key = cluster.storage_key(K)
    cluster.nodes["a"].storage.write((Write("records", storage_key, None),))
    if lost == "disk":
        cluster.nodes["a"].refill.mark_all()
    else:
        replica.put_aside(storage_key, b"rotten")
    # Only c, which cannot be asked, still knows what is above these.
    for node in "ab":
        with pytest.raises(WriteUncertain):
            await cluster.put(node, K, b"2", options=WriteOptions(timeout_ms=700))
    assert stored(cluster, "a") == {b"2"}
    cluster.links.cut.clear()
    cluster.nodes["a"].refill.wake()
    await cluster.settle()
    assert not replica.refilling
    assert not replica.damaged
    written = await cluster.put("a", K, b"3", options=ALL)
    assert written.primary_acks == 3
    assert values(await cluster.get("c", K, ALL_READ)) == {b"3"}
