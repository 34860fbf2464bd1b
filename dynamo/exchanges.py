"""Comparing what this node keeps with the other owners, one peer after the other, for ever; and at once,
where somebody asks for it (Dynamo 4.7).

One task begins the exchanges in their turn and owns them; at most one runs with each peer, and a few in
all, so that a peer that does not answer holds up nobody but itself. Remembers only when everything was
in agreement last. Knows nothing of how two nodes are compared.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal

import msgspec

from antientropy.schedule import Timetable, Usable, Window
from dynamo.config import EXCHANGE_DEADLINE_DEFAULT
from dynamo.errors import NotReady, RepairRunning
from dynamo.exchange_budget import Budget
from dynamo.exchange_keys import Means, Tally
from dynamo.exchange_lane import ExchangeLane
from dynamo.exchange_moves import Moves, PeerFailed
from dynamo.exchange_round import Round
from dynamo.exchange_stuck import Stuck
from dynamo.exchange_what import RepairWhat, selected
from dynamo.metrics import Metrics
from dynamo.ports import Clock, Transport
from dynamo.refill_marks import Partition
from dynamo.repair_run import RepairRun
from dynamo.replica import Replica
from dynamo.replica_trees import ReplicaTrees
from dynamo.status import ExchangeStatus
from ring.ring import Ring

log = logging.getLogger(__name__)

#: Exchanges at a time.
LANES_MAX: Final = 8
#: A peer that has come up is compared with after so long (seconds): its hints are on their way by then.
SOON_AFTER: Final = 1.0
#: Nothing is waited for less or longer (seconds).
WAIT_MIN: Final = 0.001
WAIT_MAX: Final = 60.0


class Exchanges:
    """The one task that exchanges with this node's peers, and what people see and ask of it."""

    def __init__(
        self,
        *,
        node_id: str,
        replica: Replica,
        trees: ReplicaTrees,
        transport: Transport,
        in_delivery: Callable[[str, Partition], bool],
        down: AbstractSet[str],
        interval: float,
        interval_remote: float,
        keys: int,
        rate: int,
        window: str,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]],
        chance: random.Random,
        metrics: Metrics,
        deadline: float = EXCHANGE_DEADLINE_DEFAULT,
        holds: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """`in_delivery`: whether hints for that peer, of that partition, are on their way. `down`: as of
        `Opinions`. `interval`, `interval_remote`, `keys`, `rate`, `window`: as in the node's
        configuration. `deadline`: seconds from one look to the next. `holds`: as of `Moves`."""
        self._node_id = node_id
        self._transport = transport
        self._down = down
        self._clock = clock
        self._sleep = sleep
        self._count = metrics.count
        self._ring: Ring | None = None
        self._lanes: dict[str, ExchangeLane] = {}
        now = clock.monotonic()
        budget = Budget(keys=keys, size=rate, clock=clock, sleep=sleep, metrics=metrics)
        self._moves = Moves(transport=transport, budget=budget, holds=holds)
        self._means = Means(
            node_id=node_id,
            replica=replica,
            trees=trees,
            transport=transport,
            clock=clock,
            metrics=metrics,
            budget=budget,
            moves=self._moves,
            stuck=Stuck(replica.refusing.alarm),
            deadline=deadline,
            in_delivery=in_delivery,
            listed={},
            on_repaired=self._on_repaired,
        )
        self._times = Timetable(
            interval,
            interval_remote,
            window=Window(window),
            now=now,
            jitter=lambda: chance.uniform(-1.0, 1.0),
        )
        self._intervals = (interval, interval_remote)
        self._wake = asyncio.Event()
        self._repair: RepairRun | None = None
        self._repair_task: asyncio.Task[None] | None = None
        self._repairs = 0
        self._is_running = False
        #: A bug that ended an exchange: it ends this one too.
        self._failure: BaseException | None = None

    def __repr__(self) -> str:
        return f"Exchanges({self._node_id} {list(self._lanes.values())})"

    @property
    def in_flight(self) -> int:
        """Steps with records that nobody has answered yet."""
        return self._moves.in_flight

    # What it is told ----------------------------------------------------------------------------

    def adopt(self, ring: Ring) -> None:
        """Compare by this ring, with the other owners of what this node owns."""
        self._ring = ring
        if self._repair is not None:
            self._repair.stop()
        own = ring.member(self._node_id)
        before, self._lanes = self._lanes, {}
        peers: tuple[list[str], list[str]] = ([], [])
        for member in ring.members:
            shared = self._means.trees.shared_with(member.id)
            if own is None or not shared:
                continue
            peers[member.datacenter != own.datacenter].append(member.id)
            lane = before.get(member.id) or ExchangeLane(member.id, member.datacenter)
            lane.adopt(shared)
            self._lanes[member.id] = lane
        for lane in before.values():
            lane.stop()
        self._times.adopt(*peers)
        self._wake.set()

    def on_connected(self, node: str) -> None:
        """A peer is reached anew: it may have missed something, and does not wait for its turn."""
        self._times.came_up(node, self._clock.monotonic(), SOON_AFTER)
        self._wake.set()

    def pause(self, reason: str) -> None:
        """Begin no exchange by itself until `resume`, and end those under way. `reason`: for people. A
        repair on demand goes on."""
        self._times.paused = reason or "an operator has paused them"
        for lane in self._lanes.values():
            lane.stop()

    def resume(self) -> None:
        """Go on as before."""
        self._times.paused = ""
        self._wake.set()

    # The task -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Exchange for ever; owned and cancelled by the node, which stops if this ends."""
        self._is_running = True
        try:
            while self._failure is None:
                now = self._clock.monotonic()
                self._begin_due(now)
                timer = self._clock.call_later(self._idle(now), self._wake.set)
                try:
                    await self._wake.wait()
                finally:
                    timer.cancel()
                self._wake.clear()
            raise self._failure
        finally:
            self._is_running = False
            tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
            if self._repair_task is not None:
                tasks.append(self._repair_task)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _begin_due(self, now: float) -> None:
        """Begin the exchanges whose turn it is."""
        if self._why_not()[1]:
            return
        while (peer := self._times.next(now, self._usable)) is not None:
            self._begin(self._lanes[peer])

    def _idle(self, now: float) -> float:
        """Seconds until there may be something to do, unless it is woken before."""
        due = None if self._why_not()[1] else self._times.due(now)
        return WAIT_MAX if due is None else min(max(due - now, WAIT_MIN), WAIT_MAX)

    def _usable(self, peer: str) -> Usable:
        lane = self._lanes[peer]
        if not self._is_up(peer) or self._times.left_alone(peer, self._clock.monotonic()):
            return Usable.NO
        if lane.is_busy or sum(one.is_busy for one in self._lanes.values()) >= LANES_MAX:
            return Usable.BUSY
        return Usable.YES

    def _is_up(self, peer: str) -> bool:
        return peer not in self._down and self._transport.is_connected(peer)

    def _why_not(self) -> tuple[Literal["running", "paused", "outside_window", "off"], str]:
        return self._times.why_not(self._clock.wall_ms())

    # An exchange --------------------------------------------------------------------------------

    def _begin(self, lane: ExchangeLane) -> None:
        round_ = self._round(lane, (lane.tally,))
        task = asyncio.get_running_loop().create_task(
            self._exchange(lane, round_), name=f"exchange with {lane.peer}"
        )
        lane.task = task
        task.add_done_callback(lambda done: self._ended(lane, round_, done))

    def _round(
        self,
        lane: ExchangeLane,
        tallies: Sequence[Tally],
        places: Collection[Partition] | None = None,
        prefix: bytes = b"",
    ) -> Round:
        assert self._ring is not None
        round_ = Round(
            self._means,
            lane.peer,
            self._ring.epoch,
            tallies=tallies,
            places=places,
            prefix=prefix,
        )
        lane.begin(round_)
        self._count["exchanges"] += 1
        return round_

    async def _exchange(self, lane: ExchangeLane, round_: Round) -> None:
        try:
            while round_.due is not None:
                wait = round_.due - self._clock.monotonic()
                if wait > 0:
                    await self._sleep(wait)
                await round_.advance()
        except PeerFailed as failed:
            self._count["exchanges_failed"] += 1
            lane.failures += 1
            lane.why = failed.reason
            self._times.failed(lane.peer, self._clock.monotonic())
            log.info("an exchange with %s broke off: %s", lane.peer, failed.reason)
        else:
            self._times.is_well(lane.peer)

    def _ended(self, lane: ExchangeLane, round_: Round, task: asyncio.Task[None]) -> None:
        lane.task = None
        self._end(lane, round_)
        if not task.cancelled():
            self._failure = self._failure or task.exception()
        self._wake.set()

    def _end(self, lane: ExchangeLane, round_: Round) -> None:
        lane.end(round_)
        if round_.found:
            log.info("an exchange with %s found %s keys to repair", lane.peer, round_.found)

    def _on_repaired(self, place: Partition, leaf: int, change: int) -> None:
        for lane in self._lanes.values():
            if lane.round is not None:
                lane.round.repaired(place, leaf, change)

    # On demand ----------------------------------------------------------------------------------

    def start_repair(self, what: RepairWhat) -> RepairRun:
        """Compare all that was asked for now, and repair it; goes on beside the exchanges that begin by
        themselves, and while those are paused or off.

        Raises NotReady, RepairRunning while another runs, InvalidArgument, NotAnOwner (as `selected`).
        """
        if self._ring is None or not self._is_running:
            raise NotReady("this node is starting or stopping")
        pairs = selected(what, self._ring, self._node_id)
        if self._repair is not None and self._repair.state == "running":
            told = msgspec.to_builtins(self._repair.progress())
            raise RepairRunning("a repair runs at this node already", repair=told)
        self._repairs += 1
        self._repair = run = RepairRun(
            self._repairs,
            pairs,
            begin=lambda peer, places, tally: self._begin_for_repair(peer, places, tally, what),
            end=self._end_for_repair,
            clock=self._clock,
            sleep=self._sleep,
        )
        self._repair_task = run.start()
        self._repair_task.add_done_callback(self._repair_ended)
        return run

    @property
    def repair(self) -> RepairRun | None:
        """The repair on demand that runs, or ran last since the start."""
        return self._repair

    def _begin_for_repair(
        self, peer: str, places: Collection[Partition], tally: Tally, what: RepairWhat
    ) -> Round | None:
        lane = self._lanes.get(peer)
        if lane is None or not self._is_up(peer):
            return None
        lane.stop()
        lane.is_held = True
        return self._round(lane, (lane.tally, tally), places, what.prefix)

    def _end_for_repair(self, round_: Round) -> None:
        lane = self._lanes.get(round_.peer)
        if lane is not None:
            lane.is_held = False
            self._end(lane, round_)
            self._wake.set()

    def _repair_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._failure = self._failure or task.exception()
        self._wake.set()

    # For people ---------------------------------------------------------------------------------

    def status(self) -> ExchangeStatus:
        """All peers and pairs. Costs no I/O."""
        now = self._clock.monotonic()
        state, reason = self._why_not()
        lanes = self._lanes.values()
        ages = [now - at for lane in lanes for at in lane.clean.values()]
        never_clean = sum(len(lane.places) for lane in lanes) - len(ages)
        return ExchangeStatus(
            node=self._node_id,
            state=state,
            reason=reason,
            interval_s=self._intervals[0],
            interval_remote_s=self._intervals[1],
            agreed_s=round(max(ages), 1) if ages and not never_clean else None,
            never_clean=never_clean,
            peers=tuple(
                lane.status(
                    now,
                    is_up=self._is_up(lane.peer),
                    backs_off=self._times.left_alone(lane.peer, now),
                )
                for lane in lanes
            ),
            pairs=tuple(pair for lane in lanes for pair in lane.pairs(now)),
        )
