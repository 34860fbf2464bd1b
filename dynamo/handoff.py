"""Delivers hints to the nodes they are for, once those are up (hinted handoff, Dynamo 4.6).

One task sends batches of hints, a bounded number of them under way, to one target after the other; a
hint is removed once its target has said that it is on its disk there, and only if it is still that very
record. Nothing is remembered of how far delivery had come: what is delivered is gone from the disk, so
a start goes on where the last one ended. It keeps to a byte rate, and makes way for clients. Knows
nothing of how hints are kept, nor of when a node is up: it is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from typing import Final

from dynamo.errors import StorageError
from dynamo.handoff_status import delivered_since, target_status, undelivered
from dynamo.hint_store import Hint, HintStore
from dynamo.lane import TAKES_NOTHING, Lane
from dynamo.metrics import Metrics
from dynamo.pace import ClientLoad, TokenBucket, pause_after, step
from dynamo.ports import Clock, Failure, Transport
from dynamo.rpc.messages import Deliver, Delivered, Delivery, Refused, Reply
from dynamo.status import HintsStatus, HintTarget
from dynamo.sync_point import SyncPoints
from ring.ring import Ring

log = logging.getLogger(__name__)

#: Seconds for which a target may keep a batch. One that stands still has a batch or two of ours.
BATCH_TIMEOUT: Final = 10.0
#: Batches under way to all targets together, and while this node serves clients.
IN_FLIGHT_MAX: Final = 8
IN_FLIGHT_BESIDE_CLIENTS: Final = 2
#: Seconds between two looks at who is up and has hints.
LOOK_INTERVAL: Final = 1.0
#: Seconds that a target has to be up without a break before the window of its hints begins anew.
STEADY_AFTER: Final = 60.0
#: Nothing is waited for less (seconds): a clock may call a little early.
WAIT_MIN: Final = 0.001


class _Batch:
    """Hints under way to one target: who waits for what becomes of them."""

    __slots__ = ("hints", "lane", "owner", "sent_at", "size", "start")

    def __init__(
        self, owner: Handoff, lane: Lane, start: bytes, hints: tuple[Hint, ...], sent_at: float
    ) -> None:
        self.owner = owner
        self.lane = lane
        self.start = start
        self.hints = hints
        self.size = _size(hints)
        self.sent_at = sent_at

    def on_reply(self, node: str, reply: Reply) -> None:
        self.owner.answered(self, reply)

    def on_failure(self, node: str, failure: Failure) -> None:
        self.owner.answered(self, failure)


class Handoff:
    """The one task that delivers this node's hints, and what people see of it."""

    def __init__(
        self,
        *,
        node_id: str,
        hints: HintStore,
        transport: Transport,
        down: AbstractSet[str],
        rate: int,
        clock: Clock,
        metrics: Metrics,
        delivers: bool = True,
    ) -> None:
        """`down`: members that are not to be sent any (`Opinions.down`). `rate`: bytes a second.
        `delivers`: False, and what is held stays."""
        self._delivers = delivers
        self._node_id = node_id
        self._hints = hints
        self._transport = transport
        self._down = down
        self._rate = rate
        self._clock = clock
        self._count = metrics.count
        self._epoch = 0
        self._lanes: dict[str, Lane] = {}
        #: The lanes again, whose turn it is first.
        self._turns: deque[Lane] = deque()
        self._in_flight = 0
        self._bucket = TokenBucket(rate, clock.monotonic())
        self._load = ClientLoad(metrics.count)
        self._look_at = 0.0
        self._wake = asyncio.Event()
        self._syncs = SyncPoints(clock=clock)
        hints.on_hint = self.on_hint

    def __repr__(self) -> str:
        return f"Handoff({self._node_id} in_flight={self._in_flight} {list(self._turns)})"

    @property
    def in_flight(self) -> int:
        """Batches that no target has answered yet."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Who waits for a sync point."""
        return len(self._syncs)

    # What it is told ----------------------------------------------------------------------------

    def is_delivering(self, target: str) -> bool:
        """True while hints go to the target, which takes them; not while it is down, or a batch failed
        or was refused."""
        lane = self._lanes.get(target)
        if not self._delivers or lane is None or lane.why or not self._is_up(target):
            return False
        return lane.in_pass or lane.wanted

    def adopt(self, ring: Ring) -> None:
        """Deliver in this ring's epoch, and watch its members."""
        self._epoch = ring.epoch
        for member in ring.members:
            if member.id != self._node_id:
                self._lane(member.id)
        self.wake()

    def wake(self) -> None:
        """Look again now: somebody has come up, or gone down."""
        self._look_at = 0.0
        self._wake.set()

    def on_connected(self, node: str) -> None:
        """A new connection to a peer: it is, or was just now, not up without a break."""
        lane = self._lanes.get(node)
        if lane is not None:
            lane.up_since = None
        self.wake()

    def on_hint(self, target: str) -> None:
        """There is a hint for a target that had none; those that come after it the next look finds."""
        lane = self._lane(target)
        lane.wanted = True
        # Of one that is down, many may come; they are found once it is up.
        if self._is_up(target):
            self._wake.set()

    # The task -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver for ever; owned and cancelled by the node."""
        try:
            while True:
                now = self._clock.monotonic()
                if now >= self._look_at:
                    self._look(now)
                if self._send_next(now):
                    # One page a turn of the loop: others have theirs between.
                    await asyncio.sleep(0)
                    continue
                timer = self._clock.call_later(self._idle(now), self._wake.set)
                try:
                    await self._wake.wait()
                finally:
                    timer.cancel()
                self._wake.clear()
        finally:
            self._syncs.close()

    def _look(self, now: float) -> None:
        """See who is up, for how long, and who has hints that no pass is to meet yet."""
        self._look_at = now + LOOK_INTERVAL
        counts = {held.target: held.count for held in self._hints.held()}
        for target, count in counts.items():
            lane = self._lane(target)
            if count and not lane.in_pass:
                lane.wanted = True
        for lane in self._turns:
            if not self._is_up(lane.target):
                lane.up_since = None
            elif lane.up_since is None:
                lane.up_since = now
                lane.try_now(now)
                if counts.get(lane.target):
                    lane.told = lane.delivered
                    log.info("%s is up; hints for it: %s", lane.target, counts[lane.target])
        for target in self._hints.windows():
            up_since = self._lane(target).up_since
            if up_since is not None and now - up_since >= STEADY_AFTER:
                self._hints.steady(target)
        if self._hints.counted and self._syncs.wait_for_count:
            self._syncs.counted(self._passes_due(now))

    def _idle(self, now: float) -> float:
        """Seconds until there may be something to do, unless it is woken before."""
        due = self._look_at
        if self._delivers and self._in_flight < self._in_flight_max(now):
            for lane in self._turns:
                begins = max(lane.not_before, now + self._bucket.wait(now))
                if lane.may_send(begins, self._room(lane, now)) and self._is_up(lane.target):
                    due = min(due, begins)
        return max(due - now, WAIT_MIN)

    def _send_next(self, now: float) -> bool:
        """Send a batch to the next target whose turn it is; False if none can get any now."""
        if not self._delivers:
            return False
        if self._in_flight >= self._in_flight_max(now) or self._bucket.wait(now):
            return False
        for _ in range(len(self._turns)):
            lane = self._turns[0]
            self._turns.rotate(-1)
            if lane.may_send(now, self._room(lane, now)) and self._is_up(lane.target):
                self._send(lane, now)
                return True
        return False

    def _in_flight_max(self, now: float) -> int:
        return IN_FLIGHT_BESIDE_CLIENTS if self._load.is_busy(now) else IN_FLIGHT_MAX

    def _room(self, lane: Lane, now: float) -> int:
        return step(clients=self._makes_way(lane, now)).in_flight

    def _makes_way(self, lane: Lane, now: float) -> bool:
        """True while somebody waits for requests, of this node or of the target."""
        return lane.is_busy or self._load.is_busy(now)

    def _is_up(self, node: str) -> bool:
        return node not in self._down and self._transport.is_connected(node)

    def _lane(self, target: str) -> Lane:
        lane = self._lanes.get(target)
        if lane is None:
            lane = self._lanes[target] = Lane(target)
            self._turns.append(lane)
        return lane

    # A batch ------------------------------------------------------------------------------------

    def _send(self, lane: Lane, now: float) -> None:
        lane.begin()
        start, left_out = lane.after, self._hints.left_out
        most = step(clients=self._makes_way(lane, now))
        try:
            hints, after = self._hints.page(
                lane.target, start, count_max=most.count_max, bytes_max=most.bytes_max
            )
        except StorageError as error:
            self._interrupted(lane, error, now)
            return
        lane.read(after, ended=not after, left_out=self._hints.left_out - left_out)
        if not hints:
            self._end_pass(lane, now)
            return
        batch = _Batch(self, lane, start, hints, now)
        self._bucket.take(batch.size, now)
        lane.in_flight += 1
        self._in_flight += 1
        entries = tuple(Delivery(hint.key, hint.cls, hint.partition, hint.record) for hint in hints)
        message = Deliver(int(BATCH_TIMEOUT * 1000), self._epoch, entries)
        self._transport.request((lane.target,), message, batch, BATCH_TIMEOUT)

    def answered(self, batch: _Batch, answer: Reply | Failure) -> None:
        """What the target says of a batch, or why it says nothing."""
        now = self._clock.monotonic()
        lane = batch.lane
        lane.in_flight -= 1
        self._in_flight -= 1
        if isinstance(answer, Delivered):
            self._take(batch, answer, now)
        else:
            self._count["hint_batches_failed"] += 1
            lane.go_back(batch.start)
            refused = isinstance(answer, Refused)
            lane.back_off(_why(answer), now, refused=refused)
        self._end_pass(lane, now)
        self._wake.set()

    def _take(self, batch: _Batch, answer: Delivered, now: float) -> None:
        """Remove what the target has on its disk now; the rest is passed over, or, where it takes
        nothing at all for now, sent anew later."""
        lane = batch.lane
        refused = dict(answer.refused)
        taken = [hint for index, hint in enumerate(batch.hints) if index not in refused]
        lane.is_busy = answer.busy
        clients = self._makes_way(lane, now)
        lane.not_before = now + pause_after(now - batch.sent_at, clients=clients)
        if taken:
            settled = self._hints.settle(taken)
            lane.took(len(taken), _size(taken), now)
            self._count["hint_bytes_delivered"] += _size(taken)
            # Those that have changed meanwhile are due again.
            lane.wanted = lane.wanted or settled < len(taken)
            if settled:
                lane.goes_on()
            else:
                # They change faster than they are delivered, or cannot be removed: not at full speed.
                lane.back_off("what it has got stays here", now, refused=False)
        for code in refused.values():
            if code in TAKES_NOTHING:
                lane.go_back(batch.start)
                lane.back_off(f"it takes nothing: {code}", now, refused=True)
                return
        for code in refused.values():
            lane.refused[code] += 1
            self._count["hints_turned_down"] += 1

    def _end_pass(self, lane: Lane, now: float) -> None:
        if lane.end_pass(now):
            self._syncs.cleaned(lane.target, lane.clean)
            if lane.told is not None and lane.up_since is not None:
                count, seconds = lane.delivered - lane.told, now - lane.up_since
                log.info("%s has its hints: %s in %.1f s", lane.target, count, seconds)
                lane.told = None

    def _interrupted(self, lane: Lane, error: StorageError, now: float) -> None:
        """This node's own storage fails, such as while its disk is full: what is held stays."""
        self._count["handoffs_interrupted"] += 1
        log.warning("hints for %s cannot be delivered now: %s", lane.target, error.message)
        lane.back_off(f"this node's storage: {error.message}", now, refused=False)

    # For people ---------------------------------------------------------------------------------

    async def sync(self, timeout: float) -> dict[str, int]:
        """Return once every hint that is here now has been delivered: how many were meanwhile, by
        target. `timeout`: seconds.

        Raises HintsUndelivered, which says what is left and why, TooManySyncs, NotReady if the node
        stops.
        """
        before = {lane.target: lane.delivered for lane in self._turns}
        due = self._passes_due(self._clock.monotonic()) if self._hints.counted else None
        self.wake()
        await self._syncs.wait(due, timeout, left=self._left)
        return delivered_since(self._turns, before)

    def stop_waiting(self) -> None:
        """Who waits for a sync point is told that the node stops."""
        self._syncs.close()

    def _passes_due(self, now: float) -> dict[str, int]:
        """The pass that has met all that is here now, by target: the next that begins."""
        due = {}
        for held in self._hints.held():
            if held.count:
                lane = self._lane(held.target)
                lane.wanted = True
                lane.try_now(now)
                due[held.target] = lane.passes + 1
        return due

    def _left(self, names: Collection[str]) -> dict[str, dict[str, object]]:
        return undelivered(self._targets(), names)

    def status(self, *, window_s: int, bytes_max: int) -> HintsStatus:
        """All targets that have hints, or were delivered any since the start. `window_s`,
        `bytes_max`: of the hints, as they are set. Costs no I/O."""
        targets = self._targets()
        return HintsStatus(
            node=self._node_id,
            counted=self._hints.counted,
            hints=sum(target.hints for target in targets),
            bytes=sum(target.bytes for target in targets),
            bytes_max=bytes_max,
            window_s=window_s,
            rate_max=self._rate,
            targets=targets,
        )

    def _targets(self) -> tuple[HintTarget, ...]:
        held = {one.target: one for one in self._hints.held()}
        names = sorted({*held, *(lane.target for lane in self._turns if lane.delivered)})
        now, now_ms = self._clock.monotonic(), self._hints.now_ms()
        return tuple(
            target_status(
                self._lane(name),
                held.get(name),
                connected=self._transport.is_connected(name),
                down=name in self._down,
                off=not self._delivers,
                now=now,
                now_ms=now_ms,
            )
            for name in names
        )


def _size(hints: tuple[Hint, ...] | list[Hint]) -> int:
    return sum(len(hint.key) + len(hint.record) for hint in hints)


def _why(answer: Reply | Failure) -> str:
    if isinstance(answer, Failure):
        return answer.reason
    if isinstance(answer, Refused):
        return f"it takes nothing: {answer.code}"
    return f"it answers with {type(answer).__name__}"
