"""Tombstones that go for good in a whole cluster, and those that must not: the scenes of the field."""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec

from dynamo.ports import Call, Handler
from dynamo.requests import Found, ReadOptions, WriteOptions
from dynamo.rpc.messages import Reply
from dynamo.rpc.reap_messages import Drop, Dropped, Held, Holds
from dynamo.sim import Cluster, run_virtual
from dynamo.sim.chance import stream

ALL = WriteOptions(w="all")
LETTERS = "abcdefgh"


def values(found: Found) -> set[bytes]:
    return {sibling.read().value for sibling in found.siblings}


def play(
    scene: Callable[[Cluster], Coroutine[Any, Any, None]],
    *,
    nodes: int = 3,
    seed: int = 1,
    reap_after: int = 1,
) -> None:
    async def main() -> None:
        cluster = Cluster(nodes=LETTERS[:nodes], seed=seed)
        for node in cluster.nodes.values():
            node.config = msgspec.structs.replace(node.config, reap_after=reap_after)
        async with cluster:
            await scene(cluster)

    run_virtual(main(), random=stream(seed, "loop"), seconds_max=1_000_000.0)


def left(cluster: Cluster, key: bytes) -> list[str]:
    """Owners that have anything of the key."""
    return [name for name in cluster.owners(key) if cluster.record(name, key)]


def queued(cluster: Cluster) -> int:
    return sum(
        node.services._replica.queue.dead + node.services._replica.queue.long
        for node in cluster.nodes.values()
        if node.services is not None
    )


def reasons(cluster: Cluster) -> set[str]:
    return {
        one.why
        for node in cluster.nodes.values()
        if node.services is not None
        for one in node.services.tombstones().waiting
    }


async def gone(cluster: Cluster, key: bytes, *, patience: float = 60.0) -> None:
    await cluster.until(lambda: not left(cluster, key), f"{key!r} is reaped", patience=patience)


async def deleted(cluster: Cluster, key: bytes, *, at: str = "a") -> None:
    await cluster.write(at, key, b"old", options=ALL)
    await cluster.delete(at, key, options=ALL)


def test_a_deleted_key_leaves_nothing_anywhere() -> None:
    async def scene(cluster: Cluster) -> None:
        for number in range(20):
            await deleted(cluster, b"k%d" % number)
        assert queued(cluster) == 60
        for number in range(20):
            await gone(cluster, b"k%d" % number)
        assert queued(cluster) == 0
        assert cluster.count("tombstones_reaped") == 20
        assert cluster.count("tombstones_dropped") == 60
        found = await cluster.read("b", b"k1")
        assert (values(found), found.deleted, found.context) == (set(), False, b"")

    play(scene)


def test_what_was_reaped_stays_gone_after_a_crash_of_all() -> None:
    async def scene(cluster: Cluster) -> None:
        await deleted(cluster, b"k")
        await gone(cluster, b"k")
        for name in "abc":
            cluster.crash(name, silent=True)
        for name in "abc":
            cluster.restart(name)
        await cluster.settle()
        assert left(cluster, b"k") == []
        assert not (await cluster.read("a", b"k")).deleted

    play(scene)


def test_a_key_made_anew_after_the_reap_has_dots_of_its_own() -> None:
    async def scene(cluster: Cluster) -> None:
        await deleted(cluster, b"k")
        old = cluster.record("a", b"k").vector
        await gone(cluster, b"k")
        await cluster.write("a", b"k", b"new", options=ALL)
        assert {birth for birth, _ in cluster.record("b", b"k").vector}.isdisjoint(dict(old))
        assert values(await cluster.read("c", b"k")) == {b"new"}
        assert queued(cluster) == 0

    play(scene)


def test_a_young_tombstone_is_left_alone() -> None:
    async def scene(cluster: Cluster) -> None:
        await deleted(cluster, b"k")
        await asyncio.sleep(100)
        assert len(left(cluster, b"k")) == 3
        await asyncio.sleep(60)
        assert left(cluster, b"k") == []

    play(scene, reap_after=120)


def test_what_is_written_meanwhile_is_not_dropped() -> None:
    async def scene(cluster: Cluster) -> None:
        await deleted(cluster, b"k")
        await cluster.write("a", b"k", b"new")
        await asyncio.sleep(60)
        assert values(await cluster.read("b", b"k")) == {b"new"}
        assert queued(cluster) == 0

    play(scene)


def test_scene_2_a_dead_fallback_that_has_the_tombstone_blocks_the_reap() -> None:
    async def scene(cluster: Cluster) -> None:
        a, b, c = cluster.owners(b"k")
        await cluster.write(a, b"k", b"old", options=ALL)
        cluster.crash(c)
        await asyncio.sleep(2)
        # A spare node takes the tombstone in the place of c, and dies.
        await cluster.delete(a, b"k", options=WriteOptions(w=3))
        (fallback,) = (name for name in cluster.nodes if cluster.hints(name, b"k") and name != a)
        cluster.crash(fallback)
        cluster.restart(c)
        await asyncio.sleep(60)
        # c has it by a read, so that all owners do; who may hold a hint is not there to say so.
        await cluster.read(a, b"k", ReadOptions(r="all"))
        await asyncio.sleep(60)
        assert len(left(cluster, b"k")) == 3
        assert any(fallback in why for why in reasons(cluster))
        await cluster.write(b, b"k", b"new")
        cluster.restart(fallback)
        await asyncio.sleep(120)
        assert not cluster.hints(fallback, b"k", synced=False)
        for name in cluster.nodes:
            assert values(await cluster.read(name, b"k")) == {b"new"}

    play(scene, nodes=4)


def test_scene_3_a_primary_that_is_away_blocks_the_reap() -> None:
    async def scene(cluster: Cluster) -> None:
        a, b, c = cluster.owners(b"k")
        await deleted(cluster, b"k", at=a)
        cluster.crash(c)
        await asyncio.sleep(120)
        assert len(left(cluster, b"k")) == 3
        assert reasons(cluster) == {f"{c} cannot be reached"}
        await cluster.write(a, b"k", b"new")
        cluster.restart(c)
        await cluster.ready()
        for name in (c, a, b, c, c):
            assert values(await cluster.read(name, b"k")) == {b"new"}
        await asyncio.sleep(120)
        assert values(await cluster.read(c, b"k", ReadOptions(r="all"))) == {b"new"}

    play(scene)


def test_a_member_that_returns_lets_it_go_on() -> None:
    async def scene(cluster: Cluster) -> None:
        await deleted(cluster, b"k")
        cluster.crash("c")
        await asyncio.sleep(300)
        assert len(left(cluster, b"k")) == 3
        cluster.restart("c")
        await gone(cluster, b"k", patience=30)

    play(scene)


def test_a_cut_member_that_owns_nothing_of_the_key_blocks_the_reap() -> None:
    async def scene(cluster: Cluster) -> None:
        await deleted(cluster, b"k")
        (stranger,) = set(cluster.nodes) - set(cluster.owners(b"k"))
        a, *_ = cluster.owners(b"k")
        # One link alone: the others reach it, and it cannot ping one of them.
        cluster.cut((stranger,), (a,))
        await asyncio.sleep(120)
        assert len(left(cluster, b"k")) == 3
        cluster.heal()
        await gone(cluster, b"k", patience=60)

    play(scene, nodes=4)


def test_scene_13_a_fallback_that_mints_again_does_not_meet_its_old_dots() -> None:
    async def scene(cluster: Cluster) -> None:
        owners = cluster.owners(b"k")
        spare = [name for name in cluster.nodes if name not in owners]
        for value in (b"one", b"two"):
            for name in owners:
                cluster.crash(name)
            await asyncio.sleep(5)
            await cluster.write(spare[0], b"k", value, options=WriteOptions(w=2))
            for name in owners:
                cluster.restart(name)
            await cluster.drained()
            await cluster.settle()
            found = await cluster.read(owners[0], b"k", ReadOptions(r="all"))
            assert values(found) == {value}
            await cluster.delete(owners[0], b"k", found.context, options=ALL)
            await gone(cluster, b"k")
        assert cluster.count("dots_with_two_values") == 0

    play(scene, nodes=5)


def test_a_store_that_is_late_does_not_come_after_the_drop() -> None:
    """A frozen fallback has the old value in its bytes, unread; it thaws after the delete."""

    async def scene(cluster: Cluster) -> None:
        a, b, c = cluster.owners(b"k")
        await cluster.write(a, b"k", b"old", options=ALL)
        cluster.pause(c)
        update = asyncio.ensure_future(
            cluster.write(a, b"k", b"concurrent", options=WriteOptions(w=2))
        )
        await asyncio.sleep(0.5)
        await update
        cluster.crash(c)
        cluster.restart(c)
        await cluster.settle()
        await cluster.delete(b, b"k", options=WriteOptions(w=2))
        await gone(cluster, b"k", patience=300)
        await asyncio.sleep(60)
        for name in (a, b, c):
            assert not values(await cluster.read(name, b"k"))

    play(scene, nodes=4)


def test_a_drop_that_one_owner_misses_is_made_good_and_then_it_is_quiet() -> None:
    lost: list[str] = []

    def losing(name: str, handlers: Mapping[type, Handler]) -> Mapping[type, Handler]:
        def on_drop(message: Drop, call: Call) -> None:
            if name == "c" and len(lost) < 2:
                lost.append(call.peer)
                call.reply(Dropped(tuple((at, "not now") for at in range(len(message.entries)))))
            else:
                handlers[Drop](message, call)

        return ChainMap({Drop: on_drop}, handlers)  # type: ignore[arg-type]

    async def scene(cluster: Cluster) -> None:
        await deleted(cluster, b"k")
        await cluster.until(lambda: left(cluster, b"k") == ["c"], "two have dropped it")
        await asyncio.sleep(15)
        services = cluster.nodes["c"].services
        assert services is not None
        assert services.tombstones().elsewhere == 1
        # A read finds it at one owner, and gives it back to the others.
        assert (await cluster.read("a", b"k", ReadOptions(r="all"))).deleted
        await asyncio.sleep(0.5)
        assert left(cluster, b"k") == ["a", "b", "c"]
        for _ in range(10):
            await asyncio.sleep(10)
            await cluster.read("a", b"k", ReadOptions(r="all"))
        assert left(cluster, b"k") == []
        messages = cluster.count("fetches") + cluster.count("repairs_stored")
        rounds = cluster.count("settles")
        await asyncio.sleep(300)
        assert cluster.count("fetches") + cluster.count("repairs_stored") == messages
        assert cluster.count("settles") == rounds
        assert queued(cluster) == 0

    async def main() -> None:
        cluster = Cluster(nodes="abc", seed=1)
        cluster.sieve = losing
        for node in cluster.nodes.values():
            node.config = msgspec.structs.replace(node.config, reap_after=1)
        async with cluster:
            await scene(cluster)

    run_virtual(main(), random=stream(1, "loop"), seconds_max=100_000.0)


def test_an_owner_that_was_started_anew_since_it_said_what_it_holds_blocks_the_reap() -> None:
    """Its disk may have gone back meanwhile to before the delete: the proof has to begin again."""
    earlier = [True]

    def of_an_earlier_start(name: str, handlers: Mapping[type, Handler]) -> Mapping[type, Handler]:
        def on_holds(message: Holds, call: Call) -> None:
            handlers[Holds](message, _Rewritten(call) if name == "c" and earlier[0] else call)

        return ChainMap({Holds: on_holds}, handlers)  # type: ignore[arg-type]

    async def main() -> None:
        cluster = Cluster(nodes="abc", seed=1)
        cluster.sieve = of_an_earlier_start
        for node in cluster.nodes.values():
            node.config = msgspec.structs.replace(node.config, reap_after=1)
        async with cluster:
            await deleted(cluster, b"k")
            await asyncio.sleep(60)
            assert left(cluster, b"k") == ["a", "b", "c"]
            assert "c was started anew meanwhile" in reasons(cluster)
            earlier[0] = False
            await gone(cluster, b"k")

    run_virtual(main(), random=stream(1, "loop"), seconds_max=100_000.0)


class _Rewritten:
    """A call whose Held says that it is of the start before."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.peer, self.deadline = call.peer, call.deadline

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        assert isinstance(reply, Held)
        self._call.reply(msgspec.structs.replace(reply, start=reply.start - 1), last=last)


def test_an_owner_whose_storage_takes_nothing_does_not_make_the_others_drop_in_vain() -> None:
    async def scene(cluster: Cluster) -> None:
        await deleted(cluster, b"k")
        services: Any = cluster.nodes["c"].services
        storage = services._storage
        refusal = storage.refusal
        storage.refusal = lambda **_: "storage_busy"
        await asyncio.sleep(60)
        assert left(cluster, b"k") == ["a", "b", "c"]
        assert cluster.count("tombstones_dropped") == 0
        storage.refusal = refusal
        await gone(cluster, b"k")

    play(scene)


def test_births_of_starts_that_are_over_leave_the_vectors() -> None:
    async def scene(cluster: Cluster) -> None:
        context = b""
        for number in range(12):
            # Each start of a node mints under a birth of its own.
            await cluster.write("a", b"k", b"%d" % number, context, ALL)
            cluster.crash("a")
            cluster.restart("a")
            await cluster.ready()
            context = (await cluster.read("a", b"k")).context
        assert len(cluster.record("b", b"k").vector) == 12
        await cluster.until(
            lambda: all(len(cluster.record(name, b"k").vector) < 9 for name in "abc"),
            "births have left the vectors",
        )
        assert {cluster.record(name, b"k") for name in "abc"} == {cluster.record("a", b"k")}
        assert values(await cluster.read("b", b"k", ReadOptions(r="all"))) == {b"11"}
        assert queued(cluster) == 0
        # A context of before still covers, though it brings them back for a while.
        await cluster.write("b", b"k", b"new", context, ALL)
        assert values(await cluster.read("c", b"k")) == {b"new"}
        assert queued(cluster) == 3
        await cluster.until(lambda: queued(cluster) == 0, "they have left them again")
        assert values(await cluster.read("a", b"k", ReadOptions(r="all"))) == {b"new"}
        assert cluster.count("foreign_dots") == cluster.count("dots_with_two_values") == 0

    play(scene)
