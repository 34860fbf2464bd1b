"""Values with an end in a cluster: who sets it, who judges it, what repairs do with it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from little_cluster import LittleCluster, values

from dynamo import record
from dynamo.ask import ask
from dynamo.errors import InvalidArgument, PreconditionFailed
from dynamo.expiry import Expiry
from dynamo.keys import PREFIX_BYTES
from dynamo.ports import Write
from dynamo.properties import DEFAULT_PROPERTIES, BucketProperties
from dynamo.record import (
    EXPIRED_BODY_KEPT_MS,
    SIBLINGS_MAX,
    SIBLINGS_WARN,
    TOMBSTONE,
    encode_record,
)
from dynamo.requests import TTL_S_MAX, ListOptions, ReadOptions, WriteOptions, Written
from dynamo.rpc.messages import Condition, Store

K = b"k"
ALL = WriteOptions(w="all")
ALL_READ = ReadOptions(r="all")
BLOCKING = ReadOptions(read_repair="blocking", pr="quorum")
MINUTE = WriteOptions(w="all", ttl_s=60)
TEN_MINUTES_MS = 600_000
HOUR = EXPIRED_BODY_KEPT_MS


class Policy:
    """The properties of every bucket; a test may change them."""

    def __init__(self) -> None:
        self.properties = DEFAULT_PROPERTIES

    def __call__(self, bucket_type: bytes, bucket: bytes) -> BucketProperties:
        return self.properties


@pytest.fixture
def policy() -> Policy:
    return Policy()


@pytest.fixture
async def cluster(policy: Policy) -> AsyncIterator[LittleCluster]:
    async with LittleCluster(3, properties=policy) as made:
        yield made


def pass_ms(cluster: LittleCluster, ms: int, nodes: str = "abc") -> None:
    for node in nodes:
        cluster.nodes[node].clock.offset_ms += ms


async def sweep(cluster: LittleCluster, nodes: str = "abc") -> None:
    """These nodes let go of what their clocks say is over, and have said for long."""
    for name in nodes:
        node = cluster.nodes[name]
        expiry = Expiry(
            replica=node.replica,
            storage=node.storage,
            commit=node.commit,
            clock=node.clock,
            chance=random.Random(1),
            metrics=node.metrics,
        )
        await expiry.work_off(asyncio.sleep)


def ends(cluster: LittleCluster) -> set[int]:
    """When the values that the nodes hold expire."""
    return {s.expires_ms for record in cluster.records(K).values() for s in record.siblings}


def bodies(cluster: LittleCluster) -> dict[str, int]:
    """How many bodies each node holds."""
    return {
        name: sum(sibling.content is not None for sibling in record.siblings)
        for name, record in cluster.records(K).items()
    }


def repairs(cluster: LittleCluster) -> int:
    return sum(node.metrics.count["read_repairs"] for node in cluster.nodes.values())


async def listed(cluster: LittleCluster, node: str) -> list[bytes]:
    parts = cluster.nodes[node].listing.list_keys(b"default", b"b", ListOptions())
    return [name async for part in parts for name in part.names]


# Who says when -----------------------------------------------------------------------------------


async def test_the_end_is_set_by_the_clock_of_who_was_asked(cluster: LittleCluster) -> None:
    pass_ms(cluster, TEN_MINUTES_MS, "b")
    now_ms = cluster.nodes["b"].clock.wall_ms()
    await cluster.put("b", K, b"v", options=MINUTE)
    (end,) = ends(cluster)
    assert now_ms + 60_000 <= end <= now_ms + 65_000


@pytest.mark.parametrize(
    ("asked", "bucket", "lasts_s"),
    [
        (None, 0, 0),
        (None, 60, 60),
        (0, 60, 0),
        (90, 60, 90),
        (90, 0, 90),
        (TTL_S_MAX, 0, TTL_S_MAX),
    ],
)
async def test_a_write_goes_before_its_bucket(
    cluster: LittleCluster, policy: Policy, asked: int | None, bucket: int, lasts_s: int
) -> None:
    if bucket:
        policy.properties = BucketProperties(ttl=bucket)
    now_ms = cluster.nodes["a"].clock.wall_ms()
    await cluster.put("a", K, b"v", options=WriteOptions(w="all", ttl_s=asked))
    (end,) = ends(cluster)
    assert 0 <= end - (now_ms + lasts_s * 1000 if lasts_s else 0) <= 5000


async def test_an_absolute_time_goes_before_the_bucket(
    cluster: LittleCluster, policy: Policy
) -> None:
    policy.properties = BucketProperties(ttl=60)
    await cluster.put("a", K, b"v", options=WriteOptions(w="all", expires_ms=1_900_000_000_000))
    assert ends(cluster) == {1_900_000_000_000}


@pytest.mark.parametrize("ttl_s", [-1, TTL_S_MAX + 1])
async def test_a_time_to_live_out_of_range_writes_nothing(
    cluster: LittleCluster, ttl_s: int
) -> None:
    with pytest.raises(InvalidArgument):
        await cluster.put("a", K, b"v", options=WriteOptions(ttl_s=ttl_s))
    assert ends(cluster) == set()


async def test_an_overwrite_without_an_end_has_none(cluster: LittleCluster) -> None:
    await cluster.put("a", K, b"1", options=MINUTE)
    context = (await cluster.get("b", K)).context
    await cluster.put("b", K, b"2", context, ALL)
    assert ends(cluster) == {0}


async def test_a_tombstone_has_no_end(cluster: LittleCluster, policy: Policy) -> None:
    policy.properties = BucketProperties(ttl=60)
    await cluster.put("a", K, b"v", options=ALL)
    deleted = await cluster.delete("a", K, options=WriteOptions(w="all", ttl_s=5))
    assert isinstance(deleted, Written)
    assert ends(cluster) == {0}
    assert all(
        s.kind == TOMBSTONE for record in cluster.records(K).values() for s in record.siblings
    )


# What is shown -----------------------------------------------------------------------------------


async def test_an_expired_value_is_gone_as_a_deleted_one_is(cluster: LittleCluster) -> None:
    await cluster.put("a", K, b"v", options=MINUTE)
    assert values(await cluster.get("b", K)) == {b"v"}
    pass_ms(cluster, 60_000)
    found = await cluster.get("b", K)
    assert (found.siblings, found.deleted, bool(found.context)) == ((), True, True)
    assert await listed(cluster, "c") == []
    await cluster.put("c", K, b"new", found.context, ALL)
    assert values(await cluster.get("a", K)) == {b"new"}
    assert ends(cluster) == {0}


async def test_what_a_read_has_kept_ends_with_the_value(cluster: LittleCluster) -> None:
    await cluster.put("a", K, b"v", options=MINUTE)
    first, again = await cluster.get("b", K), await cluster.get("b", K)
    assert again is first
    pass_ms(cluster, 60_000)
    assert (await cluster.get("b", K)).deleted
    pass_ms(cluster, -60_000)
    assert values(await cluster.get("b", K)) == {b"v"}


async def test_of_siblings_only_the_expired_are_hidden(cluster: LittleCluster) -> None:
    await cluster.put("a", K, b"stays", options=ALL)
    await cluster.put("a", K, b"goes", options=MINUTE)
    both = await cluster.get("a", K)
    assert values(both) == {b"stays", b"goes"}
    pass_ms(cluster, 60_000)
    for _ in range(2):
        assert values(await cluster.get("b", K, ALL_READ)) == {b"stays"}
        assert await listed(cluster, "b") == [K]
        pass_ms(cluster, HOUR)
        await sweep(cluster)
    assert set(bodies(cluster).values()) == {1}


async def test_where_the_last_write_wins_it_does_so_after_its_end(
    cluster: LittleCluster, policy: Policy
) -> None:
    policy.properties = BucketProperties(conflict="lww", ttl=60)
    await cluster.put("a", K, b"1", options=WriteOptions(w="all", ttl_s=0))
    await cluster.put("b", K, b"2", options=ALL)
    assert values(await cluster.get("c", K)) == {b"2"}
    pass_ms(cluster, 60_000)
    assert (await cluster.get("c", K)).deleted
    pass_ms(cluster, HOUR)
    await sweep(cluster)
    assert (await cluster.get("c", K, ALL_READ)).deleted
    await cluster.put("a", K, b"3", options=WriteOptions(w="all", ttl_s=0))
    assert values(await cluster.get("c", K)) == {b"3"}


async def test_blind_writes_with_an_end_never_meet_a_cap(cluster: LittleCluster) -> None:
    for number in range(SIBLINGS_MAX + 5):
        await cluster.put("abc"[number % 3], K, b"%d" % number, options=MINUTE)
        pass_ms(cluster, 60_000)
        assert len(cluster.records(K)["a"].siblings) <= SIBLINGS_WARN + 1
    await cluster.put("a", K, b"last", options=ALL)
    assert values(await cluster.get("b", K, ALL_READ)) == {b"last"}


# Clocks ten minutes apart ------------------------------------------------------------------------


async def test_clocks_apart_move_the_end_and_nothing_else(cluster: LittleCluster) -> None:
    pass_ms(cluster, TEN_MINUTES_MS, "b")
    pass_ms(cluster, -TEN_MINUTES_MS, "c")
    await cluster.put("a", K, b"v", options=MINUTE)
    assert values(await cluster.get("a", K)) == {b"v"}
    assert (await cluster.get("b", K, ALL_READ)).deleted
    assert values(await cluster.get("c", K, BLOCKING)) == {b"v"}
    await sweep(cluster)
    assert set(bodies(cluster).values()) == {1}  # an hour is more than clocks differ
    pass_ms(cluster, 60_000)
    assert (await cluster.get("a", K)).deleted
    assert values(await cluster.get("c", K)) == {b"v"}
    assert repairs(cluster) == 0
    await cluster.settle()
    assert len(set(cluster.records(K).values())) == 1


async def test_one_request_is_judged_by_one_clock() -> None:
    async with LittleCluster(4) as cluster:
        asked, behind = next(n for n in "abcd" if n not in cluster.owners(K)), cluster.owners(K)
        pass_ms(cluster, -TEN_MINUTES_MS, "".join(behind))
        create = WriteOptions(w="all", condition=Condition(if_none_match=("*",)))
        await cluster.put(asked, K, b"v", options=MINUTE)
        with pytest.raises(PreconditionFailed):
            await cluster.put(asked, K, b"w", options=create)
        pass_ms(cluster, 60_000, "abcd")
        assert values(await cluster.get(behind[0], K)) == {b"v"}
        # Whoever mints would still show the old value.
        await cluster.put(asked, K, b"w", options=create)
        assert values(await cluster.get(asked, K)) == {b"w"}
        with pytest.raises(PreconditionFailed):
            await cluster.put(behind[0], K, b"x", options=create)


async def test_a_late_clock_shows_a_value_without_its_body_as_expired(
    cluster: LittleCluster,
) -> None:
    await cluster.put("a", K, b"v", options=MINUTE)
    pass_ms(cluster, HOUR + 60_000, "b")
    await sweep(cluster)
    assert sorted(bodies(cluster).values()) == [0, 1, 1]
    # The others are an hour behind: whose body they meet says what they show.
    for node in "abc":
        found = await cluster.get(node, K, ALL_READ)
        assert found.deleted or values(found) == {b"v"}
    cluster.lose("a", "c")
    assert (await cluster.get("b", K, ReadOptions(r=1))).deleted
    assert repairs(cluster) == 0


# Repairs -----------------------------------------------------------------------------------------


async def test_bodies_that_went_here_and_not_there_are_no_difference(
    cluster: LittleCluster,
) -> None:
    await cluster.put("a", K, b"v", options=MINUTE)
    prefix = cluster.storage_key(K)[:PREFIX_BYTES]
    trees = {
        name: list(node.replica.forest.trees[prefix].leaves) for name, node in cluster.nodes.items()
    }
    pass_ms(cluster, HOUR + 60_000)
    await sweep(cluster, "a")
    cluster.links.sent.clear()
    for node in "abc":
        assert (await cluster.get(node, K, ALL_READ)).deleted
        assert (await cluster.get(node, K, BLOCKING)).deleted
        assert await listed(cluster, node) == []
    await cluster.settle()
    assert not [m for _, _, m in cluster.links.sent if isinstance(m, Store)]
    assert repairs(cluster) == 0
    assert bodies(cluster) == {"a": 0, "b": 1, "c": 1}
    await sweep(cluster)
    assert set(bodies(cluster).values()) == {0}
    assert trees == {
        name: list(node.replica.forest.trees[prefix].leaves) for name, node in cluster.nodes.items()
    }


async def test_a_repair_brings_no_expired_value_back(cluster: LittleCluster) -> None:
    await cluster.put("a", K, b"v", options=MINUTE)
    old = cluster.nodes["c"].storage.get("records", cluster.storage_key(K))
    pass_ms(cluster, HOUR + 60_000)
    await sweep(cluster)
    context = (await cluster.get("a", K)).context
    await cluster.put("a", K, b"stays", context, ALL)
    # An old copy with its body comes back, and everybody repairs everybody.
    assert old is not None
    cluster.nodes["c"].storage.put("records", cluster.storage_key(K), old)
    for node in "cab":
        assert values(await cluster.get(node, K, ALL_READ)) == {b"stays"}
        await cluster.settle()
    assert set(bodies(cluster).values()) == {1}


async def comes_back(cluster: LittleCluster) -> bool:
    """Whether a node that has let go of a body takes it again from one that has not."""
    await cluster.put("a", K, b"v", options=MINUTE)
    pass_ms(cluster, HOUR + 60_000)
    await sweep(cluster, "a")
    routing, plan = cluster.nodes["c"].coordinator._plan(b"default", b"b", K)
    late = encode_record(cluster.records(K)["c"])
    store = Store(routing, plan.class_id, plan.partition, plan.epoch, 1000, late, repair=True)
    await ask(cluster.nodes["c"].transport, "a", store, 1.0)
    return bodies(cluster)["a"] > 0


async def test_a_late_copy_brings_no_body_back(cluster: LittleCluster) -> None:
    assert not await comes_back(cluster)


async def test_were_bodies_to_win_a_merge_they_would_come_back(
    cluster: LittleCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_rank", lambda sibling: sibling.content is None)
    assert await comes_back(cluster)


async def test_a_replica_that_lost_the_value_gets_it_as_it_is(cluster: LittleCluster) -> None:
    await cluster.put("a", K, b"v", options=MINUTE)
    pass_ms(cluster, HOUR + 60_000)
    await sweep(cluster, "ab")
    cluster.nodes["c"].storage.write([Write("records", cluster.storage_key(K), None)])
    assert (await cluster.get("a", K, ALL_READ)).deleted
    await cluster.settle()
    assert bodies(cluster) == {"a": 0, "b": 0, "c": 0}
    records = set(cluster.records(K).values())
    assert len(records) == 1
