"""Carries out the faults of a plan on a cluster, undoes each in its time, and heals all in the end.

Notes in the history which disks have lost what: a check must know what may be gone. One disk at a
time loses something, and the next only when the last is whole again: more than w - 1 copies at once
is more than the store promises to bear. Knows nothing of clients.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Final

from dynamo.sim.chance import stream
from dynamo.sim.cluster import Cluster
from dynamo.sim.history import History, Loss, Why
from dynamo.sim.plan import Fault, Kind, Plan
from dynamo.sim.points import Point

_LOOK_INTERVAL: Final = 0.01
#: A node that starts has tried all its peers after so long, if nothing is in its way.
_MEETING_SECONDS: Final = 1.0
#: A loss that has not been noticed for so long, though nothing is missing any more, never will be.
_UNNOTICED_SECONDS: Final = 10.0
_SUPERVISOR_SECONDS: Final = 0.5
#: How long a node is waited for that clients wait for, and how often it is looked at.
_BUSY_SECONDS: Final = 0.5
_BUSY_LOOK: Final = 0.001
#: What a record's range is damaged around it (`rot_block`).
_BEHIND: Final = b"\xff"

#: What a disk has of each key: all writes that it holds or that those cover.
Covered = dict[bytes, frozenset[int]]


class Injector:
    """The faults of one run. `healed`: nothing goes wrong any more."""

    def __init__(self, plan: Plan, cluster: Cluster, history: History, *, start: float) -> None:
        self._plan = plan
        self._cluster = cluster
        self._history = history
        self._start = start
        self.healed = False
        #: Nodes that ended by themselves, and why: none should.
        self.failures: list[str] = []
        cluster.on_point = self._at_point
        cluster.on_end = self._ended
        #: How many faults of each kind came to something.
        self.injected: Counter[Kind] = Counter()
        #: Where each node is to crash, after how many more times there (None: it has crashed), and why.
        self._armed: dict[str, tuple[Point | None, int, Fault]] = {}
        #: Losses of disks that are not known to be whole again.
        self._open: list[Loss] = []

    async def run(self) -> None:
        """Return once all faults have been injected and undone."""
        await asyncio.gather(*(self._inject(fault) for fault in self._plan.faults))

    async def heal(self) -> None:
        """All links and disks are good; every node is up, but for those that are to stay dead."""
        self.healed = True
        self._armed.clear()
        cluster = self._cluster
        cluster.heal()
        for name, node in cluster.nodes.items():
            node.disk.calm()
            cluster.resume(name)
            if node.is_up and (name in self._plan.dead or node.disk.sync_failed):
                cluster.crash(name)
            cluster.skew(name, rate=1.0)
        for name in cluster.nodes:
            if name in self._plan.dead:
                self._history.lose(cluster.loop.time(), name, why="dead")
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
        self._cluster.cut(fault.nodes, rest)
        await self._for(fault)
        self._mend(fault.nodes, rest)
        return True

    _isolate = _partition

    async def _one_way(self, fault: Fault) -> bool:
        source, target = fault.nodes
        self._cluster.cut((source,), (target,), both=False)
        await self._for(fault)
        if not self.healed:
            self._cluster.mend((source,), (target,), both=False)
        return True

    async def _bridge(self, fault: Fault) -> bool:
        """The first node reaches both sides, which do not reach each other."""
        _, *side = fault.nodes
        rest = self._rest(fault.nodes)
        self._cluster.cut(side, rest)
        await self._for(fault)
        self._mend(side, rest)
        return bool(side and rest)

    async def _flap(self, fault: Fault) -> bool:
        one, other = fault.nodes
        for _ in range(fault.number):
            self._cluster.cut((one,), (other,))
            await asyncio.sleep(fault.seconds / fault.number / 2)
            self._mend((one,), (other,))
            await asyncio.sleep(fault.seconds / fault.number / 2)
        return True

    async def _clog(self, fault: Fault) -> bool:
        """Links of these nodes are held one by one, and let go in another order."""
        network = self._cluster.network
        chance = stream(self._plan.seed, "clog", fault.at, fault.number)
        links = [
            (source, target)
            for source in fault.nodes
            for target in self._cluster.nodes
            if target != source
        ]
        chance.shuffle(links)
        links = links[:6]
        pause = fault.seconds / (2 * len(links))
        for link in links:
            network.clog(*link)
            await asyncio.sleep(pause)
        chance.shuffle(links)
        for link in links:
            if not self.healed:
                network.unclog(*link)
            await asyncio.sleep(pause)
        return True

    async def _reset(self, fault: Fault) -> bool:
        self._cluster.network.reset(*fault.nodes)
        return True

    async def _half_open(self, fault: Fault) -> bool:
        self._cluster.network.half_open(*fault.nodes)
        return True

    async def _slow_link(self, fault: Fault) -> bool:
        network, (source, target) = self._cluster.network, fault.nodes
        network.slow(source, target, fault.number)
        await self._for(fault)
        if not self.healed:
            network.slow(source, target, 1)
        return True

    async def _dribble(self, fault: Fault) -> bool:
        network, (source, target) = self._cluster.network, fault.nodes
        network.dribble(source, target, True)
        await self._for(fault)
        network.dribble(source, target, False)
        return True

    async def _flip(self, fault: Fault) -> bool:
        for _ in range(fault.number):
            self._cluster.network.flip(*fault.nodes)
        return True

    async def _tear(self, fault: Fault) -> bool:
        for _ in range(fault.number):
            self._cluster.network.tear(*fault.nodes)
        return True

    async def _repeat(self, fault: Fault) -> bool:
        for _ in range(fault.number):
            self._cluster.network.repeat(*fault.nodes)
        return True

    async def _swap(self, fault: Fault) -> bool:
        for _ in range(fault.number):
            self._cluster.network.swap(*fault.nodes)
        return True

    async def _replay(self, fault: Fault) -> bool:
        for _ in range(fault.number):
            self._cluster.network.replay(*fault.nodes)
        return True

    def _mend(self, one: Iterable[str], other: Iterable[str]) -> None:
        if not self.healed:
            self._cluster.mend(one, other)

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
        self._set_chances(chances)
        await self._for(fault)
        self._set_chances(dict.fromkeys(chances, 0.0))
        return True

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
        self._cluster.crash(name, silent=silent)
        await self._for(fault)
        self._restart(name)
        return True

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
        names = self._cluster.up
        for name in names:
            self._cluster.crash(name, silent=bool(fault.number % 2))
        await self._for(fault)
        for name in names:
            self._restart(name)
        return bool(names)

    async def _crash_at(self, fault: Fault) -> bool:
        """The node crashes when it has been at the point `number` times more."""
        (name,) = fault.nodes
        self._armed[name] = (fault.point, fault.number, fault)
        await asyncio.sleep(max(fault.seconds, 0.3))
        armed = self._armed.get(name)
        if armed is None or armed[2] is not fault:
            return False  # another one took its place
        del self._armed[name]
        if armed[0] is not None:
            return False  # it has not come so far
        self._restart(name)
        return True

    def _at_point(self, name: str, point: Point) -> None:
        """The node is at this point of the path of a request: crash it, if that is armed."""
        armed = self._armed.get(name)
        if armed is None or armed[0] != point:
            return
        _, left, fault = armed
        if left > 0:
            self._armed[name] = (point, left - 1, fault)
            return
        self._armed[name] = (None, 0, fault)
        if point == "minted_left":
            # What it has said is on its way; it does not get to more.
            loop = self._cluster.loop
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
        if not self._cluster.nodes[name].disk.is_full:
            self.failures.append(f"node {name} ended at {loop.time():.3f} s: {error!r}")
        loop.call_later(_SUPERVISOR_SECONDS, self._restart, name, context=loop.outside)

    async def _pause(self, fault: Fault) -> bool:
        (name,) = fault.nodes
        self._cluster.pause(name)
        await self._for(fault)
        self._cluster.resume(name)
        return True

    async def _slow_node(self, fault: Fault) -> bool:
        """All that it sends, gets and syncs takes so many times as long."""
        (name,) = fault.nodes
        self._slow(name, fault.number)
        await self._for(fault)
        if not self.healed:
            self._slow(name, 1)
        return True

    def _slow(self, name: str, factor: int) -> None:
        for other in self._rest((name,)):
            self._cluster.network.slow(name, other, factor)
            self._cluster.network.slow(other, name, factor)
        self._cluster.nodes[name].disk.slow(factor)

    # Disks that lose something ------------------------------------------------------------------

    async def _wipe(self, fault: Fault) -> bool:
        (name,) = fault.nodes
        if not self._may_lose(name):
            return False
        self._crash_now(name)
        had = self._had(name)
        self._cluster.wipe(name)
        self._lost(name, None, "wipe", had)
        await self._for(fault)
        self._restart(name)
        await self._meets_somebody(name)
        return True

    async def _meets_somebody(self, name: str) -> None:
        """A node with an empty disk finds out by its peers, before it answers reads, unless it reaches
        none of those who know it: then nobody can blame it."""
        starts = self._cluster.nodes[name].starts
        reached = self._reached_by(name)
        await asyncio.sleep(_MEETING_SECONDS)
        node = self._cluster.nodes[name]
        if node.starts != starts or not reached.intersection(self._reached_by(name)):
            for loss in self._open:
                if loss.node == name:
                    loss.noticed = False

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
        if not self._may_lose(name) or self.healed:
            return False
        self._crash_now(name)
        had = self._had(name)
        self._cluster.nodes[name].disk.restore(image)
        # It answers its own clients before it has met its peers, who know better.
        self._lost(name, None, "restore", had, noticed=False)
        self._restart(name)
        return True

    async def _lose_log(self, fault: Fault) -> bool:
        """The log is damaged near its end: what lies behind is gone, and the node knows."""
        (name,) = fault.nodes
        if not self._may_lose(name):
            return False
        self._crash_now(name)
        had = self._had(name)
        self._cluster.nodes[name].disk.lose_log(fault.number)
        self._lost(name, None, "log", had)
        await self._for(fault)
        self._restart(name)
        return True

    async def _rot(self, fault: Fault) -> bool:
        found = self._key_to_damage(fault)
        if found is None:
            return False
        name, key = found
        had = {key: self._covered(name, key)}
        self._cluster.nodes[name].disk.rot("records", self._cluster.storage_key(key))
        self._lost(name, key, "rot", had)
        return True

    async def _rot_block(self, fault: Fault) -> bool:
        found = self._key_to_damage(fault)
        if found is None:
            return False
        name, key = found
        had = {key: self._covered(name, key)}
        start = self._cluster.storage_key(key)
        self._cluster.nodes[name].disk.rot_block("records", start, start + _BEHIND)
        self._lost(name, key, "rot", had)
        return True

    def _key_to_damage(self, fault: Fault) -> tuple[str, bytes] | None:
        """A key that the node has, and another owner has a good copy of."""
        (name,) = fault.nodes
        if not self._may_lose(name):
            return None
        keys = []
        for key in self._cluster.keys:
            owners = self._cluster.owners(key)
            having = [owner for owner in owners if self._covered(owner, key)]
            if name in having and len(having) > 1 and not self._is_pending(name, key):
                keys.append(key)
        return (name, keys[fault.number % len(keys)]) if keys else None

    def _is_pending(self, name: str, key: bytes) -> bool:
        """The node has a newer record of the key that is not synced: what is damaged below it may never
        come to light."""
        disk, storage_key = self._cluster.nodes[name].disk, self._cluster.storage_key(key)
        return disk.durable("records", storage_key) != disk.current("records", storage_key)

    def _may_lose(self, name: str) -> bool:
        return not self._open and self._cluster.nodes[name].is_up and not self.healed

    def _lost(
        self, name: str, key: bytes | None, why: Why, had: Covered, *, noticed: bool = True
    ) -> None:
        """Note what of that which the disk `had` it has lost. `noticed`: it is certain to find out
        before it answers anybody."""
        loop = self._cluster.loop
        for one, before in had.items():
            if key not in (None, one) or before <= self._covered(name, one):
                continue
            for loss in self._history.lose(loop.time(), name, one, why=why, noticed=noticed):
                self._open.append(loss)
                self._watch(loss, before, self._mends(name))

    def _watch(self, loss: Loss, before: frozenset[int], mends: int) -> None:
        """Find out when the disk has again what it had, as far as others have it, nobody owes the node
        anything, and it has mended something since: else it has just not noticed yet."""
        cluster = self._cluster
        if cluster.is_complete(loss.node, loss.key) and self._has_again(loss, before):
            now = cluster.loop.time()
            if self._mends(loss.node) > mends:
                loss.whole_at = now
                self._open.remove(loss)
                return
            if now - loss.at > _UNNOTICED_SECONDS:
                self._open.remove(loss)  # say a newer write has taken the place of what was damaged
                return
        cluster.loop.call_later(
            _LOOK_INTERVAL, self._watch, loss, before, mends, context=cluster.loop.outside
        )

    def _mends(self, name: str) -> int:
        node = self._cluster.nodes[name]
        return node.count("records_mended") + node.count("partitions_refilled")

    def _had(self, name: str) -> Covered:
        return {key: self._covered(name, key) for key in self._cluster.keys}

    def _covered(self, name: str, key: bytes) -> frozenset[int]:
        storage_key = self._cluster.storage_key(key)
        data = self._cluster.nodes[name].disk.durable("records", storage_key)
        return self._history.covers(data, storage_key)

    def _has_again(self, loss: Loss, before: frozenset[int]) -> bool:
        missing = before - self._covered(loss.node, loss.key)
        return not missing or not any(
            missing & self._covered(owner, loss.key)
            for owner in self._cluster.owners(loss.key)
            if owner != loss.node
        )

    # Disks --------------------------------------------------------------------------------------

    async def _slow_sync(self, fault: Fault) -> bool:
        (name,) = fault.nodes
        disk = self._cluster.nodes[name].disk
        disk.slow(fault.number)
        await self._for(fault)
        disk.slow(1)
        return True

    async def _fail_sync(self, fault: Fault) -> bool:
        (name,) = fault.nodes
        node = self._cluster.nodes[name]
        if not node.is_up:
            return False
        node.disk.fail_sync()
        await self._for(fault)
        if node.is_up and node.disk.sync_failed:
            self._crash_now(name)
            self._restart(name)
        return True

    async def _disk_full(self, fault: Fault) -> bool:
        (name,) = fault.nodes
        disk = self._cluster.nodes[name].disk
        disk.fill()
        await self._for(fault)
        disk.free()
        return True

    async def _disk_end(self, fault: Fault) -> bool:
        """The engine meets the end of the disk; there is room again later."""
        (name,) = fault.nodes
        node = self._cluster.nodes[name]
        if not node.is_up:
            return False
        node.disk.fill()
        node.disk.meet_end()
        await self._for(fault)
        node.disk.free()
        return True

    async def _busy_disk(self, fault: Fault) -> bool:
        (name,) = fault.nodes
        disk = self._cluster.nodes[name].disk
        disk.busy(True)
        await self._for(fault)
        disk.busy(False)
        return True

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
