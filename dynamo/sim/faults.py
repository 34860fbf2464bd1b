"""Carries out the faults of a plan on a cluster, undoes each in its time, and heals all in the end.

Of two faults that do the same to one link, disk or node, each ends when it is to end: a link is whole
when the last cut is undone, and as slow as the slowest that is left. Knows nothing of clients.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from errno import ENOSPC
from functools import partial
from typing import Final

from dynamo.sim.chance import stream
from dynamo.sim.cluster import Cluster
from dynamo.sim.history import History, Why
from dynamo.sim.kinds import Kind
from dynamo.sim.ledger import Ledger
from dynamo.sim.losses import Losses
from dynamo.sim.names import key_names
from dynamo.sim.plan import Fault, Plan
from dynamo.sim.points import SOON, Point

#: A node that starts has tried all its peers after so long, if nothing is in its way.
_MEETING_SECONDS: Final = 1.0
#: What is done to the next chunk of a link, if one comes.
_TRICKS: Final[tuple[Kind, ...]] = ("flip", "tear", "repeat", "swap", "replay")
_SUPERVISOR_SECONDS: Final = 0.5
#: How long a node is waited for that clients wait for, and how often it is looked at.
_BUSY_SECONDS: Final = 0.5
_BUSY_LOOK: Final = 0.001


class Injector:
    """The faults of one run. `healed`: nothing goes wrong any more."""

    def __init__(
        self, plan: Plan, cluster: Cluster, history: History, ledger: Ledger, *, start: float
    ) -> None:
        self._plan = plan
        self._cluster = cluster
        self._history = history
        self._start = start
        self.healed = False
        #: Nodes that ended by themselves, and why: none should.
        self.failures: list[str] = []
        at_once = max(1, (plan.replicas - 1) // 2)
        self.losses = Losses(cluster, history, ledger, at_once=at_once)
        for node in cluster.nodes.values():
            node.disk.around_rebuild = partial(self._rebuilding, node.name)
        cluster.on_point = self._at_point
        cluster.on_end = self._ended
        #: How many faults of each kind came to something.
        self.injected: Counter[Kind] = Counter()
        #: Where each node is to crash, after how many more times there, and who asked for it.
        self._armed: dict[str, tuple[Point, int, Fault]] = {}
        #: How many cuts are on each link, and how slow each link or disk is to be.
        self._cuts: Counter[tuple[str, str]] = Counter()
        self._slowed: dict[tuple[str, ...], list[int]] = {}
        #: How many faults keep each disk full.
        self._full: Counter[str] = Counter()

    @contextmanager
    def _rebuilding(self, name: str) -> Iterator[None]:
        """A database is rebuilt by what an iterator reaches: a record in the range of a damaged block
        goes with it, also one that was written since and could be read until now."""
        had, held = self.losses.had(name), self.losses.hints_of(name)
        yield
        self._history.went_back.add(name)
        self.losses.lost(name, had, "rot")
        self.losses.lost_hints(name, held, "rot")

    async def run(self) -> None:
        """Return once all faults have been injected and undone."""
        await asyncio.gather(*(self._inject(fault) for fault in self._plan.faults))

    async def heal(self) -> None:
        """All links and disks are good; every node is up, but for those that are to stay dead."""
        self.healed = True
        self._armed.clear()
        cluster = self._cluster
        for kind in _TRICKS:
            # The next chunk may never have come.
            if cluster.network.counts[kind]:
                self.injected[kind] = cluster.network.counts[kind]
        cluster.heal()
        for name, node in cluster.nodes.items():
            node.disk.calm()
            cluster.resume(name)
            if node.is_up and (name in self._plan.dead or self._is_stopped(name)):
                cluster.crash(name)
            # What a clock far ahead stamps is refused for as long as it is, and one that is behind shows
            # what has expired: then it is set right.
            judged = self._plan.lww or self._plan.expired
            cluster.skew(name, ms=-node.offset_ms if judged else 0, rate=1.0)
        for name in cluster.nodes:
            if name in self._plan.dead:
                self._history.lose(cluster.loop.time(), name, why="dead")
                self.losses.lost_hints(name, self.losses.hints_of(name), "dead")
            else:
                self._restart(name)

    # One fault ----------------------------------------------------------------------------------

    async def _inject(self, fault: Fault) -> None:
        await asyncio.sleep(self._start + fault.at - self._cluster.loop.time())
        if self.healed:
            return
        self._cluster.trace.note("fault", fault.kind, *fault.nodes)
        method = getattr(self, f"_{fault.kind}")
        if await method(fault):
            self.injected[fault.kind] += 1

    async def _for(self, fault: Fault) -> None:
        await asyncio.sleep(fault.seconds)

    def _rest(self, nodes: Iterable[str]) -> list[str]:
        some = set(nodes)
        return [name for name in self._cluster.nodes if name not in some]

    # Links --------------------------------------------------------------------------------------

    async def _partition(self, fault: Fault) -> bool:
        rest = self._rest(fault.nodes)
        return await self._cut_for(fault, _links(fault.nodes, rest))

    _isolate = _partition

    async def _one_way(self, fault: Fault) -> bool:
        source, target = fault.nodes
        return await self._cut_for(fault, [(source, target)])

    async def _bridge(self, fault: Fault) -> bool:
        """The first node reaches both sides, which do not reach each other."""
        _, *side = fault.nodes
        return await self._cut_for(fault, _links(side, self._rest(fault.nodes)))

    async def _cut_for(self, fault: Fault, links: list[tuple[str, str]]) -> bool:
        self._cut(links)
        await self._for(fault)
        self._mend(links)
        return bool(links)

    async def _flap(self, fault: Fault) -> bool:
        links = _links(fault.nodes[:1], fault.nodes[1:])
        for _ in range(fault.number):
            self._cut(links)
            await asyncio.sleep(fault.seconds / fault.number / 2)
            self._mend(links)
            await asyncio.sleep(fault.seconds / fault.number / 2)
        return True

    def _cut(self, links: list[tuple[str, str]]) -> None:
        for link in links:
            self._cuts[link] += 1
            if not self.healed:
                self._cluster.network.cut(*link)

    def _mend(self, links: list[tuple[str, str]]) -> None:
        for link in links:
            self._cuts[link] -= 1
            if not self._cuts[link] and not self.healed:
                self._cluster.network.heal(*link)

    async def _clog(self, fault: Fault) -> bool:
        """Links of these nodes are held one by one, and let go in another order."""
        network = self._cluster.network
        chance = stream(self._plan.seed, "clog", fault.at, fault.number)
        links = [(source, target) for source in fault.nodes for target in self._rest((source,))]
        chance.shuffle(links)
        links = links[:6]
        pause = fault.seconds / (2 * max(1, len(links)))
        for link in links:
            network.clog(*link)
            await asyncio.sleep(pause)
        chance.shuffle(links)
        for link in links:
            if not self.healed:
                network.unclog(*link)
            await asyncio.sleep(pause)
        return bool(links)

    async def _reset(self, fault: Fault) -> bool:
        before = self._cluster.network.counts["reset"]
        self._cluster.network.reset(*fault.nodes)
        return self._cluster.network.counts["reset"] > before

    async def _half_open(self, fault: Fault) -> bool:
        before = self._cluster.network.counts["half_open"]
        self._cluster.network.half_open(*fault.nodes)
        return self._cluster.network.counts["half_open"] > before

    async def _slow_link(self, fault: Fault) -> bool:
        await self._slow_for(fault, [fault.nodes])
        return True

    async def _dribble(self, fault: Fault) -> bool:
        network, (source, target) = self._cluster.network, fault.nodes
        network.dribble(source, target, True)
        await self._for(fault)
        network.dribble(source, target, False)
        return True

    async def _flip(self, fault: Fault) -> bool:
        return self._trick(fault)

    async def _tear(self, fault: Fault) -> bool:
        return self._trick(fault)

    async def _repeat(self, fault: Fault) -> bool:
        return self._trick(fault)

    async def _swap(self, fault: Fault) -> bool:
        return self._trick(fault)

    async def _replay(self, fault: Fault) -> bool:
        return self._trick(fault)

    def _trick(self, fault: Fault) -> bool:
        for _ in range(fault.number):
            getattr(self._cluster.network, fault.kind)(*fault.nodes)
        return False  # the network counts those that were played

    async def _slow_for(self, fault: Fault, things: list[tuple[str, ...]]) -> None:
        """Slow down links (two names) and disks (one) while the fault lasts."""
        for thing in things:
            self._slowed.setdefault(thing, []).append(fault.number)
            self._set_slow(thing)
        await self._for(fault)
        for thing in things:
            self._slowed[thing].remove(fault.number)
            self._set_slow(thing)

    def _set_slow(self, thing: tuple[str, ...]) -> None:
        factor = max(self._slowed[thing], default=1)
        if self.healed:
            return
        if len(thing) == 2:
            self._cluster.network.slow(*thing, factor)
        else:
            self._cluster.nodes[thing[0]].disk.slow(factor)

    # Messages -----------------------------------------------------------------------------------

    async def _lose_messages(self, fault: Fault) -> bool:
        chance = fault.number / 100
        return await self._messages(fault, {"lose": chance, "lose_reply": chance})

    async def _double_messages(self, fault: Fault) -> bool:
        return await self._messages(fault, {"duplicate": fault.number / 100})

    async def _late_messages(self, fault: Fault) -> bool:
        chance = fault.number / 100
        return await self._messages(fault, {"delay": chance, "delay_reply": chance})

    async def _replay_messages(self, fault: Fault) -> bool:
        return await self._messages(fault, {"replay": fault.number / 100})

    async def _messages(self, fault: Fault, chances: dict[str, float]) -> bool:
        """Each kind of fault is on or off for all nodes; others that are on stay so."""
        before = self._message_faults(chances)
        self._set_chances(chances)
        await self._for(fault)
        self._set_chances(dict.fromkeys(chances, 0.0))
        return self._message_faults(chances) > before

    def _message_faults(self, names: Iterable[str]) -> int:
        nodes = self._cluster.nodes.values()
        return sum(node.messages.counts[name] for node in nodes for name in names)

    def _set_chances(self, chances: dict[str, float]) -> None:
        if self.healed:
            return
        for node in self._cluster.nodes.values():
            node.messages.set(node.messages.chances("")._replace(**chances))

    # Processes ----------------------------------------------------------------------------------

    async def _crash(self, fault: Fault) -> bool:
        return await self._crash_and_restart(fault, silent=False)

    async def _power_cut(self, fault: Fault) -> bool:
        return await self._crash_and_restart(fault, silent=True)

    async def _crash_and_restart(self, fault: Fault, *, silent: bool) -> bool:
        (name,) = fault.nodes
        if not self._cluster.nodes[name].is_up:
            return False
        self._cluster.crash(name, kept=self._kept(name, fault), silent=silent)
        await self._for(fault)
        self._restart(name)
        return True

    def _kept(self, name: str, fault: Fault) -> int:
        """How many unsynced writes are on disk all the same: none, all, or as many as it says."""
        unsynced = self._cluster.nodes[name].disk.unsynced
        part, third = divmod(fault.number, 3)
        return (0, unsynced, part % (unsynced + 1))[third]

    async def _stop(self, fault: Fault) -> bool:
        """The node is told to end, as by SIGTERM. With a number its clients get their answers first;
        without, it is told while clients wait for it, if that comes soon."""
        (name,) = fault.nodes
        drain = bool(fault.number)
        limit = self._cluster.loop.time() + _BUSY_SECONDS
        while not drain and self._cluster.loop.time() < limit:
            if self._cluster.is_asked(name):
                break
            await asyncio.sleep(_BUSY_LOOK)
        if self._cluster.nodes[name].state != "up" or self.healed:
            return False
        await self._cluster.stop(name, drain=drain)
        await self._for(fault)
        self._restart(name)
        return True

    async def _crash_all(self, fault: Fault) -> bool:
        return await self._crash_these(self._cluster.up, fault)

    async def _owners_away(self, fault: Fault) -> bool:
        """All owners of a key crash: others have to mint in their place, if there are any."""
        names = key_names(self._plan)
        owners = self._cluster.owners(names[fault.number % len(names)])
        up = [name for name in owners if self._cluster.nodes[name].is_up]
        return not self.healed and await self._crash_these(up, fault)

    async def _crash_these(self, names: list[str], fault: Fault) -> bool:
        for name in names:
            self._cluster.crash(name, kept=self._kept(name, fault), silent=bool(fault.number % 2))
        await self._for(fault)
        for name in names:
            self._restart(name)
        return bool(names)

    async def _crash_at(self, fault: Fault) -> bool:
        """The node crashes when it has been at the point `number` times more, if that comes in the
        fault's time; it is started again after a part of it."""
        (name,) = fault.nodes
        assert fault.point is not None
        if name in self._armed:
            return False
        self._armed[name] = (fault.point, fault.number, fault)
        await self._for(fault)
        return self._armed.pop(name, None) is None

    _hint_crash = _crash_at
    _exchange_crash = _crash_at
    _reap_crash = _crash_at

    async def _flap_node(self, fault: Fault) -> bool:
        """The node is killed and started again so many times."""
        (name,) = fault.nodes
        part = fault.seconds / fault.number / 2
        crashed = False
        for _ in range(fault.number):
            if self._cluster.nodes[name].is_up and not self.healed:
                self._cluster.crash(name)
                crashed = True
            await asyncio.sleep(part)
            self._restart(name)
            await asyncio.sleep(part)
        return crashed

    def _at_point(self, name: str, point: Point) -> None:
        """The node is at this point of the path of a request: crash it, if that is armed."""
        armed = self._armed.get(name)
        if armed is None or armed[0] != point:
            return
        _, left, fault = armed
        if left > 0:
            self._armed[name] = (point, left - 1, fault)
            return
        del self._armed[name]
        loop = self._cluster.loop
        loop.call_later(fault.seconds / 3, self._restart, name, context=loop.outside)
        if point in SOON:
            # What it has said is on its way; it does not get to more.
            loop.call_later(1e-4, self._crash_now, name, context=loop.outside)
        else:
            self._crash_now(name)

    def _crash_now(self, name: str) -> None:
        if self._cluster.nodes[name].is_up and not self.healed:
            self._cluster.crash(name)

    def _restart(self, name: str) -> None:
        if not self._cluster.nodes[name].is_up:
            self._cluster.restart(name)

    def _ended(self, name: str, error: Exception) -> None:
        """A node has ended by itself. On a full disk that is all it can do: it is started again, as
        its supervisor would."""
        loop = self._cluster.loop
        # Which refuses its start, too; a process that was paused just then ends later.
        had_no_room = isinstance(error.__cause__, OSError) and error.__cause__.errno == ENOSPC
        if not (had_no_room or self._cluster.nodes[name].disk.is_full):
            self.failures.append(f"node {name} ended at {loop.time():.3f} s: {error!r}")
        loop.call_later(_SUPERVISOR_SECONDS, self._restart, name, context=loop.outside)

    async def _pause(self, fault: Fault) -> bool:
        (name,) = fault.nodes
        is_running = self._cluster.nodes[name].state == "up"
        self._cluster.pause(name)
        await self._for(fault)
        self._cluster.resume(name)
        return is_running

    async def _slow_node(self, fault: Fault) -> bool:
        """All that it sends, gets and syncs takes so many times as long."""
        (name,) = fault.nodes
        links = _links((name,), self._rest((name,)))
        await self._slow_for(fault, [*links, (name,)])
        return True

    # Disks that lose something ------------------------------------------------------------------

    async def _wipe(self, fault: Fault) -> bool:
        return await self._lose(fault, "wipe")

    async def _lose_database(self, fault: Fault) -> bool:
        """The database's directory is gone; the node knows that there was one."""
        return await self._lose(fault, "database")

    async def _lose_log(self, fault: Fault) -> bool:
        """The log is damaged near its end: what lies behind is gone, and the node knows."""
        return await self._lose(fault, "log")

    async def _lose(self, fault: Fault, why: Why) -> bool:
        (name,) = fault.nodes
        if not self._may_lose(name):
            return False
        self._crash_now(name)
        had, disk = self.losses.had(name), self._cluster.nodes[name].disk
        held, at = self.losses.hints_of(name), self._cluster.loop.time()
        back = False
        match why:
            case "wipe":
                self._cluster.wipe(name)
            case "database":
                disk.lose_database()
            case _:
                back = disk.lose_log(fault.number) > 0
        self.losses.lost(name, had, why, back=back)
        self.losses.lost_hints(name, held, why)
        await self._for(fault)
        self._restart(name)
        if why == "wipe":
            await self._meets_somebody(name, at)
        return True

    async def _meets_somebody(self, name: str, at: float) -> None:
        """A node whose disk was emptied then finds out by its peers, before it answers reads, unless it
        reaches none of those who know it: then nobody can blame it."""
        starts = self._cluster.nodes[name].starts
        reached = self._reached_by(name)
        await asyncio.sleep(_MEETING_SECONDS)
        node = self._cluster.nodes[name]
        if node.starts != starts or not reached.intersection(self._reached_by(name)):
            self.losses.unnoticed(name, at)

    def _reached_by(self, name: str) -> set[str]:
        """Peers that run and are connected well."""
        cluster = self._cluster
        return {
            other
            for other in self._rest((name,))
            if cluster.nodes[other].state == "up"
            and not cluster.network.link(name, other).is_faulty
            and not cluster.network.link(other, name).is_faulty
        }

    async def _restore(self, fault: Fault) -> bool:
        """An old copy of the disk is put back. Copies of less than a second before may go unnoticed
        where all the peers have been started anew since: what they were told was not on disk yet."""
        (name,) = fault.nodes
        image = self._cluster.nodes[name].disk.image()
        await self._for(fault)
        if not self._may_lose(name):
            return False
        self._crash_now(name)
        had, held = self.losses.had(name), self.losses.hints_of(name)
        self._cluster.nodes[name].disk.restore(image)
        # It answers its own clients before it has met its peers, who know better.
        self.losses.lost(name, had, "restore", noticed=False, back=True)
        self.losses.lost_hints(name, held, "restore")
        self._restart(name)
        return True

    async def _rot(self, fault: Fault) -> bool:
        (name,) = fault.nodes
        key = self._key_to_damage(fault)
        if key is None:
            return False
        had = self.losses.had(name, key)
        self._cluster.nodes[name].disk.rot("records", self._cluster.storage_key(key))
        self.losses.lost(name, had, "rot")
        return True

    async def _hint_rot(self, fault: Fault) -> bool:
        """A bit of a hint flips, if there are any."""
        (name,) = fault.nodes
        disk = self._cluster.nodes[name].disk
        keys = [key for key, _ in disk.durable_items("hints") if not disk.is_pending("hints", key)]
        if not keys or not self._may_lose(name):
            return False
        held = self.losses.hints_of(name)
        disk.rot("hints", keys[fault.number % len(keys)])
        self.losses.lost_hints(name, held, "rot")
        return True

    async def _lose_partition(self, fault: Fault) -> bool:
        """A node crashes, and one partition's records are gone when it starts: nothing tells it so."""
        key = self._key_to_damage(fault)
        if key is None:
            return False
        (name,) = fault.nodes
        self._crash_now(name)
        beside = [one for one in self._cluster.keys if self._place(one) == self._place(key)]
        had = {one: self.losses.covered(name, one) for one in beside}
        self._cluster.nodes[name].disk.lose_range("records", *self._cluster.partition_range(key))
        self.losses.lost(name, had, "partition", noticed=False)
        await self._for(fault)
        self._restart(name)
        return True

    async def _rot_block(self, fault: Fault) -> bool:
        (name,) = fault.nodes
        key = self._key_to_damage(fault)
        if key is None:
            return False
        start, end = self._cluster.partition_range(key)
        # Whoever meets the damage at one key must think of the others.
        beside = [one for one in self._cluster.keys if self._place(one) == self._place(key)]
        if any(self.losses.is_pending(name, one) for one in beside):
            return False
        if any(self._has_alone(name, one) for one in beside):
            return (
                False  # of a write that was left uncertain: then an error is all that can be right
            )
        had = {one: self.losses.covered(name, one) for one in beside}
        self._cluster.nodes[name].disk.rot_block("records", start, end)
        self.losses.lost(name, had, "rot")
        return True

    def _has_alone(self, name: str, key: bytes) -> bool:
        """The node has a copy of the key, and no other owner has any."""
        mine = self.losses.covered(name, key)
        others = [one for one in self._cluster.owners(key) if one != name]
        return bool(mine) and not any(self.losses.covered(one, key) for one in others)

    def _place(self, key: bytes) -> tuple[int, int]:
        plan = self._cluster.plan(key)
        return plan.class_id, plan.partition

    def _key_to_damage(self, fault: Fault) -> bytes | None:
        """A key that the node has, and another owner has a good copy of."""
        (name,), losses = fault.nodes, self.losses
        if not self._may_lose(name):
            return None
        keys = []
        for key in self._cluster.keys:
            having = [owner for owner in self._cluster.owners(key) if losses.covered(owner, key)]
            if name in having and len(having) > 1 and not losses.is_pending(name, key):
                keys.append(key)
        return keys[fault.number % len(keys)] if keys else None

    def _may_lose(self, name: str) -> bool:
        return not self.healed and self.losses.may_lose(name)

    # Disks --------------------------------------------------------------------------------------

    async def _slow_sync(self, fault: Fault) -> bool:
        await self._slow_for(fault, [fault.nodes])
        return True

    async def _fail_sync(self, fault: Fault) -> bool:
        (name,) = fault.nodes
        return await self._fail(fault, self._cluster.nodes[name].disk.fail_sync)

    async def _fail_write(self, fault: Fault) -> bool:
        (name,) = fault.nodes
        return await self._fail(fault, self._cluster.nodes[name].disk.fail_write)

    async def _fail(self, fault: Fault, fail: Callable[[], None]) -> bool:
        """What fails once fails for good: the node takes no more writes until it is started anew."""
        (name,) = fault.nodes
        node = self._cluster.nodes[name]
        if not node.is_up:
            return False
        fail()
        await self._for(fault)
        if self.healed or not self._is_stopped(name):
            return False
        self._crash_now(name)
        self._restart(name)
        return True

    def _is_stopped(self, name: str) -> bool:
        """The node takes no writes, and will not until it is started anew."""
        services = self._cluster.nodes[name].services
        return services is not None and services.refusal() in ("sync_failed", "storage_error")

    async def _disk_full(self, fault: Fault) -> bool:
        (name,) = fault.nodes
        self._full[name] += 1
        self._cluster.nodes[name].disk.fill()
        await self._for(fault)
        self._free(name)
        return True

    async def _disk_end(self, fault: Fault) -> bool:
        """The engine meets the end of the disk, without a warning; there is room again later."""
        (name,) = fault.nodes
        node = self._cluster.nodes[name]
        if not node.is_up:
            return False
        before = node.disk.ends_met
        self._full[name] += 1
        node.disk.meet_end()
        await self._for(fault)
        self._free(name)
        return node.disk.ends_met > before

    def _free(self, name: str) -> None:
        self._full[name] -= 1
        if not self._full[name]:
            self._cluster.nodes[name].disk.free()

    async def _busy_disk(self, fault: Fault) -> bool:
        (name,) = fault.nodes
        disk = self._cluster.nodes[name].disk
        before = disk.stalls
        disk.busy(True)
        await self._for(fault)
        disk.busy(False)
        return disk.stalls > before

    # Clocks -------------------------------------------------------------------------------------

    async def _jump(self, fault: Fault) -> bool:
        (name,) = fault.nodes
        self._cluster.skew(name, ms=fault.number)
        return True

    async def _drift(self, fault: Fault) -> bool:
        (name,) = fault.nodes
        self._cluster.skew(name, rate=fault.number / 100)
        await self._for(fault)
        self._cluster.skew(name, rate=1.0)
        return True


def _links(one: Iterable[str], other: Iterable[str]) -> list[tuple[str, str]]:
    """All links between the two, both ways."""
    others = tuple(other)
    there = [(source, target) for source in one for target in others]
    return [*there, *((target, source) for source, target in there)]
