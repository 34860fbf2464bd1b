"""What goes for good is judged from the disks: by every owner's copy, by hints, by what comes later."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from dynamo.ports import Write
from dynamo.record import decode_record, encode_record, without_expired_bodies
from dynamo.requests import WriteOptions
from dynamo.sim import Cluster, simulate
from dynamo.sim.history import EXPIRY_EARLY_MS, TOMBSTONE_TAG, History, Operation
from dynamo.sim.reaps import Reaps
from dynamo.stored import DEAD, decode_stored, encode_stored

K = b"k"


def judge(
    scene: Callable[[Cluster, Reaps], Coroutine[Any, Any, None]], *, nodes: int = 3
) -> History:
    """What the history has after the scene: the put 0, and the delete 1 of it."""

    async def play(cluster: Cluster) -> History:
        history = History(n=cluster.replicas, owners={K: cluster.owners(K)})
        reaps = Reaps(cluster, history)
        for kind, past in (("put", ()), ("delete", (0,))):
            id = history.next_id()
            one = Operation(id, kind, K, "a", 0.0, 1.0, past=frozenset(past))  # type: ignore[arg-type]
            history.begin(one)
        await scene(cluster, reaps)
        return history

    return simulate(play, nodes=nodes)


async def write(cluster: Cluster) -> None:
    await cluster.write(cluster.owners(K)[0], K, b"0", options=WriteOptions(w="all"))


async def delete(cluster: Cluster) -> None:
    options = WriteOptions(expires_ms=TOMBSTONE_TAG + 1)
    await cluster.delete(cluster.owners(K)[0], K, options=options)


def drop(cluster: Cluster, name: str) -> None:
    """The node removes its record."""
    disk = cluster.nodes[name].disk
    assert disk.current("records", cluster.storage_key(K)) is not None
    disk.append((Write("records", cluster.storage_key(K), None),))


def test_a_tombstone_that_all_have_may_go() -> None:
    async def scene(cluster: Cluster, reaps: Reaps) -> None:
        await write(cluster)
        await delete(cluster)
        await cluster.ready()
        await cluster.settle()
        for name in cluster.nodes:
            drop(cluster, name)

    history = judge(scene)
    assert history.broken_reaps == []
    assert [one.node for one in history.reaped] == list("abc")
    assert {one.ids for one in history.reaped} == {frozenset({1})}
    assert history.gone(K) == {0, 1}


def test_a_tombstone_that_an_owner_has_not_got_must_stay() -> None:
    async def scene(cluster: Cluster, reaps: Reaps) -> None:
        await write(cluster)
        last = cluster.owners(K)[-1]
        cluster.crash(last)
        await delete(cluster)
        drop(cluster, cluster.owners(K)[0])

    (broken,) = judge(scene).broken_reaps
    assert "has not got {1} on disk" in broken


def test_a_tombstone_must_stay_while_somebody_holds_what_it_covers() -> None:
    async def scene(cluster: Cluster, reaps: Reaps) -> None:
        first, *_, last = cluster.owners(K)
        cluster.crash(last)
        await cluster.until(lambda: _holds_it_for_down(cluster, last), "it is known to be down")
        await cluster.write(first, K, b"0")
        (holder,) = set(cluster.nodes) - set(cluster.owners(K))
        await cluster.until(lambda: bool(cluster.hints(holder, K)), "there is a hint")
        cluster.cut((holder,), cluster.owners(K))
        cluster.restart(last)
        await cluster.until(lambda: cluster.nodes[last].state == "up", "it is up")
        await cluster.until(lambda: _connected(cluster, first, last), "they are connected")
        await delete(cluster)
        await cluster.read(first, K)
        await cluster.until(
            lambda: all(not cluster.siblings(name, K) for name in cluster.owners(K)), "it is gone"
        )
        await cluster.until(
            lambda: all(cluster.nodes[name].disk.unsynced == 0 for name in cluster.owners(K)), "it"
        )
        drop(cluster, first)

    (broken,) = judge(scene, nodes=4).broken_reaps
    assert "holds {0} for" in broken


def _holds_it_for_down(cluster: Cluster, name: str) -> bool:
    others = [node.services for node in cluster.nodes.values() if node.services is not None]
    return all(name not in services.connected() for services in others)


def _connected(cluster: Cluster, one: str, other: str) -> bool:
    services = cluster.nodes[one].services
    return services is not None and other in services.connected()


def test_a_record_that_shows_a_value_must_stay() -> None:
    async def scene(cluster: Cluster, reaps: Reaps) -> None:
        await write(cluster)
        drop(cluster, cluster.owners(K)[0])

    (broken,) = judge(scene).broken_reaps
    assert "which shows {0}" in broken


def test_what_was_covered_must_not_be_stored_again() -> None:
    async def scene(cluster: Cluster, reaps: Reaps) -> None:
        await write(cluster)
        record = cluster.nodes["a"].disk.durable("records", cluster.storage_key(K))
        assert record is not None
        await delete(cluster)
        await cluster.settle()
        old = _encoded(cluster, record)
        reaps.stored("a", cluster.routing_key(K), old)
        for name in cluster.nodes:
            drop(cluster, name)
        reaps.stored("a", cluster.routing_key(K), old)

    (broken,) = judge(scene).broken_reaps
    assert "is given {0}" in broken


def test_a_body_must_not_come_back_to_a_disk_that_let_it_go() -> None:
    async def scene(cluster: Cluster, reaps: Reaps) -> None:
        reaps.watch_bodies()
        options = WriteOptions(w="all", expires_ms=EXPIRY_EARLY_MS)
        await cluster.write(cluster.owners(K)[0], K, b"0", options=options)
        storage_key = cluster.storage_key(K)
        disk = cluster.nodes["a"].disk
        whole = disk.current("records", storage_key)
        assert whole is not None
        stored = decode_stored(storage_key, whole)
        bare = encode_record(without_expired_bodies(decode_record(stored.record), 1 << 50))
        gone = encode_stored(storage_key, stored.birth, stored.counter, bare, state=DEAD)
        for data in (gone, gone, whole):
            disk.append((Write("records", storage_key, data),))

    (broken,) = judge(scene).broken_reaps
    assert "the body of {0} of b'k' is back on the disk of a" in broken


def _encoded(cluster: Cluster, data: bytes) -> bytes:
    return decode_stored(cluster.storage_key(K), data).record
