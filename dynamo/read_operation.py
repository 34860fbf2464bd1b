"""One read on its way: the record from the best replica, vector and digest from the others, merged.

Fed by the transport, straight from the bytes that arrive; one future tells the client's task. After
the answer it goes on until every replica has answered, failed or run out of time, and then repairs
whoever was behind (Dynamo 5, read repair). With blocking repair the answer itself waits until
n - r + 1 primaries hold what it shows. In place of primaries that are down others are asked what they
hold for those. Knows nothing of sockets or storage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from dynamo.body_requests import BodyRequests
from dynamo.errors import DynamoError, Malformed, Unavailable
from dynamo.hedging import Hedger
from dynamo.known_records import KnownRecords
from dynamo.metrics import Metrics
from dynamo.patience import timer_for
from dynamo.ports import NO_ANSWER, Clock, Failure, Timer, Transport, Waiter
from dynamo.quorum import LOST, MET
from dynamo.read_repair import REPAIR_TIMEOUT, BlockingRepair
from dynamo.read_tally import ReadTally
from dynamo.record import Record, encode_record
from dynamo.rpc.messages import Body, Digest, Fetch, Refused, Reply, Store
from dynamo.stale_reads import StaleReads

#: As for writes: once r is out of reach, how long (seconds) the error waits for the exact counts.
LOST_GRACE: Final = 0.5
#: For so long (seconds) a key that enough primaries do not have is not called absent, while another
#: node has shown a record of it, or stands in for a primary and has not said what it holds.
ABSENCE_GRACE: Final = 0.25
#: A record of more than so many bytes is kept for so long (seconds) after the answer, to repair with it
#: who was not heard yet. Whoever is later than that is left to a later read.
LARGE_BYTES: Final = 4096
LARGE_KEPT: Final = 1.0


class ReadOperation:
    """A `Waiter` for the Fetches of one read."""

    __slots__ = (
        "_absence",
        "_bodies",
        "_bytes",
        "_clock",
        "_count",
        "_fetch",
        "_grace",
        "_hedge",
        "_hedger",
        "_holders_needed",
        "_is_let_go",
        "_kept",
        "_known",
        "_merged",
        "_nodes",
        "_open",
        "_repair",
        "_repaired",
        "_repairing",
        "_sampled",
        "_stale",
        "_stand_ins",
        "_tally",
        "_timer",
        "_transport",
        "deadline",
        "done",
        "flight",
    )

    def __init__(
        self,
        *,
        fetch: Fetch,
        nodes: Sequence[str],
        tally: ReadTally,
        holders_needed: int,
        transport: Transport,
        clock: Clock,
        metrics: Metrics,
        repair: Waiter | None,
        deadline: float,
        done: asyncio.Future[Record],
        known: KnownRecords,
        hedger: Hedger,
        stale: StaleReads,
        stand_ins: Sequence[str] = (),
        flight: int = 0,
    ) -> None:
        """`fetch`: asks for the body. `nodes`: the primaries that are up, best first. `holders_needed`:
        how many must hold the answer before it is given, 0 without blocking repair. `repair`: gets the
        answers of those that are repaired after the answer; None: none is. `known`: reads the records of
        answers. `hedger`: says when what does not come is asked of another. `stale`: is told of replicas
        that are behind. `stand_ins`: who may hold some for primaries that are down. `flight`: as of
        `dynamo.flights`."""
        self.flight = flight
        self._hedger = hedger
        self._stale = stale
        #: When it began, if it is to say how long it took.
        self._sampled = 0.0
        self._stand_ins = stand_ins
        self._known = known
        self._fetch = fetch
        self._nodes = nodes
        self._tally = tally
        self._holders_needed = holders_needed
        self._transport = transport
        self._clock = clock
        self._count = metrics.count
        self._repair = repair
        self.deadline = deadline
        self.done = done
        self._open: set[str] = {*nodes, *stand_ins} if stand_ins else set(nodes)
        self._bodies = BodyRequests()
        self._merged: Record | None = None
        #: While the answer waits for it; and whom it was sent to.
        self._repairing: BlockingRepair | None = None
        self._repaired: Sequence[str] = ()
        #: Of the records that have come.
        self._bytes = 0
        #: Until a large record is let go; and whether it was: then nothing more is done.
        self._kept: Timer | None = None
        self._is_let_go = False
        #: Until an absence is believed, once it is in doubt.
        self._absence: Timer | None = None
        self._hedge: Timer | None = None
        self._grace: Timer | None = None
        self._timer = timer_for(deadline, clock, self._expired)

    def start(self) -> None:
        """Ask the best replica for its record and the others for vector and digest."""
        fetch = self._fetch
        nodes = self._nodes
        remaining = self._remaining()
        if nodes:
            first = nodes[0]
            self._bodies.asked.add(first)
            self._transport.request(nodes[:1], fetch, self, remaining)
            if len(nodes) > 1:
                digests = Fetch(
                    fetch.key,
                    fetch.cls,
                    fetch.partition,
                    fetch.epoch,
                    fetch.deadline_ms,
                    False,
                    False,
                    fetch.measured,
                )
                self._transport.request(nodes[1:], digests, self, remaining)
            if first in self._open:
                begun = self.deadline - fetch.deadline_ms / 1000
                if self._hedger.watch(self, begun):
                    self._sampled = begun
        if self._stand_ins:
            self._ask_stand_ins(remaining)

    def _ask_stand_ins(self, remaining: float) -> None:
        """What they hold of the key for others: mostly nothing, so the record itself is asked for only
        where no primary is there to ask."""
        body = not self._nodes
        fetch = self._fetch
        hinted = Fetch(
            fetch.key, fetch.cls, fetch.partition, fetch.epoch, fetch.deadline_ms, body, True
        )
        if body:
            self._bodies.asked.update(self._stand_ins)
        self._transport.request(self._stand_ins, hinted, self, remaining)

    @property
    def holders(self) -> int:
        """Primaries that are known to hold on disk what was answered, or more."""
        merged = self._merged
        return len(self._tally.holders(merged.vector)) if merged else len(self._nodes)

    # Waiter -------------------------------------------------------------------------------------

    def on_reply(self, node: str, reply: Reply) -> None:
        if self._is_let_go:
            return
        tally = self._tally
        if self._bodies.twice and self._is_half(node, reply):
            return
        self._open.discard(node)
        if type(reply) is Digest:
            if node in self._bodies.asked:
                # It would be waited for without end: it is not asked twice.
                tally.fail(node, "it was asked for its record and gave a digest")
            else:
                tally.add_digest(node, reply.vector, reply.digest)
        elif type(reply) is Body:
            self._bytes += len(reply.record)
            try:
                tally.add_body(node, *self._known.read(node, reply.record))
            except Malformed as error:
                self._bodies.twice.discard(node)
                tally.fail(node, error.message)
        elif type(reply) is Refused:
            tally.fail(node, reply.detail or reply.code)
        else:
            tally.fail(node, "unexpected reply")
        self._judge()

    def on_failure(self, node: str, failure: Failure) -> None:
        if self._is_let_go:
            return
        if self._bodies.twice and self._is_half(node, None):
            return
        self._open.discard(node)
        self._tally.fail(node, failure.reason)
        self._judge()

    # Steps --------------------------------------------------------------------------------------

    def _is_half(self, node: str, answer: Reply | None) -> bool:
        """True, and it is dealt with, for one of two answers of the same node that decides nothing: the
        record does, whichever comes first, or else the last."""
        if node not in self._bodies.twice:
            return False
        tally = self._tally
        if tally.has_body_of(node):
            self._bodies.twice.discard(node)
            return True
        if type(answer) is Body:
            return False
        self._bodies.twice.discard(node)
        if type(answer) is Digest:
            tally.add_digest(node, answer.vector, answer.digest)
            self._judge()
        return True

    def _judge(self) -> None:
        tally = self._tally
        if self._merged is None and not self.done.done():
            state = tally.state
            if state is MET:
                if tally.merged_digest or not self._is_absence_in_doubt():
                    self._met(tally.merged)
            elif state is LOST:
                self._lost()
        wanting = () if tally.agreed else tally.wanting()
        if wanting:
            self._want_bodies(wanting)
        elif not self._open:
            self._settled()

    def _want_bodies(self, wanting: Sequence[str]) -> None:
        """Ask whoever is ahead for the body, of several that hold the same record one: at once,
        unless it is on its way. What does not come is asked of another after the hedge delay."""
        self._ask_bodies(self._bodies.missing(self._tally, wanting, self._open))
        # Without any body the hedger sees to it.
        if self._hedge is None and self._tally.has_body and self._bodies.others(self._tally):
            self._hedge = self._clock.call_later(self._hedger.delay, self._hedged)

    def _ask_bodies(self, targets: list[str]) -> None:
        if not targets:
            return
        self._bodies.ask(targets, self._open)
        self._open.update(targets)
        self._count["bodies_fetched_again"] += len(targets)
        fetch = self._fetch
        remaining = self._remaining()
        again = Fetch(
            fetch.key,
            fetch.cls,
            fetch.partition,
            fetch.epoch,
            max(1, int(remaining * 1000)),
            True,
            bool(self._stand_ins),  # an owner answers as ever
        )
        self._transport.request(targets, again, self, remaining)

    def _hedged(self) -> None:
        """What was asked for has not come: ask others that hold it."""
        self._hedge = None
        targets = self._bodies.others(self._tally)
        if targets and self._hedger.may_ask():
            self._ask_bodies(targets if self._tally.has_body else targets[:1])
        wanting = self._tally.wanting()
        if wanting:
            self._want_bodies(wanting)

    def hedge(self) -> bool:
        """The record that was asked for takes longer than usual: ask another replica for it. False where
        that may have to be done again."""
        tally = self._tally
        if self._is_let_go or self.done.done() or self._merged is not None or tally.has_body:
            return True
        for node in self._nodes:
            if node in self._bodies.asked or node in tally.reasons or self._hedger.doubts(node):
                continue
            if self._hedger.may_ask():
                self._ask_bodies([node])
            return False
        return True

    def _is_absence_in_doubt(self) -> bool:
        """True while somebody may have what those who count have not, and is given time to give it."""
        if self._tally.agreed and (not self._stand_ins or self._open.isdisjoint(self._stand_ins)):
            return False
        if self._absence is None:
            self._absence = self._clock.call_later(ABSENCE_GRACE, self._believe_absence)
        return True

    def _believe_absence(self) -> None:
        if self._merged is None and not self.done.done() and self._tally.state is MET:
            self._met(self._tally.merged)

    def _met(self, merged: Record) -> None:
        self._merged = merged
        if self._holders_needed:
            holders = self._tally.holders(merged.vector) if merged else list(self._nodes)
            missing = self._holders_needed - len(holders)
            if missing > 0:
                self._repair_and_wait(merged, holders, missing)
                return
        self._answer(merged)

    def _repair_and_wait(self, merged: Record, holders: Sequence[str], missing: int) -> None:
        store = self.store_of(merged)
        self._repairing = repair = BlockingRepair(
            targets=[node for node in self._nodes if node not in holders],
            store=store,
            held=len(holders),
            missing=missing,
            confirmed=self._repair_confirmed,
            failed=self._fail,
            transport=self._transport,
            clock=self._clock,
            deadline=self.deadline,
        )
        self._repaired = repair.targets
        self._count["read_repairs_blocking"] += len(repair.targets)
        self._count["read_repair_bytes"] += len(repair.targets) * len(store.record)
        repair.start()

    def _settled(self) -> None:
        """Every replica has answered or failed: repair those that are behind."""
        if self._hedge is not None:
            self._hedge.cancel()
            self._hedge = None
        if self._absence is not None:
            self._absence.cancel()
        if self._kept is not None:
            self._kept.cancel()
        tally = self._tally
        if self._grace is not None or (self._merged is None and not self.done.done()):
            self._fail_lost()
        if self.done.done():
            self._stop_timer()
        if tally.agreed or not tally.merged:
            return
        already = self._repaired if tally.merged == self._merged else ()
        behind = tally.stale()
        self._stale.found(self._merged, tally.merged, [tally.vector_of(node) for node in behind])
        stale = [node for node in behind if node not in already]
        repair = self._repair
        if stale and repair is None:
            self._count["read_repairs_left_out"] += len(stale)
        elif stale and repair is not None:
            store = self.store_of(tally.merged)
            self._count["read_repairs"] += len(stale)
            self._count["read_repair_bytes"] += len(stale) * len(store.record)
            self._transport.request(stale, store, repair, REPAIR_TIMEOUT)

    def store_of(self, record: Record) -> Store:
        """The message that brings a replica up to `record`."""
        fetch = self._fetch
        return Store(
            fetch.key,
            fetch.cls,
            fetch.partition,
            fetch.epoch,
            int(REPAIR_TIMEOUT * 1000),
            encode_record(record),
            True,
        )

    # Answers ------------------------------------------------------------------------------------

    def _answer(self, record: Record) -> None:
        if not self.done.done():
            if self._sampled:
                self._hedger.took(self._sampled)
            self.done.set_result(record)
            if self._bytes > LARGE_BYTES and self._open:
                self._kept = self._clock.call_later(LARGE_KEPT, self._let_go)

    def _let_go(self) -> None:
        """Whoever has not answered by now may take as long as it may: the record is not kept for it."""
        self._count["read_repairs_left"] += len(self._open)
        self._is_let_go = True
        for timer in (self._timer, self._hedge, self._absence, self._grace):
            if timer is not None:
                timer.cancel()
        self._tally = ReadTally((), r=1)
        self._merged = None
        del self.done

    def _repair_confirmed(self) -> None:
        assert self._merged is not None
        self._repairing = None  # which knows this operation: they would wait for the collector
        self._answer(self._merged)
        if not self._open:
            self._stop_timer()

    def _lost(self) -> None:
        if self._tally.not_found:
            self._merged = self._tally.merged
            self._answer(self._tally.merged)
        elif self._open and self._grace is None:
            self._grace = self._clock.call_later(LOST_GRACE, self._fail_lost)

    def _fail_lost(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
        tally = self._tally
        self._fail(
            Unavailable(
                tally.told(),
                **tally.counts(),
                alive=sum(node not in tally.reasons for node in self._nodes),
                reasons=dict(tally.reasons),
            )
        )

    def _expired(self) -> None:
        """The client's time is up; the transport ends what is still open at the same moment."""
        if self._absence is not None:
            self._believe_absence()
        if self.done.done():
            return
        if self._repairing is not None:
            self._fail(self._repairing.error())
            return
        for node in (*self._nodes, *self._stand_ins):
            if node in self._open:
                self._tally.reasons.setdefault(node, NO_ANSWER)
        self._fail_lost()

    def _fail(self, error: DynamoError) -> None:
        self._repairing = None
        self._stop_timer()
        if not self.done.done():
            self.done.set_exception(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _remaining(self) -> float:
        return max(0.001, self.deadline - self._clock.monotonic())
