"""Begins reads and writes: who is asked, in which order, and how many answers are enough.

Knows nothing of buckets or contexts, nor of what a client is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from dynamo.errors import Unavailable
from dynamo.flights import Flights
from dynamo.hedging import Hedger
from dynamo.known_records import KnownRecords
from dynamo.metrics import Metrics
from dynamo.ports import Clock, Opinions, Transport
from dynamo.quorum import resolve_count, tell_counts, too_few
from dynamo.read_operation import ReadOperation
from dynamo.read_repair import RepairWaiter
from dynamo.read_tally import ReadTally, SloppyReadTally
from dynamo.record import Record
from dynamo.requests import READ, TIMEOUT_MS_DEFAULT, ReadOptions, Stamps, timeout_ms
from dynamo.retry_budget import RetryBudget
from dynamo.rpc.messages import Fetch, Mint, Minted
from dynamo.stale_reads import StaleReads
from dynamo.stand_ins import DOWN, Standing, standing
from dynamo.telling import TellWaiter
from dynamo.wars import Wars
from dynamo.watched import Watch, WatchedRead, WatchedWrite
from dynamo.write_operation import WriteOperation
from dynamo.write_tally import WriteTally
from ring.preference import Plan

#: A peer that has left a request without any reply for so long (seconds) is asked last.
STALLED_AFTER: Final = 0.25
#: Lists of primaries that are kept with this node first.
OWN_FIRST_MAX: Final = 65_536


class Operations:
    """Of one coordinator."""

    def __init__(
        self,
        *,
        node_id: str,
        transport: Transport,
        clock: Clock,
        metrics: Metrics,
        heard: dict[str, int],
        opinions: Opinions,
        wars: Wars,
        flights: Flights | None = None,
        read_repair: bool = True,
        hints: bool = True,
    ) -> None:
        """`heard`: gets the last synced write number that each node has acknowledged with. `wars`: what
        some operations are measured for. `flights`: of the node. `read_repair`, `hints`: False, and
        reads repair nobody unless the client waits for it; nobody stands in for a primary that is down,
        or keeps what it misses."""
        self._wars = wars
        self._flights = flights or Flights()
        self._node_id = node_id
        self._transport = transport
        self._clock = clock
        self._metrics = metrics
        self._count = metrics.count
        self._heard = heard
        self._down = opinions.down
        self._doubted = opinions.doubted
        self._repair = RepairWaiter(metrics) if read_repair else None
        self._hints = hints
        self._tell = TellWaiter(metrics)
        #: What reads find of replicas that are behind.
        self.stale = StaleReads(clock=clock, metrics=metrics)
        self._hedger = Hedger(clock=clock, transport=transport, opinions=opinions, metrics=metrics)
        self._known = KnownRecords(own=node_id)
        self._retries = RetryBudget()
        #: Requests that it has been told of.
        self._earned = 0
        #: Of the primaries of a partition: the same with this node first, () where it is none of them.
        self._own_first: dict[tuple[str, ...], tuple[str, ...]] = {}

    def forget_order(self) -> None:
        """Other primaries than those asked so far will be."""
        self._own_first = {}

    def read(self, routing: bytes, plan: Plan, options: ReadOptions) -> ReadOperation:
        """A read that has begun. Raises InvalidArgument; Unavailable, before anybody is asked, if too
        few nodes are up."""
        primaries = plan.primaries
        n = len(primaries)
        r = n // 2 + 1
        pr = confirms = 0
        timeout = TIMEOUT_MS_DEFAULT
        if options is not READ:
            r = resolve_count("r", options.r, n, lowest=1, default=r)
            pr = resolve_count("pr", options.pr, n, lowest=0, default=0)
            confirms = resolve_count("node_confirms", options.node_confirms, n, lowest=0, default=0)
            timeout = timeout_ms(options.timeout_ms)
        operation_of: Callable[..., ReadOperation] = ReadOperation
        measured = False
        self._wars.reads_left -= 1
        if self._wars.reads_left <= 0 or options.stamps is not None:
            measured = self._wars.reads_left <= 0
            operation_of = partial(WatchedRead, watch=self._watch_read(measured, options.stamps))
        holders_needed = n - r + 1 if options.read_repair == "blocking" else 0
        nodes = primaries
        there: Standing | None = None
        down = self._down
        if down and not down.isdisjoint(primaries):
            there = standing(plan, down, hints=self._hints)
            nodes = there.live
            _check_enough(there, needed=max(r, confirms), primaries_needed=max(pr, holders_needed))
        best = self._best_first(nodes)
        tally = (ReadTally if there is None else _sloppily(primaries, there))(
            best,
            r=r,
            pr=pr,
            node_confirms=confirms,
            notfound_ok=options.notfound_ok is not False,
            basic_quorum=options.basic_quorum is True,
        )
        done: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        operation = operation_of(
            fetch=Fetch(
                routing,
                plan.class_id,
                plan.partition,
                plan.epoch,
                timeout,
                True,
                False,
                measured,
            ),
            nodes=best,
            tally=tally,
            holders_needed=holders_needed,
            transport=self._transport,
            clock=self._clock,
            metrics=self._metrics,
            repair=self._repair,
            deadline=self._clock.monotonic() + timeout / 1000,
            done=done,
            known=self._known,
            hedger=self._hedger,
            stale=self.stale,
            stand_ins=() if there is None else there.spare,
            flight=self._flights.now,
        )
        operation.start()
        return operation

    def write(
        self,
        mint: Mint,
        plan: Plan,
        *,
        w: int,
        pw: int,
        node_confirms: int,
        deadline: float,
        flight: int | None = None,
        stamps: Stamps | None = None,
    ) -> tuple[asyncio.Future[Minted], WriteTally]:
        """What gets the minter's answer, of a write that has begun, and its tally. `w`: `dw` included.
        `deadline`: monotonic seconds. `flight`: when it began, if that was before now. `stamps`: to
        be filled in. Raises Unavailable, before anybody is asked, if too few nodes are up."""
        operation_of: Callable[..., WriteOperation] = WriteOperation
        self._wars.writes_left -= 1
        if self._wars.writes_left <= 0 or stamps is not None:
            operation_of = partial(WatchedWrite, watch=self._watch_write(stamps))
        nodes = plan.primaries
        n = len(nodes)
        down = self._down
        absent: tuple[str, ...] = ()
        if down and not down.isdisjoint(nodes):
            there = standing(plan, down, hints=self._hints)
            nodes, absent = there.live, there.absent
            _check_enough(there, needed=max(w, node_confirms), primaries_needed=pw)
        tally = WriteTally(n, w=w, pw=pw, node_confirms=node_confirms)
        done: asyncio.Future[Minted] = asyncio.get_running_loop().create_future()
        operation = operation_of(
            mint=mint,
            plan=plan,
            candidates=self._best_first(nodes),
            down=down,
            tally=tally,
            transport=self._transport,
            clock=self._clock,
            metrics=self._metrics,
            deadline=deadline,
            done=done,
            heard=self._heard,
            tell=self._tell,
            may_retry=self._may_retry,
            flight=self._flights.now if flight is None else flight,
            hints=self._hints,
        )
        operation.start(absent)
        return done, tally

    def _watch_read(self, measured: bool, stamps: Stamps | None) -> Watch:
        wars = self._wars
        if measured:
            wars.reads_left = wars.countdown()
        return Watch(self._clock, wars if measured else None, stamps)

    def _watch_write(self, stamps: Stamps | None) -> Watch:
        wars = self._wars
        measured = wars.writes_left <= 0
        if measured:
            wars.writes_left = wars.countdown()
        return Watch(self._clock, wars if measured else None, stamps)

    def _may_retry(self) -> bool:
        """True if one more write may be tried at another replica since one had too much to do."""
        count = self._count
        asked = count["gets"] + count["puts"] + count["deletes"]
        self._retries.earn(asked - self._earned)
        self._earned = asked
        if self._retries.spend():
            count["mints_retried"] += 1
            return True
        count["mint_retries_denied"] += 1
        return False

    def _best_first(self, primaries: tuple[str, ...]) -> Sequence[str]:
        """This node if it is a primary, then those that answer as they should, then the rest."""
        own_first = self._own_first.get(primaries)
        if own_first is None:
            own = self._node_id
            others = tuple([p for p in primaries if p != own])
            # As many entries as the ring has owners of a partition, and () for those without this node.
            own_first = (own, *others) if own in primaries else ()
            if len(self._own_first) >= OWN_FIRST_MAX:
                self._own_first.clear()  # there is more than one for each, while nodes are down
            self._own_first[primaries] = own_first
        if own_first:
            return own_first
        doubted = self._doubted
        stalled_for = self._transport.stalled_for
        late = [p for p in primaries if p in doubted or stalled_for(p) > STALLED_AFTER]
        return [p for p in primaries if p not in late] + late if late else primaries


def _check_enough(there: Standing, *, needed: int, primaries_needed: int) -> None:
    """Raises Unavailable, before anybody is asked, if too few nodes are up."""
    counts = too_few(
        needed=needed,
        primaries_needed=primaries_needed,
        primaries=len(there.live),
        fallbacks=len(there.spare),
    )
    if counts is not None:
        raise Unavailable(
            f"{tell_counts(counts, 'are up')}; nobody was asked",
            **counts,
            reasons=dict.fromkeys(there.absent, DOWN),
        )


def _sloppily(primaries: tuple[str, ...], there: Standing) -> Callable[..., ReadTally]:
    """What makes the tally of a read while primaries are down."""

    def tally(nodes: Sequence[str], **asked: Any) -> ReadTally:
        made = SloppyReadTally(primaries, stand_ins=there.spare, **asked)
        for node in there.absent:
            made.fail(node, DOWN)
        return made

    return tally
