"""What a member says before a tombstone goes: what it still owes to others, and that all has ended which
it had under way when it was asked.

What it had under way is told apart by generations (`dynamo.flights`). A new one begins; then it waits
until no operation of an older one is left that might send anything more, be it a client's or a page that
is read from a peer. Time ends them all, however late its timers are. But a request that has ended, by
its deadline say, may still be on its way: so then every other member is pinged, on the connection that
those requests went by. A member carries out the frames of a connection in their order, and closes older
ones with the handshake of a newer, so its pong says that all that was sent before has reached it, or
never will. What reached it and waits there for its turn is for the drop to see (`dynamo.replica_reap`).

All who ask while it waits are served by the next round, so many at a time cost no more than one. Nothing
here goes by the clock but when to look again. Knows nothing of tombstones, nor of who asks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from dynamo.commit import GroupCommit
from dynamo.errors import DynamoError
from dynamo.flights import Flights
from dynamo.keys import partition_prefix
from dynamo.metrics import Metrics
from dynamo.ports import Call, Clock, Failure, Storage, Transport, Waiter
from dynamo.refill_marks import Partition
from dynamo.replica import Replica
from dynamo.rpc.messages import Ping, Pong, Refused, Reply
from dynamo.rpc.reap_messages import HintsSeen, LookHints, Settled, SettleUp, Shown
from ring.ring import Ring

#: Who may wait for a round, and for what members have shown to be on disk.
WAITING_MAX: Final = 256
#: Seconds between two looks at what is under way: at first, and later on.
LOOK_SOON: Final = 0.02
LOOK_LATER: Final = 0.5
PING_TIMEOUT: Final = 5.0

OTHER_EPOCH: Final = Refused("stale_epoch", True, "the ring here is of another epoch")
BUSY: Final = Refused("busy", True, "too many wait for this already")
STOPPING: Final = Refused("not_ready", True, "this node is stopping")


class Lines(Transport, Protocol):
    """A transport that shows who waits."""

    def waiters(self) -> list[Waiter]:
        """Who waits for answers now, of this node itself and of its peers."""
        ...


class Standing(NamedTuple):
    """What this start of the node is known by: its number, and what its births begin with."""

    start: int
    incarnation: bytes


class Settling:
    """Handlers of LookHints and SettleUp, and the tasks behind them."""

    def __init__(
        self,
        *,
        node_id: str,
        replica: Replica,
        storage: Storage,
        commit: GroupCommit,
        transport: Lines,
        flights: Flights,
        standing: Callable[[], Standing],
        keep_shown: Callable[[Iterable[tuple[str, int, int]]], Awaitable[str]],
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]],
        metrics: Metrics,
        later_epoch: Callable[[], int] = lambda: 0,
    ) -> None:
        """`keep_shown`: as of `Topology`. `later_epoch`: the latest that any peer has named, if it is
        later than the ring's."""
        self._later_epoch = later_epoch
        self._node_id = node_id
        self._replica = replica
        self._storage = storage
        self._commit = commit
        self._transport = transport
        self._flights = flights
        self._standing = standing
        self._keep_shown = keep_shown
        self._clock = clock
        self._sleep = sleep
        self._count = metrics.count
        self._ring: Ring | None = None
        self._settles: deque[Call] = deque()
        self._looks: deque[tuple[LookHints, Call]] = deque()
        self._settle_wake = asyncio.Event()
        self._look_wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Who waits for a round, or for the disk."""
        return len(self._settles) + len(self._looks)

    def adopt(self, ring: Ring) -> None:
        """Speak of this ring's members."""
        self._ring = ring

    def close(self) -> None:
        """Refuse whoever still waits."""
        for call in (*self._settles, *(call for _, call in self._looks)):
            call.reply(STOPPING)
        self._settles.clear()
        self._looks.clear()

    # What it owes -------------------------------------------------------------------------------

    def on_look_hints(self, message: LookHints, call: Call) -> None:
        """Answer with what is owed of these partitions now, once what is written now is on disk: a hint
        that is gone does not come back with a crash."""
        if self._refuses_epoch(message.epoch, call):
            return
        if not message.known:
            self._look(message.places, call)
        elif len(self._looks) >= WAITING_MAX:
            self._replica.refusing.refuse(call, BUSY)
        else:
            self._looks.append((message, call))
            self._look_wake.set()

    async def run_looks(self) -> None:
        """Put on disk what members have shown, for those who look once more. For ever."""
        while True:
            await self._look_wake.wait()
            self._look_wake.clear()
            while self._looks:
                message, call = self._looks[0]
                why = await self._keep_shown(self._named(message.known))
                if not self._looks:
                    break  # all were refused meanwhile
                self._looks.popleft()
                if why:
                    self._replica.refusing.refuse(call, Refused("not_ready", True, why[:200]))
                else:
                    # Looked at when that is there: what it has taken meanwhile counts.
                    self._look(message.places, call)

    def _look(self, places: Sequence[Partition], call: Call) -> None:
        hints = self._replica.hints
        waiting = set(self._replica.backlog.hinted())
        epoch = self._later_epoch()
        blocked = []
        taken = []
        for at, place in enumerate(places):
            prefix = partition_prefix(*place)
            count = hints.count_in(prefix)
            if epoch:
                blocked.append((at, f"it knows of a ring of epoch {epoch}"))
            elif count is None:
                blocked.append((at, "it does not know yet which hints it has"))
            elif count:
                blocked.append((at, "it owes writes of the partition to others (hints)"))
            elif place in waiting:
                blocked.append((at, "a hint waits for its storage"))
            taken.append(hints.taken_in(prefix))
        standing = self._standing()
        number = self._storage.write_number
        self._count["hints_looked_at"] += 1

        def synced(error: DynamoError | None) -> None:
            if error is not None:
                self._replica.refusing.refuse_unsynced(call, error)
                return
            call.reply(
                HintsSeen(
                    tuple(blocked), standing.start, number, standing.incarnation, tuple(taken)
                )
            )

        self._commit.when_synced(number, synced)

    def _named(self, known: Iterable[Shown]) -> list[tuple[str, int, int]]:
        members = self._ring.members if self._ring is not None else ()
        return [
            (members[one.member].id, one.start, one.write_number)
            for one in known
            if one.member < len(members)
        ]

    # What is under way --------------------------------------------------------------------------

    def on_settle_up(self, message: SettleUp, call: Call) -> None:
        """Answer once all has ended that is under way now."""
        if self._refuses_epoch(message.epoch, call):
            return
        if len(self._settles) >= WAITING_MAX:
            self._replica.refusing.refuse(call, BUSY)
            return
        self._settles.append(call)
        self._settle_wake.set()

    async def run(self) -> None:
        """Serve those who wait until all has ended, a round after the other. For ever."""
        while True:
            await self._settle_wake.wait()
            self._settle_wake.clear()
            while self._settles:
                # Those who come from now on need another round.
                calls = list(self._settles)
                why = await self._settle(max(call.deadline for call in calls))
                for call in calls:
                    if self._settles and self._settles[0] is call:
                        self._settles.popleft()
                        self._answer(call, why)

    def _answer(self, call: Call, why: str) -> None:
        if why:
            self._count["settles_failed"] += 1
            self._replica.refusing.refuse(call, Refused("not_settled", True, why[:200]))
        else:
            self._count["settles"] += 1
            call.reply(Settled(self._standing().start))

    async def _settle(self, deadline: float) -> str:
        """ "" once all has ended that is under way now, and has been carried out where it was sent; why
        that is not so by `deadline` (monotonic seconds) otherwise."""
        generation = self._flights.begin()
        pause = LOOK_SOON
        while older := self._older(generation):
            if self._clock.monotonic() >= deadline:
                return f"operations are under way that began before ({older})"
            await self._sleep(pause)
            pause = min(2 * pause, LOOK_LATER)
        return await self._ping_all()

    def _older(self, generation: int) -> int:
        """How many operations are left that began before this generation."""
        waiters = {id(waiter): waiter for waiter in self._transport.waiters()}
        flights: list[int] = [getattr(one, "flight", generation) for one in waiters.values()]
        return sum(flight < generation for flight in flights) + self._flights.holds_before(
            generation
        )

    async def _ping_all(self) -> str:
        """ "" once every other member has answered a ping, else who did not."""
        ring = self._ring
        others = [m.id for m in ring.members if m.id != self._node_id] if ring is not None else []
        if not others:
            return ""
        pings = _Pings(others)
        ping = Ping(int(PING_TIMEOUT * 1000), self._storage.synced_number)
        self._transport.request(others, ping, pings, PING_TIMEOUT)
        await pings.done
        return pings.why

    def _refuses_epoch(self, epoch: int, call: Call) -> bool:
        refusing = self._replica.refusing
        if epoch > refusing.epoch:
            self._replica.on_later_epoch(call.peer, epoch)
        if epoch != refusing.epoch or not epoch:
            refusing.refuse(call, OTHER_EPOCH)
            return True
        return False


class _Pings:
    """Pings that wait for their pongs."""

    __slots__ = ("_left", "done", "why")

    #: No request that was asked before it may be sent after it, not even by a node that holds requests
    #: back (`dynamo.rpc.held_channel`): of those of a waiter without a `flight` only this tells the end.
    follows = True

    def __init__(self, targets: Iterable[str]) -> None:
        self._left = dict.fromkeys(targets)
        self.why = ""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_reply(self, node: str, reply: Reply) -> None:
        self._end(node, "" if isinstance(reply, Pong) else f"{node} answers a ping otherwise")

    def on_failure(self, node: str, failure: Failure) -> None:
        self._end(node, f"{node} did not answer a ping: {failure.reason}")

    def _end(self, node: str, why: str) -> None:
        self.why = self.why or why
        self._left.pop(node, None)
        if not self._left and not self.done.done():
            self.done.set_result(None)
